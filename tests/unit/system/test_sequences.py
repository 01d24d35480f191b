"""Peptides by their sequence: whole, of L residues, in the arrangement that is said."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from openmm import app, unit

from boltzgen import geometry
from boltzgen.errors import MolecularSystemError
from boltzgen.system.builders.build import from_pdb
from boltzgen.system.builders.pdb_names import AMINO_ACIDS
from boltzgen.system.builders.sequences import (
    OMEGA_DEG,
    PHI_DEG,
    PHI_PROLINE_DEG,
    PSI_DEG,
    peptide_of_sequence,
)


def read(pdb: str) -> tuple[app.Topology, np.ndarray]:
    file = app.PDBFile(io.StringIO(pdb))
    return file.topology, np.array(file.getPositions(asNumpy=True).value_in_unit(unit.nanometer))


@pytest.mark.parametrize("part", [AMINO_ACIDS[:7], AMINO_ACIDS[7:14], AMINO_ACIDS[14:]])
def test_every_residue_is_whole_and_l(part: tuple[str, ...]) -> None:
    topology, x = read(peptide_of_sequence("-".join(["ACE", *part, "NME"]), 7.0).pdb)
    field = app.ForceField("amber14-all.xml")
    assert field.createSystem(topology).getNumParticles() == len(x)
    for residue in topology.residues():
        place = {atom.name: x[atom.index] for atom in residue.atoms()}
        if "CB" in place:
            n, c, cb = (place[name] - place["CA"] for name in ("N", "C", "CB"))
            assert np.linalg.det([n, c, cb]) > 1e-3, residue


def test_side_chains_with_a_centre_of_their_own() -> None:
    """CIP descriptors by RDKit: threonine (2S,3R), isoleucine (2S,3S)."""
    chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import rdCIPLabeler

    topology, _ = read(text := peptide_of_sequence("ACE-THR-ILE-NME", 7.0).pdb)
    molecule = chem.MolFromPDBBlock(text, removeHs=False)
    chem.AssignStereochemistryFrom3D(molecule)
    rdCIPLabeler.AssignCIPLabels(molecule)
    found = [
        (atom.residue.name, atom.name, molecule.GetAtomWithIdx(atom.index).GetProp("_CIPCode"))
        for atom in topology.atoms()
        if atom.name in ("CA", "CB") and atom.residue.name in ("THR", "ILE")
    ]
    assert found == [("THR", "CA", "S"), ("THR", "CB", "R"), ("ILE", "CA", "S"), ("ILE", "CB", "S")]


def test_the_backbone_is_drawn_out_as_said() -> None:
    topology, x = read(peptide_of_sequence("ACE-ALA-PRO-GLY-NME", 7.0).pdb)
    residues = [{atom.name: atom.index for atom in residue.atoms()} for residue in topology.residues()]
    found = {"phi": [], "psi": [], "omega": []}
    for before, residue, after in zip(residues, residues[1:], residues[2:], strict=False):
        alpha = after.get("CA", after.get("C"))
        found["phi"].append((before["C"], residue["N"], residue["CA"], residue["C"]))
        found["psi"].append((residue["N"], residue["CA"], residue["C"], after["N"]))
        found["omega"].append((residue["CA"], residue["C"], after["N"], alpha))
    expected = {"phi": [PHI_DEG, PHI_PROLINE_DEG, PHI_DEG], "psi": [PSI_DEG] * 3, "omega": [OMEGA_DEG] * 3}
    for name, rows in found.items():
        angles = [math.degrees(geometry.torsion(torch.from_numpy(x), atoms)) for atoms in rows]
        away = (np.array(angles) - expected[name] + 180.0) % 360.0 - 180.0
        assert np.abs(away).max() < 0.5, name  # a PDB file has three digits of an angstrom


def test_ends_without_caps_are_charged_and_ph_counts(tmp_path: Path) -> None:
    made = peptide_of_sequence("gly-asp", 2.0)
    assert made.added == (
        "GLY-ASP drawn out: phi -120, psi 130, every residue L",
        "10 hydrogens put in at pH 2; ASP 2 is with its hydrogen",
    )
    topology, _ = read(made.pdb)
    assert {"H2", "H3", "OXT", "HD2"} <= {atom.name for atom in topology.atoms()}


def test_a_form_may_be_meant() -> None:
    assert (
        peptide_of_sequence("ACE-HIE-ASH-NME", 7.0)
        .added[1]
        .endswith("HIS 2 is with its hydrogen at NE2 and ASP 3 is with its hydrogen")
    )


def test_the_smallest_is_two_caps(tmp_path: Path) -> None:
    path = tmp_path / "nma.pdb"
    path.write_text(peptide_of_sequence("ACE-NME", 7.0).pdb)
    assert from_pdb(path, ["amber14-all.xml"], "nma").n_atoms == 12


@pytest.mark.parametrize(
    ("sequence", "told"),
    [
        ("ACE-XYZ-NME", "XYZ is no residue; write it as ACE-ALA-GLY-NME, of ALA, ARG"),
        ("AAAA", "AAAA is no residue"),
        ("ALA--ALA", "an empty name is no residue"),
        ("", "an empty name is no residue"),
        ("ALA-ACE-ALA", "ACE is no residue"),
        ("NME", "NME is a cap alone; write ACE-ALA-NME"),
    ],
)
def test_what_is_no_sequence(sequence: str, told: str) -> None:
    with pytest.raises(MolecularSystemError) as caught:
        peptide_of_sequence(sequence, 7.0)
    assert told in str(caught.value)
