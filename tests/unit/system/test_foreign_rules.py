"""Files of other programs where their rules are not OpenMM's: pairs, elements, order of atoms, formats."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import app

from boltzgen.errors import MolecularSystemError
from boltzgen.system.builders.build import from_files
from boltzgen.system.builders.file_kinds import CHARMM_PARAMETERS, kind_of
from boltzgen.system.builders.inputs import InputOptions
from boltzgen.system.molecular_system import MolecularSystem

DATA = Path(__file__).parents[2] / "data" / "formats"
CASES = Path(__file__).parents[2] / "cases"
TOP, GRO = (DATA / "amber.top").read_text(), (DATA / "amber.gro").read_text()
PSF, CRD, PRM = ((DATA / f"charmm.{suffix}").read_text() for suffix in ("psf", "crd", "prm"))
PRMTOP = CASES / "11-amber-prmtop" / "alanine-dipeptide.prmtop"
PDB = CASES / "23-cmap-force-field" / "adp.pdb"
VACUUM = InputOptions("vacuum")


@pytest.fixture
def built(tmp_path: Path) -> Callable[..., MolecularSystem]:
    """The molecule of files, given as paths or by name and text."""

    def build(*files: Path, options: InputOptions = VACUUM, **texts: str) -> MolecularSystem:
        paths = [tmp_path / name.replace("_", ".") for name in texts]
        for path, text in zip(paths, texts.values(), strict=True):
            path.write_text(text)
        return from_files([*files, *paths], "my", options=options)

    return build


def energy(system: MolecularSystem, positions: np.ndarray) -> float:
    context = openmm.Context(
        system.openmm_system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(positions)
    return float(context.getState(energy=True).getPotentialEnergy()._value)


Build = Callable[..., MolecularSystem]


def test_what_is_not_among_pairs_does_not_interact(built: Build) -> None:
    """Against the pair's own energy by GROMACS's rules: half of Lennard-Jones, 5/6 of Coulomb."""
    whole = built(my_top=TOP, my_gro=GRO)
    pair = re.search(r"^ +(\d+) +(\d+) +1$", TOP.split("[ pairs ]")[1], re.MULTILINE)
    assert pair is not None
    i, j = (int(number) - 1 for number in pair.groups())
    without = built(my_top=TOP.replace(f"{pair.group()}\n", "", 1), my_gro=GRO)
    assert "1 pairs over three bonds are not among [ pairs ]" in without.notices[0]
    force = next(f for f in whole.openmm_system.getForces() if isinstance(f, openmm.NonbondedForce))
    (q, s, e), (p, t, f) = ([x._value for x in force.getParticleParameters(k)] for k in (i, j))
    r = float(np.linalg.norm(whole.positions[i] - whole.positions[j]))
    sixth = (0.5 * (s + t) / r) ** 6
    expected = 0.83333333 * 138.935456 * q * p / r + 0.5 * 4.0 * np.sqrt(e * f) * (sixth**2 - sixth)
    found = energy(whole, whole.positions) - energy(without, whole.positions)
    assert abs(expected) > 0.1 and found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("system1          3", "system1          2", "excludes neighbours over 2 bonds (nrexcl of system1)"),
        (
            "[ system ]",
            "[ angle_restraints ]\n5 7 9 15 1 60 9 1\n[ system ]",
            "has [ angle_restraints ]",
        ),
        ("[ bonds ]", "[ constraints ]\n      2      3     1   0.10900\n[ xbonds ]", "has [ xbonds ]"),
    ],
)
def test_what_the_reader_would_pass_over_is_refused(old: str, new: str, told: str, built: Build) -> None:
    assert old in TOP
    with pytest.raises(MolecularSystemError, match=re.escape(told)):
        built(my_top=TOP.replace(old, new, 1), my_gro=GRO)


def test_constraints_in_place_of_bonds_are_refused(built: Build) -> None:
    before, bonds = TOP.split("[ bonds ]")
    bonds, after = bonds.split("[ pairs ]")
    of_hydrogen = re.compile(r"^( +\d+ +\d+ +1 +0\.1[01]\d+) +\d+\.\d+$")
    held = [found.group(1) for line in bonds.splitlines() if (found := of_hydrogen.match(line))]
    kept = [line for line in bonds.splitlines() if not of_hydrogen.match(line)]
    text = "\n".join([before, "[ bonds ]", *kept, "[ constraints ]", *held, "[ pairs ]", after])
    assert len(held) > 8
    with pytest.raises(MolecularSystemError, match=r"has \[ constraints \] in place of bonds of system1"):
        built(my_top=text, my_gro=GRO)


def test_restraints_to_places_are_left_out_and_said(built: Build) -> None:
    text = TOP.replace("[ system ]", "[ position_restraints ]\n1 1 1000 1000 1000\n[ system ]")
    assert built(my_top=text, my_gro=GRO).notices == (
        f"{built.__closure__[0].cell_contents / 'my.top'}: its [ position_restraints ] are left out",
    )


@pytest.mark.parametrize("number", ["0", ""])
def test_elements_are_those_of_the_masses(number: str, built: Build) -> None:
    """Without atomic numbers the methyl carbon CH3 and nitrogens called NA would be something else."""
    plain = built(my_top=TOP, my_gro=GRO, options=InputOptions("OBC2"))
    head, rest = TOP.split("[ moleculetype ]")
    types = re.sub(r"^(\w+ +)\d+(  +\d+\.\d+)", rf"\g<1>{number or ' '}\g<2>", head, flags=re.MULTILINE)
    named = rest.replace("     N      7", "    NA      7")
    found = built(
        my_top=f"{types}[ moleculetype ]{named}",
        my_gro=GRO.replace("2ALA      N", "2ALA     NA"),
        options=InputOptions("OBC2"),
    )
    assert [a.element for a in found.topology.atoms()] == [a.element for a in plain.topology.atoms()]
    assert energy(found, plain.positions) == pytest.approx(energy(plain, plain.positions), rel=1e-9)
    assert "elements are told by masses" in found.notices[0]
    assert number == "0" or "NA is N" in found.notices[0]


def test_parts_of_a_topology_may_be_named_too(built: Build) -> None:
    molecule = f"[ moleculetype ]{TOP.split('[ moleculetype ]')[1].split('[ system ]')[0]}"
    text = TOP.replace(molecule, '#include "mine.itp"\n')
    assert built(my_top=text, mine_itp=molecule, my_gro=GRO).n_atoms == 22


def exchanged(text: str, one: str, other: str) -> str:
    """Two lines of a file in each other's place, told by what they hold."""
    lines = text.splitlines()
    i, j = (next(k for k, line in enumerate(lines) if part in line) for part in (one, other))
    lines[i], lines[j] = lines[j], lines[i]
    return "\n".join([*lines, ""])


