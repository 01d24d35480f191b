"""Structure and force-field files: read by content, mended where nothing is lost, else told in one line."""

from __future__ import annotations

import gzip
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from openmm import app, unit
from openmmtools.testsystems import get_data_filename

from boltzgen.errors import MolecularSystemError
from boltzgen.system.builders.build import from_amber, from_pdb
from boltzgen.system.builders.file_kinds import RECOGNISED, FileKind
from boltzgen.system.builders.structures import READERS, Structure, read_structure, register
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system

AMBER = ["amber99sbildn.xml"]
Lines = list[str]


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """No warning of Python reaches anybody."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


@pytest.fixture(scope="module")
def alanine() -> MolecularSystem:
    return load_system("alanine_dipeptide")


@pytest.fixture(scope="module")
def lines(alanine: MolecularSystem) -> Lines:
    """Alanine dipeptide as a PDB file, its atoms alone."""
    text = io.StringIO()
    app.PDBFile.writeFile(alanine.topology, alanine.positions * unit.nanometer, text)
    return [line for line in text.getvalue().splitlines() if line.startswith(("ATOM", "HETATM"))]


def name_of(line: str) -> str:
    return line[12:16].strip()


def residue_of(line: str) -> str:
    return line[17:20]


def called(line: str, name: str) -> str:
    return f"{line[:12]}{name if len(name) == 4 else f' {name:<3}'}{line[16:]}"


def written(folder: Path, lines: Lines | str | bytes, name: str = "my.pdb") -> Path:
    path = folder / name
    text = "\n".join([*lines, "END", ""]) if isinstance(lines, list) else lines
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(pdb: Path, forcefield: list[str | Path] | None = None) -> str:
    with pytest.raises(MolecularSystemError) as caught:
        from_pdb(pdb, AMBER if forcefield is None else forcefield, "my")
    line = str(caught.value)
    assert "\n" not in line
    assert not any(word in line for word in ("None", "createSystem", "residue 0", "residue -1", "list index"))
    return line


# ---- what a file is ----------------------------------------------------------------------------------

OTHERS = {
    "empty": (b"", "is an empty file"),
    "blank": (b"\n \n", "is an empty file"),
    "words": (b"some notes\nof mine\n", "is a text file"),
    "prmtop": (b"%VERSION  VERSION_STAMP = V0001.000\n%FLAG TITLE\n", "is an Amber topology (prmtop)"),
    "restart": (
        b"ACE\n    2\n   2.0000010   1.0000000  -0.0000013   2.0000010   2.0900000   0.0000001\n",
        "Amber coordinates",
    ),
    "timed restart": (b"ACE\n    2  0.1E+02\n   2.0000010   1.0000000  -0.0000013\n", "Amber coordinates"),
    "netcdf": (b"CDF\x02" + b"\x00" * 60, "NetCDF"),
    "gromacs": (b'; mine\n#include "amber99sb.ff/forcefield.itp"\n[ moleculetype ]\n', "GROMACS topology"),
    "gro": (b"title\n 2\n    1ALA      N    1   0.126   1.624   1.679\n", "GROMACS structure (gro)"),
    "psf": (b"PSF EXT CMAP\n\n       1 !NTITLE\n", "CHARMM or NAMD topology (PSF)"),
    "sdf": (b"mol\n  prog\n\n  2  1  0  0  0  0  0  0  0  0999 V2000\n", "is an SDF or MOL file"),
    "mol2": (b"@<TRIPOS>MOLECULE\nx\n", "is a MOL2 file"),
    "xyz": (b"2\nfrom somewhere\nC 0.0 0.0 0.0\nH 0.0 0.0 1.0\n", "is an XYZ file"),
    "force field": (b'<?xml version="1.0"?>\n<!-- <System> -->\n<ForceField/>\n', "is an OpenMM force field"),
    "system": (b'<?xml version="1.0" ?>\n<System openmmVersion="8"/>\n', "is a serialised OpenMM System"),
    "dcd": (b"\x54\x00\x00\x00CORD" + b"\x00" * 80, "is a DCD trajectory"),
    "xtc": (b"\x00\x00\x07\xcb" + b"\x00" * 80, "is an XTC trajectory"),
    "binary": (b"\x01\x02\x00\xff" * 20, "is a binary file"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_structure_is_named_whatever_it_is_called(tmp_path: Path, kind: str) -> None:
    content, expected = OTHERS[kind]
    line = refusal(written(tmp_path, content))
    assert "my.pdb" in line and expected in line and "a PDB file or an mmCIF file belongs here" in line
    if kind in ("prmtop", "restart", "netcdf"):
        assert "system.parameters.files" in line


def test_a_structure_in_another_wrapping(tmp_path: Path, lines: Lines) -> None:
    text = "\n".join(lines)
    assert "compressed by gzip" in refusal(written(tmp_path, gzip.compress(text.encode())))
    assert "text in UTF-16" in refusal(written(tmp_path, text.encode("utf-16")))
    assert len(read_structure(written(tmp_path, b"\xef\xbb\xbf" + text.encode())).positions) == 22
    assert len(read_structure(written(tmp_path, text.replace("\n", "\r\n"))).positions) == 22


def test_a_pdb_and_an_mmcif_are_told_apart_by_content(
    tmp_path: Path, alanine: MolecularSystem, lines: Lines
) -> None:
    text = io.StringIO()
    app.PDBxFile.writeFile(alanine.topology, alanine.positions * unit.nanometer, text)
    for name, content in (("my.cif", text.getvalue()), ("my.pdb", text.getvalue()), ("pdb.cif", lines)):
        system = from_pdb(written(tmp_path, content, name), AMBER, "my")
        assert [a.name for a in system.topology.atoms()] == [a.name for a in alanine.topology.atoms()]


def test_names_of_an_mmcif_file_are_kept(tmp_path: Path, alanine: MolecularSystem) -> None:
    text = io.StringIO()
    app.PDBxFile.writeFile(alanine.topology, alanine.positions * unit.nanometer, text)
    structure = read_structure(written(tmp_path, text.getvalue().replace("HB1", "1HB"), "my.cif"))
    assert ("ALA", "1HB") in structure.names and ("ALA", "HB1") not in structure.names
    twice = written(tmp_path, text.getvalue().replace("HB2", "HB1"), "twice.cif")
    assert "2 atoms of ALA 2 are called HB1" in refusal(twice)


def test_files_that_are_no_force_field(tmp_path: Path, lines: Lines) -> None:
    pdb = written(tmp_path, lines)
    prmtop = written(tmp_path, OTHERS["prmtop"][0], "my.xml")
    assert "my.xml: is an Amber topology (prmtop), and an OpenMM force field belongs here" in refusal(
        pdb, [prmtop]
    )
    broken = written(tmp_path, "<ForceField><AtomTypes>", "broken.xml")
    assert "broken.xml: is no proper XML" in refusal(pdb, [broken])
    assert "none is given" in refusal(pdb, [])
    assert "implicit/obc2.xml describes no residues" in refusal(pdb, ["implicit/obc2.xml"])
    assert "describes something twice" in refusal(pdb, ["amber99sbildn.xml", "amber14-all.xml"])
    assert "holds 2 implicit solvents" in refusal(pdb, [*AMBER, "amber99_obc.xml", "implicit/obc2.xml"])
    typeless = written(tmp_path, ETHANE_FIELD.replace('type="h"', 'type="nope"'), "typeless.xml")
    assert "it needs (nope)" in refusal(pdb, [typeless])
    mismatched = refusal(pdb, ["amber14-all.xml", "amber99_obc.xml"])
    assert "has no parameters for atoms of the type protein-" in mismatched and "one family" in mismatched


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("charm36.xml", "charmm36.xml"),
        ("amber99sb", "amber99sb.xml"),
        ("ff14SB", "amber14/protein.ff14SB.xml"),
        ("Amber14-All.xml", "amber14-all.xml"),
        ("obc2.xml", "implicit/obc2.xml"),
    ],
)
def test_names_of_force_fields_that_are_nearly_right(
    tmp_path: Path, lines: Lines, wrong: str, meant: str
) -> None:
    line = refusal(written(tmp_path, lines), [wrong])
    assert line.startswith(f"force field {wrong}: ") and f"did you mean {meant}?" in line


# ---- names that atoms share --------------------------------------------------------------------------

ETHANE = """HETATM    1  C   ETA A   1       0.000   0.000   0.000  1.00  0.00           C
HETATM    2  C   ETA A   1       1.540   0.000   0.000  1.00  0.00           C
HETATM    3  H   ETA A   1      -0.360   1.030   0.000  1.00  0.00           H
HETATM    4  H   ETA A   1      -0.360  -0.510   0.890  1.00  0.00           H
HETATM    5  H   ETA A   1      -0.360  -0.510  -0.890  1.00  0.00           H
HETATM    6  H   ETA A   1       1.900  -1.030   0.000  1.00  0.00           H
HETATM    7  H   ETA A   1       1.900   0.510   0.890  1.00  0.00           H
HETATM    8  H   ETA A   1       1.900   0.510  -0.890  1.00  0.00           H""".splitlines()
UNIQUE = [called(x, n) for x, n in zip(ETHANE, ["C1", "C2", "H1", "H2", "H3", "H4", "H5", "H6"], strict=True)]
CONECT = ["CONECT    1    2    3    4    5", "CONECT    2    1    6    7    8"]


def test_atoms_of_one_name_are_told_apart_by_their_bonds(tmp_path: Path) -> None:
    structure = read_structure(written(tmp_path, ETHANE + CONECT))
    assert [atom.name for atom in structure.topology.atoms()] == ["C1", "C2", *(f"H{k}" for k in range(1, 7))]
    assert structure.names == (("ETA", "C"),) * 2 + (("ETA", "H"),) * 6
    bonds = {(a.index, b.index) for a, b in structure.topology.bonds()}
    assert bonds == {(0, 1), (0, 2), (0, 3), (0, 4), (1, 5), (1, 6), (1, 7)}
    np.testing.assert_allclose(structure.positions[7], [0.19, 0.051, -0.089])
    (notice,) = structure.notices
    assert "my.pdb: atoms of ETA 1 share their names" in notice and "C is C1, C is C2, H is H1" in notice


def test_a_new_name_is_none_that_is_there(tmp_path: Path) -> None:
    mixed = [called(ETHANE[0], "C1"), *ETHANE[1:2], called(ETHANE[2], "C"), *ETHANE[3:]]
    names = [a.name for a in read_structure(written(tmp_path, mixed + CONECT)).topology.atoms()]
    assert names[:3] == ["C1", "C2", "C3"] and len(set(names)) == 8


def test_atoms_of_one_name_in_every_model(tmp_path: Path) -> None:
    models = ["MODEL        1", *ETHANE, "ENDMDL", "MODEL        2", *ETHANE, "ENDMDL", *CONECT]
    structure = read_structure(written(tmp_path, models))
    assert structure.topology.getNumAtoms() == 8 and structure.topology.getNumBonds() == 7


@pytest.mark.parametrize(("conect", "name"), [([], "C"), (CONECT[:1], "H")])
def test_atoms_of_one_name_without_all_their_bonds_are_refused(
    tmp_path: Path, conect: Lines, name: str
) -> None:
    line = refusal(written(tmp_path, ETHANE + conect))
    assert f"atoms of ETA 1 are called {name}" in line and "CONECT" in line


def test_atoms_of_one_name_in_a_residue_known_by_name(
    tmp_path: Path, alanine: MolecularSystem, lines: Lines
) -> None:
    twice = [called(line, "HB1") if name_of(line) in ("HB2", "HB3") else line for line in lines]
    assert "3 atoms of ALA 2 are called HB1" in refusal(written(tmp_path, twice))
    same = [called(line, "HB") if name_of(line) in ("HB1", "HB2", "HB3") else line for line in lines]
    assert "3 atoms of ALA 2 are called HB" in refusal(written(tmp_path, same))  # new names could mean others
    bonds = [f"CONECT{a.index + 1:5d}{b.index + 1:5d}" for a, b in alanine.topology.bonds()]
    system = from_pdb(written(tmp_path, twice + bonds), AMBER, "my")
    assert system.bonds == alanine.bonds


def test_alternate_locations_are_no_shared_names(tmp_path: Path, lines: Lines) -> None:
    both = []
    for line in lines:
        moved = f"{line[:16]}B{line[17:30]}{float(line[30:38]) + 0.1:8.3f}{line[38:]}"
        both += [f"{line[:16]}A{line[17:]}", moved] if name_of(line) == "HB1" else [line]
    structure = read_structure(written(tmp_path, both))
    plain = read_structure(written(tmp_path, lines, "plain.pdb"))
    np.testing.assert_array_equal(structure.positions, plain.positions)
    (notice,) = structure.notices
    assert "alternate locations A, B the first" in notice


def test_residues_of_one_number_after_a_ter_are_two(tmp_path: Path) -> None:
    structure = read_structure(written(tmp_path, [*UNIQUE, "TER", *UNIQUE]))
    assert structure.topology.getNumResidues() == 2 and not structure.notices


def test_numbers_of_atoms_that_a_bond_cannot_tell_apart(tmp_path: Path) -> None:
    line = refusal(written(tmp_path, [*UNIQUE, "TER", *UNIQUE, *CONECT]))
    assert "2 atoms have the number 1, which a CONECT record names" in line


def test_insertion_codes_part_residues(tmp_path: Path) -> None:
    second = [f"{line[:26]}A{line[27:]}" for line in UNIQUE]
    structure = read_structure(written(tmp_path, UNIQUE + second))
    assert structure.topology.getNumResidues() == 2 and not structure.notices


# ---- what a force field does not know ----------------------------------------------------------------

FAULTS: dict[str, tuple[Callable[[Lines], Lines], tuple[str, ...]]] = {
    "no hydrogens": (
        lambda lines: [line for line in lines if line[76:78].strip() != "H"],
        ("there are no hydrogens in ACE 1, ALA 2 and NME 3", "Modeller.addHydrogens()"),
    ),
    "one hydrogen": (
        lambda lines: [line for line in lines if name_of(line) != "HB2"],
        ("lacks a hydrogen of ALA 2 (HB2)", "addHydrogens()"),
    ),
    "an atom missing": (
        lambda lines: [line for line in lines if name_of(line) != "CB"],
        ("ALA 2 lacks CB beside the ALA",),
    ),
    "an atom too many": (
        lambda lines: [
            x for line in lines for x in [line, called(line, "XX")][: 1 + (name_of(line) == "CB")]
        ],
        ("ALA 2 has XX too many",),
    ),
    "another element": (
        lambda lines: [f"{x[:76]}CA{x[78:]}" if name_of(x) == "CA" else x for x in lines],
        ("ALA 2 has atoms of another element", "CA is Ca, not C"),
    ),
    "another name": (
        lambda lines: [called(line, "XQ") if name_of(line) == "HB3" else line for line in lines],
        ("no bond holds XQ of ALA 2; ALA has HB3 instead",),
    ),
    "an unknown residue": (
        lambda lines: [line.replace("ALA", "XYZ") for line in lines],
        ("the residue XYZ 2 is unknown to amber99sbildn.xml", "call it ALA"),
    ),
    "an open end": (
        lambda lines: [line for line in lines if residue_of(line) != "NME"],
        ("ALA 2 is an end of the chain", "bonded to its C;", "OXT"),
    ),
    "shifted columns": (
        lambda lines: [f"{x[:30]}  {x[30:]}" if name_of(x) == "CB" else x for x in lines],
        ("line 11 has no coordinates in columns 31 to 54", "fixed columns"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_the_force_field_is_said(tmp_path: Path, lines: Lines, fault: str) -> None:
    change, expected = FAULTS[fault]
    line = refusal(written(tmp_path, change(lines)))
    assert "my.pdb: " in line
    for words in expected:
        assert words in line


def test_the_chain_is_named_where_there_are_several(tmp_path: Path, lines: Lines) -> None:
    chains = [f"{x[:21]}{c}{x[22:]}" for c in "AB" for x in lines if (c, name_of(x)) != ("B", "HB2")]
    assert "of ALA 2 of chain B (HB2)" in refusal(written(tmp_path, chains))


def test_bonds_that_are_missing(tmp_path: Path) -> None:
    field = written(tmp_path, ETHANE_FIELD, "ethane.xml")
    assert from_pdb(written(tmp_path, UNIQUE + CONECT), [field], "my").n_atoms == 8
    line = refusal(written(tmp_path, UNIQUE), [field])
    assert "the file has no bonds of ETA 1" in line and "CONECT" in line


ETHANE_FIELD = """<ForceField>
 <AtomTypes><Type name="c" class="c" element="C" mass="12"/><Type name="h" class="h" element="H" mass="1"/>
 </AtomTypes>
 <Residues><Residue name="ETA">
  <Atom name="C1" type="c"/><Atom name="C2" type="c"/><Atom name="H1" type="h"/><Atom name="H2" type="h"/>
  <Atom name="H3" type="h"/><Atom name="H4" type="h"/><Atom name="H5" type="h"/><Atom name="H6" type="h"/>
  <Bond atomName1="C1" atomName2="C2"/><Bond atomName1="C1" atomName2="H1"/>
  <Bond atomName1="C1" atomName2="H2"/><Bond atomName1="C1" atomName2="H3"/>
  <Bond atomName1="C2" atomName2="H4"/><Bond atomName1="C2" atomName2="H5"/>
  <Bond atomName1="C2" atomName2="H6"/>
 </Residue></Residues>
 <HarmonicBondForce><Bond class1="c" class2="" length="0.12" k="200000"/></HarmonicBondForce>
