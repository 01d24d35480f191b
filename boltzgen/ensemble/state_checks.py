"""Declared states that tell nothing apart: a region of every value or of none, in another unit, unvisited.

What a variable can be at all is estimated from the bonds of the molecule and is generous; what it is in
the data is looked up. States of no use are refused by the former and warned of by the latter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.errors import ConfigError
from boltzgen.system.bonds import Pair, custom_bonds, harmonic_bonds
from boltzgen.system.collective_variables import CollectiveVariable, State
from boltzgen.system.molecular_system import MolecularSystem

LONGEST_BOND = 1.3
"""Length of a bond at most, over that in the reference configuration,"""
DEVIATIONS = 6.0
"""or so many thermal deviations beyond it, whichever is longer."""
NEGLIGIBLE = 0.01
"""Part of the possible range that a state may leave out and still counts as all of it."""
MOST_LEFT_OUT = 0.5
"""Weight of the data outside the two states of Delta F that is warned of."""
_UNITS = {"nm": ((10.0, "Angstrom was"), (1000.0, "pm were")), "rad": ((180 / math.pi, "degrees were"),)}
"""Units that an interval may have been meant in, and how many of them there are in ours."""
_NEARLY = 2.0
"""How far beyond the largest value, as a factor, a distance may end in the unit that was meant."""

Range = tuple[float, float]


def check_states(system: MolecularSystem, where: Mapping[str, str]) -> None:
    """ConfigError for a state that holds every value its variable can have, or none.

    ``where`` has the dotted key of states by name; others are the system's own.
    """
    for state in system.states:
        low, high = possible_range(system, state.cv)
        said = f"the variable {state.cv.name} can have ({_told((low, high), state.cv.unit)})"
        wanted = _unit_meant(state, (low, high)) or "give the part of that range that is meant"
        key = where.get(state.name, f"{system.name}: state {state.name}")
        end = high if math.isfinite(high) else 1.0 + max(_ends(state), default=0.0)
        held = _held(state.intervals, (low, end))
        if held <= 0.0:
            raise ConfigError(key, f"holds no value that {said}", wanted)
        endless = any(end == math.inf for _, end in state.intervals)
        if held >= (1 - NEGLIGIBLE) * (end - low) and (endless or math.isfinite(high)):
            raise ConfigError(key, f"covers every value that {said}", wanted)


def possible_range(system: MolecularSystem, cv: CollectiveVariable) -> Range:
    """The least and the largest value [rad or nm] that a variable can have, estimated generously.

    No two atoms are farther apart than the bonds between them reach, so that no radius of gyration exceeds
    sqrt(3/8) of that (Jung's theorem), and no rmsd sqrt(2) times as much. Without such bonds there is no end.
    """
    if cv.kind == "torsion":
        return -math.pi, math.pi
    if cv.kind == "angle":
        return 0.0, math.pi
    reach = _reach(system, cv.atoms or tuple(range(system.n_atoms)))
    return 0.0, reach * {"radius_of_gyration": math.sqrt(3 / 8), "rmsd": math.sqrt(3 / 4)}.get(cv.kind, 1.0)


def state_warnings(system: MolecularSystem, data: WeightedEnsemble) -> list[str]:
    """A line of warning for every state that frames of the data never or always visit.

    And for the two states of Delta F where they have frames in common or leave most of the data out.
    """
    visits = [state.members(data.positions) for state in system.states]
    full = [state for state, inside in zip(system.states, visits, strict=True) if inside.all()]
    found = [
        f"warning: the data never visit the state {state.name}, so that the network cannot learn it and "
        f"samples will hardly be found there{_seen(state, data, full)}simulate longer or with "
        "more temperatures, or bring frames of it"
        for state, inside in zip(system.states, visits, strict=True)
        if not inside.any()
    ]
    if not found:
        found = [
            f"warning: every frame of the data is in the state {state.name}, which tells nothing apart"
            f"{_seen(state, data, [])}end it inside that range, or bring frames outside it"
            for state in full
        ]
    return [*found, *_of_the_first_two(system.states, visits, data.weights)]


def overlap_warnings(system: MolecularSystem) -> list[str]:
    """A line of warning where the two states of Delta F overlap, as far as their intervals tell."""
    if len(system.states) < 2 or system.states[0].cv != system.states[1].cv:
        return []
    a, b = system.states[:2]
    if not any(_held(b.intervals, interval) > 0 for interval in a.intervals):
        return []
    return [f"warning: the states {a.name} and {b.name} of Delta F overlap; make their intervals disjoint"]


def _of_the_first_two(
    states: tuple[State, ...], visits: list[NDArray[np.bool_]], weights: NDArray[np.float64]
) -> Iterator[str]:
    """Warnings of the two states of Delta F together, both of which the data visit."""
    if len(states) < 2 or not (visits[0].any() and visits[1].any()):
        return
    names = f"the states {states[0].name} and {states[1].name} of Delta F"
    both = int((visits[0] & visits[1]).sum())
    outside = float(weights[~(visits[0] | visits[1])].sum())
    if both:
        yield f"warning: {both} of {len(weights)} frames are in both {names}; make their intervals disjoint"
    if outside > MOST_LEFT_OUT:
        yield (
            f"warning: {names} leave out {outside:.0%} of the data, so that their free energies say little "
            "of the molecule; widen their intervals if that is not meant"
        )


def _seen(state: State, data: WeightedEnsemble, full: list[State]) -> str:
    """Where the variable lies in the data, or the state where it goes around; and the unit that was meant.

    ``full`` are the states that hold every frame.
    """
    values = state.cv.values(data.positions)
    seen = float(values.min()), float(values.max())
    unit, lies = _unit_meant(state, seen), f"{state.cv.name} is {_told(seen, state.cv.unit)} in the data"
    if state.cv.periodic and seen[1] - seen[0] > math.pi:  # on both sides of +-pi
        spans = " or ".join(_told(span, state.cv.unit) for span in state.intervals)
        lies = f"{state.cv.name} from {spans}"
    held = f", every frame in {' and '.join(other.name for other in full)}" if full else ""
    return f" ({lies}{held}); {unit}{', else ' if unit else ''}"


def _unit_meant(state: State, values: Range) -> str:
    """A remedy where the ends of a state lie within the values in another unit; empty where not."""
    ends = [end for end in _ends(state) if end]
    for number, were in _UNITS[state.cv.unit]:
        larger = state.cv.unit == "nm" or max(map(abs, ends), default=0.0) > math.pi
        largest = values[1] * _NEARLY if state.cv.unit == "nm" else values[1]
        if larger and any(values[0] < end / number < largest for end in ends):
            return f"intervals are in {state.cv.unit}: if {were} meant, divide by {number:g}"
    return ""


def _ends(state: State) -> list[float]:
    return [end for interval in state.intervals for end in interval if math.isfinite(end)]


def _held(intervals: tuple[Range, ...], within: Range) -> float:
    """Length of the union of intervals inside another one."""
    total, done = 0.0, within[0]
    for low, high in sorted(intervals):
        start, end = max(low, done), min(high, within[1])
        total, done = total + max(end - start, 0.0), max(done, end)
    return total


def _told(values: Range, unit: str) -> str:
    if math.isinf(values[1]):
        return f"{values[0]:.3g} {unit} and more"
    return f"{values[0]:.3g} to {values[1]:.3g} {unit}"


def _reach(system: MolecularSystem, atoms: tuple[int, ...]) -> float:
    """How far apart [nm] two of the atoms can be: all bonds of the shortest path between them stretched."""
    graph = nx.Graph()
    graph.add_nodes_from(range(system.n_atoms))
    graph.add_weighted_edges_from((i, j, length) for (i, j), length in _longest_bonds(system).items())
    farthest = 0.0
    for atom in atoms:
        lengths = nx.single_source_dijkstra_path_length(graph, atom)
        farthest = max(farthest, *(lengths.get(other, math.inf) for other in atoms))
    return farthest


def _longest_bonds(system: MolecularSystem) -> dict[Pair, float]:
    """Length [nm] that each bond of a harmonic force has at most; another force may let a bond break."""
    found, free = {}, custom_bonds(system.openmm_system)
    for (i, j), (_, stiffness) in harmonic_bonds(system.openmm_system).items():
        if (i, j) in system.bonds and (i, j) not in free:
            length = float(np.linalg.norm(system.positions[i] - system.positions[j]))
            thermal = math.sqrt(system.kT / stiffness)
            found[i, j] = max(LONGEST_BOND * length, length + DEVIATIONS * thermal)
    return found
