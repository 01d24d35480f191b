"""Verdicts on runs."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from boltzgen.diagnostics import summarise
from boltzgen.sampler.islands import Combined
from boltzgen.sampler.ladder import Particles
from boltzgen.sampler.smc import Population
from boltzgen.sampler.verdict import judge
from boltzgen.sampling import ensemble_of

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
    assert judge(**GOOD).level == "trusted"


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
    ],
)
def test_each_trouble_is_named(change: dict[str, object], level: str, word: str) -> None:
    verdict = judge(**{**GOOD, **change})  # type: ignore[arg-type]
    assert verdict.level == level
    assert any(word in reason for reason in verdict.reasons)
    assert len(verdict.reasons) == 1


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
