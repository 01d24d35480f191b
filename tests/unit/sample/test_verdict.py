"""Verdicts on runs."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from boltzgen.ensemble.tails import Tail
from boltzgen.ensemble.uncertainty import cluster_weights
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.sample.diagnostics import judge_run, path_diagnostics, summarise, tail_of_ancestors
from boltzgen.sample.stage import ensemble_of
from boltzgen.sample.verdict import Evidence, judge
from boltzgen.smc.algorithm import Population
from boltzgen.smc.base import Particles
from boltzgen.smc.bidirectional import Paths
from boltzgen.smc.bounds import MARGIN
from boltzgen.smc.combine import Combined, combine
from boltzgen.smc.divergences import Measured
from boltzgen.smc.presence import Presence

GOOD = {
    "genealogical_ess": 500.0,
    "log_z_error": 0.05,
    "jeffreys": 1.0,
    "ancestors_per_state": {"a": 400, "b": 40},
    "data_populations": {"a": 0.98, "b": 0.02},
    "n_particles": 1000,
    "n_lost": 0,
}


def test_nothing_wrong_is_trusted() -> None:
    assert judge(Evidence(**GOOD)).level == "trusted"


@pytest.mark.parametrize(
    ("change", "level", "word"),
    [
        ({"genealogical_ess": 5.0}, "not trusted", "ancestors"),
        ({"jeffreys": math.nan}, "not trusted", "J is not a number"),
        ({"log_z_error": math.nan}, "not trusted", "log Z is not a number"),
        ({"genealogical_ess": 60.0}, "caution", "ancestors"),
        ({"log_z_error": 2.0}, "not trusted", "log Z"),
        ({"jeffreys": 15.0}, "caution", "J = 15"),
        ({"ancestors_per_state": {"a": 400, "b": 0}}, "not trusted", "state b (2.0% of the data) is missing"),
        ({"ancestors_per_state": {"a": 400, "b": 7.2}}, "caution", "7 effective ancestors"),
        ({"n_lost": 400}, "caution", "400 of 1000"),
        ({"genealogical_ess": 25.0, "log_z_error": None}, "caution", "log Z is a lower bound"),
        ({"jeffreys": -2.0, "jeffreys_error": 0.1}, "not trusted", "J is negative"),
        ({"jeffreys": -1.3, "jeffreys_error": 0.2}, "caution", "J is negative"),
        ({"bar_gap": Measured(-0.3, 0.04)}, "caution", "log Z by BAR"),
        ({"bar_gap": Measured(9.5, 0.5)}, "not trusted", "log Z by BAR"),
        ({"lost_data_paths": 0.02}, "caution", "2.0% of the paths from data"),
        ({"lost_data_paths": 0.2}, "not trusted", "20.0% of the paths from data"),
        ({"tail": Tail(0.95, 0.15, 0.7)}, "caution", "k-hat is 0.95"),
        ({"tail": Tail(0.75, 0.15, 0.6)}, "caution", "largest fifth is 0.60"),
        ({"regions": [Presence("there", 0.2, 100.0, 0.0, 0.0)]}, "not trusted", "missing from the sample"),
        ({"regions": [Presence("there", 0.2, 100.0, 0.015, 3.0)]}, "caution", "on 3 effective ancestors"),
    ],
)
def test_each_trouble_is_named(change: dict[str, object], level: str, word: str) -> None:
    verdict = judge(Evidence(**{**GOOD, **change}))  # type: ignore[arg-type]
    assert verdict.level == level
    assert any(word in reason for reason in verdict.reasons)
    assert len(verdict.reasons) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"jeffreys": -0.8, "jeffreys_error": 0.1},
        {"bar_gap": Measured(-0.3, 0.1)},
        {"bar_gap": Measured(0.1, 0.01)},
        {"lost_data_paths": 0.005},
        {"tail": Tail(0.8, 0.15, 0.45)},
        {"regions": [Presence("small", 0.01, 100.0, 0.0, 0.0)]},
        {"regions": [Presence("seen once", 0.2, 2.0, 0.0, 0.0)]},
        {"regions": [Presence("rarer than in the data", 0.2, 100.0, 0.05, 20.0)]},
    ],
)
def test_what_noise_explains_is_trusted(change: dict[str, object]) -> None:
    assert judge(Evidence(**{**GOOD, **change})).level == "trusted"  # type: ignore[arg-type]


def test_paths_from_data_that_are_lost_count() -> None:
    """A fifth of the data a hundred thousand kT too high: J, which leaves them out, is perfect."""
    g = torch.Generator().manual_seed(0)
    forward = torch.randn((2, 500), generator=g, dtype=torch.float64)
    forward[:, :100] -= 1e5
    reverse = torch.randn((2, 500), generator=g, dtype=torch.float64)
    schedule = SimpleNamespace(sigmas=(1.0, 0.1))
    found = path_diagnostics(schedule, Paths(forward, {}), Paths(reverse, {}), {})
    assert found["lost_data_paths"] == pytest.approx(0.2) and abs(found["jeffreys"]) < 0.3
    counts = {"genealogical_ess": 500.0, "log_z_error": 0.05, "n_particles": 1000, "non_finite": 0}
    counts |= {"diastereomers": 0, "ancestors_per_state": {}}
    data = WeightedEnsemble(np.zeros((1, 2, 3), np.float32), np.zeros(1), np.zeros(1), 300.0)
    assert judge_run(counts | found, SimpleNamespace(states=()), data).level == "not trusted"


def weighed(log_weights: np.ndarray) -> Population:
    """A population of independent particles with these weights."""
    n = len(log_weights)
    particles = Particles(torch.zeros(n, 2, 3), torch.zeros(n, 2), torch.zeros(n, 0), torch.arange(n))
    population = Population(particles, torch.zeros(n, dtype=torch.float64))
    population.reweight(torch.as_tensor(log_weights))
    return population


def test_log_z_on_few_weights_is_a_bound_and_the_bound_holds() -> None:
    """Lognormal weights of sd 6, log Z of which is 18: no error, and estimate - t holds as Markov says."""
    rng = np.random.default_rng(0)
    estimates = []
    for _ in range(100):
        combined = combine([weighed(6.0 * rng.normal(size=500)) for _ in range(4)])
        assert combined.log_z_error is None and combined.genealogical_ess < 30
        estimates.append(combined.log_z)
    assert np.median(estimates) < 18.0 - 3.0
    for t in (0.5, 1.0, MARGIN):
        assert np.mean(np.array(estimates) - t <= 18.0) >= 1.0 - math.exp(-t)
    samples = ensemble_of(combined, 300.0)
    found = summarise(SimpleNamespace(states=()), samples, combined, [weighed(np.zeros(3))], {})
    assert found["log_z_error"] is None and "log Z >= estimate - t" in found["log_z_note"]
    sound = combine([weighed(rng.normal(size=500)) for _ in range(4)])
    assert sound.log_z_error is not None and sound.log_z_error < 0.1


def test_the_tail_is_of_the_weights_that_ancestors_leave() -> None:
    """Copies of an ancestor are one weight; heavy-tailed weights at the target show."""
    rng = np.random.default_rng(0)
    heavy = combine([weighed(rng.exponential(1 / 1.3, 1000)) for _ in range(2)])
    tail = tail_of_ancestors(ensemble_of(heavy, 300.0))
    assert tail is not None and tail.wide_k > 0.6
    population = weighed(np.zeros(1000))
    population.particles = replace(population.particles, ancestors=torch.arange(1000) // 10)
    shares = cluster_weights(ensemble_of(combine([population]), 300.0))
    assert len(shares) == 100 and shares.tolist() == pytest.approx([0.01] * 100)


def test_ancestors_of_a_state_count_by_their_weight() -> None:
    """Forty ancestors on the left, of which the bridge has left four with weight; sixty on the right."""
    n = 100
    x = torch.zeros(n, 2, 3)
    x[:40, 0, 0] = -1.0
    log_weights = torch.zeros(n, dtype=torch.float64)
    log_weights[4:40] = -60.0
    numbers = torch.arange(n)
    islands = torch.zeros(n, dtype=torch.long)
    combined = Combined(x, torch.zeros(n, 2), log_weights, islands, numbers, 0.0, 0.1, math.inf, 64.0)
    sides = {"left": lambda x: x[:, 0, 0] < 0, "right": lambda x: x[:, 0, 0] >= 0}
    system = SimpleNamespace(states=[SimpleNamespace(name=k, members=inside) for k, inside in sides.items()])
    particles = Particles(x, combined.energies, x[:, None], numbers)
    found = summarise(
        system, ensemble_of(combined, 300.0), combined, [Population(particles, log_weights)], {}
    )
    assert found["ancestors_per_state"] == pytest.approx({"left": 4.0, "right": 60.0})