def test_another_order_of_atoms_is_told_by_names(built: Build) -> None:
    with pytest.raises(MolecularSystemError, match=r"my.gro: atom 9 is HB1, and in .* it is HA of ALA 2"):
        built(my_top=TOP, my_gro=exchanged(GRO, "2ALA     HA", "2ALA    HB1"))
    crd = exchanged(CRD, "ALA       HA ", "ALA       HB1")
    with pytest.raises(MolecularSystemError, match=r"my.crd: atom 9 is HB1, and in .* it is HA of ALA 2"):
        built(my_psf=PSF, my_crd=crd, my_prm=PRM)
    assert built(my_top=TOP, my_gro=exchanged(GRO, "2ALA    HB2", "2ALA    HB1")).n_atoms == 22


def test_another_order_of_atoms_beside_a_system_is_told_by_bonds(tmp_path: Path, built: Build) -> None:
    pdb = app.PDBFile(str(PDB))
    system = app.ForceField("amber99sbildn.xml").createSystem(pdb.topology)
    other = exchanged(PDB.read_text(), " HA  ALA", " HB1 ALA")
    assert other != PDB.read_text()
    xml = openmm.XmlSerializer.serialize(system)
    with pytest.raises(MolecularSystemError, match=r"has no bond CA - HA of ALA 2, which the structure has"):
        built(my_xml=xml, my_pdb=other, options=InputOptions())
    system.addForce(openmm.CustomExternalForce("x"))
    with pytest.raises(MolecularSystemError, match="has a CustomExternalForce, which holds atoms to places"):
        built(PDB, my_xml=openmm.XmlSerializer.serialize(system), options=InputOptions())


