"""Surfaces and kernel profiles against counts and closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.chain import END_TO_END, PHI, PSI, chain_ensemble, chain_positions
from scipy.stats import norm, vonmises

from boltzgen.analyze.densities import kernel
from boltzgen.analyze.free_energy import (
    free_energy_surface,
    kernel_pmf,
    kernel_surface,
    potential_of_mean_force,
)
from boltzgen.ensemble.weighted import WeightedEnsemble


def von_mises_sample(n: int, kappa: float, seed: int) -> WeightedEnsemble:
    """Equally weighted rows whose first torsion is von Mises distributed about pi, across the boundary."""
    rng = np.random.default_rng(seed)
    x = chain_positions(rng.vonmises(math.pi, kappa, n), np.full(n, 2.0))
    return WeightedEnsemble(x, np.zeros(n), np.zeros(n), 300.0)


def test_surface_is_the_histogram_with_multinomial_errors():
    sample = chain_ensemble(20_000, seed=1, p_positive=0.4)
    surface = free_energy_surface(sample, (PHI, PSI), n_bins=16, n_bootstrap=200)
    x, y = (cv.values(sample.positions) for cv in (PHI, PSI))
    counts = np.histogram2d(x, y, (surface.x_edges, surface.y_edges))[0]
    some, top = counts > 0, counts.max()
    np.testing.assert_allclose(surface.f[some], -np.log(counts[some] / top), atol=1e-9)
    assert np.isposinf(surface.f[~some]).all() and np.isnan(surface.df[counts < 5]).all()
    many = (counts > 300) & (counts < top)
    np.testing.assert_allclose(surface.df[many], np.sqrt(1 / counts[many] + 1 / top), rtol=0.3)
    low, high = surface.interval
    assert (high - low)[many] == pytest.approx(2 * 1.96 * surface.df[many], rel=0.02)


def test_surface_summed_over_one_variable_is_the_others_profile():
    sample = chain_ensemble(3000, seed=2, p_positive=0.2, proposal=0.5)
    limits = (None, (0.2, 0.5))
    surface = free_energy_surface(sample, (PHI, END_TO_END), n_bins=12, n_bootstrap=10, limits=limits)
    profile = potential_of_mean_force(sample, PHI, n_bins=12, n_bootstrap=10)
    with np.errstate(divide="ignore"):
        summed = -np.log(np.exp(-surface.f).sum(axis=1))
    np.testing.assert_allclose(summed - summed.min(), profile.f, atol=1e-9)


def test_nothing_within_the_limits_is_an_empty_surface():
    sample = chain_ensemble(100, seed=2)
    surface = free_energy_surface(sample, (PHI, END_TO_END), 4, 10, limits=(None, (5.0, 6.0)))
    assert np.isposinf(surface.f).all() and np.isnan(surface.df).all()


def test_kernel_surface_of_independent_torsions_crosses_both_boundaries():
    rng, kappa, n = np.random.default_rng(8), 2.0, 20_000
    x = chain_positions(rng.vonmises(math.pi, kappa, n), rng.vonmises(math.pi, kappa, n))
    surface = kernel_surface(WeightedEnsemble(x, np.zeros(n), np.zeros(n), 300.0), (PHI, PSI), n_bootstrap=20)
    centres = 0.5 * (surface.x_edges[1:] + surface.x_edges[:-1])
    assert surface.bandwidths is not None and 0.1 < surface.bandwidths[0] < 0.5
    smoothing = kernel(surface.x_edges, surface.bandwidths[0], periodic=True)
    alone = -np.log(smoothing @ vonmises.pdf(centres, kappa, math.pi))
    truth = alone[:, None] + alone
    near = np.isfinite(surface.df) & (truth < truth.min() + 3)
    gap = surface.f - truth
    gap = (gap - gap.flat[np.argmin(surface.f)])[near]
    assert near.sum() > 300 and np.sqrt(np.mean(gap**2)) < 0.1
    assert np.mean(np.abs(gap) < 2.5 * surface.df[near]) > 0.9


def test_kernel_surface_summed_over_one_variable_is_the_others_kernel_profile():
    sample = chain_ensemble(3000, seed=2, p_positive=0.2, proposal=0.5)
    surface = kernel_surface(sample, (PHI, PSI), 24, (0.3, 0.4), n_bootstrap=10)
    profile = kernel_pmf(sample, PHI, 24, 0.3, n_bootstrap=10)
    with np.errstate(divide="ignore"):
        summed = -np.log(np.exp(-surface.f).sum(axis=1))
    known = np.isfinite(profile.df) & (profile.f < 3.5)  # further out cells without rows nearby are empty
    np.testing.assert_allclose((summed - summed.min())[known], profile.f[known], atol=0.02)


@pytest.mark.parametrize("kappa", [0.5, 4.0])
def test_kernel_profile_of_a_torsion_crosses_the_boundary(kappa):
    profile = kernel_pmf(von_mises_sample(20_000, kappa, seed=3), PHI)
    truth = -vonmises.logpdf(profile.centres, kappa, math.pi)
    near = np.isfinite(profile.df) & (truth < truth.min() + 3)
    gap = profile.f - truth
    assert np.abs(gap - gap[np.argmin(profile.f)])[near].max() < 0.15
    assert abs(profile.f[0] - profile.f[-1]) < 0.05


def test_a_given_bandwidth_adds_its_variance():
    rng = np.random.default_rng(4)
    x = np.zeros((20_000, 2, 3), dtype=np.float32)
    x[:, 1, 0] = rng.normal(1.0, 0.1, len(x))
    sample = WeightedEnsemble(x, np.zeros(len(x)), np.zeros(len(x)), 300.0)
    bond = replace(END_TO_END, atoms=(0, 1))
    profile = kernel_pmf(sample, bond, np.linspace(0.4, 1.6, 101), bandwidth=0.05)
    truth = -norm.logpdf(profile.centres, 1.0, math.hypot(0.1, 0.05))
    known = truth < truth.min() + 3
    np.testing.assert_allclose(profile.f[known], (truth - truth.min())[known], atol=0.1)
    assert profile.bandwidth == 0.05


def test_bandwidth_shrinks_with_lineages_and_not_with_copies():
    wide, narrow = (kernel_pmf(von_mises_sample(n, 1.0, seed=5), PHI).bandwidth for n in (60, 20_000))
    assert wide > 2 * narrow
    sample = replace(von_mises_sample(60, 1.0, seed=5), lineages=np.arange(60))
    copied = sample.select(np.repeat(np.arange(60), 50))
    assert kernel_pmf(copied, PHI).bandwidth == wide
    assert kernel_pmf(replace(copied, lineages=None), PHI).bandwidth < 0.5 * wide


def test_kernel_errors_are_those_of_independent_rows():
    """The error of a difference across the circle is its spread between samples."""
    values = []
    for seed in range(40):
        profile = kernel_pmf(von_mises_sample(500, 1.0, seed), PHI, 72, bandwidth=0.3, seed=seed)
        values.append(profile.f - profile.f[36])
    error = np.std(values, axis=0, ddof=1)[0]
    assert profile.df[36] == pytest.approx(error, rel=0.35)


def test_a_kernel_says_nothing_where_nothing_was_sampled():
    profile = kernel_pmf(chain_ensemble(2000, seed=6), PHI)
    gap = np.abs(profile.centres) > 3.0
    assert np.isposinf(profile.f[gap]).all() and np.isnan(profile.df[gap]).all()
    assert np.isfinite(profile.df).sum() > 30


def test_one_heavy_particle_is_not_what_all_others_are_measured_from():
    """A bin of one lineage has no error, and differences from it would have none either."""
    data = chain_ensemble(400, 8)
    phi = PHI.values(data.positions)
    heavy = int(np.argmin(np.abs(phi - 1.9)))
    log_weights = np.where(np.abs(phi - phi[heavy]) < 0.35, -np.inf, 0.0)
    log_weights[heavy] = math.log(150.0)
    profile = potential_of_mean_force(replace(data, log_weights=log_weights), PHI, n_bins=18, n_bootstrap=200)
    lowest = int(np.argmin(profile.f))
    assert np.isnan(profile.df[lowest]) and profile.f[lowest] < 0.0
    known = np.isfinite(profile.df)
    assert known.sum() >= 6 and np.nanmin(profile.f[known]) == 0.0
    assert np.nanmax(profile.df[profile.f < 2.0]) < 0.5


def test_bins_count_samples_by_weight():
    """One of eleven in a bin has nearly all of its weight: no error. Ten of forty do: a lower bound."""
    rng = np.random.default_rng(3)
    x = np.zeros((2051, 2, 3), dtype=np.float32)
    bins = np.repeat([0, 1, 2], [2000, 11, 40])
    x[:, 1, 0] = bins + rng.uniform(0.1, 0.9, len(bins))
    log_weights = np.zeros(len(bins))
    log_weights[2000] = 10.0
    log_weights[2011:2021] = 5.0
    log_weights[:2000] += 8.0
    sample = WeightedEnsemble(x, log_weights, np.zeros(len(bins)), 300.0)
    bond = replace(END_TO_END, atoms=(0, 1))
    profile = potential_of_mean_force(sample, bond, 3, limits=(0.0, 3.0))
    weights = np.exp(log_weights[2011:])
    expected = [2000, 1, weights.sum() ** 2 / np.square(weights).sum()]
    np.testing.assert_allclose(profile.effective, expected, rtol=0.01)
    assert np.isnan(profile.df[1]) and np.isfinite(profile.f).all()
    assert profile.lower_bound.tolist() == [False, False, True]
    assert profile.note == "errors of 1 of 2 bins are lower bounds: fewer than 30 effective samples each"
    assert replace(profile, effective=None).note == ""
    surface = free_energy_surface(sample, (bond, bond), 3, limits=((0.0, 3.0), (0.0, 3.0)))
    assert surface.lower_bound.sum() == 1 and "cells" in surface.note
