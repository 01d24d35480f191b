"""Temperatures of replica exchange, and weights at one temperature of frames from all of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from boltzgen.config.schema import SimulateSettings
from boltzgen.simulate import level_weights
from boltzgen.simulate.exchange_levels import ExchangeLevels
from boltzgen.simulate.level_weights import target_log_weights
from boltzgen.simulate.run_plan import RunPlan
from boltzgen.simulate.temperature_ladder import (
    ACCEPTANCE,
    HOTTEST_RATIO,
    evenly_spaced,
    hottest_k,
    temperatures_of,
)
from boltzgen.system.registry import load_system
from boltzgen.units import thermal_energy

DEFAULT = SimulateSettings()


def settings(**given: object) -> SimulateSettings:
    return SimulateSettings.model_validate(given)


def test_larger_molecules_need_more_temperatures() -> None:
    counts = [len(temperatures_of(DEFAULT, n, 300.0)) for n in (2, 22, 42, 63)]
    assert counts == [2, 5, 7, 8]
    for n in (2, 63):
        ladder = temperatures_of(DEFAULT, n, 300.0)
        assert (ladder[0], ladder[-1]) == pytest.approx((300.0, 300.0 * HOTTEST_RATIO))


def test_temperatures_are_those_that_are_asked_for() -> None:
    asked = temperatures_of(settings(n_temperatures=3, temperature_ratio=1.1), 22, 300.0)
    np.testing.assert_allclose(asked, [300.0, 330.0, 363.0])
    for method, n in (("langevin", 1), ("flat_histogram", 1)):
        assert len(temperatures_of(settings(method=method), 22, 300.0)) == n
    both = settings(method="flat_histogram", n_temperatures=4)
    assert len(temperatures_of(both, 22, 300.0)) == 4
    assert hottest_k(settings(method="langevin"), 22, 300.0) == 300.0
    assert hottest_k(both, 22, 300.0) == 300.0 * HOTTEST_RATIO  # where replicas leave their start
    assert hottest_k(settings(n_temperatures=9), 22, 300.0) == pytest.approx(300.0 * 1.25**8)


def test_spacing_follows_measured_energies_and_gives_the_acceptance() -> None:
    """Normal modes whose number changes at 450 K: closer temperatures where energies rise faster."""
    rng = np.random.default_rng(1)

    def mean(kelvin: np.ndarray) -> np.ndarray:
        return thermal_energy(1.0) * (20 * kelvin + 40 * np.maximum(kelvin - 450.0, 0.0))

    ladder = evenly_spaced(trial := np.geomspace(300.0, 750.0, 40), mean(trial))
    assert (ladder[0], ladder[-1]) == pytest.approx((300.0, 750.0))
    ratios = ladder[1:] / ladder[:-1]
    assert ratios[-1] - 1.0 < 0.7 * (ratios[0] - 1.0)
    plain = evenly_spaced(trial, 60 * thermal_energy(1.0) * trial)
    beta = 1.0 / (thermal_energy(1.0) * plain)
    u = rng.gamma(60.0, 1.0 / beta[:, None], size=(len(plain), 100_000))  # 120 harmonic degrees of freedom
    log_ratio = np.diff(-beta)[:, None] * (u[:-1] - u[1:])
    accepted = np.exp(np.minimum(log_ratio, 0.0)).mean(1)
    assert (accepted > ACCEPTANCE - 0.03).all() and (accepted < ACCEPTANCE + 0.15).all()
    assert np.ptp(accepted) < 0.03


@pytest.mark.parametrize("biased", [False, True])
def test_frames_of_all_temperatures_have_their_weights_at_the_lowest(biased: bool) -> None:
    """A harmonic well in one dimension with a linear bias: mean energy 1/2 kT, and no mean displacement.

    Numbers of frames differ, so that weights from other counts are wrong (the last assertion).
    """
    rng, kelvin = np.random.default_rng(2), torch.tensor([300.0, 450.0, 700.0], dtype=torch.float64)
    levels = ExchangeLevels(kelvin, torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64))
    kT, slope = levels.kT.numpy(), 3.0 if biased else 0.0
    level = np.repeat([0, 1, 2], [5_000, 20_000, 80_000])
    middle = -slope * levels.strengths.numpy()  # U = x^2/2, V = slope x
    x = middle[level] + np.sqrt(kT[level]) * rng.normal(size=len(level))
    log_weights = target_log_weights(levels, level, 0.5 * x**2, slope * x)
    weights = np.exp(log_weights)
    ess = 1.0 / np.square(weights).sum()
    assert weights.sum() == pytest.approx(1.0) and ess > 8_000
    assert weights @ x == pytest.approx(0.0, abs=4 * np.sqrt(kT[0] / ess))
    assert weights @ x**2 == pytest.approx(kT[0], abs=4 * kT[0] * np.sqrt(2.0 / ess))
    u = levels.reduced(torch.tensor(0.5 * x**2), torch.tensor(slope * x)).numpy()
    exact = -0.5 * np.log(kT / kT[0]) - middle**2 / (2 * kT)  # of Gaussian integrals
    assert level_weights._free_energies(u, level) == pytest.approx(exact, abs=0.03)
    wrong = np.exp(target_log_weights(levels, np.arange(len(level)) % 3, 0.5 * x**2, slope * x))
    assert abs(wrong @ x**2 / kT[0] - 1.0) > 0.05 > 4 * np.sqrt(2.0 / ess)


def test_sets_fill_the_replicas_but_each_is_long_enough() -> None:
    system = load_system("alanine_dipeptide")
    by_default = RunPlan.of(DEFAULT, system)
    assert (by_default.n_replicas, len(by_default.levels)) == (60, 5)
    short = RunPlan.of(settings(production_ps=500.0), system)
    assert short.n_replicas == 5 * 5 and short.replica_ps >= 100.0
    assert RunPlan.of(settings(n_replicas=3, method="langevin"), system).n_replicas == 3
    biased = RunPlan.of(settings(method="flat_histogram", production_ps=1e5), system)
    assert biased.n_replicas == 63 and biased.n_learning > 0 and biased.n_trial == 0
    assert biased.levels.strengths.tolist() == [0.0, 0.5, 1.0]
    assert biased.levels.temperatures_k.tolist() == [300.0] * 3
    alone = RunPlan.of(settings(method="flat_histogram", n_temperatures=1), system)
    assert alone.levels.strengths.tolist() == [1.0]
    both = RunPlan.of(settings(method="flat_histogram", n_temperatures=2), system)
    assert (
        both.levels.strengths.tolist() == [0.0, 1.0] and str(both.levels) == "300, 375 K and 0, 1 of the bias"
    )


def test_levels_of_a_bias_grow_with_the_root_of_its_variables() -> None:
    peptide = load_system("alanine_peptide", {"solvent": "vacuum"})
    for names, n in ((("phi1",), 2), (("phi1", "psi1"), 3), ((), 4)):
        levels = RunPlan.of(settings(method="flat_histogram", bias=names), peptide).levels
        np.testing.assert_allclose(levels.strengths.numpy(), np.linspace(0.0, 1.0, n))
