"""Molecular dynamics: frames and energies, seeds, finished runs, failures; ensembles on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import pytest
from openmm import Platform

from boltzgen.config.schema import SimulateSettings
from boltzgen.ensemble.storage import load_ensemble, save_ensemble
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.errors import DataError, NumericalError
from boltzgen.runtime.context import Context
from boltzgen.simulate import stage as dynamics
from boltzgen.simulate.engine import choose_platform
from boltzgen.simulate.one_run import run_task
from boltzgen.simulate.process_pool import SimulationProgress
from boltzgen.simulate.recorder import Recorder, Task
from boltzgen.simulate.stage import simulate
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system

STIFFNESS, LENGTH = 10000.0, 0.2
SHORT = SimulateSettings(
    n_runs=1,
    friction_per_ps=5.0,
    equilibration_ps=1.0,
    production_ps=20.0,
    frame_interval_ps=0.1,
    n_replicas=20,
)
both_ways = pytest.mark.parametrize("platform", ["Reference", "batched"])


def dimer() -> MolecularSystem:
    return load_system("harmonic_dimer", {"stiffness": STIFFNESS, "length_nm": LENGTH})


@both_ways
def test_energies_belong_to_the_frames(platform: str) -> None:
    system = dimer()
    settings = SHORT.model_copy(update={"n_temperatures": 3})
    for method in ("langevin", "parallel_tempering"):
        run = simulate(system, settings.model_copy(update={"method": method}), Context(3), platform)
        r = system.collective_variables[0].values(run.positions)
        expected = 0.5 * STIFFNESS * (r - LENGTH) ** 2 / system.kT
        np.testing.assert_allclose(run.reduced_energies, expected, atol=1e-4)
        all_temperatures = platform == "batched" and method == "parallel_tempering"
        frames = 200 * (3 if all_temperatures else 1)
        assert len(run) == frames
        independent = 1
        if platform == "batched":
            independent = 20 * (3 if all_temperatures else 1)
        np.testing.assert_array_equal(run.islands, np.repeat(np.arange(independent), frames // independent))
        assert np.abs(run.positions.mean(axis=1)).max() < 1e-6
        sparse = settings.model_copy(update={"method": method, "frame_interval_ps": 1.0})
        assert len(simulate(system, sparse, Context(3), platform)) == frames // 10


@both_ways
def test_the_seed_fixes_the_frames(platform: str) -> None:
    system = load_system("alanine_dipeptide")
    settings = SHORT.model_copy(update={"equilibration_ps": 0.05, "production_ps": 0.2, "n_replicas": 2})
    for method in ("langevin", "parallel_tempering"):
        chosen = settings.model_copy(update={"method": method})
        a, b, c = (simulate(system, chosen, Context(seed), platform) for seed in (1, 1, 2))
        np.testing.assert_array_equal(a.positions, b.positions)
        assert not np.array_equal(a.positions, c.positions)


@pytest.fixture
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs one after the other, without waiting for processes that import everything anew."""

    def one_by_one(tasks: list[Task], _: int, progress: SimulationProgress) -> list[Recorder]:
        return [run_task(task, progress.of_run(task.run)) for task in tasks]

    monkeypatch.setattr(dynamics, "run_in_processes", one_by_one)


