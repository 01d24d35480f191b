"""Torsions that are found in a molecule: which bonds turn, and what they are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.molecules import biaryl, ethene, grown, ring

from boltzgen.system.builders.build import from_pdb
from boltzgen.system.builders.sequences import peptide_of_sequence
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system
from boltzgen.system.torsions import found_torsions

METHYL = ("C", ["H", "H", "H"])
BUTANE = ("C", ["H", "H", "H", ("C", ["H", "H", ("C", ["H", "H", METHYL])])])
GLYCOL = ("C", ["H", "H", ("O", ["H"]), ("C", ["H", "H", ("O", ["H"])])])
ETHANE = ("C", ["H", "H", "H", METHYL])
NEOPENTYL = ("C", [METHYL, METHYL, METHYL, ("C", ["H", "H", ("O", ["H"])])])


def bonds(system: MolecularSystem) -> list[tuple[str, ...]]:
    """Elements of the bond of each torsion that was found."""
    symbols = [atom.element.symbol for atom in system.topology.atoms()]
    return sorted(tuple(sorted(symbols[k] for k in t.atoms[1:3])) for t in found_torsions(system))


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (BUTANE, [("C", "C")]),
        (GLYCOL, [("C", "C"), ("C", "O"), ("C", "O")]),
        (ETHANE, []),
        (NEOPENTYL, [("C", "O")]),  # three equal ends are the same after a third of a turn
    ],
)
def test_bonds_that_turn_between_conformers(tree: tuple, expected: list[tuple[str, str]]) -> None:
    assert bonds(grown(tree)) == expected


def test_rings_double_bonds_and_flat_symmetric_ends_do_not_turn() -> None:
    assert found_torsions(ring(6, {})) == []
    assert found_torsions(ethene("CH", "CH")) == []
    assert len(found_torsions(ethene("CH", "CH", barrier=5.0))) == 1
    assert found_torsions(biaryl(["H", "H", "H", "H"])) == []  # both rings look the same after half a turn
    assert len(found_torsions(biaryl(["F", "H", "Cl", "H"]))) == 1


def test_peptides_have_the_names_of_their_field() -> None:
    dipeptide = load_system("alanine_dipeptide")
    assert [(t.name, t.atoms) for t in found_torsions(dipeptide)] == [
        ("phi", (4, 6, 8, 14)),
        ("psi", (6, 8, 14, 16)),
    ]
    names = [t.name for t in found_torsions(load_system("alanine_peptide", {"residues": 3}))]
    assert names == ["phi_2", "psi_2", "phi_3", "psi_3", "phi_4", "psi_4"]


def test_an_amide_before_proline_turns(tmp_path: Path) -> None:
    path = tmp_path / "my.pdb"
    path.write_text(peptide_of_sequence("ACE-GLY-PRO-NME", 7.0).pdb)
    names = [t.name for t in found_torsions(from_pdb(path, ["amber14-all.xml"], "my"))]
    assert names == ["phi_2", "psi_2", "phi_3", "psi_3", "omega"]


def test_every_torsion_is_four_bonded_atoms_of_a_name_of_its_own() -> None:
    system = grown(("C", [BUTANE[1][3], GLYCOL[1][3], "H", METHYL]))
    found = found_torsions(system)
    graph = system.graph
    assert len({t.name for t in found}) == len(found) > 2
    for torsion in found:
        assert all(
            graph.has_edge(a, b) for a, b in np.lib.stride_tricks.sliding_window_view(torsion.atoms, 2)
        )
