"""Harmonic bonds of a System: what its forces say of the length and the stiffness of pairs of atoms."""

from __future__ import annotations

from collections import defaultdict

import networkx as nx
import openmm

Pair = tuple[int, int]


def harmonic_terms(system: openmm.System) -> list[tuple[int, int, float, float]]:
    """Pairs of atoms ``i < j`` with a harmonic bond, its length [nm] and its force constant [kJ/mol/nm^2]."""
    return [
        (min(i, j), max(i, j), length._value, stiffness._value)
        for force in system.getForces()
        if isinstance(force, openmm.HarmonicBondForce)
        for i, j, length, stiffness in map(force.getBondParameters, range(force.getNumBonds()))
    ]


def harmonic_bonds(system: openmm.System) -> dict[Pair, tuple[float, float]]:
    """Length and force constant by pair: several terms of one pair make one, none where they cancel."""
    stiffness: dict[Pair, float] = defaultdict(float)
    moment: dict[Pair, float] = defaultdict(float)
    for i, j, length, k in harmonic_terms(system):
        stiffness[i, j] += k
        moment[i, j] += k * length
    return {pair: (moment[pair] / k, k) for pair, k in stiffness.items() if k > 0.0}


def custom_bonds(system: openmm.System) -> set[Pair]:
    """Pairs with a bond of another function, which may let them come apart."""
    return {
        (min(i, j), max(i, j))
        for force in system.getForces()
        if isinstance(force, openmm.CustomBondForce)
        for i, j, _ in map(force.getBondParameters, range(force.getNumBonds()))
    }


def constrained_pairs(system: openmm.System) -> set[Pair]:
    """Pairs whose distance is constrained."""
    pairs = (system.getConstraintParameters(k)[:2] for k in range(system.getNumConstraints()))
    return {(min(i, j), max(i, j)) for i, j in pairs}


def side_of(graph: nx.Graph, i: int, j: int) -> list[int]:
    """Atoms that hang on j when its bond to i is cut, sorted; all of the molecule where a ring leads back."""
    return sorted(nx.node_connected_component(nx.restricted_view(graph, [], [(i, j)]), j))
