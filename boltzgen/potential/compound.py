"""CustomCompoundBondForce and CustomCentroidBondForce: expressions of several points' geometry."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import openmm
import torch
from torch import Tensor

from boltzgen.potential.coordinates import Frame, Pairs, Rows
from boltzgen.potential.custom import per_row, tabulated_functions
from boltzgen.potential.expressions import Expression, names_in
from boltzgen.potential.forces import angle_vectors, global_parameters
from boltzgen.potential.terms import Index, Layout, Term, summed

_MEASURE = re.compile(r"\b(distance|angle|dihedral)\s*\(\s*((?:[pg]\d+\s*,\s*)+[pg]\d+)\s*\)")


@dataclass(frozen=True)
class Compound:
    """``sum expression(distances, angles, dihedrals, coordinates)`` over rows of k points."""

    points: list[Rows]
    measures: dict[str, list[Pairs]]
    expression: Expression

    def __call__(self, frame: Frame) -> Tensor:
        variables = {name: _measured(frame, pairs) for name, pairs in self.measures.items()}
        used = names_in(self.expression.text)
        for k, rows in enumerate(self.points, start=1):
            names = [f"{axis}{k}" for axis in "xyz"]
            if used.intersection(names):
                variables |= dict(zip(names, rows.take(frame.x).unbind(1), strict=True))
        return summed(self.expression(**variables), len(self.points[0].index), frame)


@dataclass(frozen=True)
class OfCentroids:
    """A term of weighted centroids of groups of atoms; ``weights`` is ``(n_groups, n_atoms)``."""

    weights: Tensor
    term: Term

    def __call__(self, frame: Frame) -> Tensor:
        centroids = (self.weights @ frame.x.flatten(1)).view(-1, *frame.x.shape[1:])
        return self.term(Frame(centroids))


def compound_bonds(force: openmm.CustomCompoundBondForce, layout: Layout) -> list[Term]:
    """An expression of the distances, angles and dihedrals of a few atoms per bond."""
    rows = [force.getBondParameters(k) for k in range(force.getNumBonds())]
    return [_compound(force, np.array([row[0] for row in rows], dtype=np.int64), rows, layout)]


def centroid_bonds(force: openmm.CustomCentroidBondForce, layout: Layout) -> list[Term]:
    """The same for centroids of groups of atoms, weighted by mass unless weights are given."""
    weights = np.zeros((force.getNumGroups(), layout.n_atoms))
    for group in range(force.getNumGroups()):
        atoms, given = force.getGroupParameters(group)
        values = np.array(given if len(given) else layout.masses[list(atoms)])
        np.add.at(weights[group], list(atoms), values / values.sum())
    rows = [force.getBondParameters(k) for k in range(force.getNumBonds())]
    groups = np.array([row[0] for row in rows], dtype=np.int64)
    term = _compound(force, groups, rows, Layout(np.ones(len(weights)), layout.like, layout.fused))
    return [OfCentroids(torch.from_numpy(weights).to(layout.like), term)]


def _compound(force: openmm.Force, points: Index, rows: list, layout: Layout) -> Compound:
    measures: dict[str, list[Pairs]] = {}

    def measured(match: re.Match[str]) -> str:
        kind = match.group(1)
        columns = [int(point) - 1 for point in re.findall(r"\d+", match.group(2))]
        name = "_".join(["measured", kind, *map(str, columns)])
        atoms = points[:, columns]
        measures[name] = list(angle_vectors(atoms, layout)) if kind == "angle" else layout.bonds(atoms)
        return name

    text = _MEASURE.sub(measured, force.getEnergyFunction())
    constants = global_parameters(force) | per_row(force, "Bond", [row[1] for row in rows])
    coordinates = [f"{axis}{k}" for k in range(1, points.shape[1] + 1) for axis in "xyz"]
    variables = (*measures, *coordinates)
    expression = layout.expression(text, constants, variables, tabulated_functions(force))
    return Compound([layout.rows(column) for column in points.T], measures, expression)


def _measured(frame: Frame, pairs: list[Pairs]) -> Tensor:
    """Distance, angle or dihedral, by the number of vectors."""
    if len(pairs) == 1:
        return frame.distance(pairs[0])
    return frame.angle(*pairs) if len(pairs) == 2 else frame.torsion(pairs)
