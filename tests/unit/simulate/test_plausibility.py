"""Frames that are not what they are given for: each is mended and said, or refused for its true cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mdtraj
import numpy as np
import openmm
import pytest
import torch

from boltzgen.config.schema import DataSettings, SimulateSettings
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.errors import DataError
from boltzgen.geometry import random_rotations
from boltzgen.potential import make_potential
from boltzgen.runtime.context import Context
from boltzgen.simulate.equipartition import Equipartition, equipartition
from boltzgen.simulate.own_trajectories import load_trajectories
from boltzgen.simulate.plausibility import check_energies, check_physics
from boltzgen.simulate.repeats import first_seen, written_twice
from boltzgen.simulate.stage import simulate
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system

Load = Callable[..., WeightedEnsemble]


@pytest.fixture(scope="module")
def system() -> MolecularSystem:
    return load_system("alanine_dipeptide")


def dynamics_of(system: MolecularSystem, scratch: Path) -> np.ndarray:
    settings = SimulateSettings(
        method="langevin", n_runs=1, equilibration_ps=2.0, production_ps=60.0, frame_interval_ps=0.1
    )
    return simulate(system, settings, Context(1), "Reference").positions


@pytest.fixture(scope="module")
def x(system: MolecularSystem, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return dynamics_of(system, tmp_path_factory.mktemp("scratch"))


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def load(system: MolecularSystem, tmp_path: Path, said: list[str]) -> Load:
    """Frames written to a file and read again, of a system that may be another; what is said is kept."""

    def through(
        positions: np.ndarray, name: str = "md.dcd", of: MolecularSystem = system, **settings: object
    ):
        mdtraj.Trajectory(positions, mdtraj.Topology.from_openmm(system.topology)).save(str(tmp_path / name))
        return load_trajectories(of, DataSettings(trajectory=(name,), **settings), tmp_path, said.append)

    return through


# ---- what is refused, with its cause -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "factor", "cause"),
    [
        ("md.xtc", 10.0, "Angstrom stand where nm belong"),
        ("md.dcd", 0.1, "nm stand where Angstrom belong"),
        ("md.dcd", 1.8897, "Bohr radii"),
        ("md.nc", 100.0, "pm stand where Angstrom"),
    ],
)
def test_the_unit_is_named(load: Load, x: np.ndarray, name: str, factor: float, cause: str) -> None:
    with pytest.raises(DataError, match=rf"{name}: bonds are .* times as long .*{cause}"):
        load(x * np.float32(factor), name)


@pytest.mark.parametrize("step", [0.01, 0.005])
def test_rounded_positions_are_told_by_their_step(load: Load, x: np.ndarray, step: float) -> None:
    with pytest.raises(DataError, match=f"rounded to {step:g} nm, which alone gives a bond"):
        load((np.round(x / step) * step).astype(np.float32))


@pytest.mark.parametrize("step", [0.01, 0.005])
def test_digits_lost_before_the_frames_were_turned(load: Load, x: np.ndarray, step: float) -> None:
    turns = random_rotations(len(x), torch.Generator().manual_seed(0), torch.float64).numpy()
    turned = np.einsum("nij,nkj->nki", turns, np.round(x / step) * step)
    with pytest.raises(DataError, match=r"bonds vibrate as at .* K and angles as at .* lost digits"):
        load(turned.astype(np.float32))


@pytest.mark.parametrize("claimed", [225.0, 400.0])
def test_another_temperature_is_named(
    load: Load, system: MolecularSystem, x: np.ndarray, claimed: float
) -> None:
    with pytest.raises(DataError, match=r"fit a temperature of (2[89]|3[01])[0-9] ") as caught:
        load(x, of=replace(system, temperature_k=claimed))
    assert f"is at {claimed:g} K; set temperature_k" in str(caught.value)


def test_a_somewhat_other_temperature_is_told(
    load: Load, system: MolecularSystem, x: np.ndarray, said: list[str]
) -> None:
    ratio, error = measured(system, x, system).angles  # type: ignore[misc]
    assert error < 0.03
    load(x, of=replace(system, temperature_k=300.0 * ratio / 1.13))
    assert any("frames fit a temperature of" in line for line in said)


def test_a_molecule_cut_by_a_box(load: Load, x: np.ndarray) -> None:
    cut = x.copy()
    cut[5:9, 14:] += np.float32(2.5)
    with pytest.raises(DataError, match=r"in 4 frames, the first of them frame 5, .*cut by a periodic box"):
        load(cut)


def test_dynamics_that_broke_down(system: MolecularSystem, x: np.ndarray) -> None:
    u = make_potential(system)(torch.as_tensor(x)).numpy()
    u_reference, rows = float(u.min()), np.arange(len(u)) + 40
    check_energies(system, u, u_reference, rows, "md.dcd")
    with pytest.raises(DataError, match=r"md.dcd: 1 frames of 600, the first of them frame 47, .*broke down"):
        check_energies(system, np.where(rows == 47, 1e6, u), u_reference, rows, "md.dcd")
    with pytest.raises(DataError, match="frame 47 has no finite energy"):
        check_energies(system, np.where(rows == 47, np.nan, u), u_reference, rows, "md.dcd")
    with pytest.raises(DataError, match="half of the frames lie more than"):
        check_energies(system, u + 1e4, u_reference, rows, "md.dcd")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(600), "every weight is zero"),
        (np.where(np.arange(600) == 3, -1.0, 1.0), "the weight of frame 3 is -1; give weights"),
        (np.where(np.arange(600) == 3, np.nan, 1.0), "the weight of frame 3 is nan"),
        (np.ones((600, 2)), r"a table of 600 x 2 numbers"),
        (np.array(["a"] * 600), "holds no real numbers"),
    ],
)
def test_weights_that_are_none(
    load: Load, x: np.ndarray, tmp_path: Path, weights: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "w.npy", weights)
    with pytest.raises(DataError, match=message):
        load(x, weights="w.npy")


# ---- what is mended, and said ------------------------------------------------------------------------


def test_good_frames_pass_without_a_word(load: Load, x: np.ndarray, said: list[str]) -> None:
    assert len(load(x)) == 600
    assert said == []


def test_what_a_restart_wrote_twice_is_used_once(load: Load, x: np.ndarray, said: list[str]) -> None:
    overlapping = np.concatenate([x[:400], x[300:]])
    loaded = load(overlapping)
    np.testing.assert_allclose(loaded.positions, x, atol=1e-5)
    assert said == ["warning: md.dcd: 100 of 700 frames were written twice (a restart?); used once"]


def test_overlaps_are_seen_across_files_and_after_turning(x: np.ndarray) -> None:
    turned = np.einsum(
        "ij,nkj->nki", random_rotations(1, torch.Generator().manual_seed(1), torch.float64)[0], x
    )
    both = np.concatenate([x[:50], turned[30:80] + 0.3]).astype(np.float32)
    twice = written_twice(first_seen(both), x.shape[1])
    assert np.flatnonzero(twice).tolist() == list(range(50, 70))


def test_frames_that_stay_or_recur_singly_are_no_overlap(x: np.ndarray) -> None:
    stays = x[[0, 1, 1, 1, 2, 3]]
    assert not written_twice(first_seen(stays), x.shape[1]).any()
    recurs = x[[0, 1, 2, 3, 1, 4, 5, 0]]
    assert first_seen(recurs).tolist() == [0, 1, 2, 3, 1, 5, 6, 0]
    assert not written_twice(first_seen(recurs), x.shape[1]).any()


def test_frames_of_weight_zero_are_left_out(
    load: Load, x: np.ndarray, tmp_path: Path, said: list[str]
) -> None:
    weights = np.where(np.arange(600) % 50 == 0, 0.0, 2.0)
    np.save(tmp_path / "w.npy", weights)
    loaded = load(x, weights="w.npy")
    np.testing.assert_allclose(loaded.positions, x[weights > 0], atol=1e-5)
    assert said == ["warning: w.npy: 12 frames have weight zero and are left out"]


def test_hot_frames_with_weights_are_those_of_the_target(
    load: Load, system: MolecularSystem, x: np.ndarray, tmp_path: Path
) -> None:
    """Weights bring frames to another temperature, and are what the temperature is measured with."""
    colder = replace(system, temperature_k=225.0)
    positions = torch.as_tensor(x)
    log_weights = (make_potential(system)(positions) - make_potential(colder)(positions)).numpy()
    np.save(tmp_path / "w.npy", np.exp(log_weights - log_weights.max()))
    with pytest.raises(DataError, match=r"fit a temperature of (2[89]|3[01])[0-9] "):
        load(x, of=replace(system, temperature_k=225.0))
    load(x, of=colder, weights="w.npy")


@pytest.mark.parametrize("suffix", ["dcd", "xtc", "trr"])
def test_a_file_that_was_cut_off(
    load: Load, x: np.ndarray, tmp_path: Path, said: list[str], suffix: str
) -> None:
    mdtraj.Trajectory(x, mdtraj.Topology.from_openmm(load_system("alanine_dipeptide").topology)).save(
        str(tmp_path / f"whole.{suffix}")
    )
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    (tmp_path / f"cut.{suffix}").write_bytes(content[: int(246.6 / 600 * len(content))])
    settings = DataSettings(trajectory=(f"cut.{suffix}",))
    loaded = load_trajectories(load_system("alanine_dipeptide"), settings, tmp_path, said.append)
    assert 240 <= len(loaded) <= 252  # frames of an XTC differ in length
    assert f"is cut off after {len(loaded)} whole frames; these are used" in said[0]


@pytest.mark.parametrize("suffix", ["pdb", "gro", "h5"])
def test_text_that_was_cut_off_is_refused(load: Load, x: np.ndarray, tmp_path: Path, suffix: str) -> None:
    load(x[:20], f"whole.{suffix}")
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    (tmp_path / f"cut.{suffix}").write_bytes(content[: int(0.63 * len(content))])
    with pytest.raises(
        DataError, match=rf"cut.{suffix}: is cut off, damaged or no trajectory of 22 atoms \("
    ):
        load_trajectories(
            load_system("alanine_dipeptide"), DataSettings(trajectory=(f"cut.{suffix}",)), tmp_path
        )


def test_atoms_that_a_file_names_are_brought_into_order(
    load: Load, system: MolecularSystem, x: np.ndarray, tmp_path: Path, said: list[str]
) -> None:
    load(x, "md.pdb")
    lines = (tmp_path / "md.pdb").read_text().splitlines()
    first = [k for k, line in enumerate(lines) if line.startswith("MODEL")]
    for k in first:  # within residues, as another program may list them
        lines[k + 7 : k + 17] = lines[k + 7 : k + 17][::-1]
    (tmp_path / "other.pdb").write_text("\n".join(lines) + "\n")
    loaded = load_trajectories(system, DataSettings(trajectory=("other.pdb",)), tmp_path, said.append)
    np.testing.assert_allclose(loaded.positions, x, atol=2e-4)
    assert "atoms are in another order; brought into that of alanine_dipeptide/B" in said[0]


def test_elements_that_shifted_columns_suggest(
    load: Load, x: np.ndarray, tmp_path: Path, said: list[str]
) -> None:
    load(x[:20], "md.pdb")
    lines = (tmp_path / "md.pdb").read_text().splitlines()
    shifted = [
        line[:12] + line[13:16] + " " + line[16:76] if line.startswith("ATOM") and " CA " in line else line
        for line in lines
    ]
    (tmp_path / "shifted.pdb").write_text("\n".join(shifted) + "\n")
    loaded = load_trajectories(
        load_system("alanine_dipeptide"), DataSettings(trajectory=("shifted.pdb",)), tmp_path, said.append
    )
    assert len(loaded) == 20
    assert "as names agree" in said[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("md.dcd", b"", "is an empty file; write it again"),
        ("md.dcd", b"\x1f\x8b\x08\x00abcdefgh", "is compressed by gzip; unpack it"),
        ("md.dcd", b"\x00\x00\x07\xcbabcdefgh", "is an XTC trajectory; rename it to md.xtc"),
        ("md.trj", b"\x00\x00\x07\xcbabcdefgh", "is an XTC trajectory; rename it to md.xtc"),
        ("md.trj", b"something else", "MDTraj reads no .trj; convert it"),
        ("md", b"something else", "MDTraj reads no files without a suffix"),
        ("md.xtc", b"something else", "is no .xtc file, or damaged at its start"),
    ],
)
def test_files_that_are_something_else(
    system: MolecularSystem, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_trajectories(system, DataSettings(trajectory=(name,)), tmp_path)


@pytest.mark.parametrize(
    ("n_atoms", "message"),
    [(2272, "has 2272 atoms.*strip solvent"), (10, "heavy atoms; save all"), (15, "save all atoms of")],
)
def test_other_numbers_of_atoms(system: MolecularSystem, tmp_path: Path, n_atoms: int, message: str) -> None:
    with mdtraj.open(str(tmp_path / "md.dcd"), "w") as file:
        file.write(np.random.default_rng(0).random((20, n_atoms, 3), dtype=np.float32))
    with pytest.raises(DataError, match=message):
        load_trajectories(system, DataSettings(trajectory=("md.dcd",)), tmp_path)


# ---- the averages behind it --------------------------------------------------------------------------


def measured(system: MolecularSystem, x: np.ndarray, of: MolecularSystem) -> Equipartition:
    positions = x.astype(np.float64)
    gradient = make_potential(of).reduced_energy_and_gradient(torch.as_tensor(positions))[1].numpy()
    return equipartition(system, positions, gradient, np.ones(len(x)))


def test_equipartition_of_the_own_frames(system: MolecularSystem, x: np.ndarray) -> None:
    found = measured(system, x, system)
    for ratio, error in (found.angles, found.bonds):  # type: ignore[misc]
        assert abs(ratio - 1.0) < 4.0 * error < 0.25
    assert abs(found.misfit) < 4.0 * found.misfit_error


def test_a_bond_of_another_length_is_found(system: MolecularSystem, x: np.ndarray, tmp_path: Path) -> None:
    """One bond of the target is 0.003 nm longer than in the frames; it is named, and the frames are refused
    where it is 0.02 nm."""
    mended = {0.0: "", 0.003: "warning", 0.02: "refused"}
    for change, what in mended.items():
        other = replace(system, openmm_system=openmm.XmlSerializer.clone(system.openmm_system))
        force = next(f for f in other.openmm_system.getForces() if isinstance(f, openmm.HarmonicBondForce))
        i, j, length, k = force.getBondParameters(4)
        force.setBondParameters(4, i, j, length._value + change, k)
        potential = make_potential(other)
        try:
            lines = check_physics(other, potential, x, np.ones(len(x)), "md.dcd")
        except DataError as error:
            lines = [f"refused {error}"]
        assert len(lines) == bool(what)
        if lines:
            names = [list(system.topology.atoms())[k].name for k in sorted((i, j))]
            assert lines[0].startswith(what) and f"most at {names[0]} of " in lines[0]
            assert "another force field or solvent" in lines[0]


def test_frames_of_the_vacuum_are_told_from_those_of_the_solvent(
    load: Load, system: MolecularSystem, tmp_path: Path, said: list[str]
) -> None:
    vacuum = replace(system, openmm_system=openmm.XmlSerializer.clone(system.openmm_system))
    for index in reversed(range(vacuum.openmm_system.getNumForces())):
        if "GB" in type(vacuum.openmm_system.getForce(index)).__name__:
            vacuum.openmm_system.removeForce(index)
    assert vacuum.openmm_system.getNumForces() < system.openmm_system.getNumForces()
    load(dynamics_of(vacuum, tmp_path))
    assert any("they are of another force field or solvent" in line for line in said)