def test_coordinates_of_another_molecule_are_told_by_lengths(built: Build) -> None:
    """As many atoms without names: bonds between what is not bonded."""
    restart = PRMTOP.with_suffix(".crd").read_text().splitlines()
    rows = re.findall(r".{12}", "".join(restart[2:]))
    assert len(rows) == 66
    turned = [*rows[33:], *rows[:33]]
    body = ["".join(turned[k : k + 6]) for k in range(0, 66, 6)]
    with pytest.raises(MolecularSystemError, match=r"in another order|in one place|times as long"):
        built(PRMTOP, my_rst7="\n".join([*restart[:2], *body, ""]))


@pytest.mark.parametrize("decimals", [2, 4, 6])
def test_any_number_of_decimals_in_gro_files(decimals: int, built: Build) -> None:
    lines = GRO.splitlines()
    rows = [
        row[:20] + "".join(f"{float(row[k : k + 8]):{decimals + 5}.{decimals}f}" for k in (20, 28, 36))
        for row in lines[2:-1]
    ]
    text = "\n".join([*lines[:2], *rows, lines[-1], ""])
    found, plain = built(my_top=TOP, my_gro=text), built(my_top=TOP, my_gro=GRO)
    assert energy(found, found.positions) == pytest.approx(energy(plain, plain.positions), abs=0.05)


def test_the_first_of_several_frames_and_models_is_said(built: Build) -> None:
    assert "of 2 frames the first is taken" in built(my_top=TOP, my_gro=GRO + GRO).notices[0]
    atoms = [line for line in PDB.read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]
    models = ["MODEL        1", *atoms, "ENDMDL", "MODEL        2", *atoms, "ENDMDL", "END", ""]
    assert (
        "of 2 models the first is taken" in built(my_psf=PSF, my_pdb="\n".join(models), my_prm=PRM).notices[0]
    )


def test_coordinates_of_namd(tmp_path: Path, built: Build) -> None:
    plain = built(my_psf=PSF, my_crd=CRD, my_prm=PRM)
    path = tmp_path / "my.coor"
    read = np.array(app.CharmmCrdFile(str(DATA / "charmm.crd")).positions._value)
    path.write_bytes(np.int32(22).tobytes() + read.astype("<f8").tobytes())
    (tmp_path / "my.crd").unlink()
    found = built(path, my_psf=PSF, my_prm=PRM)
    assert energy(found, found.positions) == pytest.approx(energy(plain, plain.positions), abs=0.05)


def test_parameters_of_charmm_without_a_title(built: Build) -> None:
    text = "".join(line for line in PRM.splitlines(keepends=True) if not line.startswith("*"))
    assert built(my_psf=PSF, my_crd=CRD, my_prm=f"! mine\n{text}").n_atoms == 22


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            {"my_top": TOP, "my_gro": GRO.replace("0.200   0.100", "  nan   0.100", 1)},
            "my.gro: has positions",
        ),
        ({"my_psf": f"{PSF}\n   2   6 !NUMLP NUMLPH\n", "my_crd": CRD, "my_prm": PRM}, "has 2 lone pairs"),
    ],
)
def test_what_is_named_in_a_line(files: dict[str, str], told: str, built: Build) -> None:
    with pytest.raises(MolecularSystemError) as caught:
        built(**files)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_forces_that_cannot_be_evaluated_name_the_file(tmp_path: Path, built: Build) -> None:
    radii = re.compile(r"(%FLAG RADII\s+%FORMAT.*\n)( +\S+){5}")
    text = radii.sub(r"\1" + "  0.00000000E+00" * 5, PRMTOP.read_text())
    with pytest.raises(MolecularSystemError, match=r"my.prmtop: gives forces .* cannot evaluate \(.*radius"):
        built(PRMTOP.with_suffix(".crd"), my_prmtop=text, options=InputOptions("OBC2"))


def test_blank_lines_do_not_keep_a_reader_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "blank.txt"
    path.write_text("\n" * 10_000 + "nothing\n")
    assert kind_of(path).name == "a text file"
    path.write_text("\n" * 100 + "! mine\n\nATOMS\n")
    assert kind_of(path) is CHARMM_PARAMETERS
