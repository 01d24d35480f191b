"""What nothing holds together is refused, and only that."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openmm
import pytest
from openmm import app, unit

from boltzgen.errors import MolecularSystemError
from boltzgen.potential.cohesion import HELD_KT, check_cohesion
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system
from boltzgen.units import thermal_energy

KT = thermal_energy(300.0)


def said(system: MolecularSystem) -> str:
    """What is wrong in one line; nothing where all is held."""
    try:
        check_cohesion(system)
    except MolecularSystemError as error:
        line = str(error)
        assert "\n" not in line and "remedy" not in line
        return line
    return ""


# ---- pairs of atoms ----------------------------------------------------------------------------------


def pair(
    *forces: openmm.Force,
    distance: float = 0.3,
    bonded: bool = False,
    well_kt: float = 0.0,
    charge: float = 0.0,
) -> MolecularSystem:
    """Two atoms with a Lennard-Jones well of ``well_kt`` at 0.3 nm, charges, and ``forces``."""
    topology, system, nonbonded = app.Topology(), openmm.System(), openmm.NonbondedForce()
    chain = topology.addChain()
    for k, (name, element) in enumerate((("NA", app.element.sodium), ("CL", app.element.chlorine))):
        topology.addAtom(name, element, topology.addResidue(name, chain))
        system.addParticle(element.mass)
        nonbonded.addParticle(charge * (1 - 2 * k), 0.3 / 2 ** (1 / 6), well_kt * KT)
    if bonded:
        topology.addBond(*topology.atoms())
        nonbonded.addException(0, 1, 0.0, 1.0, 0.0)
    for force in (nonbonded, *forces):
        system.addForce(force)
    return MolecularSystem("pair", topology, system, np.array([[0.0, 0, 0], [distance, 0, 0]]), 300.0)


def of_distance(expression: str) -> openmm.Force:
    force = openmm.CustomBondForce(expression)
    force.addBond(0, 1)
    return force


def test_atoms_that_nothing_holds_are_named() -> None:
    line = said(pair())
    assert line.startswith("pair: nothing holds NA 1 (atom 0) together with CL 2 (atom 1)")
    assert "restraint" in line and "one molecule at a time" in line


@pytest.mark.parametrize(("well_kt", "held"), [(1.0, False), (HELD_KT - 3, False), (30.0, True)])
def test_a_well_holds_if_it_is_deep(well_kt: float, held: bool) -> None:
    assert bool(said(pair(well_kt=well_kt))) != held


def test_ions_are_held_from_afar() -> None:
    assert not said(pair(charge=1.0))
    far = pair(charge=1.0, distance=4.0)  # less than 30 kT above it, and rising without end
    assert 138.9 / 4.0 / KT < HELD_KT and not said(far)


@pytest.mark.parametrize(
    "expression",
    [
        "5*(r-0.3)^2",
        "100*max(0, r-0.5)^2",
        "-500*log(1-(r/1.5)^2)",
        "20*log(1+r)",
        "400*(1-exp(-20*(r-0.3)))^2",
    ],
)
@pytest.mark.parametrize("bonded", [False, True])
def test_any_force_that_grows_holds(expression: str, bonded: bool) -> None:
    """Harmonic, flat at the bottom, FENE, logarithmic, Morse: as a restraint and as a bond."""
    assert not said(pair(of_distance(expression), bonded=bonded))


def test_a_bond_by_a_force_of_another_kind() -> None:
    force = openmm.CustomCompoundBondForce(2, "100*max(0, distance(p1,p2)-0.5)^2")
    force.addBond([0, 1])
    assert not said(pair(force, bonded=True))


@pytest.mark.parametrize("expression", ["0*r", "5*(1-exp(-20*(r-0.3)))^2"])
def test_a_bond_without_strength_is_named(expression: str) -> None:
    line = said(pair(of_distance(expression), bonded=True))
    assert "1 bond of the topology is held by no force: NA of NA 1 - CL of CL 2" in line


# ---- molecules ---------------------------------------------------------------------------------------


def chains(n: int, *restraints: tuple[int, int], ring: bool = False) -> MolecularSystem:
    """Molecules of three or four atoms 1 nm apart; ``restraints`` are pairs of these."""
    size = 4 if ring else 3
    topology, system, bonds = app.Topology(), openmm.System(), openmm.HarmonicBondForce()
    chain, positions = topology.addChain(), []
    corners = np.array([[0, 0, 0], [0.15, 0, 0], [0.15, 0.15, 0], [0, 0.15, 0]])
    for k in range(n):
        residue = topology.addResidue("MOL", chain)
        atoms = [topology.addAtom(f"C{i}", app.element.carbon, residue) for i in range(size)]
        positions += list(corners[:size] + np.array([0, 0, k]))
        for i in range(size if ring else size - 1):
            topology.addBond(atoms[i], atoms[(i + 1) % size])
            bonds.addBond(atoms[i].index, atoms[(i + 1) % size].index, 0.15, 1e5)
        for _ in range(size):
            system.addParticle(12.0)
    system.addForce(bonds)
    restraint = openmm.CustomBondForce("r^2")
    for i, j in restraints:
        restraint.addBond(size * i, size * j)
    system.addForce(restraint)
    return MolecularSystem("chains", topology, system, np.array(positions), 300.0)


def test_one_molecule_that_is_free_is_found_among_others() -> None:
    line = said(chains(3, (0, 1)))
    assert (
        "nothing holds MOL 1 (atoms 0 to 2) and MOL 2 (atoms 3 to 5) together with MOL 3 (atoms 6 to 8)"
        in line
    )
    assert not said(chains(3, (0, 1), (0, 2)))


def test_two_pairs_of_which_each_is_held() -> None:
    line = said(chains(4, (0, 1), (2, 3)))
    assert "MOL 1 (atoms 0 to 2) and MOL 2 (atoms 3 to 5) together with MOL 3" in line
    assert not said(chains(4, (0, 1), (2, 3), (0, 3)))


@pytest.mark.parametrize("last_held", [False, True])
def test_many_molecules(last_held: bool) -> None:
    restraints = [(0, k) for k in range(1, 10 if last_held else 9)]
    assert bool(said(chains(10, *restraints))) != last_held


def test_a_cluster_without_bonds() -> None:
    assert not said(load_system("lj13"))
    free = load_system("lennard_jones", {"n": 13, "oscillator": 0.0})
    assert "they fly apart" in said(free)


def without_bond(system: MolecularSystem, *numbers: int) -> MolecularSystem:
    """The same with some harmonic terms of no strength."""
    copy = openmm.XmlSerializer.clone(system.openmm_system)
    force = copy.getForce(0)
    for number in numbers:
        i, j, length, _ = force.getBondParameters(number)
        force.setBondParameters(number, i, j, length, 0.0)
    return MolecularSystem("chains", system.topology, copy, system.positions, 300.0)


def test_a_bond_in_a_ring() -> None:
    ring = chains(1, ring=True)
    assert not said(ring)
    assert "1 bond of the topology is held by no force: C1 - C2 of MOL 1;" in said(without_bond(ring, 1))
    assert "2 bonds of the topology are held by no force" in said(without_bond(ring, 1, 3))


def test_a_bond_whose_ends_something_else_holds() -> None:
    """A harmonic term between second neighbours, as in CHARMM, is no bond."""
    chain = chains(1)
    chain.openmm_system.getForce(0).addBond(0, 2, 0.2, 1e4)
    assert not said(chain)
    assert "held by no force: C0 - C1 of MOL 1" in said(without_bond(chain, 0))


# ---- force fields ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("constraints", "number"), [(app.HBonds, 12), (app.AllBonds, 21), (app.HAngles, 21), (None, 0)]
)
@pytest.mark.parametrize("solvent", [[], ["implicit/gbn2.xml"]])
def test_constraints_that_were_removed_leave_no_force(
    constraints: object, number: int, solvent: list[str]
) -> None:
    alanine = load_system("alanine_dipeptide")
    field = app.ForceField("amber14-all.xml", *solvent)
    system = field.createSystem(alanine.topology, constraints=constraints, removeCMMotion=True)
    for k in reversed(range(system.getNumConstraints())):
        system.removeConstraint(k)
    line = said(MolecularSystem("adp", alanine.topology, system, alanine.positions, 300.0))
    assert bool(line) == bool(number)
    if number:
        assert f"{number} bonds of the topology are held by no force: H1 - CH3 of ACE 1" in line
        assert "constraints=None" in line


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("alanine_dipeptide", {"hamiltonian": "A"}),
        ("alanine_dipeptide", {"hamiltonian": "B"}),
        ("alanine_dipeptide", {"hamiltonian": "C"}),
        ("alanine_peptide", {}),
        ("lj55", {}),
        ("harmonic_chain", {}),
        ("harmonic_dimer", {}),
    ],
)
def test_systems_that_come_with_the_package_are_held(name: str, parameters: dict[str, object]) -> None:
    assert not said(load_system(name, parameters))


def test_two_peptides_side_by_side() -> None:
    alanine = load_system("alanine_dipeptide")
    modeller = app.Modeller(alanine.topology, alanine.positions * unit.nanometer)
    modeller.add(alanine.topology, (alanine.positions + np.array([0, 0, 1.5])) * unit.nanometer)
    positions = np.array(modeller.positions.value_in_unit(unit.nanometer))

    def both(change: Callable[[openmm.System], object]) -> MolecularSystem:
        system = app.ForceField("amber99sbildn.xml").createSystem(modeller.topology, removeCMMotion=False)
        change(system)
        return MolecularSystem("two", modeller.topology, system, positions, 300.0)

    centres = openmm.CustomCentroidBondForce(2, "10*distance(g1, g2)^2")
    groups = [centres.addGroup(list(range(22 * k, 22 * k + 22))) for k in (0, 1)]
    centres.addBond(groups)
    free = said(both(lambda system: None))
    assert "ACE 1 to NME 3 (atoms 0 to 21) together with ACE 1 to NME 3 (atoms 22 to 43)" in free
    assert not said(both(lambda system: system.addForce(centres)))
