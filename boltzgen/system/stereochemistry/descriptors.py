"""What chemists call an arrangement: R or S, E or Z where RDKit is installed, cis or trans, L or D."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import openmm
from openmm import unit

from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.stereochemistry.domain import Domain
from boltzgen.system.stereochemistry.elements import StereoElement, element_graph


@dataclass(frozen=True)
class Described:
    """One element of stereochemistry in words.

    arrangement
        R, S, E or Z, else cis or trans, else the sign of the reference in the order of its atoms.
    remark
        L or D for an amino acid, and whether both arrangements belong to the domain.
    """

    name: str
    residue: str
    arrangement: str
    remark: str = ""

    def __str__(self) -> str:
        return f"{self.name} of {self.residue}: {self.arrangement}" + (
            f", {self.remark}" if self.remark else ""
        )


def described(domain: Domain) -> list[Described]:
    """Every centre, double bond, amide and axis of a molecule as it is in the reference structure."""
    system = domain.system
    labels, atoms = _cip(system), list(system.topology.atoms())
    entries = []
    for element in (*domain.elements, *domain.free):
        residue = atoms[element.atoms[0]].residue
        remarks = [_amino_acid(system, element)]
        remarks += ["both arrangements belong to the domain of Z"] if element in domain.free else []
        entries.append(
            Described(
                domain.name(element),
                f"{residue.name}{residue.id}",
                labels.get(frozenset(element.atoms)) or domain.arrangement(element),
                ", ".join(filter(None, remarks)),
            )
        )
    return entries


def _amino_acid(system: MolecularSystem, element: StereoElement) -> str:
    """L or D for the alpha carbon of an amino acid: seen from H, the order CO, R, N is clockwise for L."""
    if element.kind != "centre":
        return ""
    graph = element_graph(system)
    label: Mapping[int, str] = dict(graph.nodes(data="label"))
    (alpha,), (neighbours,) = element.atoms, element.substituents

    def carbonyl(j: int) -> bool:
        """C=O of an acid or of what is made of it: with another O, N or S."""
        hetero = [k for k in graph.neighbors(j) if label[k] in ("O", "N", "S")]
        return label[j] == "C" and len(hetero) > 1 and any(graph.degree(k) == 1 for k in hetero)

    hydrogens = [j for j in neighbours if label[j] in ("H", "D")]
    nitrogens = [j for j in neighbours if label[j] == "N"]
    carbonyls = [j for j in neighbours if carbonyl(j)]
    if label[alpha] != "C" or [len(g) for g in (hydrogens, nitrogens, carbonyls)] != [1, 1, 1]:
        return ""
    (side,) = set(neighbours) - {hydrogens[0], nitrogens[0], carbonyls[0]}
    if label[side] != "C":
        return ""
    import torch

    ordered = StereoElement("centre", (alpha,), ((carbonyls[0], side, nitrogens[0], hydrogens[0]),))
    positive = bool(ordered.value(torch.as_tensor(system.positions)) > 0)
    return "L-amino acid" if positive else "D-amino acid, not L"


def _cip(system: MolecularSystem) -> dict[frozenset[int], str]:
    """R, S, E and Z by atom or pair of atoms; empty without RDKit, or where it cannot tell bond orders."""
    try:
        from rdkit import Chem, RDLogger
        from rdkit.Chem import rdCIPLabeler, rdDetermineBonds
        from rdkit.Geometry import Point3D
    except ImportError:
        return {}
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    molecule = Chem.RWMol()
    labels = dict(element_graph(system).nodes(data="label"))
    for atom in system.topology.atoms():
        if atom.element is None:
            return {}
        drawn = Chem.Atom(atom.element.atomic_number)
        drawn.SetIsotope(2 if labels[atom.index] == "D" else 0)
        molecule.AddAtom(drawn)
    conformer = Chem.Conformer(system.n_atoms)
    for i, (x, y, z) in enumerate(10.0 * system.positions):
        conformer.SetAtomPosition(i, Point3D(float(x), float(y), float(z)))
    for i, j in system.bonds:
        molecule.AddBond(i, j, Chem.BondType.SINGLE)
    molecule.AddConformer(conformer)
    found: dict[frozenset[int], str] = {}
    with contextlib.suppress(Exception):  # of RDKit, for a molecule that its rules of valence do not fit
        rdDetermineBonds.DetermineBondOrders(molecule, charge=_charge(system), maxIterations=200_000)
        Chem.AssignStereochemistryFrom3D(molecule)
        rdCIPLabeler.AssignCIPLabels(molecule)
        for atom in molecule.GetAtoms():
            if atom.HasProp("_CIPCode"):
                found[frozenset({atom.GetIdx()})] = atom.GetProp("_CIPCode")
        for bond in molecule.GetBonds():
            if bond.HasProp("_CIPCode"):
                found[frozenset({bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()})] = bond.GetProp("_CIPCode")
    return found


def _charge(system: MolecularSystem) -> int:
    """Total charge by the non-bonded force, to the nearest integer."""
    charges = [
        force.getParticleParameters(i)[0].value_in_unit(unit.elementary_charge)
        for force in system.openmm_system.getForces()
        if isinstance(force, openmm.NonbondedForce)
        for i in range(force.getNumParticles())
    ]
    return round(sum(charges))
