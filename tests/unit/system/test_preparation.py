"""Structures that lack atoms: what is put in, what is said of it, and what is left alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from openmm import app, unit
from pdbfixer import PDBFixer

from boltzgen.errors import MolecularSystemError
from boltzgen.system.builders import preparation
from boltzgen.system.builders.build import from_pdb
from boltzgen.system.builders.preparation import Prepared, prepared
from boltzgen.system.builders.sequences import peptide_of_sequence
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.stereochemistry.domain import domain_of

CASES = Path(__file__).parents[2] / "cases"
PDB = CASES / "23-cmap-force-field" / "adp.pdb"
HEAVY = CASES / "07-missing-hydrogens" / "heavy.pdb"


def built(folder: Path, made: Prepared | None) -> MolecularSystem:
    assert made is not None
    path = folder / "whole.pdb"
    path.write_text(made.pdb)
    return from_pdb(path, ["amber14-all.xml"], "whole")


def peptide(folder: Path, sequence: str, without: tuple[str, ...] = ()) -> Path:
    """A PDB file of heavy atoms, some of which are left out."""
    pdb = app.PDBFile(io.StringIO(peptide_of_sequence(sequence, 7.0).pdb))
    return written(folder, pdb, without)


def by_pdbfixer(folder: Path, residue: str, without: tuple[str, ...]) -> Path:
    """The same of a residue after an alanine, as PDBFixer draws loops: strained."""
    fixer = PDBFixer(pdbfile=io.StringIO(HEAVY.read_text()))
    fixer.findMissingResidues()
    fixer.missingResidues = {(0, 2): [residue]}
    fixer.findMissingAtoms()
    fixer.addMissingAtoms(seed=1)
    return written(folder, fixer, without)


def written(folder: Path, structure: app.PDBFile | PDBFixer, without: tuple[str, ...]) -> Path:
    modeller = app.Modeller(structure.topology, structure.positions)
    hydrogen = app.element.hydrogen
    modeller.delete([a for a in modeller.topology.atoms() if a.name in without or a.element is hydrogen])
    path = folder / "chain.pdb"
    with path.open("w") as stream:
        app.PDBFile.writeFile(modeller.topology, modeller.positions, stream)
    return path


def test_hydrogens_are_put_in_and_counted(tmp_path: Path) -> None:
    made = prepared(HEAVY, 7.0)
    system = built(tmp_path, made)
    assert made is not None and made.added == ("12 hydrogens put in at pH 7",)
    assert system.n_atoms == 22
    assert prepared(HEAVY, 7.0).pdb == made.pdb  # type: ignore[union-attr]


def test_what_is_whole_is_left_alone() -> None:
    assert prepared(PDB, 7.0) is None


@pytest.mark.parametrize(("ph", "form", "atoms"), [(7.0, "", 0), (2.0, "ASP 3 is with its hydrogen", 1)])
def test_side_chains_and_protons(ph: float, form: str, atoms: int, tmp_path: Path) -> None:
    made = prepared(peptide(tmp_path, "ACE-ALA-ASP-NME", ("CG", "OD1", "OD2")), ph)
    assert made is not None
    assert made.added[0] == "heavy atoms put in: CG, OD1, OD2 of ASP 3"
    assert form in made.added[-1] and f"at pH {ph:g}" in made.added[-1]
    assert built(tmp_path, made).n_atoms == 34 + atoms


def test_a_side_chain_of_which_there_is_nothing(tmp_path: Path) -> None:
    made = prepared(peptide(tmp_path, "ACE-ALA-SER-NME", ("CB", "OG")), 7.0)
    assert made is not None and made.added[0] == "heavy atoms put in: CB of ALA 2 and CB, OG of SER 3"
    system = built(tmp_path, made)
    for residue in list(system.topology.residues())[1:3]:
        place = {atom.name: system.positions[atom.index] for atom in residue.atoms()}
        assert np.linalg.det([place[name] - place["CA"] for name in ("N", "C", "CB")]) > 1e-3, residue.name


@pytest.mark.parametrize(
    ("residue", "lacking"),
    [
        ("THR", ("CG2",)),
        ("THR", ("OG1",)),
        ("THR", ("CB", "OG1", "CG2")),
        ("ILE", ("CG1", "CD1")),
        ("ILE", ("CG2",)),
        ("ILE", ("CB", "CG1", "CG2", "CD1")),
    ],
)
def test_side_chains_with_a_centre_keep_it(residue: str, lacking: tuple[str, ...], tmp_path: Path) -> None:
    whole = domain_of(built(tmp_path, prepared(peptide(tmp_path, f"ACE-{residue}-NME"), 7.0)))
    made = prepared(peptide(tmp_path, f"ACE-{residue}-NME", lacking), 7.0)
    system = built(tmp_path, made)
    place = {a.name: system.positions[a.index] for a in system.topology.atoms() if a.residue.name == residue}
    around = {"THR": ("CA", "OG1", "CG2"), "ILE": ("CA", "CG1", "CG2")}[residue]
    for centre, others in (("CA", ("N", "C", "CB")), ("CB", around)):
        assert np.linalg.det([place[name] - place[centre] for name in others]) > 1e-3
    assert len(whole.elements) == len(domain_of(system).elements)


def test_another_isomer_by_minimisation_is_refused(tmp_path: Path) -> None:
    """Drawn by PDBFixer, this backbone suits no proline of either amide."""
    made = prepared(by_pdbfixer(tmp_path, "PRO", ("CB", "CG", "CD")), 7.0)
    with pytest.raises(MolecularSystemError, match=r"whole.pdb: is so strained that minimisation turns over"):
        built(tmp_path, made)


def test_what_comes_out_mirrored_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "with_first_atoms", lambda structure, missing: structure)
    with pytest.raises(MolecularSystemError, match=r"CA of PRO 2 came out as its mirror image; complete"):
        peptide_of_sequence("ACE-PRO-GLY-NME", 7.0)


def test_the_mirror_image_stays_one(tmp_path: Path) -> None:
    """Hydrogens go where heavy atoms leave room: a D residue keeps its arrangement."""
    pdb = app.PDBFile(str(HEAVY))
    mirrored = np.array(pdb.getPositions(asNumpy=True).value_in_unit(unit.nanometer)) * [1.0, 1.0, -1.0]
    path = tmp_path / "d.pdb"
    with path.open("w") as stream:
        app.PDBFile.writeFile(pdb.topology, mirrored * unit.nanometer, stream)
    ours = domain_of(built(tmp_path, prepared(path, 7.0)))
    theirs = domain_of(built(tmp_path, prepared(HEAVY, 7.0)))
    assert "centre CA(8) -" in theirs.description and "centre CA(8) +" in ours.description


def test_of_alternate_locations_and_models_the_first_is_completed(tmp_path: Path) -> None:
    lines = [line for line in HEAVY.read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]
    twice = [copy for line in lines for copy in (f"{line[:16]}A{line[17:]}", f"{line[:16]}B{line[17:]}")]
    path = tmp_path / "two.pdb"
    path.write_text(
        "\n".join(["MODEL        1", *twice, "ENDMDL", "MODEL        2", *lines, "ENDMDL", "END", ""])
    )
    assert built(tmp_path, prepared(path, 7.0)).n_atoms == 22


def test_water_is_no_part_of_a_molecule(tmp_path: Path) -> None:
    lines = [line for line in HEAVY.read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]
    water = "HETATM   11  O   HOH B   4       9.000   9.000   9.000  1.00  0.00           O"
    (tmp_path / "wet.pdb").write_text("\n".join([*lines, water, "END", ""]))
    with pytest.raises(MolecularSystemError, match=r"wet.pdb: holds 1 molecules of water;"):
        prepared(tmp_path / "wet.pdb", 7.0)


def test_a_ring_is_not_opened(tmp_path: Path) -> None:
    """PDB files have no record of its bond that programs keep: 12 hydrogens and an OXT would go in."""
    lines = (CASES / "08-cyclic-d-residue" / "aaad.pdb").read_text().splitlines()
    path = tmp_path / "ring.pdb"
    path.write_text("\n".join(line for line in lines if line[76:78].strip() != "H"))
    with pytest.raises(MolecularSystemError, match=r"its bond C of ALA 4 - N of ALA 1 would be lost"):
        prepared(path, 7.0)
