"""Torsions of heavy atoms, as units that regions of configurations are told apart by."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from boltzgen import geometry
from boltzgen.ensemble.regions import Positions, Unit
from boltzgen.ensemble.weighted import Array
from boltzgen.system.molecular_system import MolecularSystem

End = tuple[int, int]
"""An atom at the end of a torsion, and how many equivalent ones there are in its place."""


def torsion_units(system: MolecularSystem) -> list[Unit]:
    """One torsion for each bond between heavy atoms that have other heavy neighbours.

    At each end it is measured from a neighbour that is like no other there, a heavy one if possible. Where
    all m neighbours are equivalent (ortho carbons of a ring, oxygens of a carboxylate) the angle has a
    meaning modulo 2 pi / m, and is multiplied by m. Torsions with equivalent atoms make one unit.
    """
    kinds: dict[tuple[int, ...], list[tuple[tuple[int, ...], int]]] = {}
    torsions = [cv.atoms for cv in system.collective_variables if cv.kind == "torsion"]
    named = {int(system.atom_classes[atom]) for atoms in torsions for atom in atoms}
    for b, c in system.bonds:
        left, right = _end(system, b, c, named), _end(system, c, b, named)
        if left is None or right is None:
            continue
        atoms, fold = (left[0], b, c, right[0]), math.lcm(left[1], right[1])
        classes = tuple(int(k) for k in system.atom_classes[list(atoms)])
        kinds.setdefault(min((*classes, fold), (*classes[::-1], fold)), []).append((atoms, fold))
    return [_torsion_unit(system, torsions) for torsions in kinds.values()]


def _end(system: MolecularSystem, atom: int, across: int, named: set[int]) -> End | None:
    """The neighbour that a torsion is measured from; None where there is no heavy one, or no unique choice.

    The classes of atoms of collective variables, ``named``, are preferred.
    """
    others = [j for j in system.graph.neighbors(atom) if j != across]
    if _is_hydrogen(system, atom) or all(_is_hydrogen(system, j) for j in others):
        return None
    kind = {j: int(system.atom_classes[j]) for j in others}
    alike = Counter(kind.values())
    others.sort(key=lambda j: (_is_hydrogen(system, j), kind[j] not in named, kind[j]))
    unique = [j for j in others if alike[kind[j]] == 1]
    if unique:
        return unique[0], 1
    return (others[0], len(others)) if len(alike) == 1 else None


def _is_hydrogen(system: MolecularSystem, atom: int) -> bool:
    label = str(system.graph.nodes[atom]["label"])
    return label.split(":")[0] in ("H", "D")


def _torsion_unit(system: MolecularSystem, torsions: Sequence[tuple[tuple[int, ...], int]]) -> Unit:
    def evaluate(x: Positions) -> Array:
        tensor = torch.as_tensor(x, dtype=torch.float64)
        angles = [fold * geometry.torsion(tensor, atoms) for atoms, fold in torsions]
        wrapped = torch.remainder(torch.stack(angles, 1) + math.pi, 2 * math.pi) - math.pi
        return np.asarray(wrapped)

    atoms, fold = torsions[0]
    return Unit(_torsion_name(system, atoms, fold), evaluate, len(torsions), periodic=True)


def _torsion_name(system: MolecularSystem, atoms: tuple[int, ...], fold: int) -> str:
    """That of a collective variable about the same bond, or the atoms' names."""
    for cv in system.collective_variables:
        if cv.kind == "torsion" and fold == 1 and cv.atoms in (atoms, atoms[::-1]):
            return cv.name
    names = [atom.name for atom in system.topology.atoms()]
    text = "-".join(names[k] for k in atoms)
    return text if fold == 1 else f"{fold} x {text}"
