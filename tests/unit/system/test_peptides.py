"""Peptides of published comparisons: atoms, force fields and cutoffs, torsions and states."""

from __future__ import annotations

import math

import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit

from boltzgen import from_sequence
from boltzgen.errors import MolecularSystemError
from boltzgen.potential import make_potential
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system

B = (("amber99sbildn.xml", "amber99_obc.xml"), {"nonbondedMethod": app.NoCutoff})
C = (
    ("amber14-all.xml", "implicit/obc1.xml"),
    {"nonbondedMethod": app.CutoffNonPeriodic, "nonbondedCutoff": 2.0 * unit.nanometer},
)


def peptide(sequence: str, **more: object) -> MolecularSystem:
    return load_system("peptide", {"sequence": sequence, **more})


@pytest.mark.parametrize(
    ("name", "n_atoms", "temperature_k", "field", "torsions"),
    [
        ("al3", 33, 310.0, C, "psi_1 phi_2 psi_2 phi_3"),
        ("al4", 42, 300.0, B, "phi_1 psi_1 phi_2 psi_2 phi_3 psi_3"),
        ("al6", 63, 310.0, C, "psi_1 phi_2 psi_2 phi_3 psi_3 phi_4 psi_4 phi_5 psi_5 phi_6"),
        ("ace_a5_nme", 62, 300.0, B, " ".join(f"phi_{k} psi_{k}" for k in range(1, 6))),
        pytest.param(
            "chignolin",
            138,
            310.0,
            C,
            " ".join(["psi_1", *(f"phi_{k} psi_{k}" for k in range(2, 10)), "phi_10"]),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_published_peptides_are_what_openmm_makes_of_them(
    name: str, n_atoms: int, temperature_k: float, field: tuple, torsions: str
) -> None:
    system = load_system(name)
    assert (system.n_atoms, system.temperature_k) == (n_atoms, temperature_k)
    assert [cv.name for cv in system.collective_variables] == torsions.split()
    files, options = field
    built = app.ForceField(*files).createSystem(
        system.topology, constraints=None, rigidWater=False, **options
    )
    assert system.openmm_system.getNumConstraints() == 0
    rng = np.random.default_rng(0)
    for x in (system.positions, system.positions + 0.005 * rng.normal(size=system.positions.shape)):
        ours = make_potential(system, "openmm", platform="Reference")(torch.from_numpy(x[None]))
        context = openmm.Context(
            built, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference")
        )
        context.setPositions(x)
        expected = context.getState(energy=True).getPotentialEnergy()._value / system.kT
        assert float(ours) == pytest.approx(expected, abs=1e-8)


def test_the_cutoff_of_2_nm_is_seen_in_the_energy() -> None:
    """Reaction-field terms change the energies of every distance, so that a cutoff left out would show."""
    cut = load_system("al3")
    without = from_sequence("ALA-ALA-ALA", C[0], "al3", 310.0)
    energies = [
        float(make_potential(each, "openmm", platform="Reference")(torch.from_numpy(cut.positions[None])))
        for each in (cut, without)
    ]
    assert abs(energies[0] - energies[1]) > 1.0


@pytest.mark.parametrize(
    ("sequence", "n_atoms", "charge", "ends"),
    [("AC", 24, 0, {"H2", "H3", "OXT"}), ("KG", 32, 1, {"HZ3", "OXT"}), ("DL", 34, -1, {"OD2", "OXT"})],
)
def test_dipeptides_have_charged_ends(sequence: str, n_atoms: int, charge: int, ends: set[str]) -> None:
    system = peptide(sequence)
    assert system.n_atoms == n_atoms and system.net_charge == pytest.approx(charge, abs=1e-6)
    assert ends <= {atom.name for atom in system.topology.atoms()}
    assert [cv.name for cv in system.collective_variables] == ["psi_1", "phi_2"]


def test_caps_form_and_letters_are_as_asked_for() -> None:
    names = [residue.name for residue in peptide("gly-hid", termini="capped").topology.residues()]
    assert names == ["ACE", "GLY", "HIS", "NME"]
    hydrogens = {atom.name for atom in peptide("GLY-HID").topology.atoms()}
    assert "HD1" in hydrogens and "HE2" not in hydrogens


def test_both_sides_of_every_phi_are_states_but_not_of_the_ring_of_proline() -> None:
    system = peptide("AAPA", termini="capped")
    assert [state.name for state in system.states] == [
        f"phi_{k}_{side}" for k in (1, 2, 4) for side in ("positive", "negative")
    ]
    pairs = [(a.cv.name, b.cv.name) for a, b in system.state_pairs]
    assert pairs == [("phi_1", "phi_1"), ("phi_2", "phi_2"), ("phi_4", "phi_4")]
    angles = torch.linspace(-math.pi, math.pi, 1001, dtype=torch.float64)[:-1]
    inside = torch.stack([state.contains(angles) for state in system.states[:2]])
    assert bool((inside.sum(0) == 1).all())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sequence": "AXA"}, "X is no residue; write one letter for each of ARNDCEQGHILKMFPSTWYV"),
        ({"sequence": "ALA-XYZ"}, "XYZ is no residue"),
        ({"sequence": ""}, "an empty sequence is no residue"),
        ({"sequence": "AA", "termini": "acetyl"}, "unknown termini acetyl; use one of zwitterion, capped"),
        ({"sequence": "AA", "hamiltonian": "A"}, "unknown hamiltonian A; use one of B, C"),
        ({}, "parameter sequence is missing"),
    ],
)
def test_what_is_no_peptide_is_told(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(MolecularSystemError, match=message):
        load_system("peptide", parameters)
