"""Blocked alanine peptides, ACE-(ALA)n-NME, in current Amber force fields and implicit solvents."""

from __future__ import annotations

import math

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from boltzgen import CollectiveVariable, MolecularSystem, MolecularSystemError, State, minimise
from boltzgen.systems.phi_states import both_sides

FORCE_FIELDS = {"ff14SB": "amber14/protein.ff14SB.xml", "ff19SB": "amber19/protein.ff19SB.xml"}
SOLVENTS = ("hct", "obc1", "obc2", "gbn", "gbn2", "vacuum")

Point = NDArray[np.float64]
_Atom = tuple[str, tuple[str, str, str], float, float, float]
"""Name; the atoms it is bonded to, at an angle with, and at a dihedral with; bond [nm], angles [degrees]."""
_PHI, _PSI = -120.0, 130.0


def build(
    residues: int = 3, force_field: str = "ff14SB", solvent: str = "obc2", temperature_k: float = 300.0
) -> MolecularSystem:
    """Blocked alanine peptide ACE-(ALA)n-NME in an Amber force field with implicit solvent.

    residues
        Alanines between the caps.
    force_field
        ff14SB, or ff19SB with its torsion maps.
    solvent
        hct, obc1, obc2, gbn, gbn2 or vacuum; nothing is cut off and no bond is constrained.
    temperature_k
        Temperature [K].
    """
    if not 1 <= residues <= 30:
        raise MolecularSystemError("alanine_peptide", f"residues is {residues}", "use 1 to 30")
    for what, value, valid in (("force_field", force_field, FORCE_FIELDS), ("solvent", solvent, SOLVENTS)):
        if value not in valid:
            raise MolecularSystemError(
                "alanine_peptide", f"unknown {what} {value}", f"use one of {', '.join(valid)}"
            )
    files = [FORCE_FIELDS[force_field]]
    heavy, positions = _backbone(residues)
    modeller = app.Modeller(heavy, positions * unit.nanometer)
    modeller.addHydrogens(app.ForceField(*files), variants=[None] * (residues + 2))
    start = np.array(modeller.positions.value_in_unit(unit.nanometer))
    reference = minimise(_system(files, modeller.topology), start)
    if solvent != "vacuum":
        files.append(f"implicit/{solvent}.xml")
    variables, states = _torsions(modeller.topology, residues)
    return MolecularSystem(
        name=f"alanine_peptide/{residues}/{force_field}/{solvent}",
        topology=modeller.topology,
        openmm_system=_system(files, modeller.topology),
        positions=reference,
        temperature_k=temperature_k,
        collective_variables=variables,
        states=states,
        description=f"ACE-(ALA){residues}-NME, {force_field}, {solvent}",
        parameters={
            "residues": residues,
            "force_field": force_field,
            "solvent": solvent,
            "temperature_k": temperature_k,
        },
    )


def _system(files: list[str], topology: app.Topology) -> openmm.System:
    return app.ForceField(*files).createSystem(
        topology, nonbondedMethod=app.NoCutoff, constraints=None, rigidWater=False, removeCMMotion=False
    )


def _torsions(
    topology: app.Topology, residues: int
) -> tuple[tuple[CollectiveVariable, ...], tuple[State, State]]:
    """phi and psi of every alanine; the states are those of the middle one's phi."""
    index = {(atom.residue.index, atom.name): atom.index for atom in topology.atoms()}
    variables = []
    for k in range(1, residues + 1):
        n, ca, c = (index[k, name] for name in ("N", "CA", "C"))
        variables.append(CollectiveVariable(f"phi{k}", "torsion", (index[k - 1, "C"], n, ca, c)))
        variables.append(CollectiveVariable(f"psi{k}", "torsion", (n, ca, c, index[k + 1, "N"])))
    phi = variables[2 * ((residues - 1) // 2)]
    return tuple(variables), both_sides(phi, "phi")


def _backbone(residues: int) -> tuple[app.Topology, Point]:
    """Heavy atoms of an extended chain with ideal bonds and angles (Engh and Huber 1991, rounded)."""
    topology = app.Topology()
    chain = topology.addChain()
    placed: dict[str, Point] = {}
    for k, name in enumerate(["ACE", *["ALA"] * residues, "NME"]):
        residue = topology.addResidue(name, chain)
        for atom, anchors, bond, angle, dihedral in _recipe(k, name):
            placed[f"{atom}{k}"] = _place([placed.get(anchor) for anchor in anchors], bond, angle, dihedral)
            topology.addAtom(atom, app.Element.getBySymbol(atom[0]), residue)
    topology.createStandardBonds()
    return topology, np.array(list(placed.values()))


def _recipe(k: int, name: str) -> list[_Atom]:
    """The heavy atoms of residue k in building order."""
    before = k - 1
    if name == "ACE":
        return [
            ("CH3", ("", "", ""), 0.0, 0.0, 0.0),
            ("C", ("CH30", "", ""), 0.152, 0.0, 0.0),
            ("O", ("C0", "CH30", ""), 0.123, 120.5, 0.0),
        ]
    alpha = f"CA{before}" if before else "CH30"
    turn = (f"C{before}", alpha, f"N{before}" if before else "O0")
    nitrogen: _Atom = ("N", turn, 0.1335, 116.6, _PSI if before else 180.0)
    if name == "NME":
        return [nitrogen, ("C", (f"N{k}", f"C{before}", alpha), 0.1449, 121.9, 180.0)]
    return [
        nitrogen,
        ("CA", (f"N{k}", f"C{before}", alpha), 0.1449, 121.9, 180.0),
        ("CB", (f"CA{k}", f"N{k}", f"C{before}"), 0.1526, 110.1, _PHI - 122.6),
        ("C", (f"CA{k}", f"N{k}", f"C{before}"), 0.1522, 111.0, _PHI),
        ("O", (f"C{k}", f"CA{k}", f"N{k}"), 0.123, 120.5, _PSI + 180.0),
    ]


def _place(anchors: list[Point | None], bond: float, angle: float, dihedral: float) -> Point:
    """Position at a bond from the first anchor, an angle with the second, a dihedral with the third."""
    a, b, c = anchors
    if a is None:
        return np.zeros(3)
    if b is None:
        return a + np.array([bond, 0.0, 0.0])
    if c is None:
        c = b + np.array([0.0, 0.1, 0.0])
    theta, phi = math.radians(angle), math.radians(dihedral)
    along = (a - b) / np.linalg.norm(a - b)
    normal = np.cross(b - c, along)
    normal /= np.linalg.norm(normal)
    across = np.cross(normal, along)
    return a + bond * (
        -math.cos(theta) * along + math.sin(theta) * (math.cos(phi) * across + math.sin(phi) * normal)
    )
