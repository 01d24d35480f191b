"""Paths from data against paths from noise: the Jeffreys divergence, BAR, and the errors of both.

Paths from data may come in blocks of correlated frames, ``blocks`` ``(n,)`` of integers; errors count blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from boltzgen.smc.bounds import MIN_INDEPENDENT
from boltzgen.smc.resampling import ess_fraction

LOST_BELOW = 100.0
"""A path this far [nats] below the median log weight is lost: counted, and left out of means and spreads.

A single configuration with a broken bond can weigh exp(-10^5), and would hide all the others.
"""


@dataclass(frozen=True)
class Measured:
    """A number with its standard error."""

    value: float
    error: float


def kept(log_weights: Tensor) -> Tensor:
    """Which paths ``(n,)`` are not lost (see LOST_BELOW)."""
    finite = torch.isfinite(log_weights)
    if not finite.any():
        return finite
    return finite & (log_weights > log_weights[finite].median() - LOST_BELOW)


def surviving(log_weights: Tensor) -> Tensor:
    """Log weights of the paths ``(n,)`` that are not lost."""
    return log_weights[kept(log_weights)]


def lost_share(log_weights: Tensor) -> float:
    """Share of the paths that are lost."""
    return 1.0 - float(kept(log_weights).double().mean())


def jeffreys_divergence(forward: Tensor, reverse: Tensor, blocks: Tensor | None = None) -> Measured:
    """``J = E_forward[log w] - E_reverse[log w]`` over paths that are not lost.

    It measures how far paths from data and paths from noise disagree about the same energies, and is not
    negative where the data are distributed as those energies say.
    """
    alive, other = kept(forward), surviving(reverse)
    if not alive.any() or not len(other):
        return Measured(math.nan, math.nan)
    f = forward[alive]
    deviations = f - f.mean()
    own = None if blocks is None else blocks[alive]
    variance = _summed_squares(deviations, own) / len(f) ** 2 + float(other.var()) / len(other)
    return Measured(float(f.mean() - other.mean()), math.sqrt(variance))


def bar_log_z(forward: Tensor, reverse: Tensor) -> float | None:
    """log Z from log weights ``(n,)`` in both directions: Bennett's equation; None without finite ones.

    Paths from noise that have come to nothing are samples of weight zero. Paths from data cannot be, and
    those with a weight that is not finite are left out.
    """
    forward = forward[torch.isfinite(forward)]
    reverse = torch.where(torch.isfinite(reverse), reverse, -torch.inf)
    alive = reverse[torch.isfinite(reverse)]
    if not len(forward) or not len(alive):
        return None
    shift = math.log(len(forward) / len(reverse))

    def imbalance(c: float) -> float:
        from_forward = torch.sigmoid(c - forward - shift).mean() * len(forward)
        from_reverse = torch.sigmoid(reverse - c + shift).mean() * len(reverse)
        return float(from_forward - from_reverse)

    values = np.concatenate([forward.numpy(), alive.numpy()])
    margin = 50.0 + math.log(len(reverse))
    return float(brentq(imbalance, values.min() - margin, values.max() + margin))


def bar_gap(forward: Tensor, reverse: Tensor, blocks: Tensor | None = None) -> Measured | None:
    """log Z by BAR minus log of the mean weight of the same paths from noise.

    None without finite weights, and where fewer than `MIN_INDEPENDENT` effective paths from noise support
    that mean: it is then far too low by itself, and an error of it cannot say by how much.

    The error is that of the delta method: the sum of squares of the gap's derivatives with respect to the
    weights of the paths (blocks of them, from data), which BAR and the mean weight share in part. It is zero
    where the two directions have nothing in common: then BAR tells that alone, and nothing excuses a gap.
    """
    c = bar_log_z(forward, reverse)
    if c is None or len(reverse) * ess_fraction(reverse) < MIN_INDEPENDENT:
        return None
    finite = torch.isfinite(forward)
    forward, blocks = forward[finite], None if blocks is None else blocks[finite]
    reverse = torch.where(torch.isfinite(reverse), reverse, -torch.inf)
    shift = math.log(len(forward) / len(reverse))
    up, down = torch.sigmoid(c - forward - shift), torch.sigmoid(reverse - c + shift)
    mean = float(torch.logsumexp(reverse, 0)) - math.log(len(reverse))
    slope = (up * (1 - up)).sum() + (down * (1 - down)).sum()
    if not slope > 0.0:
        return Measured(c - mean, 0.0)
    from_mean = torch.softmax(reverse, 0) - 1.0 / len(reverse)
    of_reverse = (down - down.mean()) / slope - from_mean
    variance = _summed_squares((up - up.mean()) / slope, blocks) + float(of_reverse.square().sum())
    return Measured(c - mean, math.sqrt(variance))


def _summed_squares(values: Tensor, blocks: Tensor | None) -> float:
    """Sum of squares of the sums over blocks."""
    if blocks is not None:
        _, which = torch.unique(blocks, return_inverse=True)
        values = torch.bincount(which, weights=values.double())
    return float(values.square().sum())
