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
            lacking = missing.get(residue.index, set())
            first = _first_atoms(residue.name, place, lacking)
            if residue.name == "PRO" and "CD" in lacking and "C" in before and {"N", "CA"} <= place.keys():
                first["CD"] = _third_in_plane(place["N"], before["C"], place["CA"])
            for name, where in first.items():
                topology.addAtom(name, app.Element.getBySymbol(name[0]), new)
                places.append(where)
            before = place
    for one, other in structure.topology.bonds():
        topology.addBond(copies[one], copies[other])
    return Structure(topology, np.array(places))


def _first_atoms(residue: str, place: Places, missing: set[str]) -> Places:
    """Names and places [nm] of what is put in."""
    found: Places = {}
    if "CB" in missing and {"N", "CA", "C"} <= place.keys():
        along, out = place["CA"] - place["N"], place["C"] - place["CA"]
        found["CB"] = place["CA"] + 0.568 * along - 0.541 * out - 5.827 * np.cross(along, out)
    around = _AROUND.get(f"{residue} CB", ())
    one_missing = [name for name in around[1:] if name in missing]
    if (
        len(one_missing) == 1
        and {"CB", "N", "CA", "C", *around} - missing <= place.keys()
        and "CB" not in missing
    ):
        hand = _hand(place)
        k = around.index(one_missing[0])
        u, v = (_unit(place[around[j % 3]] - place["CB"]) for j in (k + 1, k + 2))
        across, normal = _unit(u + v), _unit(np.cross(u, v))
        length = _TO_OXYGEN_NM if one_missing[0][0] == "O" else _TO_CARBON_NM
        half = math.radians(109.5 / 2)
        found[one_missing[0]] = place["CB"] + length * (
            hand * math.sin(half) * normal - math.cos(half) * across
        )
    return found


def _third_in_plane(
    nitrogen: NDArray[np.float64], one: NDArray[np.float64], other: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The carbon that makes three flat neighbours of a nitrogen."""
    return np.asarray(nitrogen - _TO_CARBON_NM * _unit(_unit(one - nitrogen) + _unit(other - nitrogen)))


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vector / np.linalg.norm(vector))


def _volume(place: Places, centre: str, around: tuple[str, ...]) -> float:
    return float(np.linalg.det([place[name] - place[centre] for name in around]))


def _hand(place: Places) -> float:
    """-1 for D residues, of which everything is mirrored."""
    return math.copysign(1.0, _volume(place, "CA", _AROUND["CA"])) if "CB" in place else 1.0


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
            hand = math.copysign(1.0, volume)
