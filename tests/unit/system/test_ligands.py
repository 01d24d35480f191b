"""Small molecules by RDKit and AmberTools: what is refused before a program is called, and what they make."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from boltzgen.errors import MolecularSystemError
from boltzgen.runtime.ambertools import programs
from boltzgen.system.builders import ligands
from boltzgen.system.builders.build import from_files
from boltzgen.system.builders.ligands import ligand_of_file, ligand_of_smiles
from boltzgen.system.torsions import found_torsions

Chem = pytest.importorskip("rdkit.Chem")
needs_programs = pytest.mark.skipif(len(programs()) < 3, reason="no AmberTools")


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that there are not: whoever calls one fails."""
    monkeypatch.setattr(ligands, "programs", lambda: dict.fromkeys(ligands.PROGRAMS, "/nowhere"))


def drawn(folder: Path, smiles: str, *, hydrogens: bool = True, space: bool = True) -> Path:
    """A molecule as a MOL file, in space or in a plane."""
    from rdkit.Chem import AllChem

    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(molecule, randomSeed=1)
    if not space:
        AllChem.Compute2DCoords(molecule)
    path = folder / "drawn.sdf"
    path.write_text(Chem.MolToMolBlock(molecule if hydrogens else Chem.RemoveHs(molecule)))
    return path


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize(
    ("smiles", "told"),
    [
        ("C(C", "--smiles: C(C is no SMILES; quote it"),
        ("CC(=O)[O-].[Na+]", "--smiles: is several molecules; give one, without its salt"),
        ("CC(O)C(=O)O", "leaves open which isomer it is (centre 1, counted from 0); write it with @ or @@"),
        ("CC=CC", "leaves open which isomer it is (bond 1, counted from 0)"),
        ("", "--smiles: nothing is no SMILES"),
        ("C[Si](C)(C)C", "holds Si, which GAFF2 does not describe; give a file with parameters"),
        ("C[CH2]", "has an unpaired electron at atom 1, counted from 0"),
        ("[2H]C", "has an isotope at atom 0, counted from 0"),
    ],
)
def test_what_is_refused_before_a_program_is_called(smiles: str, told: str) -> None:
    with pytest.raises(MolecularSystemError) as caught:
        ligand_of_smiles(smiles, "mbondi3")
    assert told in str(caught.value)


def test_missing_programs_are_named_with_the_way_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ligands, "programs", lambda: {"antechamber": "/somewhere"})
    with pytest.raises(MolecularSystemError, match=r"needs parmchk2 and tleap of AmberTools; pip install"):
        ligand_of_smiles("CCO", "mbondi3")


def test_a_program_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "antechamber"
    program.write_text("#!/bin/sh\necho Welcome\necho Fatal Error!\necho Cannot run sqm\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(ligands, "programs", lambda: dict.fromkeys(ligands.PROGRAMS, str(program)))
    with pytest.raises(
        MolecularSystemError, match=r"antechamber makes no parameters of it \(Fatal Error! Cannot"
    ):
        ligand_of_smiles("CCO", "mbondi3")


@pytest.mark.usefixtures("pretended")
def test_files_that_hold_no_single_molecule(tmp_path: Path) -> None:
    path = drawn(tmp_path, "CCO")
    text = path.read_text()
    path.write_text(f"{text}$$$$\n{text}$$$$\n")
    with pytest.raises(MolecularSystemError, match="holds several molecules"):
        ligand_of_file(path, "mbondi3")
    path.write_text(text.replace("V2000", "V2000", 1)[:200])
    with pytest.raises(MolecularSystemError, match="RDKit understands"):
        ligand_of_file(path, "mbondi3")


@pytest.mark.parametrize(
    ("smiles", "several"),
    [("CN=[N+]=[N-]", False), ("C1C2CC3CC1CC(C2)C3", False), ("CC(O)F", True), ("FC=CF", True)],
)
def test_isomers_that_cannot_be_do_not_count(smiles: str, several: bool) -> None:
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert ligands._has_several_isomers(molecule) == several


@pytest.mark.usefixtures("pretended")
def test_coordinates_in_another_unit_are_refused(tmp_path: Path) -> None:
    path = drawn(tmp_path, "CCO")
    number = re.compile(r"^( +-?\d+\.\d{4}){3}", re.MULTILINE)

    def tenth(found: re.Match[str]) -> str:
        return "".join(f"{float(x) / 10:10.4f}" for x in found.group().split())

    path.write_text(number.sub(tenth, path.read_text()))
    with pytest.raises(MolecularSystemError, match=r"has a bond of 0.15 angstrom, between atoms 0 and 1"):
        ligand_of_file(path, "mbondi3")


@needs_programs
def test_a_drug_by_its_smiles(tmp_path: Path) -> None:
    made = ligand_of_smiles("CC(C)Cc1ccc(cc1)[C@@H](C)C(=O)O", "mbondi3")
    assert "net charge 0, radii mbondi3" in made.said[-1]
    paths = [tmp_path / "my.prmtop", tmp_path / "my.rst7"]
    for path, text in zip(paths, (made.prmtop, made.rst7), strict=True):
        path.write_text(text)
    system = from_files(paths, "ibuprofen")
    assert system.n_atoms == 33 and len(found_torsions(system)) == 3


@needs_programs
@pytest.mark.parametrize(
    ("hydrogens", "space", "said"), [(False, True, "6 hydrogens"), (True, False, "plane")]
)
def test_what_a_drawing_lacks_is_put_in(hydrogens: bool, space: bool, said: str, tmp_path: Path) -> None:
    made = ligand_of_file(drawn(tmp_path, "CCO", hydrogens=hydrogens, space=space), "mbondi2")
    assert said in made.said[0] and "net charge 0" in made.said[-1]
