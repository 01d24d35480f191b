"""Loading the user's own molecular dynamics, and refusing what cannot be used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mdtraj
import numpy as np
import pytest

from boltzgen.config.schema import DataSettings, SimulateSettings, SystemSettings, Workflow
from boltzgen.ensemble.storage import load_ensemble, save_ensemble
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.errors import DataError
from boltzgen.runtime.context import Context
from boltzgen.simulate.frame_checks import inside_domain
from boltzgen.simulate.own_trajectories import load_trajectories
from boltzgen.simulate.stage import simulate
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system
from boltzgen.workflow.runner import run
from boltzgen.workflow.stage import Goal
from boltzgen.workflow.stage_functions import Run


@pytest.fixture(scope="module")
def system() -> MolecularSystem:
    return load_system("alanine_dipeptide")


@pytest.fixture(scope="module")
def dynamics(system: MolecularSystem, tmp_path_factory: pytest.TempPathFactory) -> WeightedEnsemble:
    settings = SimulateSettings(
        method="langevin", n_runs=1, equilibration_ps=2.0, production_ps=20.0, frame_interval_ps=0.1
    )
    return simulate(system, settings, Context(1), "Reference")


def write(system: MolecularSystem, positions: np.ndarray, path: Path) -> None:
    mdtraj.Trajectory(positions, mdtraj.Topology.from_openmm(system.topology)).save(str(path))


@pytest.mark.parametrize(("suffix", "error_nm"), [("dcd", 1e-6), ("xtc", 1e-3), ("h5", 1e-9), ("pdb", 1e-4)])
def test_a_trajectory_comes_back(
    system: MolecularSystem, dynamics: WeightedEnsemble, tmp_path: Path, suffix: str, error_nm: float
) -> None:
    write(system, dynamics.positions[:100] + np.float32(1.0), tmp_path / f"md.{suffix}")
    loaded = load_trajectories(system, DataSettings(trajectory=(f"md.{suffix}",)), tmp_path)
    assert np.abs(loaded.positions - dynamics.positions[:100]).max() < error_nm + 1e-6
    if suffix in ("dcd", "h5"):
        np.testing.assert_allclose(loaded.reduced_energies, dynamics.reduced_energies[:100], atol=0.05)
    assert loaded.temperature_k == system.temperature_k


def test_files_strides_and_weights_line_up(
    system: MolecularSystem, dynamics: WeightedEnsemble, tmp_path: Path
) -> None:
    write(system, dynamics.positions[:60], tmp_path / "a.dcd")
    write(system, dynamics.positions[60:100], tmp_path / "b.dcd")
    weights = np.linspace(0.5, 2.0, 100)
    np.save(tmp_path / "weights.npy", weights)
    settings = DataSettings(trajectory=("a.dcd", "b.dcd"), weights="weights.npy", stride=3, skip_frames=10)
    loaded = load_trajectories(system, settings, tmp_path)
    rows = np.concatenate([np.arange(10, 60, 3), np.arange(70, 100, 3)])
    np.testing.assert_allclose(loaded.positions, dynamics.positions[rows], atol=1e-6)
    np.testing.assert_allclose(loaded.log_weights, np.log(weights[rows]))
    assert loaded.islands is not None and loaded.lineages is not None
    np.testing.assert_array_equal(loaded.islands, np.repeat([0, 1], [17, 10]))
    assert not set(loaded.lineages[:17]) & set(loaded.lineages[17:])


def with_rigid_bond(positions: np.ndarray, i: int, j: int) -> np.ndarray:
    """Put atom j at its mean distance from atom i in every frame."""
    fixed = positions.copy()
    bond = positions[:, j] - positions[:, i]
    lengths = np.linalg.norm(bond, axis=-1, keepdims=True)
    fixed[:, j] = positions[:, i] + bond / lengths * lengths.mean()
    return fixed


@pytest.mark.parametrize("suffix", ["dcd", "xtc", "pdb"])
def test_a_constrained_bond_is_named(
    system: MolecularSystem, dynamics: WeightedEnsemble, tmp_path: Path, suffix: str
) -> None:
    write(system, with_rigid_bond(dynamics.positions, 6, 7), tmp_path / f"md.{suffix}")
    with pytest.raises(DataError, match=r"bond N - H of ALA 2 does not vibrate.*constraints=None"):
        load_trajectories(system, DataSettings(trajectory=(f"md.{suffix}",)), tmp_path)


def test_atoms_in_another_order_are_noticed(
    system: MolecularSystem, dynamics: WeightedEnsemble, tmp_path: Path
) -> None:
    write(system, dynamics.positions[:, ::-1], tmp_path / "md.dcd")
    with pytest.raises(DataError, match=r"atoms are in another order.*into the order of alanine_dipeptide"):
        load_trajectories(system, DataSettings(trajectory=("md.dcd",)), tmp_path)


def test_what_may_be_meant_is_said(
    system: MolecularSystem, dynamics: WeightedEnsemble, tmp_path: Path
) -> None:
    positions = dynamics.positions[:40].copy()
    positions[[7, 8]] = positions[6]
    write(system, positions, tmp_path / "md.dcd")
    said: list[str] = []
    load_trajectories(system, DataSettings(trajectory=("md.dcd",)), tmp_path, said.append)
    assert said == ["warning: md.dcd: 2 of 40 frames repeat the one before"]
    said.clear()
    load_trajectories(system, DataSettings(trajectory=("md.dcd",), stride=3), tmp_path, said.append)
    assert said == []


def test_mirrored_frames_are_reflected_back(
    system: MolecularSystem, dynamics: WeightedEnsemble, tmp_path: Path
) -> None:
    positions = dynamics.positions[:90].copy()
    positions[::3, :, 2] *= -1.0
    write(system, positions, tmp_path / "md.dcd")
    said: list[str] = []
    loaded = load_trajectories(system, DataSettings(trajectory=("md.dcd",)), tmp_path, said.append)
    assert len(said) == 1 and "30 of 90 frames are mirror images" in said[0]
    for cv in system.collective_variables:
        np.testing.assert_allclose(cv.values(loaded.positions), cv.values(dynamics.positions[:90]), atol=1e-4)


def test_frames_of_other_isomers_are_left_out(system: MolecularSystem, dynamics: WeightedEnsemble) -> None:
    """Two substituents of the centre exchanged in ten frames, and an amide turned in five others."""
    x = dynamics.positions.copy()
    x[:10, [9, 10]] = x[:10, [10, 9]]
    x[10:15] = cis(x[10:15])
    mixed = replace(dynamics, positions=x)
    kept, line = inside_domain(system, mixed)
    np.testing.assert_array_equal(kept.positions, x[15:])
    assert (f"of {len(x)} frames" in line and "15 are other isomers" in line) or "mirror images" in line
    assert "amide C(14)-N(16): 5" in line
    free = replace(system, free_isomers=("amides", "centres"))
    assert inside_domain(free, mixed) == (mixed, "")
    with pytest.raises(DataError, match="data: of 5 frames 5 are other isomers"):
        inside_domain(system, mixed.select(np.arange(10, 15)))


def cis(x: np.ndarray) -> np.ndarray:
    """The last amide turned by half a turn, ``(n, n_atoms, 3)``."""
    turned = x.copy()
    axis = x[:, 16] - x[:, 14]
    axis = axis / np.linalg.norm(axis, axis=-1, keepdims=True)
    v = x[:, 17:] - x[:, 16:17]
    turned[:, 17:] = x[:, 16:17] + 2 * np.einsum("nid,nd->ni", v, axis)[..., None] * axis[:, None] - v
    return turned


def simulated(directory: Path) -> list[str]:
    """What is said by a run on ``md.dcd`` up to its data."""
    settings = Workflow(
        name="mine",
        system=SystemSettings(name="alanine_dipeptide"),
        data=DataSettings(trajectory=(str(directory / "md.dcd"),)),
    )
    said: list[str] = []
    run(settings, directory, directory / "run", Goal("simulate"), log=said.append)
    return said


def test_a_run_says_what_its_data_lack(
    system: MolecularSystem, dynamics: WeightedEnsemble, tmp_path: Path
) -> None:
    inside = system.states[0].members(dynamics.positions)
    visited, other = (0, 1) if inside.mean() > 0.5 else (1, 0)
    write(system, dynamics.positions[system.states[visited].members(dynamics.positions)], tmp_path / "md.dcd")
    said = simulated(tmp_path)
    assert said[0].startswith("simulate: running")
    assert f"warning: the data never visit the state {system.states[other].name}," in said[1]
    found = [line for line in said[2:] if line.startswith(f"MD: population {system.states[other].name} 0")]
    assert len(found) == 1 and all(line.startswith("MD: ") for line in said[2:])
    assert (tmp_path / "run" / "data" / "ensemble.h5").exists()


def test_a_run_says_how_many_frames_it_leaves_out(
    system: MolecularSystem, dynamics: WeightedEnsemble, tmp_path: Path
) -> None:
    x = dynamics.positions[:60].copy()
    x[20:24] = cis(x[20:24])
    write(system, x, tmp_path / "md.dcd")
    said = simulated(tmp_path)
    assert any("4 are other isomers (amide C(14)-N(16): 4)" in line for line in said)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["recorded"]["frames_left_out"] == 4
    assert len(load_ensemble(tmp_path / "run" / "data" / "ensemble.h5")) == 56


def test_frames_that_older_data_hold_are_left_out_and_said(
    system: MolecularSystem, dynamics: WeightedEnsemble, tmp_path: Path
) -> None:
    x = dynamics.positions[:60].copy()
    x[20:24] = cis(x[20:24])
    (tmp_path / "data").mkdir()
    older = replace(dynamics.select(np.arange(60)), positions=x)
    save_ensemble(older, system.mdtraj_topology, tmp_path / "data" / "ensemble.h5")
    workflow = Workflow(name="mine", system=SystemSettings(name="alanine_dipeptide"))
    said: list[str] = []
    assert len(Run(workflow, tmp_path, tmp_path, "cpu", system, said.append).data()) == 56
    assert len(said) == 1 and "4 are other isomers" in said[0]


def test_what_does_not_fit_is_one_line(
    system: MolecularSystem, dynamics: WeightedEnsemble, tmp_path: Path
) -> None:
    write(system, dynamics.positions[:20], tmp_path / "md.dcd")
    nan = dynamics.positions[:20].copy()
    nan[4, 3] = np.nan
    write(system, nan, tmp_path / "nan.dcd")
    exploded = dynamics.positions[:20].copy()
    exploded[7, 21] = exploded[7, 0]
    write(system, exploded, tmp_path / "overlap.dcd")
    write(load_system("lj13"), np.zeros((20, 13, 3), dtype=np.float32), tmp_path / "lj.dcd")
    np.save(tmp_path / "few.npy", np.ones(19))
    np.save(tmp_path / "logs.npy", -np.ones(20))
    (tmp_path / "text.dcd").write_text("not a trajectory")
    for settings, message in (
        (DataSettings(trajectory=("absent.dcd",)), "no file"),
        (DataSettings(trajectory=("text.dcd",)), "is no .dcd file"),
        (DataSettings(trajectory=("nan.dcd",)), "frame 4 has positions that are not finite"),
        (DataSettings(trajectory=("lj.dcd",)), "has 13 atoms, alanine_dipeptide/B has 22; save all atoms"),
        (DataSettings(trajectory=("md.dcd",), weights="few.npy"), "20 frames in all"),
        (DataSettings(trajectory=("md.dcd",), weights="logs.npy"), "frame 0 is -1; give weights"),
        (DataSettings(trajectory=("md.dcd",), skip_frames=20), "leaves none"),
        (
            DataSettings(trajectory=("overlap.dcd",)),
            "in 1 frames, the first of them frame 7, the bond .* the molecule is cut",
        ),
    ):
        with pytest.raises(DataError, match=message) as caught:
            load_trajectories(system, settings, tmp_path)
        assert "\n" not in str(caught.value)
