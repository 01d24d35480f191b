"""PDB files that OpenMM, MDTraj, MDAnalysis and ``from_pdb`` read with the bonds of the molecule."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import MDAnalysis
import mdtraj
import numpy as np
import pytest
from openmm import app

from boltzgen.system.builders import build
from boltzgen.system.builders.structure_files import write_pdb
from boltzgen.system.registry import load_system

Pairs = set[tuple[int, int]]
ALANINE = ("N", "H", "CA", "HA", "CB", "HB1", "HB2", "HB3", "C", "O")
CYSTEINE = ("N", "H", "CA", "HA", "CB", "HB2", "HB3", "SG", "C", "O")
LYSINE = ("N", "CA", "C", "O", "CB", "CG", "CD", "CE", "NZ")
ASPARTATE = ("N", "CA", "C", "O", "CB", "CG", "OD1")


def topology_of(*residues: tuple[str, Sequence[str]], standard: bool = True) -> app.Topology:
    """Residues of one chain with the bonds that OpenMM knows for them."""
    topology = app.Topology()
    chain = topology.addChain("A")
    for name, atoms in residues:
        residue = topology.addResidue(name, chain)
        for atom in atoms:
            known = atom[:1] in tuple("CHNOSF")
            topology.addAtom(atom, app.Element.getBySymbol(atom[0]) if known else None, residue)
    if standard:
        topology.createStandardBonds()
    return topology


def joined(topology: app.Topology, *bonds: tuple[int, int]) -> app.Topology:
    atoms = list(topology.atoms())
    for i, j in bonds:
        topology.addBond(atoms[i], atoms[j])
    return topology


def ring() -> app.Topology:
    return joined(topology_of(*[("ALA", ALANINE)] * 4), (38, 0))


def disulfide() -> app.Topology:
    return joined(topology_of(("CYS", CYSTEINE), ("ALA", ALANINE), ("CYS", CYSTEINE)), (7, 27))


def lasso() -> app.Topology:
    return joined(topology_of(("LYS", LYSINE), ("ALA", ALANINE), ("ASP", ASPARTATE)), (8, 24))


def ethane() -> app.Topology:
    atoms = ("C1", "C2", *(f"H{k}" for k in range(1, 7)))
    bonds = [(0, 1), *((k // 5, k) for k in range(2, 8))]
    return joined(topology_of(("ETA", atoms)), *bonds)


def six_bonds() -> app.Topology:
    return joined(
        topology_of(("SF6", ("S", *(f"F{k}" for k in range(1, 7))))), *((0, k) for k in range(1, 7))
    )


def one_name() -> app.Topology:
    """Twelve carbons called C in a residue that already has a C2."""
    return joined(topology_of(("LIG", ["C"] * 12 + ["C2"])), *((k, k + 1) for k in range(12)))


def long_names() -> app.Topology:
    """Names of atoms and residues that differ behind their fourth letter only."""
    atoms = ("CARBON1", "CARBON2", "HYDROGEN")
    return joined(topology_of(("LIGAND_A", atoms), ("LIGAND_B", atoms)), (0, 1), (0, 2), (3, 4), (0, 3))


def no_names() -> app.Topology:
    return joined(topology_of(("", ("", "", ""))), (0, 1), (1, 2))


def beads() -> app.Topology:
    return joined(topology_of(("LJ", ["X"] * 5)), *((k, k + 1) for k in range(4)))


def one_number() -> app.Topology:
    """Residues of one name that their insertion code alone tells apart."""
    topology = app.Topology()
    chain = topology.addChain("A")
    for code in ("", "A", "B"):
        residue = topology.addResidue("LIG", chain, "52", code)
        for name in ("C1", "O1"):
            topology.addAtom(name, app.Element.getBySymbol(name[0]), residue)
    return joined(topology, (0, 1), (2, 3), (4, 5), (1, 2), (3, 4))


def many_chains() -> app.Topology:
    """More chains than there are letters, some of the same name, the last bonded to the first."""
    topology = app.Topology()
    for k in range(30):
        residue = topology.addResidue("LIG", topology.addChain(("", "AA", "AB")[k % 3]), "-1234")
        for name in ("C1", "C2"):
            topology.addAtom(name, app.Element.getBySymbol("C"), residue)
    return joined(topology, *((2 * k, 2 * k + 1) for k in range(30)), (0, 59))


def two_peptides() -> app.Topology:
    """Two molecules in one chain, as OpenMM reads an Amber topology; a reader would join them."""
    whole, topology = topology_of(*[("ALA", ALANINE)] * 4), app.Topology()
    chain = topology.addChain("A")
    for residue in whole.residues():
        copy = topology.addResidue(residue.name, chain)
        for atom in residue.atoms():
            topology.addAtom(atom.name, atom.element, copy)
    pairs = [(a.index, b.index) for a, b in whole.bonds()]
    return joined(topology, *(pair for pair in pairs if not min(pair) < 20 <= max(pair)))


MOLECULES: dict[str, Callable[[], app.Topology]] = {
    "ring": ring,
    "disulfide": disulfide,
    "lasso": lasso,
    "ethane": ethane,
    "six bonds": six_bonds,
    "one name": one_name,
    "long names": long_names,
    "no names": no_names,
    "beads": beads,
    "one number": one_number,
    "many chains": many_chains,
    "two peptides": two_peptides,
    "alanine dipeptide": lambda: load_system("alanine_dipeptide", {}).topology,
    "lj13": lambda: load_system("lj13", {}).topology,
}


def frames_of(topology: app.Topology | mdtraj.Topology, n: int = 2) -> mdtraj.Trajectory:
    """Atoms at least 0.8 nm apart, so that no reader takes two for bonded by their distance."""
    topology = topology if isinstance(topology, mdtraj.Topology) else mdtraj.Topology.from_openmm(topology)
    x = np.arange(topology.n_atoms)[:, None] // np.array([1, 5, 25]) % 5 - 2.0
    return mdtraj.Trajectory(0.9 * np.repeat(x[None], n, 0) + 1e-2 * np.arange(n)[:, None, None], topology)


def pairs(bonds) -> Pairs:
    return {(min(a.index, b.index), max(a.index, b.index)) for a, b in bonds}


def by_openmm(path: Path) -> tuple[Pairs, np.ndarray]:
    read = app.PDBFile(str(path))
    x = [read.getPositions(asNumpy=True, frame=k)._value for k in range(read.getNumFrames())]
    return pairs(read.topology.bonds()), np.array(x)


def by_mdtraj(path: Path) -> tuple[Pairs, np.ndarray]:
    read = mdtraj.load(str(path))
    return pairs(read.topology.bonds), read.xyz


def by_mdanalysis(path: Path) -> tuple[Pairs, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = MDAnalysis.Universe(str(path))
    bonds = read.bonds.indices.tolist() if hasattr(read, "bonds") else []
    x = np.array([step.positions.copy() for step in read.trajectory])
    return {(min(bond), max(bond)) for bond in bonds}, x / 10.0


READERS = {"OpenMM": by_openmm, "MDTraj": by_mdtraj, "MDAnalysis": by_mdanalysis}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("molecule", MOLECULES)
def test_every_reader_finds_the_atoms_and_the_bonds(tmp_path: Path, molecule: str, reader: str):
    frames = frames_of(MOLECULES[molecule]())
    write_pdb(frames, tmp_path / "m.pdb")
    bonds, x = READERS[reader](tmp_path / "m.pdb")
    assert bonds == pairs(frames.topology.bonds)
    np.testing.assert_allclose(x, frames.xyz, rtol=0, atol=6e-5)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("selection", ["resid 0 or resid 2", "not element H", "name CA", "resid 1 to 3"])
def test_a_selection_keeps_the_bonds_among_its_atoms_and_gets_no_others(
    tmp_path: Path, selection: str, reader: str
):
    whole = frames_of(ring())
    frames = whole.atom_slice(whole.topology.select(selection))
    write_pdb(frames, tmp_path / "m.pdb")
    assert READERS[reader](tmp_path / "m.pdb")[0] == pairs(frames.topology.bonds)


def test_the_writer_of_mdtraj_opens_the_ring(tmp_path: Path):
    """What the other tests would see if all bonds were left to the readers."""
    frames = frames_of(ring())
    frames.save_pdb(str(tmp_path / "m.pdb"))
    assert pairs(frames.topology.bonds) - by_openmm(tmp_path / "m.pdb")[0] == {(0, 38)}


def test_a_force_field_meets_the_closed_ring_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "minimise", lambda system, x: x)
    monkeypatch.setattr(build, "check_geometry", lambda *_: None)  # atoms are anywhere
    write_pdb(frames_of(ring(), 1), tmp_path / "m.pdb")
    system = build.from_pdb(tmp_path / "m.pdb", ["amber14/protein.ff14SB.xml"], "ring")
    assert pairs(system.topology.bonds()) == pairs(ring().bonds())


def test_names_numbers_elements_and_charges_come_back(tmp_path: Path):
    topology = topology_of(("LIGA", ("N1", "C1", "O1")), ("ALA", ALANINE), ("ACE", ("C", "O")))
    next(topology.atoms()).formalCharge = 1
    frames = frames_of(topology)
    write_pdb(frames, tmp_path / "m.pdb")
    text = (tmp_path / "m.pdb").read_text()
    assert (
        text.startswith("MODEL        1\nHETATM    1  N1  LIGAA   1 ") and "\nATOM      4  N   ALA A" in text
    )
    read = mdtraj.load(str(tmp_path / "m.pdb")).topology
    assert [str(atom) for atom in read.atoms] == [str(atom) for atom in frames.topology.atoms]
    assert [atom.element for atom in read.atoms] == [atom.element for atom in frames.topology.atoms]
    assert [atom.formal_charge or 0 for atom in read.atoms] == [1] + [0] * 14


def test_one_frame_is_no_model_and_far_coordinates_lose_decimals_alone(tmp_path: Path):
    frames = frames_of(ethane(), 1)
    frames.xyz[0, 0] = 1234.567, -123.45678, 99999.0
    write_pdb(frames, tmp_path / "m.pdb")
    assert "MODEL" not in (tmp_path / "m.pdb").read_text()
    for reader in (by_openmm, by_mdtraj, by_mdanalysis):
        np.testing.assert_allclose(reader(tmp_path / "m.pdb")[1], frames.xyz, rtol=1e-5, atol=6e-5)


def test_bonds_that_openmm_makes_or_leaves_out_by_itself_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    sulphurs = frames_of(topology_of(("CYS", ("SG",)), ("CYS", ("SG",))))
    sulphurs.xyz[:, 1] = sulphurs.xyz[:, 0] + [0.0, 0.0, 0.29]
    zinc = topology_of(("CYS", ("SG",)))
    residue = zinc.addResidue("ZN", next(zinc.chains()))
    zinc.addAtom("ZN", app.Element.getBySymbol("Zn"), residue)
    glycine = topology_of(("GLY", ("N", "CA")), standard=False)
    with caplog.at_level(logging.WARNING):
        for frames in (frames_of(ring()), frames_of(glycine), sulphurs, frames_of(joined(zinc, (0, 1)))):
            write_pdb(frames, tmp_path / "m.pdb")
    told = "m.pdb: OpenMM will read bonds that are not so in the molecule: "
    assert caplog.messages == [told + "GLY1-N-GLY1-CA", told + "CYS1-SG-CYS2-SG", told + "CYS1-SG-ZN2-ZN"]
