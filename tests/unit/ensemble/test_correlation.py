"""Blocks of MD are as long as the slowest of all that is averaged over them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.chain import PHI, POSITIVE, PSI, chain_positions, chain_system
from scipy.signal import lfilter

from boltzgen.ensemble.correlation import BLOCK_LENGTH, block_length, statistical_inefficiencies, with_blocks
from boltzgen.ensemble.weighted import WeightedEnsemble

N = 6000


def relaxing(n: int, time: float, seed: int) -> np.ndarray:
    """Autoregressive series of unit variance ``(n,)``, forgotten over ``time`` frames."""
    decay = math.exp(-1.0 / time)
    noise = np.random.default_rng(seed).normal(size=n)
    noise[1:] *= math.sqrt(1 - decay**2)
    return lfilter([1.0], [1.0, -decay], noise)


def turning(phi: np.ndarray, psi: np.ndarray | None = None) -> WeightedEnsemble:
    """MD of the chain with these torsions and energies that forget at once."""
    psi = np.full(len(phi), 2.0) if psi is None else psi
    energies = np.random.default_rng(9).normal(size=len(phi))
    return WeightedEnsemble(chain_positions(phi, psi), np.zeros(len(phi)), energies, 300.0)


def n_blocks(data: WeightedEnsemble, variables=(), states=()) -> int:
    system = replace(chain_system(), collective_variables=variables, states=states)
    return len(np.unique(with_blocks(system, data).lineages))


def test_blocks_are_four_inefficiencies_of_the_slowest_variable():
    psi = 0.5 * relaxing(20_000, 10.0, seed=0)
    data = turning(np.full(20_000, -1.0), psi)
    inefficiency = 20  # (1 + d) / (1 - d) of an AR(1)
    assert 20_000 / n_blocks(data, (PHI, PSI)) == pytest.approx(BLOCK_LENGTH * inefficiency, rel=0.25)
    assert n_blocks(data, (PHI,)) > 8000


def test_the_inefficiency_of_one_run_is_that_of_pymbar():
    from pymbar import timeseries

    series = np.stack([relaxing(3000, time, seed=3) for time in (2.0, 8.0, 40.0)])
    series -= series.mean(1, keepdims=True)
    expected = [timeseries.statistical_inefficiency(values) for values in series]
    np.testing.assert_allclose(statistical_inefficiencies(series, [np.arange(3000)]), expected, rtol=1e-6)


def test_runs_that_disagree_are_correlated_throughout():
    """About the mean of all runs, which is what their average is compared with."""
    series = np.random.default_rng(0).normal(size=(1, 4000)) + np.repeat([[2.0, -2.0]], 2000, axis=1).reshape(
        1, -1
    )
    runs = [np.arange(2000), np.arange(2000, 4000)]
    assert statistical_inefficiencies(series, runs)[0] > 1000
    assert block_length(series, runs) > 1000


def test_a_state_counts_that_its_variable_hardly_shows():
    """Phi is nearly everywhere; that it is above zero is rare, and lasts."""
    rng = np.random.default_rng(1)
    rare = np.repeat(rng.random(N // 20) < 0.04, 20)
    phi = np.where(rare, 0.5, rng.uniform(-3.1, -0.1, N))
    data = turning(phi)
    assert n_blocks(data, (PHI,), (POSITIVE,)) < N / 40
    assert n_blocks(data, (PHI,)) > 2 * n_blocks(data, (PHI,), (POSITIVE,))
    assert n_blocks(data, (), (POSITIVE,)) == n_blocks(data, (PHI,), (POSITIVE,))


def test_weights_of_biased_md_count():
    slow = relaxing(N, 20.0, seed=2)
    data = turning(np.random.default_rng(1).normal(-1.0, 0.2, N))
    assert n_blocks(data, (PHI,)) > 3000
    assert n_blocks(replace(data, log_weights=0.5 * slow), (PHI,)) < N / 80


def test_small_slow_motion_shows_in_means_of_blocks():
    """A twentieth of the variance, which the correlation of frames alone does not show to be as slow."""
    series = (relaxing(20_000, 0.5, seed=4) + 0.23 * relaxing(20_000, 30.0, seed=5))[None]
    runs = [np.arange(20_000)]
    first = 1 + BLOCK_LENGTH * (statistical_inefficiencies(series, runs)[0] - 1)
    assert first < 40 and 60 <= block_length(series, runs) <= 300


def test_what_never_changes_and_short_runs_leave_every_frame_alone():
    assert n_blocks(replace(turning(np.full(50, -1.0)), reduced_energies=np.zeros(50)), (PHI,)) == 50
    assert n_blocks(turning(np.full(1, -1.0)), (PHI,)) == 1


def test_blocks_end_where_runs_end():
    data = replace(turning(0.3 * relaxing(N, 10.0, seed=6) - 1.0), islands=np.repeat([3, 7], [2500, 3500]))
    blocks = with_blocks(replace(chain_system(), collective_variables=(PHI,)), data).lineages
    assert not set(blocks[:2500]) & set(blocks[2500:]) and np.all(np.diff(blocks) >= 0)
