"""Batched energies and forces of real molecules against OpenMM's Reference platform."""

from __future__ import annotations

import numpy as np
import openmm
import pytest
import torch
from helpers.agreement import assert_agreement

from boltzgen import load_system, make_potential

ALDP = [("alanine_dipeptide", {"hamiltonian": name}) for name in ("A", "A-vac", "B", "C")]
CLUSTERS: list[tuple[str, dict[str, object]]] = [("lj13", {}), ("lj55", {})]
PEPTIDES = [
    ("alanine_peptide", {"residues": n, "solvent": solvent})
    for n in (3, 6)
    for solvent in ("hct", "obc1", "obc2", "gbn", "gbn2")
]
FF19SB = [("alanine_peptide", {"residues": 3, "force_field": "ff19SB"})]


def label(case: tuple[str, dict[str, object]]) -> str:
    return "-".join([case[0], *map(str, case[1].values())])


@pytest.mark.parametrize("case", ALDP, ids=label)
def test_named_systems_agree_in_float64_and_float32(case: tuple[str, dict[str, object]]) -> None:
    system = load_system(*case)
    x, exact = assert_agreement(system.openmm_system, system.positions)
    energy, _ = make_potential(system, dtype=torch.float32, backend="batched").energy_and_forces(x)
    assert float((energy - exact).abs().max()) <= 1e-3


@pytest.mark.parametrize("case", [*CLUSTERS, *FF19SB, *PEPTIDES[:5]], ids=label)
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
