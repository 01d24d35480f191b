"""Selections by the names of the topology and by those of the file."""

from __future__ import annotations

from dataclasses import replace

import mdtraj
import numpy as np
import pytest
from rich.console import Console

from boltzgen.cli.tables import check_table
from boltzgen.config.schema import ExportSettings
from boltzgen.errors import ConfigError
from boltzgen.export.stage import _frames
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system
from boltzgen.system.selection import selected_atoms
from boltzgen.system.variables import with_variables
from boltzgen.workflow.check import check

IN_FILE = {
    ("ACE", "H1"): "1HH3",
    ("ACE", "H2"): "2HH3",
    ("ACE", "H3"): "3HH3",
    ("ALA", "HB1"): "1HB",
    ("ALA", "HB2"): "2HB",
    ("ALA", "HB3"): "3HB",
    ("ALA", "O"): "O5'",
    ("NME", "C"): "CH3",
}
"""An old naming of PDB files, and one name with a prime."""


@pytest.fixture(scope="module")
def alanine() -> MolecularSystem:
    return load_system("alanine_dipeptide")


@pytest.fixture(scope="module")
def system(alanine: MolecularSystem) -> MolecularSystem:
    """Alanine dipeptide from a file that calls some atoms, and one residue, otherwise."""
    residues = {"ALA": "DAL"}
    names = [(atom.residue.name, atom.name) for atom in alanine.topology.atoms()]
    in_file = tuple((residues.get(r, r), IN_FILE.get((r, n), n)) for r, n in names)
    return replace(alanine, names_in_file=in_file)


@pytest.mark.parametrize(
    ("selection", "atoms"),
    [
        ("name CH3 and resname NME", [18]),
        ("name C and resname NME", [18]),
        ("name 1HB", [11]),
        ("name HB1", [11]),
        ("name '1HB'", [11]),
        ('name "1HB"', [11]),
        ("name 1HB 2HB", [11, 12]),
        ("name 1HB HB2", [11, 12]),
        ("(name 1HB) or index 3", [3, 11]),
        ("name CA or name 1HB", [8, 11]),
        ("resname ALA and not name 1HB 2HB 3HB", [6, 7, 8, 9, 10, 14, 15]),
        ("resname DAL and not name HB1 HB2 HB3", [6, 7, 8, 9, 10, 14, 15]),
        ("resname DAL and name CB", [10]),
        ("name O5'", [15]),
        ("name O5' and resname DAL", [15]),
        ('name "O5\'"', [15]),
        ("name =~ '.HB'", [11, 12, 13]),
        ("index 0 to 2", [0, 1, 2]),
        ("resid 1 and name CA", [8]),
        ("mass > 15.5", [5, 15]),
    ],
)
def test_either_name_selects(system: MolecularSystem, selection: str, atoms: list[int]) -> None:
    assert selected_atoms(system, "key", selection).tolist() == atoms


@pytest.mark.parametrize("selection", ["backbone", "sidechain", "protein", "not element H", "name CA C N"])
def test_other_names_in_the_file_change_nothing_that_does_not_use_them(
    alanine: MolecularSystem, selection: str
) -> None:
    in_file = tuple(
        (a.residue.name, IN_FILE.get((a.residue.name, a.name), a.name)) for a in alanine.topology.atoms()
    )
    without = tuple((r, "C" if n == "CH3" and r == "NME" else n) for r, n in in_file)
    expected = mdtraj.Topology.from_openmm(alanine.topology).select(selection)
    assert (
        selected_atoms(replace(alanine, names_in_file=without), "key", selection).tolist()
        == expected.tolist()
    )
    assert selected_atoms(alanine, "key", selection).tolist() == expected.tolist()


def test_a_name_of_other_atoms_in_the_file_is_never_taken_silently(system: MolecularSystem) -> None:
    assert selected_atoms(system, "key", "name C CH3").tolist() == [1, 4, 14, 18]  # by both
    with pytest.raises(ConfigError) as caught:
        selected_atoms(system, "key", "name C")
    assert "[4, 14] by the names of the file and [4, 14, 18] by those that OpenMM" in str(caught.value)


def test_a_selection_of_nothing_lists_what_there_is(system: MolecularSystem) -> None:
    with pytest.raises(ConfigError) as caught:
        selected_atoms(system, "key", "name 9HB and resname DAL")
    line = str(caught.value)
    assert "'name 9HB and resname DAL' selects no atom; there are N, H, CA, HA, CB, 1HB (here HB1)," in line
    assert "of DAL 2" in line and "ACE" not in line
    with pytest.raises(ConfigError, match=r"1HH3 \(here H1\), CH3, .* of ACE 1; .* of NME 3$"):
        selected_atoms(system, "key", "name 9HB")


def test_what_mdtraj_does_not_understand_is_told_by_its_place(system: MolecularSystem) -> None:
    with pytest.raises(ConfigError, match=r"'name ==' \(from character 8 on\); write it as"):
        selected_atoms(system, "key", "name ==")


def test_variables_and_exported_atoms_go_by_either_name(system: MolecularSystem) -> None:
    atoms = ["name 1HB", "name CH3 and resname NME"]
    made = with_variables(system, {"r": {"kind": "distance", "atoms": atoms}})
    assert made.collective_variables[-1].atoms == (11, 18)
    positions = np.repeat(system.positions[None], 2, axis=0)
    settings = ExportSettings(select="name 1HB 2HB 3HB", align="name 1HB 2HB CA")
    np.testing.assert_allclose(_frames(system, positions, settings).xyz[0], positions[0][11:14], atol=1e-5)


def test_the_check_lists_names_that_differ_and_what_was_mended(system: MolecularSystem) -> None:
    told = replace(system, notices=("my.pdb: mended",))
    console = Console(width=300)
    with console.capture() as printed:
        console.print(check_table(check(told, seconds=0.01, compiled=False)))
    text = printed.get()
    assert "1HB (here HB1), 2HB (here HB2), 3HB (here HB3), O5' (here O) of DAL 2" in text
    assert "DAL 2 (here ALA)" in text and "my.pdb: mended" in text
