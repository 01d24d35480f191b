"""PDB and mmCIF files as programs and people write them: what is read of them, said and refused."""

from __future__ import annotations

import gzip
import io
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import app

from boltzgen.errors import UserError
from boltzgen.system.builders.build import from_pdb
from boltzgen.system.builders.preparation import prepared
from boltzgen.system.builders.sequences import peptide_of_sequence
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.torsions import found_torsions
from boltzgen.testing import check_system
from boltzgen.workflow.molecule_files import Wanted
from boltzgen.workflow.new import write_workflow

FIELD = ["amber14-all.xml"]
SEQUENCE = "ACE-ALA-SER-GLY-NME"
TEXT = peptide_of_sequence(SEQUENCE, 7.0).pdb
Lines = list[str]


def atoms_of(text: str) -> Lines:
    return [line for line in text.splitlines() if line.startswith(("ATOM", "HETATM"))]


ATOMS = atoms_of(TEXT)


def is_hydrogen(line: str) -> bool:
    return line[76:78].strip() == "H"


def heavy(sequence: str) -> Lines:
    return [line for line in atoms_of(peptide_of_sequence(sequence, 7.0).pdb) if not is_hydrogen(line)]


def saved(folder: Path, lines: Lines, name: str = "my.pdb") -> Path:
    path = folder / name
    path.write_text("\n".join([*lines, "END", ""]))
    return path


