"""Molecules from the files of other programs: the same energies from each, and what is refused."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import app, unit

from boltzgen.errors import MolecularSystemError
from boltzgen.system.builders.build import from_amber, from_files, from_pdb
from boltzgen.system.builders.inputs import InputOptions
from boltzgen.system.builders.solvents import MODELS
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system

DATA = Path(__file__).parents[2] / "data" / "formats"
CASES = Path(__file__).parents[2] / "cases"
PRMTOP = CASES / "11-amber-prmtop" / "alanine-dipeptide.prmtop"
CRD, RST7 = PRMTOP.with_suffix(".crd"), PRMTOP.with_name("adp.rst7")
TOP, GRO = DATA / "amber.top", DATA / "amber.gro"
PSF, CHARMM_CRD, PRM = DATA / "charmm.psf", DATA / "charmm.crd", DATA / "charmm.prm"
PDB = CASES / "23-cmap-force-field" / "adp.pdb"


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """No warning of Python reaches anybody."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def energies(system: MolecularSystem, positions: np.ndarray) -> dict[str, float]:
    """Energy [kJ/mol] of each kind of force, the non-bonded ones together."""
    ours = openmm.XmlSerializer.clone(system.openmm_system)
    for group, force in enumerate(ours.getForces()):
        force.setForceGroup(group)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(ours, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(positions)
    found: dict[str, float] = defaultdict(float)
    for group, force in enumerate(ours.getForces()):
        kind = type(force).__name__
        # LJ of CHARMM's XML is a custom force, and OBC2 of Amber's reader one of its own.
        kind = "NonbondedForce" if kind in ("CustomNonbondedForce", "CustomBondForce") else kind
        kind = "CustomGBForce" if kind == "GBSAOBCForce" else kind
        found[kind] += context.getState(energy=True, groups={group}).getPotentialEnergy()._value
    return dict(found)


def refusal(*files: Path, options: InputOptions | None = None) -> str:
    with pytest.raises(MolecularSystemError) as caught:
        from_files(files, "my", options=options or InputOptions())
    assert "\n" not in str(caught.value) and caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize("solvent", [None, *(name for name in MODELS if name not in ("HCT", "GBn"))])
def test_gromacs_and_amber_give_the_same_energies(solvent: str | None) -> None:
    theirs = from_amber(PRMTOP, CRD, "my", solvent)
    ours = from_files([GRO, TOP], "my", options=InputOptions(solvent))
    expected = energies(theirs, theirs.positions)
    assert energies(ours, theirs.positions) == pytest.approx(expected, rel=1e-6)
    assert ours.graph.edges == theirs.graph.edges


def test_amber_and_its_force_field_give_the_same_energies() -> None:
    """Of the library of the prmtop (ff96) OpenMM ships the XML."""
    theirs = from_amber(PRMTOP, CRD, "my")
    ours = from_files([PDB], "my", options=InputOptions(forcefield=("amber96.xml",)))
    order = [
        next(
            b.index for b in theirs.topology.atoms() if (b.residue.index, b.name) == (a.residue.index, a.name)
        )
        for a in ours.topology.atoms()
    ]
    positions = theirs.positions
    assert energies(ours, positions[order]) == pytest.approx(energies(theirs, positions), rel=1e-5)


def test_charmm_gives_the_energies_of_its_force_field() -> None:
    theirs = from_pdb(PDB, ["charmm36.xml"], "my")
    expected = energies(theirs, theirs.positions)
    ours = from_files([PRM, CHARMM_CRD, PSF], "my")
    assert energies(ours, theirs.positions) == pytest.approx(expected, rel=1e-5)
    assert {"CMAPTorsionForce", "CustomTorsionForce"} <= expected.keys()
    solvated = from_files([PSF, PDB, PRM], "my", options=InputOptions("obc2"))
    assert energies(solvated, theirs.positions)["CustomGBForce"] < -10.0


def test_a_cutoff_is_the_one_asked_for() -> None:
    ours = from_files([TOP, GRO], "my", options=InputOptions("OBC2", nonbonded_cutoff_nm=1.5))
    theirs = from_amber(PRMTOP, CRD, "my", "OBC2", nonbonded_cutoff_nm=1.5)
    assert energies(ours, theirs.positions) == pytest.approx(energies(theirs, theirs.positions), rel=1e-6)


# ---- OpenMM Systems ----------------------------------------------------------------------------------


@pytest.fixture
def xml(tmp_path: Path) -> Path:
    return tmp_path / "system.xml"


def made(xml: Path, **options: object) -> openmm.System:
    """A System of the structure, kept as XML."""
    pdb = app.PDBFile(str(PDB))
    pdb.topology.setUnitCellDimensions(openmm.Vec3(3, 3, 3) * unit.nanometer)
    system = app.ForceField("amber99sbildn.xml").createSystem(pdb.topology, **options)
    return kept(xml, system)


def kept(xml: Path, system: openmm.System) -> openmm.System:
    xml.write_text(openmm.XmlSerializer.serialize(system))
    return system


def test_a_system_is_taken_as_it_is(xml: Path) -> None:
    theirs = from_pdb(PDB, ["amber99sbildn.xml"], "my")
    kept(xml, theirs.openmm_system)
    ours = from_files([PDB, xml], "my")
    expected = energies(theirs, theirs.positions)
    assert energies(ours, theirs.positions) == pytest.approx(expected, rel=1e-12)
    assert ours.notices == () and ours.graph.edges == theirs.graph.edges


MEMBRANE = openmm.MonteCarloMembraneBarostat
BAROSTATS = [
    openmm.MonteCarloBarostat(1.0, 300.0),
    openmm.MonteCarloAnisotropicBarostat(openmm.Vec3(1.0, 1.0, 1.0), 300.0),
    MEMBRANE(1.0, 0.0, 300.0, MEMBRANE.XYIsotropic, MEMBRANE.ZFree),
]


@pytest.mark.parametrize("barostat", BAROSTATS, ids=lambda barostat: barostat.getName())
def test_a_system_loses_its_box_its_barostat_and_its_constraints_and_says_so(
    barostat: openmm.Force, xml: Path
) -> None:
    theirs = from_pdb(PDB, ["amber99sbildn.xml"], "my")
    system = made(
        xml, nonbondedMethod=app.PME, constraints=app.HBonds, flexibleConstraints=True, rigidWater=False
    )
    assert system.getNumConstraints() and system.usesPeriodicBoundaryConditions()
    system.addForce(openmm.XmlSerializer.clone(barostat))
    kept(xml, system)
    ours = from_files([xml, PDB], "my")
    expected = energies(theirs, theirs.positions)
    assert energies(ours, theirs.positions) == pytest.approx(expected, rel=1e-9)
    told = " ".join(ours.notices)
    assert barostat.getName() in told and "periodic box" in told and "12 constrained bonds" in told


def test_systems_that_cannot_be_used(xml: Path, tmp_path: Path) -> None:
    made(xml, constraints=app.HBonds)
    assert "is constrained and has no density" in refusal(xml, PDB)
    made(xml)
    assert "needs the structure that it is of" in refusal(xml)
    assert "leave implicit_solvent out" in refusal(xml, PDB, options=InputOptions("OBC2"))
    assert "leave nonbonded_cutoff_nm out" in refusal(xml, PDB, options=InputOptions(None, 1.0))
    lines = [line for line in PDB.read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]
    short, swapped = tmp_path / "short.pdb", tmp_path / "swapped.pdb"
    short.write_text("\n".join([*lines[:-1], "END", ""]))
    swapped.write_text("\n".join([lines[1], lines[0], *lines[2:], "END", ""]))
    assert "short.pdb: has 21 atoms, and" in refusal(xml, short)
    assert "Da, and in the structure it is" in refusal(xml, swapped)
    xml.write_text(xml.read_text()[:2000])
    assert "is an OpenMM System that cannot be read" in refusal(xml, PDB)


def test_masses_may_be_shared_with_hydrogens(xml: Path) -> None:
    made(xml, hydrogenMass=4.0 * unit.dalton)
    assert from_files([xml, PDB], "my").n_atoms == 22


# ---- what is refused ---------------------------------------------------------------------------------


def changed(folder: Path, path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    (folder / path.name).write_text(text.replace(old, new, 1))
    return folder / path.name


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    assert "names no file" in refusal()
    assert f"{TOP}: describes a molecule as {PRMTOP} does" in refusal(PRMTOP, TOP, CRD)
    assert "give what describes the molecule too: a PDB file," in refusal(GRO)
    assert "comes without coordinates" in refusal(PRMTOP)
    assert "both belong to" in refusal(PRMTOP, CRD, RST7)
    assert "coordinates (a PDB" in refusal(PRMTOP, PRM)
    assert "comes without parameters" in refusal(PSF, CHARMM_CRD)
    assert "unknown implicit_solvent TIP3P; use one of HCT" in refusal(
        TOP, GRO, options=InputOptions("TIP3P")
    )
    assert "name the solvent among the force fields" in refusal(PDB, options=InputOptions("OBC2"))
    missing = changed(tmp_path, PRM, "X0     X1     X2 ", "X0     X1     Y2 ")
    assert "needs parameters that are not in charmm.prm" in refusal(PSF, CHARMM_CRD, missing)


def test_gromacs_files_that_cannot_be_used(tmp_path: Path) -> None:
    include = changed(tmp_path, TOP, "[ defaults ]", '#include "mine.ff/forcefield.itp"\n[ defaults ]')
    assert "includes mine.ff/forcefield.itp, which is neither" in refusal(include, GRO)
    order = changed(tmp_path, GRO, "  CH3", "   CX").read_text().replace("    C ", "  CH3 ", 1)
    (tmp_path / GRO.name).write_text(order.replace("   CX", "    C", 1))
    assert "atom 1 is C, and in" in refusal(TOP, tmp_path / GRO.name)
    cut = tmp_path / "cut.top"
    cut.write_text(TOP.read_text()[:3000])
    assert "cut.top" in refusal(cut, GRO)


def test_a_workflow_names_files_in_any_way() -> None:
    base = Path(__file__).parents[3]
    files = [str(path.relative_to(base)) for path in (GRO, TOP)]
    one = load_system("molecule", {"files": files, "implicit_solvent": "gbn2"}, base)
    other = load_system("molecule", {"gro": files[0], "top": files[1], "implicit_solvent": "GBn2"}, base)
    assert one.name == "amber" and energies(one, one.positions) == energies(other, one.positions)


def test_what_is_around_a_molecule_is_refused(tmp_path: Path) -> None:
    lines = [line for line in PDB.read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]
    ion = "HETATM   23 NA    NA B   4       9.000   9.000   9.000  1.00  0.00          NA"
    atoms = [(" O", 0.0, "O"), (" H1", 0.9, "H"), (" H2", -0.9, "H")]
    water = [
        f"HETATM{24 + k:5d} {name:4s} HOH C   5    {9 + x:8.3f}   0.000   0.000  1.00  0.00{element:>12}"
        for k, (name, x, element) in enumerate(atoms)
    ]
    path = tmp_path / "wet.pdb"
    path.write_text("\n".join([*lines, ion, *water, "END", ""]))
    line = refusal(path, options=InputOptions(forcefield=("amber99sbildn.xml",)))
    assert "wet.pdb: holds 1 molecules of water and 1 ions (NA 4 of chain B); take out" in line
    two = changed(tmp_path, TOP, "system1              1", "system1              2")
    assert "holds 2 molecules, which begin at ACE" in refusal(two, GRO)
