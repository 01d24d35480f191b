"""First atoms of side chains that a structure lacks, and whether centres came out as they should."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from openmm import app, unit

from boltzgen.errors import MolecularSystemError
from boltzgen.system.builders.structures import Structure
from boltzgen.system.labels import Labels

Places = dict[str, NDArray[np.float64]]
_AROUND = {
    "CA": ("N", "C", "CB"),
    "THR CB": ("CA", "OG1", "CG2"),
    "ILE CB": ("CA", "CG1", "CG2"),
}
"""Atoms around centres in the order in which they span a positive volume in L residues."""
_UPRIGHT_NM3 = 0.0008
"""A third of that volume, which is near 0.0025 nm^3."""
_TO_CARBON_NM, _TO_OXYGEN_NM = 0.153, 0.142


def with_first_atoms(structure: Structure, missing: Mapping[int, set[str]]) -> Structure:
    """A structure with the atoms put in that decide about centres: CB of L residues, and what is on one.

    PDBFixer lays a whole residue over what there is of one, which may turn a centre over. ``missing`` has the
    names of atoms by the index of their residue.
    """
    topology, places = app.Topology(), list[NDArray[np.float64]]()
    copies: dict[app.topology.Atom, app.topology.Atom] = {}
    for chain in structure.topology.chains():
        new_chain, before = topology.addChain(chain.id), Places()
        for residue in chain.residues():
            new = topology.addResidue(residue.name, new_chain, residue.id, residue.insertionCode)
            copies |= {atom: topology.addAtom(atom.name, atom.element, new) for atom in residue.atoms()}
            place = {atom.name: structure.positions[atom.index] for atom in residue.atoms()}
            places += [structure.positions[atom.index] for atom in residue.atoms()]
            first = _first_atoms(residue.name, place, before, missing.get(residue.index, set()))
            for name, where in first.items():
                topology.addAtom(name, app.Element.getBySymbol(name[0]), new)
                places.append(where)
            before = place
    for one, other in structure.topology.bonds():
        topology.addBond(copies[one], copies[other])
    return Structure(topology, np.array(places))


def _first_atoms(residue: str, place: Places, before: Places, missing: set[str]) -> Places:
    """Names and places [nm] of what is put in, by what there is of a residue and of the one before it."""
    found: Places = {}
    if "CB" in missing and {"N", "CA", "C"} <= place.keys():
        along, out = place["CA"] - place["N"], place["C"] - place["CA"]
        found["CB"] = place["CA"] + 0.568 * along - 0.541 * out - 5.827 * np.cross(along, out)
    if residue == "PRO" and "CD" in missing and "C" in before and {"N", "CA"} <= place.keys():
        across = _unit(before["C"] - place["N"]) + _unit(place["CA"] - place["N"])
        found["CD"] = place["N"] - _TO_CARBON_NM * _unit(across)
    around = _AROUND.get(f"{residue} CB", ())
    lacking = [name for name in around[1:] if name in missing]
    if len(lacking) == 1 and {"N", "CA", "C", "CB", *around} - set(lacking) <= place.keys():
        found[lacking[0]] = _third_at_beta(place, around, lacking[0])
    return found


def _third_at_beta(place: Places, around: tuple[str, ...], name: str) -> NDArray[np.float64]:
    """The place of one of the three atoms around CB by the other two, mirrored in D residues."""
    k = around.index(name)
    u, v = (_unit(place[around[j % 3]] - place["CB"]) for j in (k + 1, k + 2))
    hand = math.copysign(1.0, _volume(place, "CA", _AROUND["CA"]))
    half, length = math.radians(109.5 / 2), _TO_OXYGEN_NM if name[0] == "O" else _TO_CARBON_NM
    out = hand * math.sin(half) * _unit(np.cross(u, v)) - math.cos(half) * _unit(u + v)
    return np.asarray(place["CB"] + length * out)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vector / np.linalg.norm(vector))


def _volume(place: Places, centre: str, around: tuple[str, ...]) -> float:
    return float(np.linalg.det([place[name] - place[centre] for name in around]))


def check_arrangement(
    where: Path | str, before: Structure, topology: app.Topology, positions: unit.Quantity
) -> None:
    """MolecularSystemError for a centre with new atoms that came out as the mirror image of its own."""
    for residue, was in zip(topology.residues(), before.topology.residues(), strict=True):
        there = {atom.name for atom in was.atoms()}
        place = {
            atom.name: np.array(positions[atom.index].value_in_unit(unit.nanometer))
            for atom in residue.atoms()
        }
        hand = 1.0
        for centre, around in (("CA", _AROUND["CA"]), ("CB", _AROUND.get(f"{residue.name} CB", ()))):
            if not around or not {centre, *around} <= place.keys():
                continue
            volume = _volume(place, centre, around)
            if not {centre, *around} <= there and volume * hand < _UPRIGHT_NM3:
                raise MolecularSystemError(
                    where,
                    f"cannot be completed: {centre} of {Labels(topology).residue(residue)} came out as its "
                    "mirror image",
                    "complete it by another program",
                )
            hand = math.copysign(1.0, volume)  # of D residues, everything is mirrored