@both_ways
@pytest.mark.usefixtures("_in_this_process")
@pytest.mark.parametrize("method", ["langevin", "parallel_tempering"])
def test_finished_runs_are_kept_and_the_others_are_the_same(
    method: str, platform: str, tmp_path: Path
) -> None:
    """As after a kill: of three runs one is left, another is damaged, the third is missing."""
    small = {"n_runs": 3, "n_temperatures": 2, "equilibration_ps": 0.2, "production_ps": 4.0}
    small |= {"method": method}
    settings, resume = SHORT.model_copy(update=small), tmp_path / "resume"
    said: list[str] = []

    def run(**given: Any) -> WeightedEnsemble:
        return simulate(dimer(), settings, Context(1, **given), platform)

    whole = run()
    np.testing.assert_array_equal(run(checkpoints=resume).positions, whole.positions)
    assert sorted(path.name for path in resume.iterdir()) == ["run_0.pt", "run_1.pt", "run_2.pt"]
    (resume / "run_1.pt").write_bytes((resume / "run_1.pt").read_bytes()[:-100])
    (resume / "run_2.pt").unlink()
    before = (resume / "run_0.pt").stat().st_mtime_ns
    parts = run(checkpoints=resume, log=said.append)
    unread = [line for line in said if not line.startswith("run ")]
    assert len(unread) == 1 and "run_1.pt: cannot be read" in unread[0]
    assert (resume / "run_0.pt").stat().st_mtime_ns == before
    for field in ("positions", "reduced_energies", "lineages", "islands"):
        np.testing.assert_array_equal(getattr(parts, field), getattr(whole, field))
    once_more = run(checkpoints=resume)  # nothing is left to do
    np.testing.assert_array_equal(once_more.positions, whole.positions)


def test_the_platform_is_the_one_asked_for_or_that_of_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, resume = (
        SHORT.model_copy(update={"method": "langevin", "production_ps": 2.0}),
        tmp_path / "kept",
    )
    simulate(dimer(), settings, Context(1, checkpoints=resume), "Reference")
    monkeypatch.setattr(
        "boltzgen.simulate.engine.fastest_platform", lambda system: Platform.getPlatformByName("CPU")
    )
    assert choose_platform(dimer(), settings, resume) == "Reference"
    assert choose_platform(dimer(), settings) == "CPU"
    assert choose_platform(dimer(), settings.model_copy(update={"platform": "Reference"})) == "Reference"


@both_ways
@pytest.mark.parametrize("method", ["langevin", "parallel_tempering"])
def test_exploding_dynamics_is_one_line(method: str, platform: str, tmp_path: Path) -> None:
    settings = SHORT.model_copy(update={"method": method, "timestep_fs": 20.0, "platform": platform})
    with pytest.raises(NumericalError, match=r"run 1 broke down.*smaller simulate.timestep_fs") as caught:
        simulate(load_system("alanine_dipeptide"), settings, Context(0, checkpoints=tmp_path))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["alanine_dipeptide", "lj13", "harmonic_chain"])
def test_ensembles_survive_the_disk(name: str, tmp_path: Path) -> None:
    system, rng = load_system(name), np.random.default_rng(1)
    ensemble = WeightedEnsemble(
        positions=rng.normal(size=(7, system.n_atoms, 3)).astype(np.float32),
        log_weights=np.array([0.0, -1.0, -np.inf, 2.0, 0.5, 0.1, 0.2]),
        reduced_energies=rng.normal(size=7),
        temperature_k=310.0,
        log_z=-12.5,
        log_z_dof=3.0,
        lineages=np.arange(7) // 2,
        islands=np.arange(7) // 4,
    )
    path = tmp_path / "ensemble.h5"
    save_ensemble(ensemble, system.mdtraj_topology, path)
    assert [p.name for p in tmp_path.iterdir()] == ["ensemble.h5"]
    back = load_ensemble(path)
    for field in ("positions", "log_weights", "reduced_energies", "lineages", "islands"):
        np.testing.assert_array_equal(getattr(back, field), getattr(ensemble, field))
        assert getattr(back, field).dtype == getattr(ensemble, field).dtype
    assert (back.temperature_k, back.log_z, back.log_z_error, back.log_z_dof) == (310.0, -12.5, None, 3.0)
    trajectory = mdtraj.load(str(path))
    np.testing.assert_array_equal(trajectory.xyz, ensemble.positions)
    assert [a.name for a in trajectory.top.atoms] == [a.name for a in system.topology.atoms()]
    assert trajectory.top.n_bonds == len(system.bonds)
    save_ensemble(replace(ensemble, lineages=None, islands=None, log_z=None), system.mdtraj_topology, path)
    assert load_ensemble(path).lineages is None


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_ensemble(tmp_path / "absent.h5")
    (tmp_path / "broken.h5").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="not a readable ensemble file"):
        load_ensemble(tmp_path / "broken.h5")
