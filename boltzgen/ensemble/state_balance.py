"""Rare states up-weighted in the training data, so that the network sees enough of each to weigh it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from boltzgen.ensemble.weighted import Array, WeightedEnsemble
from boltzgen.system.collective_variables import State
from boltzgen.system.molecular_system import MolecularSystem

SWEEPS = 100
"""Passes over the regions; up-weighting one lowers the others a little below the weight they were given."""
WIDTH = 0.5
"""Width over which the weight changes at the end of a state, in standard deviations of its variable."""
_AT_ONCE = 10_000


@dataclass(frozen=True)
class UpWeighting:
    """A factor ``exp(sum_s log_factors_s m_s(x))`` on the density of the data, with a gradient everywhere.

    The memberships ``m_s`` are 1 inside a state and 0 outside, and change smoothly over a width at its ends;
    the last one is that of what lies in no state.

    widths
        One for each state, in the unit of its variable.
    log_factors
        ``(n_states + 1,)``.
    """

    states: tuple[State, ...]
    widths: tuple[float, ...]
    log_factors: tuple[float, ...]

    def log_factor(self, positions: NDArray[np.float32]) -> Array:
        """``(n,)`` for configurations [nm] ``(n, n_atoms, 3)``."""
        x = torch.as_tensor(positions, dtype=torch.float64)
        return self._log_factor(memberships(self.states, self.widths, x)).numpy()

    def gradient(self, positions: NDArray[np.float32]) -> Array:
        """Of `log_factor` [1/nm], ``(n, n_atoms, 3)``; zero, and not computed, where no weight changes."""
        x = torch.as_tensor(positions, dtype=torch.float64)
        found = torch.zeros_like(x)
        if not any(self.log_factors):
            return found.numpy()
        inside = memberships(self.states, self.widths, x)
        changing = ((inside > 0.0) & (inside < 1.0)).any(0).nonzero().flatten()
        for rows in changing.split(_AT_ONCE):
            some = x[rows].requires_grad_()
            log_factor = self._log_factor(memberships(self.states, self.widths, some))
            found[rows] = torch.autograd.grad(log_factor.sum(), some)[0]
        return found.numpy()

    def _log_factor(self, inside: Tensor) -> Tensor:
        return torch.tensor(self.log_factors, dtype=inside.dtype) @ inside


def balanced(data: WeightedEnsemble, system: MolecularSystem, share: float) -> WeightedEnsemble:
    """``data`` with the weights of `up_weighting`; log Z is dropped: it is not that of the new weights."""
    return up_weighted(data, up_weighting(data, system, share))


def up_weighted(data: WeightedEnsemble, factor: UpWeighting) -> WeightedEnsemble:
    """``data`` with the factor on its weights, and without log Z."""
    log_weights = data.log_weights + factor.log_factor(data.positions)
    return replace(data, log_weights=log_weights, log_z=None, log_z_error=None)


def up_weighting(data: WeightedEnsemble, system: MolecularSystem, share: float) -> UpWeighting:
    """The factor that gives every declared state that ``data`` visit a weight of at least ``share``.

    Within a state, away from its ends, weights keep their proportions. What lies in no state is not
    up-weighted, and keeps its weight as far as that is less than ``share``. Where not all can have so much,
    they get equal shares.
    """
    states = system.states
    x = torch.as_tensor(data.positions, dtype=torch.float64)
    widths = tuple(_width(state, data) for state in states)
    smooth = memberships(states, widths, x).numpy()
    inside = [state.members(data.positions) for state in states]
    outside = ~np.any(inside, axis=0) if inside else np.zeros(len(data), bool)
    weights, log_factors = data.weights, np.zeros(len(states) + 1)
    regions = [k for k, rows in enumerate((*inside, outside)) if 0.0 < weights[rows].sum() < 1.0]
    share = min(share, 1.0 / max(len(regions), 1))
    everywhere = [*inside, outside]
    least = {k: share if k < len(states) else min(share, weights[outside].sum()) for k in regions}
    for _ in range(SWEEPS):
        for k in regions:
            now, wanted = weights[everywhere[k]].sum(), least[k]
            if now < wanted:
                step = math.log(wanted * (1.0 - now) / (now * (1.0 - wanted)))
                log_factors[k] += step
                weights = weights * np.exp(step * smooth[k])
                weights /= weights.sum()
    return UpWeighting(states, widths, tuple(log_factors.tolist()))


def memberships(states: tuple[State, ...], widths: tuple[float, ...], x: Tensor) -> Tensor:
    """Smooth indicators of the states, and of what lies in none, ``(n_states + 1, n)``.

    An indicator is averaged over a window of the given width with the kernel ``(15/16) (1 - t^2)^2``, so that
    intervals that meet leave no seam; of torsions around the circle.
    """
    inside = [_membership(state, width, x) for state, width in zip(states, widths, strict=True)]
    total = torch.stack(inside).sum(0) if inside else torch.ones_like(x[:, 0, 0])
    return torch.stack([*inside, (1.0 - total).clamp_min(0.0)])


def _membership(state: State, width: float, x: Tensor) -> Tensor:
    """The smooth indicator of one state, ``(n,)``."""
    values = state.cv.evaluate(x)
    turns = (-2 * math.pi, 0.0, 2 * math.pi) if state.cv.periodic else (0.0,)
    return sum(
        (
            _step((values + turn - low) / width) - _step((values + turn - high) / width)
            for low, high in _intervals(state)
            for turn in turns
        ),
        torch.zeros_like(values),
    )


def _intervals(state: State) -> list[tuple[float, float]]:
    """Those of a state, without ends where its variable ends: nothing lies beyond to change over to."""
    if state.cv.periodic:
        return [(max(low, -math.pi), min(high, math.pi)) for low, high in state.intervals]
    largest = 3.14 if state.cv.kind == "angle" else math.inf
    return [
        (low if low > 0.0 else -math.inf, high if high < largest else math.inf)
        for low, high in state.intervals
    ]


def _step(t: Tensor) -> Tensor:
    """From 0 at -1/2 to 1 at 1/2, with two continuous derivatives."""
    s = (t + 0.5).clamp(0.0, 1.0)
    return s.pow(3) * (10.0 - 15.0 * s + 6.0 * s.square())


def _width(state: State, data: WeightedEnsemble) -> float:
    """`WIDTH` standard deviations of the state's variable, at most half the length of the state."""
    values, weights = state.cv.values(data.positions), data.weights
    if state.cv.periodic:
        length = abs(weights @ np.exp(1j * values))  # of the mean direction
        spread = math.sqrt(max(-2.0 * math.log(max(length, 1e-3)), 1e-6))
    else:
        spread = math.sqrt(weights @ np.square(values - weights @ values))
    whole = sum(high - low for low, high in state.intervals)
    return max(min(WIDTH * spread, 0.5 * whole), 1e-6)
