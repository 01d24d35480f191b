"""Positions and topologies that are not those of the force field are refused before they are minimised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import openmm
import pytest
from helpers.molecules import molecule
from openmm import app, unit

from boltzgen.errors import MolecularSystemError
from boltzgen.potential.cohesion import check_cohesion
from boltzgen.system.builders.build import from_pdb
from boltzgen.system.builders.preparation import prepared
from boltzgen.system.builders.starting_geometry import check_topology, check_unit
from boltzgen.system.registry import load_system

CHAIN = [(0, 1), (1, 2), (2, 3)]
ZIGZAG = [[0, 0, 0], [0.15, 0, 0], [0.2, 0.14, 0], [0.35, 0.15, 0.03]]
FIELD = ["amber99sbildn.xml", "amber99_obc.xml"]


@pytest.fixture
def lines(tmp_path: Path) -> list[str]:
    alanine = load_system("alanine_dipeptide")
    with (tmp_path / "adp.pdb").open("w") as stream:
        app.PDBFile.writeFile(alanine.topology, alanine.positions * unit.nanometer, stream)
    return (tmp_path / "adp.pdb").read_text().splitlines(keepends=True)


def placed(line: str, change: Callable[[float], float]) -> str:
    if not line.startswith(("ATOM", "HETATM")):
        return line
    numbers = [change(float(line[k : k + 8])) for k in (30, 38, 46)]
    return line[:30] + "".join(f"{x:8.3f}" for x in numbers) + line[54:]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda x: 0.1 * x, "bonds are 0.1 times .*nm stand where Angstrom belong"),
        (lambda x: 10 * x, "bonds are 10 times .*Angstrom stand where nm belong"),
        (lambda x: 0.0, "and .* are in one place; give every atom its own coordinates"),
    ],
)
def test_coordinates_that_are_none(
    tmp_path: Path, lines: list[str], change: Callable[[float], float], cause: str
) -> None:
    (tmp_path / "my.pdb").write_text("".join(placed(line, change) for line in lines))
    with pytest.raises(MolecularSystemError, match=cause):
        from_pdb(tmp_path / "my.pdb", FIELD, "my")


def test_of_several_models_the_first_is_taken_and_said(tmp_path: Path, lines: list[str]) -> None:
    atoms = "".join(line for line in lines if line.startswith(("ATOM", "HETATM")))
    (tmp_path / "my.pdb").write_text(f"MODEL        1\n{atoms}ENDMDL\nMODEL        2\n{atoms}ENDMDL\nEND\n")
    assert "of 2 models the first is taken" in " ".join(from_pdb(tmp_path / "my.pdb", FIELD, "my").notices)


def test_a_solvent_of_another_force_field(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(MolecularSystemError, match=r"atoms of the type protein-.* in ACE 1"):
        (tmp_path / "my.pdb").write_text("".join(lines))
        from_pdb(tmp_path / "my.pdb", ["amber14-all.xml", "amber99_obc.xml"], "my")


def test_a_reference_in_another_unit() -> None:
    system = molecule("CCCC", CHAIN, ZIGZAG)
    with pytest.raises(MolecularSystemError, match="Angstrom stand where nm belong"):
        check_unit("mine.py", 10 * system.positions, system.openmm_system)


def test_a_topology_without_some_of_the_bonds() -> None:
    whole, part = molecule("CCCC", CHAIN, ZIGZAG), molecule("CCCC", CHAIN[:2], ZIGZAG)
    check_topology(whole)
    with pytest.raises(MolecularSystemError, match="lacks a bond that the force field has: C2 - C3 of MOL 1"):
        check_topology(replace(part, openmm_system=whole.openmm_system))


def test_a_bond_that_breaks_is_none_without_a_force() -> None:
    system = molecule("NN", [(0, 1)], [[0, 0, 0], [0.12, 0, 0]])
    system.openmm_system.removeForce(0)
    force = openmm.CustomBondForce("400*(1-exp(-20*(r-0.12)))^2")
    force.addBond(0, 1, [])
    system.openmm_system.addForce(force)
    check_cohesion(system)
    with pytest.raises(
        MolecularSystemError, match="breaking N0 - N1 of MOL 1 costs no more than 16 kT at 3000"
    ):
        check_cohesion(replace(system, temperature_k=3000.0))


@pytest.mark.parametrize("hydrogens", [True, False])
def test_a_gap_of_a_chain_is_no_bond(tmp_path: Path, hydrogens: bool) -> None:
    """Readers join the residues on both sides, whatever is between: another molecule, and a good minimum."""
    system = load_system("alanine_peptide", {"residues": 4})
    modeller = app.Modeller(system.topology, system.positions * unit.nanometer)
    modeller.delete([atom for atom in modeller.topology.atoms() if atom.residue.index == 2])
    if not hydrogens:
        modeller.delete([atom for atom in modeller.topology.atoms() if atom.element.symbol == "H"])
    path = tmp_path / "gap.pdb"
    with path.open("w") as stream:
        app.PDBFile.writeFile(modeller.topology, modeller.positions, stream, keepIds=True)
    if not hydrogens:
        whole = prepared(path, 7.0)
        assert whole is not None
        path.write_text(whole.pdb)
    with pytest.raises(MolecularSystemError, match=r"C of ALA 2 - N of ALA 4 are bonded and 0\.\d+ nm apart"):
        from_pdb(path, ["amber14-all.xml"], "gap")
