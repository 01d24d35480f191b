"""Batched energies and forces of real molecules against OpenMM's Reference platform."""

from __future__ import annotations

import copy
import logging

import numpy as np
import openmm
import pytest
import torch
from openmm import unit

from boltzgen import load_system, make_potential
from boltzgen.potential.openmm import OpenMMEvaluator

N_CONFIGURATIONS = 100
NOISE_NM = 0.02
ALDP = [("alanine_dipeptide", {"hamiltonian": name}) for name in ("A", "A-vac", "B", "C")]
CLUSTERS: list[tuple[str, dict[str, object]]] = [("lj13", {}), ("lj55", {})]
PEPTIDES = [
    ("alanine_peptide", {"residues": n, "solvent": solvent})
    for n in (3, 6)
    for solvent in ("hct", "obc1", "obc2", "gbn", "gbn2")
]
FF19SB = [("alanine_peptide", {"residues": 3, "force_field": "ff19SB"})]
OPENMMTOOLS = [
    "AlanineDipeptideImplicit",
    "AlanineDipeptideVacuum",
    "AlchemicalAlanineDipeptide",
    "ConstraintCoupledHarmonicOscillator",
    "Diatom",
    "HarmonicOscillator",
    "HarmonicOscillatorArray",
    "HostGuestImplicit",
    "HostGuestImplicitGBn",
    "HostGuestImplicitGBn2",
    "HostGuestImplicitHCT",
    "HostGuestImplicitOBC1",
    "HostGuestImplicitOBC2",
    "HostGuestVacuum",
    "LennardJonesCluster",
    "LennardJonesPair",
    "PowerOscillator",
    "TolueneImplicit",
    "TolueneImplicitGBn",
    "TolueneImplicitGBn2",
    "TolueneImplicitHCT",
    "TolueneImplicitOBC1",
    "TolueneImplicitOBC2",
    "TolueneVacuum",
    "WaterCluster",
]
"""Every test system of openmmtools 0.27 without periodic box and with at most 200 particles."""


def thermal_and_noisy(system: openmm.System, positions: np.ndarray, n: int) -> np.ndarray:
    """``n`` frames of unconstrained dynamics at 300 K, and the same with noise on every atom."""
    free = copy.deepcopy(system)
    for index in reversed(range(free.getNumConstraints())):
        free.removeConstraint(index)
    integrator = openmm.LangevinMiddleIntegrator(300.0, 10 / unit.picosecond, 0.5 * unit.femtosecond)
    integrator.setRandomNumberSeed(7)
    platform = openmm.Platform.getPlatformByName("CPU")  # Reference takes most of the test's time
    context = openmm.Context(free, integrator, platform, {"Threads": "1"})
    context.setPositions(positions)
    context.setVelocitiesToTemperature(300.0, 7)
    frames = []
    for _ in range(n):
        integrator.step(5)
        frames.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    thermal = np.array(frames)
    noise = NOISE_NM * np.random.default_rng(7).standard_normal(thermal.shape)
    return np.concatenate([thermal, thermal + noise])


def assert_agreement(system: openmm.System, positions: np.ndarray, n: int = N_CONFIGURATIONS) -> None:
    """The float64 energies and forces of 2n configurations are those of the Reference platform."""
    potential = make_potential(system, 300.0, positions=positions)
    assert potential.backend == "batched", potential.reason
    x = torch.from_numpy(thermal_and_noisy(system, positions, n))
    energy, force = potential.energy_and_forces(x)
    exact_energy, exact_force = OpenMMEvaluator(system, "Reference").energy_and_forces(x)
    assert bool(exact_energy.isfinite().all()) and float(exact_energy.std()) > 0
    assert bool(((energy - exact_energy).abs() <= 1e-6 + 1e-9 * exact_energy.abs()).all())
    deviation = (force - exact_force).abs().flatten(1).amax(1)
    assert bool((deviation <= 1e-6 * exact_force.abs().flatten(1).amax(1)).all())


def label(case: tuple[str, dict[str, object]]) -> str:
    return "-".join([case[0], *map(str, case[1].values())])


@pytest.mark.parametrize("case", [*ALDP, *CLUSTERS, *FF19SB, *PEPTIDES[:5]], ids=label)
def test_named_systems_agree(case: tuple[str, dict[str, object]]) -> None:
    system = load_system(*case)
    assert_agreement(system.openmm_system, system.positions)


@pytest.mark.slow
@pytest.mark.parametrize("case", PEPTIDES[5:], ids=label)
def test_hexapeptides_agree(case: tuple[str, dict[str, object]]) -> None:
    system = load_system(*case)
    assert_agreement(system.openmm_system, system.positions)


def test_the_ff19sb_peptide_has_torsion_maps() -> None:
    forces = {type(force).__name__ for force in load_system(*FF19SB[0]).openmm_system.getForces()}
    assert "CMAPTorsionForce" in forces


@pytest.mark.parametrize("case", ALDP, ids=label)
def test_float32_is_close_at_thermal_configurations(case: tuple[str, dict[str, object]]) -> None:
    system = load_system(*case)
    potential = make_potential(system, dtype=torch.float32, backend="batched")
    x = torch.from_numpy(thermal_and_noisy(system.openmm_system, system.positions, N_CONFIGURATIONS))
    x = x[:N_CONFIGURATIONS]
    energy, _ = potential.energy_and_forces(x)
    exact, _ = OpenMMEvaluator(system.openmm_system, "Reference").energy_and_forces(x)
    assert float((energy - exact).abs().max()) <= 1e-3


def ryckaert_bellemans() -> tuple[openmm.System, np.ndarray]:
    """All-carbon pentane with alkane torsions of Ryckaert and Bellemans, Faraday Discuss. 66, 95 (1978)."""
    system, positions = openmm.System(), []
    bond, angle, torsion = openmm.HarmonicBondForce(), openmm.HarmonicAngleForce(), openmm.RBTorsionForce()
    nonbonded = openmm.NonbondedForce()
    for i in range(5):
        system.addParticle(14.0)
        nonbonded.addParticle(0.0, 0.3923, 0.6)
        positions.append([0.125 * i, 0.087 * (i % 2), 0.01 * i])
    for i in range(4):
        bond.addBond(i, i + 1, 0.153, 2.5e5)
    for i in range(3):
        angle.addAngle(i, i + 1, i + 2, 1.9, 500.0)
    for i in range(2):
        torsion.addTorsion(i, i + 1, i + 2, i + 3, 9.28, 12.16, -13.12, -3.06, 26.24, -31.5)
    for force in (bond, angle, torsion, nonbonded):
        system.addForce(force)
    nonbonded.createExceptionsFromBonds([(i, i + 1) for i in range(4)], 0.0, 0.5)
    return system, np.array(positions)


def test_ryckaert_bellemans_torsions_agree() -> None:
    assert_agreement(*ryckaert_bellemans())


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if "HostGuest" in n else ()) for n in OPENMMTOOLS]
)
def test_openmmtools_systems_agree(name: str) -> None:
    logging.getLogger("pymbar").setLevel(logging.ERROR)  # greets every import with a banner
    from openmmtools import testsystems

    molecule = getattr(testsystems, name)()
    assert_agreement(molecule.system, np.array(molecule.positions.value_in_unit(unit.nanometer)))
