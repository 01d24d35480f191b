"""Paths from data against paths from noise: errors that are those of replicates."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from boltzgen.ensemble.tails import tail_of
from boltzgen.smc.divergences import bar_gap, bar_log_z, jeffreys_divergence, lost_share, surviving

SD = 1.0


def normal_paths(n: int, generator: torch.Generator, copies: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Log weights whose log Z is zero in both directions, those from data in blocks of equal ones."""
    reverse = -0.5 * SD**2 + SD * torch.randn(n, generator=generator, dtype=torch.float64)
    forward = 0.5 * SD**2 + SD * torch.randn(n // copies, generator=generator, dtype=torch.float64)
    return forward.repeat_interleave(copies), reverse, torch.arange(n // copies).repeat_interleave(copies)


@pytest.mark.parametrize("copies", [1, 8])
def test_errors_of_j_and_of_the_gap_are_those_of_replicates(copies: int) -> None:
    g = torch.Generator().manual_seed(0)
    gaps, divergences = [], []
    for _ in range(300):
        forward, reverse, blocks = normal_paths(400, g, copies)
        gaps.append(bar_gap(forward, reverse, blocks))
        divergences.append(jeffreys_divergence(forward, reverse, blocks))
    for found, expected in ((gaps, 0.0), (divergences, SD**2)):
        values, errors = (np.array([getattr(one, name) for one in found]) for name in ("value", "error"))
        assert abs(values.mean() - expected) < 3.5 * values.std(ddof=1) / math.sqrt(300) + 0.01
        assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.15)


def test_a_shift_of_one_mode_shows_in_bar_and_not_in_j() -> None:
    """A fifth of the paths 8 nats lighter in both directions, as where a state is too high by a constant."""
    g = torch.Generator().manual_seed(1)
    shifts = [torch.where(torch.rand(512, generator=g) < 0.2, -8.0, 0.0).double() for _ in range(2)]
    forward, reverse = (s + 0.3 * torch.randn(512, generator=g, dtype=torch.float64) for s in shifts)
    j, gap = jeffreys_divergence(forward, reverse), bar_gap(forward, reverse)
    assert abs(j.value) < 4 * j.error and gap is not None
    assert gap.value < -0.2 and abs(gap.value) > 4 * gap.error


def test_a_gap_without_any_overlap_has_no_error() -> None:
    gap = bar_gap(torch.full((50,), 900.0).double(), torch.full((50,), -900.0).double())
    assert gap is not None and gap.error == 0.0 and math.isfinite(gap.value)


def test_no_gap_where_few_paths_carry_the_mean_weight() -> None:
    """Sound paths with an sd of 4: their mean weight is far too low, and BAR is not at fault."""
    g = torch.Generator().manual_seed(2)
    forward, reverse = (4.0 * torch.randn(512, generator=g, dtype=torch.float64) + s * 8.0 for s in (1, -1))
    assert bar_log_z(forward, reverse) == pytest.approx(0.0, abs=1.5)
    assert bar_gap(forward, reverse) is None


def test_lost_paths_are_counted_and_left_out() -> None:
    weights = torch.tensor([0.0, 1.0, 2.0, -1e5, math.nan, -math.inf]).double()
    assert surviving(weights).tolist() == [0.0, 1.0, 2.0]
    assert lost_share(weights) == pytest.approx(0.5)
    assert lost_share(torch.full((3,), -math.inf)) == 1.0
    assert math.isnan(jeffreys_divergence(torch.full((3,), -math.inf), weights).value)


@pytest.mark.parametrize("index", [1.3, 2.5])
def test_errors_of_k_are_those_of_replicates(index: float) -> None:
    rng = np.random.default_rng(0)
    tails = [tail_of(rng.exponential(1 / index, 2000)) for _ in range(100)]
    ks = np.array([tail.k for tail in tails if tail])
    assert np.mean([tail.error for tail in tails if tail]) == pytest.approx(ks.std(ddof=1), rel=0.25)
    wide = np.array([tail.wide_k for tail in tails if tail])
    assert wide.std() < 0.75 * ks.std()
    assert wide.mean() == pytest.approx(1 / index, abs=0.05)
    assert tail_of(np.zeros(100)) is None
