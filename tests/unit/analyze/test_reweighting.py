"""Reweighting between wells of known partition functions, and what is said of its quality."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.wells import N_ATOMS, well_energy, well_ensemble

from boltzgen import reweighted
from boltzgen.errors import DataError, NumericalError
from boltzgen.potential import make_potential
from boltzgen.systems.harmonic import build_well, well_log_z

WELL = (250.0, 300.0)


@pytest.fixture(scope="module")
def sample():
    return well_ensemble(np.random.default_rng(3), *WELL, 500, 4)


def test_another_temperature_moves_log_z_as_the_closed_form_does(sample):
    found = reweighted(sample, 330.0)
    change = well_log_z(N_ATOMS, 250.0, 330.0) - well_log_z(N_ATOMS, *WELL)
    low, high = found.log_z_change.interval
    assert low < change < high and found.log_z_change.error < 0.02
    assert found.ensemble.log_z == pytest.approx(sample.log_z + found.log_z_change.value)
    assert found.ensemble.log_z_error == pytest.approx(0.05 + found.log_z_change.error)
    by_method = sample.at_temperature(330.0)
    np.testing.assert_array_equal(found.ensemble.log_weights, by_method.log_weights)
    assert found.trustworthy and found.kish_ess == pytest.approx(found.ensemble.ess)
    assert "to be trusted" in str(found) and found.effective_independent < 500 < found.kish_ess


def test_another_force_field_through_its_potential(sample):
    target = (320.0, 280.0)
    found = reweighted(sample, make_potential(build_well(N_ATOMS, *target), backend="batched"))
    assert found.ensemble.temperature_k == pytest.approx(280.0)
    change = well_log_z(N_ATOMS, *target) - well_log_z(N_ATOMS, *WELL)
    low, high = found.log_z_change.interval
    assert low < change < high
    mean = found.ensemble.expectation(found.ensemble.reduced_energies)
    assert mean == pytest.approx(1.5 * (N_ATOMS - 1), abs=0.2)  # equipartition
    by_function = reweighted(sample, well_energy(*target), temperature_k=280.0)
    np.testing.assert_allclose(by_function.ensemble.log_weights, found.ensemble.log_weights, atol=1e-3)


def test_there_and_back_again_is_where_it_started(sample):
    back = reweighted(reweighted(sample, 350.0).ensemble, 300.0)
    np.testing.assert_allclose(back.ensemble.weights, sample.weights, rtol=1e-9)
    assert back.ensemble.log_z == pytest.approx(sample.log_z)


def test_a_target_that_is_hardly_visited_is_not_to_be_trusted(sample):
    far = reweighted(sample, well_energy(40.0, 300.0))
    assert far.pareto_k > 0.7 and not far.trustworthy and far.kish_ess < 30
    assert "not to be trusted" in str(far) and "lower bound" in far.log_z_change.note
    few = reweighted(well_ensemble(np.random.default_rng(0), *WELL, 10, 3), 310.0)
    assert few.pareto_k is None and not few.trustworthy and few.log_z_change.error is None


def test_k_is_of_lineages_and_not_of_their_copies(sample):
    rows = np.repeat(np.arange(len(sample)), 7)
    once, copied = (reweighted(e, 350.0).pareto_k for e in (sample, sample.select(rows)))
    assert copied == pytest.approx(once, abs=1e-6)


def test_rows_without_weight_stay_without(sample):
    lost = sample.log_weights.copy()
    lost[:100] = -np.inf
    found = reweighted(replace(sample, log_weights=lost), well_energy(260.0, 300.0))
    assert np.isneginf(found.ensemble.log_weights[:100]).all() and found.kish_ess > 100


@pytest.mark.parametrize("temperature", [0.0, -300.0, math.inf, math.nan])
def test_what_is_no_temperature(sample, temperature):
    with pytest.raises(DataError, match=r"temperature_k is .*; give a positive one"):
        reweighted(sample, temperature)


def test_what_is_no_energy_of_these_atoms(sample):
    with pytest.raises(DataError, match="of 5 atoms, the ensemble of 4"):
        reweighted(sample, make_potential(build_well(5), backend="batched"))
    with pytest.raises(DataError, match="let it give one reduced energy for each"):
        reweighted(sample, lambda x: x)
    with pytest.raises(NumericalError, match="nothing in common"):
        reweighted(sample, lambda x: well_energy(*WELL)(x) * math.nan)
    with pytest.raises(DataError, match="a temperature of its own"):
        reweighted(sample, make_potential(build_well(4), backend="batched"), temperature_k=310.0)