def energy(system: MolecularSystem) -> float:
    context = openmm.Context(
        system.openmm_system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(system.positions)
    return float(context.getState(energy=True).getPotentialEnergy()._value)


def called(line: str, name: str) -> str:
    return f"{line[:12]}{name if len(name) == 4 else f' {name:<3}'}{line[16:]}"


def numbered(line: str, number: int, code: str = " ") -> str:
    return f"{line[:22]}{number:4d}{code}{line[27:]}"


def with_codes(line: str) -> str:
    return numbered(
        line, *{"2": (2, " "), "3": (2, "A"), "4": (2, "B")}.get(line[25], (int(line[22:26]), " "))
    )


def digit_first(line: str) -> str:
    name = line[12:16].strip()
    return called(line, name[-1] + name[:-1]) if name[0] == "H" and name[-1].isdigit() else line


def as_tleap(line: str) -> str:
    names = {"C": "CH3", "H1": "HH31", "H2": "HH32", "H3": "HH33"} if line[17:20] == "NME" else {}
    return called(line, names.get(line[12:16].strip(), line[12:16].strip()))


def side_chain_twice(line: str) -> Lines:
    if line[17:20] != "SER" or line[12:16].strip() not in ("CB", "OG", "HG", "HB2", "HB3"):
        return [line]
    return [
        f"{line[:16]}A{line[17:]}",
        f"{line[:16]}B{line[17:30]}{float(line[30:38]) + 0.3:8.3f}{line[38:]}",
    ]


WRITTEN: dict[str, Lines] = {
    "insertion codes": [with_codes(line) for line in ATOMS],
    "no elements": [line[:66] for line in ATOMS],
    "a unit cell": ["CRYST1   30.000   30.000   30.000  90.00  90.00  90.00 P 1           1", *ATOMS],
    "numbers below zero": [numbered(line, int(line[22:26]) - 4) for line in ATOMS],
    "line ends of Windows": [f"{line}\r" for line in ATOMS],
    "elements in lower case": [f"{line[:76]}{line[76:78].lower()}" for line in ATOMS],
    "one alternate location": [
        f"{line[:16]}{'B' if line[17:20] == 'SER' else ' '}{line[17:]}" for line in ATOMS
    ],
    "two alternate locations": [twin for line in ATOMS for twin in side_chain_twice(line)],
    "two models": ["MODEL        1", *ATOMS, "ENDMDL", "MODEL        2", *ATOMS, "ENDMDL"],
    "no chain but a segment": [f"{line[:21]} {line[22:72]}PROA{line[76:]}" for line in ATOMS],
    "hydrogens with the digit first": [digit_first(line) for line in ATOMS],
    "names of tleap": [as_tleap(line) for line in ATOMS],
    "a cap of Maestro": [line.replace("NME", "NMA") for line in ATOMS],
    "hydrogens below": sorted(ATOMS, key=is_hydrogen),
    "hydrogens after TER": [*(a for a in ATOMS if not is_hydrogen(a)), "TER", *filter(is_hydrogen, ATOMS)],
    "TER below every residue": [
        row for a, b in itertools.pairwise([*ATOMS, ""]) for row in [a, *["TER"] * (a[22:26] != b[22:26])]
    ],
    "chains of their own for caps": [
        f"{a[:21]}{ {'ACE': 'X', 'NME': 'Y'}.get(a[17:20], 'A') }{a[22:]}" for a in ATOMS
    ],
    "another order in residues": sorted(ATOMS, key=lambda line: (line[22:26], line[12:16])),
}
SAID = {
    "two alternate locations": "of the alternate locations A, B the first",
    "two models": "of 2 models the first",
    "hydrogens below": "atoms of 5 residues stood apart",
    "hydrogens after TER": "atoms of 5 residues stood apart",
    "TER below every residue": "chains that 4 peptide bonds join are read as one",
    "chains of their own for caps": "chains that 2 peptide bonds join are read as one",
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_the_same_molecule_however_it_is_written(kind: str, tmp_path: Path) -> None:
    plain = from_pdb(saved(tmp_path, ATOMS), FIELD, "plain")
    found = from_pdb(saved(tmp_path, WRITTEN[kind], "other.pdb"), FIELD, "other")
    assert energy(found) == pytest.approx(energy(plain), abs=0.05)  # of two minimisations
    assert SAID.get(kind, "") in " ".join(found.notices) and bool(found.notices) == (kind in SAID)
    assert {t.name[:3] for t in found_torsions(found)} == {"phi", "psi", "chi", "CA_"}


def test_insertion_codes_are_part_of_names(tmp_path: Path) -> None:
    found = from_pdb(saved(tmp_path, WRITTEN["insertion codes"]), FIELD, "my")
    assert {"phi_2", "phi_2A", "phi_2B"} <= {torsion.name for torsion in found_torsions(found)}


def as_mmcif(folder: Path, text: str, change: Callable[[app.Modeller], None] = lambda modeller: None) -> Path:
    pdb = app.PDBFile(io.StringIO(text))
    modeller = app.Modeller(pdb.topology, pdb.positions)
    change(modeller)
    path = folder / "my.cif"
    with path.open("w") as stream:
        app.PDBxFile.writeFile(modeller.topology, modeller.positions, stream)
    return path


@pytest.mark.parametrize(
    ("sequence", "old", "new", "charge"),
    [
        ("ACE-HIS-NME", "HIS", "HSD", 0),
        ("ALA-GLY", " ALA", "NALA", 0),
        ("ALA-GLY", "GLY ", "CGLY", 0),
        ("ACE-LYS-NME", "LYS", "LYS", 1),
    ],
)
def test_names_of_forms_and_ends(sequence: str, old: str, new: str, charge: int, tmp_path: Path) -> None:
    def renamed(line: str) -> str:
        name = line[17:21].replace(old.strip(), new) if old.strip() in line[17:20] else line[17:21]
        return f"{line[:17]}{name.strip():<4}{line[21:]}"

    lines = [renamed(line) for line in atoms_of(peptide_of_sequence(sequence, 7.0).pdb)]
    system = from_pdb(saved(tmp_path, lines), FIELD, "my")
    assert system.net_charge == pytest.approx(charge, abs=1e-6)
    assert any(new in label for label, _ in system.names_in_file) or new == old


def test_charged_ends_pass_the_checks_of_a_system(tmp_path: Path) -> None:
    """Impropers of their carboxylates depend on the order of the oxygens, which are equivalent."""
    path = tmp_path / "my.pdb"
    path.write_text(peptide_of_sequence("ALA-ALA", 7.0).pdb)
    result = check_system(from_pdb(path, FIELD, "my"))
    assert 1e-3 < result.exchange_error < 2.0


def test_a_hydrogen_that_lacks_is_put_in(tmp_path: Path) -> None:
    made = prepared(saved(tmp_path, [a for a in ATOMS if a[12:16].strip() != "HB2"]), 7.0)
    assert made is not None and made.added == ("2 hydrogens put in at pH 7",)


RING = Path(__file__).parents[2] / "cases" / "08-cyclic-d-residue" / "aaad.pdb"


def test_a_ring_is_whole_and_needs_its_bond(tmp_path: Path) -> None:
    assert prepared(RING, 7.0) is None
    for lines in (atoms_of(RING.read_text()), [a for a in atoms_of(RING.read_text()) if not is_hydrogen(a)]):
        with pytest.raises(
            UserError, match=r"C of ALA 4 and N of ALA 1 are 0.13 nm apart and not bonded; add a"
        ):
            prepared(saved(tmp_path, lines), 7.0)


def test_mmcif(tmp_path: Path) -> None:
    plain, found = (
        from_pdb(path, FIELD, "my") for path in (saved(tmp_path, ATOMS), as_mmcif(tmp_path, TEXT))
    )
    assert energy(found) == pytest.approx(energy(plain), abs=0.05)


def test_residues_of_an_mmcif_file_are_in_one_place(tmp_path: Path) -> None:
    path = as_mmcif(tmp_path, TEXT)
    rows = path.read_text().splitlines()
    atoms = [row for row in rows if row.startswith(("ATOM", "HETATM"))]
    first = rows.index(atoms[0])
    by_element = sorted(atoms, key=lambda row: row.split()[2] == "H")
    path.write_text("\n".join([*rows[:first], *by_element, *rows[first + len(atoms) :], ""]))
    with pytest.raises(UserError, match=r"my.cif: the atoms of ACE 1 are in 2 places of the file; put all"):
        prepared(path, 7.0)


@pytest.mark.parametrize(
    ("sequence", "name", "form", "charge"),
    [
        ("HIS", "HID", "with its hydrogen at ND1", 0),
        ("HIS", "HSE", "with its hydrogen at NE2", 0),
        ("HIS", "HIE", "with its hydrogen at NE2", 0),
        ("HIS", "HSP", "with hydrogens at both nitrogens", 1),
        ("HIS", "NHIE", "with its hydrogen at NE2", 0),
        ("ASP", "ASH", "with its hydrogen", 0),
        ("GLU", "GLH", "with its hydrogen", 0),
        ("LYS", "LYN", "without charge", 0),
        ("LYS", "LYS", "", 1),
        ("ASP", "ASP", "", -1),
    ],
)
def test_names_say_which_form_is_meant(
    sequence: str, name: str, form: str, charge: int, tmp_path: Path
) -> None:
    lines = [line.replace(f"{sequence} ", f"{name:<4}") for line in heavy(f"ACE-{sequence}-NME")]
    made = prepared(saved(tmp_path, lines), 7.0)
    assert made is not None and form in made.added[-1]
    whole = tmp_path / "whole.pdb"
    whole.write_text(made.pdb)
    assert from_pdb(whole, FIELD, "my").net_charge == pytest.approx(charge, abs=1e-6)


@pytest.fixture(scope="module")
def disulfide() -> str:
    """ACE-CYS-GLY-GLY-CYS-NME with its sulfurs at a bond's length, without their hydrogens."""
    pdb = app.PDBFile(io.StringIO(peptide_of_sequence("ACE-CYS-GLY-GLY-CYS-NME", 7.0).pdb))
    modeller = app.Modeller(pdb.topology, pdb.positions)
    modeller.delete([atom for atom in pdb.topology.atoms() if atom.name == "HG"])
    system = app.ForceField(*FIELD).createSystem(modeller.topology)  # thiolates, as there is no bond yet
    one, other = (atom.index for atom in modeller.topology.atoms() if atom.name == "SG")
    nonbonded = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    nonbonded.addException(one, other, 0.0, 0.1, 0.0)
    bond = openmm.HarmonicBondForce()
    bond.addBond(one, other, 0.204, 1e5)
    system.addForce(bond)
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(modeller.positions)
    openmm.LocalEnergyMinimizer.minimize(context)
    text = io.StringIO()
    app.PDBFile.writeFile(modeller.topology, context.getState(positions=True).getPositions(), text)
    return text.getvalue()


def test_disulfides_however_they_are_written(disulfide: str, tmp_path: Path) -> None:
    lines = atoms_of(disulfide)
    serials = [int(line[6:11]) for line in lines if line[12:16].strip() == "SG"]
    conect = "CONECT{:5d}{:5d}".format(*serials)
    ssbond = "SSBOND   1 CYS A    2    CYS A    5                          1555   1555  2.04"
    files = [
        saved(tmp_path, lines, "plain.pdb"),
        saved(tmp_path, [*lines, conect], "conect.pdb"),
        saved(tmp_path, [ssbond, *lines], "ssbond.pdb"),
        saved(tmp_path, [line.replace("CYS", "CYX") for line in lines], "cyx.pdb"),
        as_mmcif(tmp_path, disulfide),
    ]
    systems = [from_pdb(path, FIELD, "my") for path in files]
    energies = [energy(system) for system in systems]
    assert energies == pytest.approx([energies[0]] * len(files), abs=0.05)
    for system in systems:
        sulfur = [{a.name, b.name} for a, b in system.topology.bonds()].count({"SG"})
        assert sulfur == 1 and system.net_charge == pytest.approx(0.0, abs=1e-6) and not system.notices


def test_disulfides_that_are_not_there(disulfide: str, tmp_path: Path) -> None:
    lines = atoms_of(peptide_of_sequence("ACE-CYS-GLY-GLY-CYS-NME", 7.0).pdb)
    ssbond = "SSBOND   1 CYS A    2    CYS A    5                          1555   1555  2.04"
    with pytest.raises(UserError, match=r"names 1 disulfides \(SSBOND\), and 0 pairs of sulfur are bonded"):
        from_pdb(saved(tmp_path, [ssbond, *lines]), FIELD, "my")
    hydrogens = [
        called(f"{a[:30]}{float(a[30:38]) + 1.3:8.3f}{a[38:76]} H", "HG")
        for a in atoms_of(disulfide)
        if a[12:16].strip() == "SG"
    ]
    with pytest.raises(UserError, match=r"SG of CYS 2 and SG of CYS 5 are 0.2 nm apart and not bonded; take"):
        from_pdb(saved(tmp_path, [*atoms_of(disulfide), *hydrogens]), FIELD, "my")


def test_heavy_atoms_of_a_disulfide_are_completed(disulfide: str, tmp_path: Path) -> None:
    made = prepared(saved(tmp_path, [a for a in atoms_of(disulfide) if not is_hydrogen(a)]), 7.0)
    assert made is not None and "CYS 2 is in a disulfide and CYS 5 is in a disulfide" in made.added[-1]


def test_a_cysteine_without_hydrogen_or_bond_is_said_or_refused(tmp_path: Path) -> None:
    lines = [a for a in atoms_of(peptide_of_sequence("ACE-CYS-NME", 7.0).pdb) if a[12:16].strip() != "HG"]
    system = from_pdb(saved(tmp_path, lines), FIELD, "my")
    assert "CYS 2 has no HG and no disulfide, and is a thiolate" in system.notices[-1]
    assert system.net_charge == pytest.approx(-1.0, abs=1e-6)
    with pytest.raises(
        UserError, match=r"CYX 2 is named as in a disulfide, and no other sulfur is near; mend"
    ):
        from_pdb(saved(tmp_path, [line.replace("CYS", "CYX") for line in lines]), FIELD, "my")


def at(line: str, where: str) -> str:
    return f"{line[:30]}{where:>24}{line[54:]}"


def hetero(name: str, element: str, residue: str = "", number: int = 9) -> str:
    where = f"{residue or name:>3} A{number:4d}       5.000   9.000   9.000"
    return f"HETATM   41 {name:>4} {where}  1.00  0.00{element:>12}"


def moved(line: str) -> str:
    return f"{line[:21]}B{line[22:30]}{float(line[30:38]) + 20.0:8.3f}{line[38:]}"


REFUSED: dict[str, tuple[Lines | bytes, str]] = {
    "two molecules": (
        [*ATOMS, "TER", *map(moved, ATOMS)],
        "holds 2 molecules, which begin at ACE 1 of chain A",
    ),
    "zinc": ([*ATOMS, hetero("ZN", "ZN")], "holds 1 ions (ZN 9); take out all but the molecule"),
    "sodium": ([*ATOMS, hetero("NA", "NA")], "holds 1 ions (NA 9)"),
    "water": ([*ATOMS, hetero("O", "O", "HOH")], "holds 1 molecules of water"),
    "no number": ([*ATOMS[:3], at(ATOMS[3], "nan   0.000   0.000"), *ATOMS[4:]], "line 4 has no coordinates"),
    "stars": ([*ATOMS[:3], at(ATOMS[3], "*" * 24), *ATOMS[4:]], "line 4 has no coordinates"),
    "one place": ([at(line, "0.000   0.000   0.000") for line in ATOMS], "are in one place"),
    "cut off": (ATOMS[:17], "SER 3 lacks CA and C of its backbone, as where a file was cut off"),
    "a trace": (
        [line for line in ATOMS if line[12:16].strip() == "CA"],
        "ALA 2 lacks N and C of its backbone",
    ),
    "a gap": (
        [line for line in ATOMS if line[17:20] != "SER"],
        "C of ALA 2 - N of GLY 4 are bonded and 0.43 nm",
    ),
    "unknown residue": ([line.replace("SER", "XYZ") for line in ATOMS], "the residue XYZ 3 is unknown to"),
    "phosphoserine": ([line.replace("SER", "SEP") for line in ATOMS], "the residue SEP 3 is unknown to"),
    "selenium": (
        [line.replace("ALA", "MSE").replace(" CB  MSE", "SE   MSE") for line in ATOMS],
        "the residue MSE 2 is unknown to",
    ),
    "the same atom twice": ([*ATOMS[:10], *ATOMS[9:]], "2 atoms of ALA 2 are called HA"),
    "an extra point": (
        [*ATOMS[:10], hetero("EP", "", "ALA", 2), *ATOMS[10:]],
        "has EP",
    ),
    "binary": (b"\x00\x01\x02" * 100, "is a binary file; give the structure as PDB or mmCIF"),
    "gzip": (gzip.compress(TEXT.encode()), "is compressed by gzip; unpack it with gunzip"),
    "empty": (b"", "is an empty file; write it again"),
    "prose": (b"A peptide of three residues.\n", "is a text file"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_in_a_line(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, told = REFUSED[kind]
    path = Path("my.pdb")
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        saved(tmp_path, content)
    with pytest.raises(UserError) as caught:
        write_workflow("mine", [path], Wanted())
    assert told in str(caught.value) and "my.pdb" in str(caught.value) and "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["my.pdb"]


def test_d_residues_with_missing_atoms_stay_d(tmp_path: Path) -> None:
    """The mirror image of threonine without a methyl group: both of its centres are mirrored."""
    lines = [f"{a[:46]}{-float(a[46:54]):8.3f}{a[54:]}" for a in heavy("ACE-THR-NME") if a[12:16] != " CG2"]
    made = prepared(saved(tmp_path, lines), 7.0)
    assert made is not None
    pdb = app.PDBFile(io.StringIO(made.pdb))
    place = {
        a.name: np.array(pdb.positions[a.index]._value)
        for a in pdb.topology.atoms()
        if a.residue.name == "THR"
    }
    for centre, around in (("CA", ("N", "C", "CB")), ("CB", ("CA", "OG1", "CG2"))):
        assert np.linalg.det([place[name] - place[centre] for name in around]) < -1e-3
