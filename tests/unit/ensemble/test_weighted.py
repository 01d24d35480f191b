"""Weighted ensembles: reweighting to another temperature, and the shape of the weights' tail."""

from __future__ import annotations

import numpy as np
import pytest

from boltzgen.ensemble.weighted import WeightedEnsemble, pareto_k


def harmonic(n: int) -> WeightedEnsemble:
    """``n`` samples of ``u = x^2 / 2`` at 300 K, x being one coordinate [nm]."""
    x = np.random.default_rng(0).normal(size=n)
    positions = np.zeros((n, 1, 3), dtype=np.float32)
    positions[:, 0, 0] = x
    return WeightedEnsemble(positions, np.zeros(n), 0.5 * x**2, 300.0, log_z=1.0, log_z_error=0.1)


@pytest.mark.parametrize("kelvin", [200.0, 300.0, 360.0])
def test_reweighting_to_another_temperature_has_its_equipartition(kelvin: float) -> None:
    there = harmonic(40_000).at_temperature(kelvin)
    error = np.sqrt(0.5 / there.ess)
    assert error < 0.02
    assert there.temperature_k == kelvin
    assert abs(there.expectation(there.reduced_energies) - 0.5) < 3.5 * error
    width = there.expectation(lambda x: np.square(x[:, 0, 0]))
    assert width == pytest.approx(kelvin / 300.0, rel=0.05)
    assert (there.log_z is None) == (kelvin != 300.0)


@pytest.mark.parametrize("kelvin", [270.0, 330.0])
def test_rows_without_weight_stay_without(kelvin: float) -> None:
    """Also where their energies are infinite, as those of removed particles are."""
    whole = harmonic(200)
    log_weights, energies = np.append(whole.log_weights, -np.inf), np.append(whole.reduced_energies, np.inf)
    positions = np.concatenate([whole.positions, whole.positions[:1]])
    dead = WeightedEnsemble(positions, log_weights, energies, 300.0).at_temperature(kelvin)
    np.testing.assert_array_equal(dead.log_weights[:-1], whole.at_temperature(kelvin).log_weights)
    assert dead.log_weights[-1] == -np.inf


@pytest.mark.parametrize("k", [0.2, 0.6, 1.2])
def test_pareto_k_is_the_shape_of_the_tail(k: float) -> None:
    log_weights = -k * np.log(np.random.default_rng(1).random(200_000))
    found = pareto_k(np.append(log_weights, -np.inf))
    assert found == pytest.approx(k, abs=0.12)


def test_pareto_k_of_too_few_or_equal_weights_is_none() -> None:
    assert pareto_k(np.arange(20.0)) is None
    assert pareto_k(np.zeros(100)) is None
