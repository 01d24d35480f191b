"""A run of batched replicas: going on after a kill, and beyond its production until states are visited."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.chain import chain_positions, chain_system

from boltzgen.config.schema import SimulateSettings
from boltzgen.ensemble.correlation import with_blocks
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.runtime.checkpoints import Checkpoints
from boltzgen.simulate import batched_run
from boltzgen.simulate.batched_run import run_batched
from boltzgen.simulate.one_run import run_task
from boltzgen.simulate.recorder import Task
from boltzgen.simulate.visits import Visits
from boltzgen.system.collective_variables import CollectiveVariable, State
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system

SHORT = SimulateSettings(
    n_runs=1,
    friction_per_ps=5.0,
    equilibration_ps=2.0,
    production_ps=12.0,
    frame_interval_ps=0.1,
    n_replicas=4,
    n_temperatures=2,
)


def in_two_states() -> MolecularSystem:
    system = load_system("harmonic_dimer")
    bond = system.collective_variables[0]
    states = (
        State("short", bond, ((0.0, bond_length(system)),)),
        State("long", bond, ((bond_length(system), 9.0),)),
    )
    return replace(system, states=states)


def bond_length(system: MolecularSystem) -> float:
    return float(np.linalg.norm(system.positions[1] - system.positions[0]))


def task(settings: SimulateSettings, kept: Path | None = None, system: MolecularSystem | None = None) -> Task:
    return Task(system or in_two_states(), settings, "batched", 0, 7, Checkpoints(kept))


class Killed(Exception):
    pass


@pytest.mark.parametrize("method", ["parallel_tempering", "flat_histogram", "langevin"])
def test_a_run_killed_anywhere_goes_on_with_the_same_frames(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batched_run, "SAVE_EVERY_SECONDS", 0.0)
    settings = SHORT.model_copy(update={"method": method})
    whole = run_batched(task(settings), lambda ps, words: None)
    frames_seen = []
    recorded = batched_run.BatchedRun._record

    def killed(self: batched_run.BatchedRun, n_frames: int) -> None:
        recorded(self, 10)
        raise Killed

    monkeypatch.setattr(batched_run.BatchedRun, "_record", killed)
    with pytest.raises(Killed):
        run_batched(task(settings, tmp_path), lambda ps, words: None)
    assert [path.name for path in tmp_path.iterdir()] == ["run_0_so_far.pt"]

    def watched(self: batched_run.BatchedRun, n_frames: int) -> None:
        frames_seen.append(len(self.series["energy"]))
        recorded(self, n_frames)

    monkeypatch.setattr(batched_run.BatchedRun, "_record", watched)
    again = run_task(task(settings, tmp_path), lambda ps, words: None)
    assert frames_seen == [10]
    np.testing.assert_array_equal(again.positions, whole.positions)
    np.testing.assert_array_equal(again.log_weights, whole.log_weights)
    assert again.remarks == whole.remarks
    assert [path.name for path in tmp_path.iterdir()] == ["run_0.pt"]


def test_it_ends_once_every_state_has_been_visited_or_its_time_is_used_up() -> None:
    settings = SHORT.model_copy(update={"minutes": 5.0, "n_visits": 5})
    enough = run_batched(task(settings), lambda ps, words: None)
    assert enough.remarks[-1].startswith("ended as every state has been visited: short ")
    late = run_batched(
        task(settings.model_copy(update={"minutes": 1e-9, "n_visits": 10**6})), lambda ps, words: None
    )
    assert late.remarks[-1].startswith("ended as its time is used up: short ")
    assert len(late.energies) == len(enough.energies)
    more = run_batched(task(settings.model_copy(update={"n_visits": 150})), lambda ps, words: None)
    assert len(more.energies) > len(enough.energies)


def test_to_stop_by_visits_hardly_changes_a_population() -> None:
    """Two-state chains with a known population: 16 of them, in pieces, until both states have 40 visits.

    To stop once a rare state has come often enough favours runs in which it came early. The mean over many
    runs stays within a fifth of the error of one.
    """
    bond = CollectiveVariable("r", "distance", (0, 1))
    system = replace(load_system("harmonic_dimer"), collective_variables=(bond,))
    system = replace(system, states=(State("rare", bond, ((0.2, 1.0),)), State("usual", bond, ((0.0, 0.2),))))
    rng, leave, come, n_chains, piece = np.random.default_rng(1), 0.2, 0.05, 16, 25
    population, found = come / (leave + come), []
    for _ in range(400):
        inside = rng.random(n_chains) < population
        chains: list[np.ndarray] = []
        while True:
            for _ in range(piece):
                jump = rng.random(n_chains) < np.where(inside, leave, come)
                inside = inside ^ jump
                chains.append(inside)
            data = as_ensemble(system, np.array(chains).T)
            if Visits.of(system, data).fewest >= 40:
                break
        found.append(np.mean(chains))
    error, mean = np.std(found, ddof=1), np.mean(found)
    assert error < 0.3 * population  # of one run
    assert abs(mean - population) < 0.2 * error + 3 * error / len(found) ** 0.5
    assert abs(mean - population) < 0.4 * error


def test_a_well_that_nobody_declared_has_to_be_visited_too() -> None:
    """Frames of a chain that is bent in some stretches of time: states are none, and the wells are two."""
    system = replace(chain_system(), states=())
    rng, n = np.random.default_rng(0), 4000
    bent = np.arange(n) // 100 % 10 == 0  # four visits
    phi = rng.normal(np.where(bent, 1.0, np.pi), 0.2)
    x = chain_positions(phi, rng.normal(np.pi, 0.2, n))
    islands = np.arange(n) // 1000
    data = with_blocks(system, WeightedEnsemble(x, np.zeros(n), np.zeros(n), 300.0, islands=islands))
    visits = Visits.of(system, data)
    assert len(visits.counts) == 2 and all(name.startswith("phi near ") for name in visits.counts)
    assert visits.fewest == pytest.approx(4.0, abs=1.5)
    declared = Visits.of(chain_system(), data)
    assert set(visits.counts) < set(declared.counts) and "phi_positive" in declared.counts


def as_ensemble(system: MolecularSystem, inside: np.ndarray) -> WeightedEnsemble:
    """Chains ``(n_chains, n)`` as frames of two atoms near or far from each other."""
    x = np.zeros((inside.size, 2, 3), dtype=np.float32)
    x[:, 1, 0] = np.where(inside.ravel(), 0.3, 0.1)
    islands = np.repeat(np.arange(len(inside)), inside.shape[1])
    zero = np.zeros(inside.size)
    return with_blocks(system, WeightedEnsemble(x, zero, zero, 300.0, islands=islands))