</ForceField>
"""


def test_a_ring_whose_closing_bond_is_missing(tmp_path: Path, lines: Lines) -> None:
    """The ends of one alanine near each other, as those of a ring would be."""
    ring = []
    for line in (x for x in lines if residue_of(x) == "ALA"):
        for number in (2, 3):
            ring.append((number, f"{line[:22]}{number:4d}{line[26:]}"))
    one, two = ([x for n, x in ring if n == number] for number in (2, 3))
    end = next(x for x in one if name_of(x) == "N")
    near = f"{float(end[30:38]) + 1.3:8.3f}{end[38:54]}"
    two = [f"{x[:46]}{float(x[46:54]) + 20:8.3f}{x[54:]}" for x in two]
    two = [f"{x[:30]}{near}{x[54:]}" if name_of(x) == "C" else x for x in two]
    line = refusal(written(tmp_path, one + two))
    assert "N of ALA 2 and C of ALA 3 are 0.130 nm apart and not bonded in the file" in line


# ---- several templates -------------------------------------------------------------------------------


@pytest.fixture
def two_fit(tmp_path: Path) -> Path:
    """A force field with two templates of ethane whose hydrogens weigh 1 and 2 daltons, none called ETA."""
    residue = ETHANE_FIELD.split("<Residues>")[1].split("</Residues>")[0]
    light = residue.replace('name="ETA"', 'name="YTA"')
    heavy = residue.replace('name="ETA"', 'name="XTA"').replace('type="h"', 'type="d"')
    text = ETHANE_FIELD.replace(residue, light + heavy).replace(
        "</AtomTypes>", '<Type name="d" class="d" element="H" mass="2"/></AtomTypes>'
    )
    return written(tmp_path, text, "two.xml")


def mass_of_a_hydrogen(system: MolecularSystem) -> float:
    return float(system.openmm_system.getParticleMass(2)._value)


def test_several_templates_without_a_reason_for_one_are_refused(tmp_path: Path, two_fit: Path) -> None:
    pdb = written(tmp_path, UNIQUE + CONECT)
    line = refusal(pdb, [two_fit])
    assert "YTA and XTA of the force field all fit ETA 1" in line and "residue_templates=[YTA]" in line
    for name, mass in (("YTA", 1.0), ("XTA", 2.0)):
        system = from_pdb(pdb, [two_fit], "my", residue_templates=[name])
        assert mass_of_a_hydrogen(system) == mass and not system.notices


def test_of_several_templates_of_a_molecule_that_of_its_residues_is_taken_and_said(
    tmp_path: Path, two_fit: Path
) -> None:
    """As of alanine dipeptide in CHARMM36: peptide and small molecule, both fit all residues together."""
    half = '<Residue name="HAL"><Atom name="C1" type="c"/><Atom name="H1" type="{}"/></Residue></Residues>'
    halves = [
        f"{x[:17]}HAL{x[20:22]}   {k}{x[26:]}"
        for k in (1, 2)
        for x in (UNIQUE[k - 1], *UNIQUE[3 * k - 1 : 3 * k + 2])
    ]
    text = two_fit.read_text()
    for own, mass, taken in (("h", 1.0, "YTA"), ("d", 2.0, "XTA")):
        # Carbons are alike in both, so that a template of these alone decides nothing.
        only = half.format(own).replace('<Atom name="C1" type="c"/>', '<Atom name="C1" type="e"/>')
        field = text.replace("</Residues>", only).replace(
            "</AtomTypes>", '<Type name="e" class="e" element="C" mass="12"/></AtomTypes>'
        )
        system = from_pdb(written(tmp_path, halves + CONECT), [written(tmp_path, field, "half.xml")], "my")
        assert mass_of_a_hydrogen(system) == mass
        (notice,) = system.notices
        assert "HAL 1 to HAL 2 fits YTA and XTA" in notice and f"{taken} is taken" in notice
    both = written(tmp_path, text.replace("</Residues>", half.format("h")), "both.xml")
    line = refusal(written(tmp_path, halves + CONECT), [both])
    assert "YTA and XTA of the force field all fit HAL 1 to HAL 2 and differ" in line


# ---- Amber files -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prmtop() -> Path:
    return Path(get_data_filename("data/alanine-dipeptide-gbsa/alanine-dipeptide.prmtop"))


def test_radii_of_another_solvent_model_are_said(prmtop: Path) -> None:
    crd = prmtop.with_suffix(".crd")
    assert from_amber(prmtop, crd, "my", "OBC2").notices == ()
    (same,) = from_amber(prmtop, crd, "my", "GBn2").notices
    assert "radii are mbondi2, and GBn2 was fitted with mbondi3" in same and "does not matter here" in same
    (other,) = from_amber(prmtop, crd, "my", "HCT").notices
    assert "HCT was fitted with mbondi " in other and "not those of the model" in other


def test_radii_that_were_changed_are_said(tmp_path: Path, prmtop: Path) -> None:
    before, radii, after = prmtop.read_text().partition("%FLAG RADII")
    first = after.split()[1]
    changed = written(tmp_path, before + radii + after.replace(first, "2.50000000E+00", 1), "my.prmtop")
    (notice,) = from_amber(changed, prmtop.with_suffix(".crd"), "my", "OBC2").notices
    assert "some are others than OpenMM has for OBC2; those of the file are used" in notice


def test_names_of_a_prmtop_are_kept(prmtop: Path) -> None:
    system = from_amber(prmtop, prmtop.with_suffix(".crd"), "my")
    assert system.names_in_file[0] == ("ACE", "HH31")
    assert next(system.topology.atoms()).name == "H1"


def test_coordinates_in_another_order_than_the_prmtop(tmp_path: Path, prmtop: Path, lines: Lines) -> None:
    assert from_amber(prmtop, written(tmp_path, lines), "my").n_atoms == 22
    other = [lines[1], lines[0], *lines[2:]]
    with pytest.raises(MolecularSystemError, match=r"atom 0 is C, and in .* it is H"):
        from_amber(prmtop, written(tmp_path, other), "my")


def test_amber_files_that_do_not_belong_together(tmp_path: Path, prmtop: Path) -> None:
    crd = prmtop.with_suffix(".crd")
    ethane = written(tmp_path, ETHANE + CONECT)
    cut = written(tmp_path, "\n".join(prmtop.read_text().splitlines()[:40]), "cut.prmtop")
    for topology, coordinates, expected in (
        (prmtop, ethane, "has 8 atoms, and"),
        (crd, crd, "is a file of Amber coordinates, and an Amber topology"),
        (prmtop, prmtop, "describes a molecule as"),
        (cut, crd, "lacks a section of Amber topologies (RESIDUE_POINTER)"),
        (prmtop, tmp_path / "nowhere.crd", "nowhere.crd: no file of this name"),
    ):
        with pytest.raises(MolecularSystemError) as caught:
            from_amber(topology, coordinates, "my")
        assert expected in str(caught.value)


def test_an_input_format_is_added_by_one_registration(alanine: MolecularSystem, tmp_path: Path) -> None:
    """As a third party would: no other file knows of it."""

    def read(path: Path, text: str) -> Structure:
        rows = [line.split() for line in text.splitlines()[1:]]
        positions = np.array([[float(value) for value in row] for row in rows])
        return Structure(alanine.topology, positions)

    lines = ["#! ALA", *(" ".join(f"{value:.6f}" for value in row) for row in alanine.positions)]
    path = written(tmp_path, "\n".join(lines), "my.ala")
    assert "and a PDB file or an mmCIF file belongs here" in refusal(path)
    kind = FileKind("an ALA file")
    register(kind, read, recognises=lambda text: text.startswith("#! ALA"))
    try:
        system = from_pdb(path, ["amber99sbildn.xml"], "my")
    finally:
        del READERS[kind]
        RECOGNISED.clear()
    assert system.n_atoms == 22
