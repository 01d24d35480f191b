"""Frames of small, soft, unbound and anharmonic systems: right ones pass, wrong ones are told as such."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mdtraj
import numpy as np
import openmm
import pytest
from helpers.molecules import molecule

from boltzgen.config.schema import DataSettings
from boltzgen.errors import DataError
from boltzgen.potential import make_potential
from boltzgen.simulate.own_trajectories import load_trajectories
from boltzgen.simulate.plausibility import check_physics
from boltzgen.simulate.repeats import written_twice
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system

LINE = [[-0.15, 0, 0], [0, 0, 0], [0.15, 0, 0]]
ZIGZAG = [[0, 0, 0], [0.15, 0, 0], [0.2, 0.14, 0], [0.35, 0.15, 0.03]]
CHAIN = [(0, 1), (1, 2), (2, 3)]


def with_angles(system: MolecularSystem, rows: list[tuple[int, int, int, float, float]]) -> MolecularSystem:
    force = openmm.HarmonicAngleForce()
    for row in rows:
        force.addAngle(*row)
    system.openmm_system.addForce(force)
    return system


def linear() -> MolecularSystem:
    return with_angles(molecule("OCO", [(0, 1), (1, 2)], LINE), [(0, 1, 2, math.pi, 200.0)])


def freely_jointed() -> MolecularSystem:
    return molecule("CCCC", CHAIN, ZIGZAG)


def soft() -> MolecularSystem:
    return with_angles(molecule("CCC", [(0, 1), (1, 2)], LINE), [(0, 1, 2, 2.0, 3.0)])


def two_atoms() -> MolecularSystem:
    return molecule("NN", [(0, 1)], [[0, 0, 0], [0.15, 0, 0]])


def doubled() -> MolecularSystem:
    """A weak restraint on atoms that are bonded."""
    system = with_angles(molecule("CCCC", CHAIN, ZIGZAG), [(0, 1, 2, 1.9, 500.0), (1, 2, 3, 1.9, 500.0)])
    force = openmm.HarmonicBondForce()
    force.addBond(0, 1, 0.15, 50.0)
    system.openmm_system.addForce(force)
    return system


def morse() -> MolecularSystem:
    system = molecule("NN", [(0, 1)], [[0, 0, 0], [0.12, 0, 0]])
    system.openmm_system.removeForce(0)
    force = openmm.CustomBondForce("400*(1-exp(-20*(r-0.12)))^2")
    force.addBond(0, 1, [])
    system.openmm_system.addForce(force)
    return system


def gas() -> MolecularSystem:
    """Four atoms of argon that have evaporated, held by a wall at 1 nm."""
    corners = 0.38 / math.sqrt(2) * np.array([[0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]])
    system = molecule(["Ar"] * 4, [], corners)
    atoms, wall = openmm.NonbondedForce(), openmm.CustomBondForce("10*max(0, r-1)^2")
    for i in range(4):
        atoms.addParticle(0.0, 0.34, 1.0)
        for j in range(i):
            wall.addBond(j, i, [])
    for force in (atoms, wall):
        system.openmm_system.addForce(force)
    return replace(system, temperature_k=120.0)


def dynamics(
    system: MolecularSystem,
    n: int = 600,
    temperature_k: float | None = None,
    steps: int = 100,
    friction: float = 10.0,
    seed: int = 3,
) -> np.ndarray:
    integrator = openmm.LangevinMiddleIntegrator(temperature_k or system.temperature_k, friction, 0.001)
    integrator.setRandomNumberSeed(seed)
    copy = openmm.XmlSerializer.clone(system.openmm_system)
    context = openmm.Context(copy, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(system.positions)
    frames = []
    integrator.setFriction(10.0)
    integrator.step(2000)
    integrator.setFriction(friction)
    for _ in range(n):
        integrator.step(steps)
        frames.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    return np.array(frames, dtype=np.float32)


@pytest.fixture
def said(tmp_path: Path) -> Callable[..., list[str]]:
    def told(system: MolecularSystem, x: np.ndarray, name: str = "md.dcd", **settings: object) -> list[str]:
        lines: list[str] = []
        mdtraj.Trajectory(x, mdtraj.Topology.from_openmm(system.topology)).save(str(tmp_path / name))
        load_trajectories(system, DataSettings(trajectory=(name,), **settings), tmp_path, lines.append)
        return lines

    return told


@pytest.mark.parametrize("make", [linear, freely_jointed, soft, two_atoms, doubled, morse, gas])
@pytest.mark.parametrize("name", ["md.dcd", "md.xtc"])
def test_right_frames_pass_without_a_word(
    said: Callable[..., list[str]], make: Callable[[], MolecularSystem], name: str
) -> None:
    system = make()
    assert said(system, dynamics(system), name) == []


def test_digits_lost_are_told_where_no_bond_is_harmonic(said: Callable[..., list[str]]) -> None:
    with pytest.raises(DataError, match=r"rounded to 0.01 nm, which alone gives a bond"):
        said(morse(), np.round(dynamics(morse()), 2))


@pytest.mark.parametrize(
    ("factor", "cause"),
    [(10.0, "Angstrom stand where nm"), (1 / 0.34, "in another unit, or frames are of another system")],
)
def test_the_unit_is_told_where_nothing_is_bonded(
    said: Callable[..., list[str]], factor: float, cause: str
) -> None:
    with pytest.raises(DataError, match=f"the nearest atoms are .* times as far apart .*{cause}"):
        said(gas(), dynamics(gas()) * np.float32(factor))


def test_averaged_positions_are_told(said: Callable[..., list[str]]) -> None:
    x = dynamics(doubled(), 2000, steps=8)
    with pytest.raises(DataError, match="positions are averages"):
        said(doubled(), (x[:-2] + x[1:-1] + x[2:]) / 3)


def test_a_temperature_that_is_another(said: Callable[..., list[str]]) -> None:
    """Of few bonds and angles it is told; of more it is refused (test_own_frames)."""
    (line,) = said(doubled(), dynamics(doubled(), temperature_k=700.0))
    assert re.search(r"warning: .*fit a temperature of [67][0-9]{2} ", line)


@pytest.mark.parametrize(
    ("weights", "settings", "cause"),
    [
        (np.arange(100) < 20, {"skip_frames": 20}, "data.skip_frames and data.stride leave has weight zero"),
        (np.exp(np.arange(100.0)), {}, "100 weighted frames are worth 2.2 equal ones"),
        (np.ones(50), {"stride": 2}, "has 50 weights, the trajectories have 100 frames in all; give one"),
    ],
)
def test_weights_of_no_use(
    said: Callable[..., list[str]],
    tmp_path: Path,
    weights: np.ndarray,
    settings: dict[str, object],
    cause: str,
) -> None:
    np.save(tmp_path / "w.npy", weights)
    with pytest.raises(DataError, match=cause):
        said(doubled(), dynamics(doubled(), 100), weights="w.npy", **settings)


@pytest.mark.parametrize("weights", [np.ones((100, 1)), np.arange(100) < 80])
def test_weights_in_another_wrapping(
    said: Callable[..., list[str]], tmp_path: Path, weights: np.ndarray
) -> None:
    np.save(tmp_path / "w.npy", weights)
    assert all("weight zero" in line for line in said(doubled(), dynamics(doubled(), 100), weights="w.npy"))


def test_frames_of_two_atoms_agree_by_chance() -> None:
    first = np.array([0, 1, 2, 3, 1, 2, 6])
    assert written_twice(first, 3).tolist() == [False] * 4 + [True] * 2 + [False]
    assert not written_twice(first, 2).any()


def test_short_dynamics_that_keep_their_energies_say_nothing() -> None:
    """A picosecond, ten femtoseconds apart: no trajectory of 300 K is taken for another temperature."""
    peptide = load_system("alanine_dipeptide")
    potential = make_potential(peptide)
    for seed in range(1, 9):
        x = dynamics(peptide, 100, steps=10, friction=1.0, seed=seed)
        assert check_physics(peptide, potential, x, np.ones(len(x)), "md.dcd") == []
