"""A sampling that is killed and started again gives the samples of one that was not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from boltzgen.config.schema import ModelSettings, SampleSettings
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.errors import DataError, NumericalError
from boltzgen.model.energy import EnergyModel
from boltzgen.runtime.context import Context
from boltzgen.runtime.processes import Processes
from boltzgen.runtime.progress import OnProgress
from boltzgen.sample.islands import Cost, Island, checkpoints_in, mean_shares
from boltzgen.sample.stage import sample
from boltzgen.smc.algorithm import Population
from boltzgen.smc.base import Particles
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system
from boltzgen.system.stereochemistry.domain import Domain

SETTINGS = SampleSettings(
    n_particles=24, n_islands=3, n_levels=6, n_pilot=16, n_forward=16, bridge_cess=0.6, bridge_moves=1
)
ON_THE_CLOCK = {"seconds", "target_seconds"}
Problem = tuple[MolecularSystem, EnergyModel, WeightedEnsemble]
Sampled = tuple[WeightedEnsemble, dict[str, object]]


class Killed(Exception):
    """Stands for a kill at some moment of sampling."""


def killed_at(message: str) -> OnProgress:
    def on_progress(done: float, total: float, said: str) -> None:
        if said.startswith(message):
            raise Killed

    return on_progress


@pytest.fixture(scope="module")
def problem() -> Problem:
    """A harmonic bond, frames near its length, and an untrained network with its prior."""
    system = load_system("harmonic_dimer")
    lengths = np.random.default_rng(0).normal(0.2, 0.0158, size=(64, 1))
    direction = np.random.default_rng(1).normal(size=(64, 3))
    bonds = lengths * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    positions = np.stack([-bonds / 2, bonds / 2], axis=1).astype(np.float32)
    torch.manual_seed(0)
    model = EnergyModel.from_data(
        system,
        torch.as_tensor(positions),
        ModelSettings(n_layers=1, n_channels=4, n_radial=4, hidden=8),
    )
    return system, model, WeightedEnsemble(positions, np.zeros(64), np.zeros(64), system.temperature_k)


@pytest.fixture(scope="module")
def whole(problem: Problem) -> Sampled:
    """What a sampling gives that nobody interrupted."""
    return sample(*problem, SETTINGS, Context(5))


@pytest.mark.parametrize(
    ("moment", "left"),
    [
        ("forward", ["pilot", "forward", "island 1", "island 2", "island 3"]),
        ("island 1/3", ["island 1", "island 2", "island 3"]),
        ("island 3/3", ["island 3"]),
        ("never", []),
    ],
)
def test_finished_islands_are_kept_and_the_others_are_the_same(
    problem: Problem, whole: Sampled, moment: str, left: list[str], tmp_path: Path
) -> None:
    def run(**given: Any) -> Sampled:
        return sample(*problem, SETTINGS, Context(5, checkpoints=tmp_path, **given))

    ensemble, whole_diagnostics = whole
    try:
        run(on_progress=killed_at(moment))
        assert moment == "never"
    except Killed:
        pass
    said: list[str] = []
    messages: list[str] = []
    parts, diagnostics = run(log=said.append, on_progress=lambda *r: messages.append(r[2]))
    assert [
        word
        for word in ("pilot", "forward", *(f"island {k}" for k in (1, 2, 3)))
        if any(message.startswith(word) for message in messages)
    ] == left
    assert said == []
    for name in ("positions", "log_weights", "reduced_energies", "lineages", "islands"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(ensemble, name))
    assert {k: v for k, v in diagnostics.items() if k not in ON_THE_CLOCK} == {
        k: v for k, v in whole_diagnostics.items() if k not in ON_THE_CLOCK
    }


def test_islands_and_seeds_have_their_own_random_numbers(problem: Problem, whole: Sampled) -> None:
    samples = [whole[0], *(sample(*problem, SETTINGS, Context(seed))[0] for seed in (5, 6))]
    np.testing.assert_array_equal(samples[0].positions, samples[1].positions)
    assert not np.isin(samples[0].positions, samples[2].positions).any()
    first, second = (samples[0].positions[samples[0].islands == island] for island in (0, 1))
    assert not np.isin(first, second).any()


def test_a_damaged_island_is_sampled_again_and_that_is_said(
    problem: Problem, whole: Sampled, tmp_path: Path
) -> None:
    context = Context(5, checkpoints=tmp_path)
    sample(*problem, SETTINGS, context)
    path = tmp_path / "island_1.pt"
    path.write_bytes(path.read_bytes()[:-300])
    said: list[str] = []
    again, _ = sample(*problem, SETTINGS, replace(context, log=said.append))
    assert len(said) == 1 and "island_1.pt: cannot be read" in said[0]
    np.testing.assert_array_equal(again.positions, whole[0].positions)


def test_the_bridge_keeps_the_ancestors_of_rare_states(problem: Problem) -> None:
    """Resampling at every noise level goes on to the bridge only where hardly any particle counts."""
    settings = SETTINGS.model_copy(update={"resample_below": 1.0, "n_islands": 1})
    samples, diagnostics = sample(*problem, settings, Context(5))
    assert all(level["resampled"] for level in diagnostics["levels"])
    assert not any(level["resampled"] for level in diagnostics["bridge"])
    assert np.ptp(samples.log_weights) > 0


@pytest.mark.parametrize("kind", ["other isomers", "no energy"])
def test_a_pilot_run_that_loses_everything_says_how(
    problem: Problem, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(self: Domain, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, torch.zeros(len(x), dtype=torch.bool)

    def counted(self: Domain, x: torch.Tensor) -> Counter[str]:
        return Counter({"wrong_hand": 0, "diastereomers": len(x), "centre C(1)": len(x)})

    if kind == "no energy":
        energies = "boltzgen.potential.potential.Potential.reduced_energy_and_gradient"
        monkeypatch.setattr(energies, lambda self, x: (torch.full((len(x),), torch.nan), torch.zeros_like(x)))
        message = "all 16 particles of the pilot run have weight zero: 16 have an energy that is not finite; "
    else:
        monkeypatch.setattr(Domain, "reflected", nowhere)
        monkeypatch.setattr(Domain, "counts", counted)
        message = r"have weight zero: 16 are other isomers \(centre C\(1\): 16\); .*system.free_isomers"
    with pytest.raises(NumericalError, match=message):
        sample(*problem, SETTINGS, Context(5))


def test_many_particles_become_more_islands_and_leave_no_gradients(problem: Problem, tmp_path: Path) -> None:
    """What is in memory at a time is one island, and of finished ones what the ensemble needs."""
    settings = SETTINGS.model_copy(update={"n_islands": 2, "max_island": 6})
    ensemble, _ = sample(*problem, settings, Context(5, checkpoints=tmp_path))
    assert ensemble.islands is not None
    assert np.bincount(ensemble.islands).tolist() == [6, 6, 6, 6]
    island = checkpoints_in(tmp_path).load("island_3", print)
    assert isinstance(island, Island)
    assert island.population.particles.gradients.numel() == 0


def test_islands_that_other_processes_should_have_kept_are_missed(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that not all processes see must not end as a sample of some islands."""
    monkeypatch.setattr(Processes, "barrier", lambda self: None)
    with pytest.raises(DataError, match="islands 2, made by other processes"):
        settings = SETTINGS.model_copy(update={"n_islands": 2})
        sample(*problem, settings, Context(5, checkpoints=tmp_path, processes=Processes(size=2)))


def test_populations_of_islands_count_by_their_z() -> None:
    """At every level by the estimate of Z up to there, as they do in the end."""

    def island(share: list[float], at_start: float, increments: list[float]) -> Island:
        records = [{"sigma": 0.1, "log_z_increment": value} for value in increments]
        records.append({"lambda": 1.0, "log_z_increment": -3.0})
        empty = torch.zeros(0)
        population = Population(Particles(empty, empty, empty, empty), empty, history=records)
        population.log_z = at_start + sum(increments) - 3.0
        return Island(population, {"a": share}, {}, Cost())

    shares = mean_shares(
        [island([0.2, 0.2], 0.5, [0.0, -0.5]), island([0.6, 1.0], 0.5, [float(np.log(3)), -100.0])]
    )
    np.testing.assert_allclose(shares["a"], [0.5, 0.2], rtol=1e-6)
