"""Estimates on small ensembles whose answers are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.chain import END_TO_END, NEGATIVE, PHI, POSITIVE, chain_ensemble

from boltzgen.analyze.free_energy import (
    Estimate,
    cluster_index,
    expectation,
    free_energy_difference,
    log_z_difference,
    n_independent,
    potential_of_mean_force,
    state_probability,
)
from boltzgen.errors import DataError, NumericalError


def test_delta_f_is_minus_log_of_first_over_second():
    sample = chain_ensemble(2000, seed=1, p_positive=0.05, proposal=0.5)
    estimate = free_energy_difference(sample, POSITIVE, NEGATIVE, n_bootstrap=100, seed=0)
    assert estimate.error is not None and estimate.error < 0.1
    assert abs(estimate.value - math.log(0.95 / 0.05)) < 4 * estimate.error
    swapped = free_energy_difference(sample, NEGATIVE, POSITIVE, n_bootstrap=100, seed=0)
    assert swapped.value == pytest.approx(-estimate.value)


def test_estimate_converts_to_kj_mol():
    converted = Estimate(1.0, 0.5, "why").in_kj_mol(300.0)
    assert converted.value == pytest.approx(2.494339, abs=1e-6)
    assert converted.error == pytest.approx(0.5 * converted.value) and converted.note == "why"
    assert Estimate(1.0).in_kj_mol(300.0).error is None


def test_bootstrap_error_matches_binomial_error_of_independent_rows():
    sample = chain_ensemble(4000, seed=2, p_positive=0.3)
    estimate = free_energy_difference(sample, POSITIVE, NEGATIVE, n_bootstrap=2000, seed=0)
    assert estimate.error == pytest.approx(1 / math.sqrt(4000 * 0.3 * 0.7), rel=0.1)


def test_intervals_are_students():
    assert Estimate(1.0, 0.5).interval == pytest.approx((1 - 0.97998, 1 + 0.97998), abs=1e-4)
    assert Estimate(1.0, 0.5, dof=3.0).interval == pytest.approx((1 - 1.59122, 1 + 1.59122), abs=1e-4)
    assert Estimate(1.0).interval is None
    in_kj = Estimate(1.0, 0.5, dof=3.0).in_kj_mol(300.0)
    assert in_kj.interval == pytest.approx([2.494339 * end for end in Estimate(1.0, 0.5, dof=3.0).interval])


def test_interval_of_a_population_is_that_of_delta_f():
    sample = chain_ensemble(400, seed=2, p_positive=0.1)
    population = state_probability(sample, POSITIVE.members(sample.positions))
    low, high = population.interval
    delta_f = free_energy_difference(sample, POSITIVE, NEGATIVE).interval
    assert 0 < low < population.value < high < 1
    assert [math.log(1 / p - 1) for p in (high, low)] == pytest.approx(delta_f, rel=0.03)


def test_degrees_of_freedom_are_those_of_normal_and_of_unequal_clusters():
    """Normal influences of equal weight have ``n - 1``; one lineage that outweighs all others has two."""
    sample = chain_ensemble(5000, seed=1)
    values = np.random.default_rng(0).normal(size=5000)
    assert expectation(sample, values, 20).dof == pytest.approx(4999, rel=0.1)
    values[0] = 1e4
    assert expectation(sample, values, 20).dof == pytest.approx(2.0, rel=0.05)


def test_islands_that_disagree_leave_one_less_than_their_number():
    sample = replace(chain_ensemble(400, seed=1), islands=np.arange(400) % 4)
    values = np.random.default_rng(0).normal(size=400)
    alike, apart = (expectation(sample, values + shift * sample.islands, 50) for shift in (0.0, 3.0))
    assert alike.dof > 3.0
    assert apart.dof == 3.0 and apart.error == pytest.approx(3.0 * math.sqrt(5 / 3 / 4), rel=0.1)


def test_copies_of_a_row_do_not_shrink_the_error():
    once = chain_ensemble(400, seed=3)
    rows = np.random.default_rng(0).permutation(np.repeat(np.arange(400), 25))
    copied = once.select(rows)
    errors = [free_energy_difference(e, POSITIVE, NEGATIVE, 1000, 0).error for e in (once, copied)]
    naive = free_energy_difference(replace(copied, lineages=None), POSITIVE, NEGATIVE, 1000, 0).error
    assert errors[1] == pytest.approx(errors[0], rel=0.1)
    assert naive == pytest.approx(errors[0] / 5, rel=0.1)


def test_same_lineage_number_in_two_islands_is_two_clusters():
    sample = replace(
        chain_ensemble(6, 0), lineages=np.array([0, 0, 1, 0, 0, 2]), islands=np.repeat([4, 9], 3)
    )
    cluster, island = cluster_index(sample)
    assert cluster.tolist() == [0, 0, 1, 2, 2, 3] and island.tolist() == [0, 0, 1, 1]


def test_islands_that_disagree_give_the_larger_error():
    parts = [chain_ensemble(1000, seed, p) for seed, p in ((1, 0.2), (2, 0.4))]
    both = replace(
        parts[0],
        positions=np.concatenate([p.positions for p in parts]),
        log_weights=np.zeros(2000),
        reduced_energies=np.zeros(2000),
        lineages=np.arange(2000),
        islands=np.repeat([0, 1], 1000),
    )
    spread = free_energy_difference(both, POSITIVE, NEGATIVE, 200, 0)
    alone = free_energy_difference(replace(both, islands=None), POSITIVE, NEGATIVE, 200, 0)
    p = np.array([np.mean(POSITIVE.members(part.positions)) for part in parts])
    expected = 0.5 * abs(p[1] - p[0]) / (p.mean() * (1 - p.mean()))
    assert spread.error == pytest.approx(expected, rel=1e-3)
    assert alone.error is not None and spread.error is not None and alone.error < 0.3 * spread.error


def test_state_on_few_lineages_has_no_error_but_a_note():
    sample = chain_ensemble(2000, seed=4, p_positive=0.3, frames_per_lineage=40)
    estimate = free_energy_difference(sample, POSITIVE, NEGATIVE, 100, 0)
    independent = n_independent(sample, POSITIVE.members(sample.positions))
    assert 0 < independent < 30 and estimate.error is None and math.isfinite(estimate.value)
    assert f"phi_positive is supported by {independent} independent samples" in estimate.note


def test_rows_of_weight_zero_carry_nothing():
    sample = chain_ensemble(200, seed=4)
    inside = POSITIVE.members(sample.positions)
    sample = replace(sample, log_weights=np.where(inside, -np.inf, 0.0))
    assert n_independent(sample, inside) == 0
    assert free_energy_difference(sample, POSITIVE, NEGATIVE, 10, 0).value == math.inf


def test_one_heavy_lineage_keeps_the_error_with_a_warning():
    sample = chain_ensemble(500, seed=5)
    log_weights = sample.log_weights.copy()
    log_weights[np.flatnonzero(POSITIVE.members(sample.positions))[0]] += 8.0
    estimate = free_energy_difference(replace(sample, log_weights=log_weights), POSITIVE, NEGATIVE, 100, 0)
    assert estimate.error is not None and "lower bound" in estimate.note


@pytest.mark.parametrize(("p", "value"), [(1.0, -math.inf), (0.0, math.inf)])
def test_absent_state_is_infinite_with_a_note(p, value):
    sample = replace(chain_ensemble(100, seed=6, p_positive=p, proposal=p + (0.5 - p) * 1e-9))
    estimate = free_energy_difference(sample, POSITIVE, NEGATIVE, 10, 0)
    assert estimate.value == value and estimate.error is None and "absent" in estimate.note
    missing = POSITIVE if p == 0.0 else NEGATIVE
    assert state_probability(sample, missing.members(sample.positions)).value == 0.0


def test_a_state_that_fills_the_sample_has_no_error():
    sample = chain_ensemble(300, seed=6, p_positive=0.3)
    everything = state_probability(sample, np.ones(300, dtype=bool))
    assert (
        everything.value == pytest.approx(1.0) and everything.error is None and "outside" in everything.note
    )


def test_expectation_ignores_nan_at_weight_zero():
    sample = chain_ensemble(100, seed=7)
    values, log_weights = np.random.default_rng(0).permutation(100.0 * np.arange(100) / 99), np.zeros(100)
    first = int(np.argmin(values))
    values[first], log_weights[first] = np.nan, -np.inf
    expected = np.delete(values, first)
    estimate = expectation(replace(sample, log_weights=log_weights), values)
    assert estimate.value == pytest.approx(expected.mean())
    assert estimate.error == pytest.approx(np.std(expected) / math.sqrt(99), rel=0.2)


def test_what_varies_slowly_has_the_error_of_its_slow_variation():
    """Rows that claim to be independent, in an order of which the values know: blocks were too short."""
    sample, slow = chain_ensemble(3200, seed=7), np.repeat(np.random.default_rng(1).normal(size=64), 50)
    in_order = expectation(sample, slow)
    shuffled = expectation(sample, np.random.default_rng(2).permutation(slow))
    assert in_order.error == pytest.approx(np.std(slow) / math.sqrt(64), rel=0.3)
    assert in_order.dof == 31.0
    assert shuffled.error == pytest.approx(np.std(slow) / math.sqrt(3200), rel=0.2)


def test_all_weights_zero_is_a_user_error():
    sample = replace(chain_ensemble(10, 0), log_weights=np.full(10, -np.inf))
    with pytest.raises(NumericalError, match="zero"):
        expectation(sample, np.zeros(10))


def test_pmf_recovers_a_known_profile_and_marks_empty_bins():
    sample = chain_ensemble(20000, seed=8, p_positive=0.2)
    pmf = potential_of_mean_force(sample, PHI, n_bins=40, n_bootstrap=100, seed=0)
    values = PHI.values(sample.positions)
    counts = np.histogram(values, pmf.bin_edges)[0]
    occupied = counts > 0
    assert pmf.f.min() == 0.0 and np.isposinf(pmf.f[~occupied]).all() and np.isnan(pmf.df[~occupied]).all()
    expected = -np.log(counts[occupied] / counts.max())
    np.testing.assert_allclose(pmf.f[occupied], expected, atol=1e-6)
    top, k = int(np.argmax(counts)), int(np.flatnonzero(counts > 200)[0])
    assert pmf.df[top] == 0.0
    assert pmf.df[k] == pytest.approx(math.sqrt(1 / counts[k] + 1 / counts[top]), rel=0.25)


def test_pmf_limits_leave_outside_values_out():
    sample = chain_ensemble(500, seed=9)
    pmf = potential_of_mean_force(sample, END_TO_END, n_bins=5, n_bootstrap=20, limits=(10.0, 11.0))
    assert np.isposinf(pmf.f).all() and pmf.bin_edges[0] == 10.0


def test_log_z_difference_adds_errors_in_quadrature():
    sample = chain_ensemble(10, 0)
    a, b = replace(sample, log_z=-3.0, log_z_error=0.3), replace(sample, log_z=1.0, log_z_error=0.4)
    assert log_z_difference(a, b) == Estimate(4.0, pytest.approx(0.5))
    assert log_z_difference(replace(a, log_z_error=None), b).error is None
    few = log_z_difference(replace(a, log_z_dof=3.0), replace(b, log_z_dof=3.0))
    assert few.dof == pytest.approx(3.0 * (0.3**2 + 0.4**2) ** 2 / (0.3**4 + 0.4**4))
    with pytest.raises(DataError, match="log_z"):
        log_z_difference(sample, b)


def test_delta_f_on_few_ancestors_is_a_bound_or_unknown():
    """One row of a state has nearly all of its weight; then one of the other state as well."""
    sample = replace(chain_ensemble(2000, seed=1, p_positive=0.3), log_z=-3.0)
    inside = np.flatnonzero(POSITIVE.members(sample.positions))
    log_weights = sample.log_weights.copy()
    log_weights[inside[1:]] -= 8.0
    thin = replace(sample, log_weights=log_weights)
    found = free_energy_difference(thin, POSITIVE, NEGATIVE)
    assert found.error is None and "Delta F <= estimate + t" in found.note and "phi_positive" in found.note
    swapped = free_energy_difference(thin, NEGATIVE, POSITIVE)
    assert swapped.error is None and "Delta F >= estimate - t" in swapped.note
    log_weights[np.flatnonzero(NEGATIVE.members(sample.positions))[1:]] -= 8.0
    both = free_energy_difference(replace(sample, log_weights=log_weights), POSITIVE, NEGATIVE)
    assert both.error is None and "unknown" in both.note
    assert free_energy_difference(sample, POSITIVE, NEGATIVE).error is not None
    frames = free_energy_difference(replace(thin, log_z=None), POSITIVE, NEGATIVE)  # of MD
    assert frames.error is not None and "lower bound" in frames.note
