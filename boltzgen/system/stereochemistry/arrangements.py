"""What relabelling equivalent atoms does to the signs of stereochemical elements."""

from __future__ import annotations

import itertools

import networkx as nx

from boltzgen.errors import MolecularSystemError
from boltzgen.system.stereochemistry.automorphisms import Core, Relabelling
from boltzgen.system.stereochemistry.elements import StereoElement

Signs = tuple[int, ...]
"""+1 or -1 for each element: its arrangement."""
MOST_ARRANGEMENTS = 100_000
Action = tuple[list[int], list[int]]
"""For each element the one whose sign it takes, and by what it is multiplied."""


def actions_of(elements: list[StereoElement], core: Core, moves: list[Relabelling]) -> list[Action]:
    """What relabellings do to signs: for each element the one whose sign it takes, and a parity."""
    number = {frozenset(element.atoms): k for k, element in enumerate(elements)}
    actions = []
    for move in moves:
        whole = core.extended({atom: image for atom, image in move.items() if atom >= 0})
        sources = [number[frozenset(whole[atom] for atom in element.atoms)] for element in elements]
        pairs = zip(elements, (elements[k] for k in sources), strict=True)
        actions.append((sources, [_parity(element, image, whole) for element, image in pairs]))
    return actions


def marked(elements: list[StereoElement], core: Core) -> nx.Graph:
    """The core with a node for each bond that does not turn, so that none is relabelled as one that does.

    The nodes have negative numbers, which automorphisms map among themselves.
    """
    graph = core.graph.copy()
    for k, element in enumerate(elements):
        if len(element.atoms) == 2:
            graph.add_node(-1 - k, colour=element.kind)
            graph.add_edges_from((-1 - k, atom) for atom in element.atoms)
    return graph


def closed(
    chosen: set[StereoElement], elements: list[StereoElement], actions: list[Action]
) -> list[StereoElement]:
    """The chosen elements and what relabellings make of them."""
    numbers, size = {k for k, element in enumerate(elements) if element in chosen}, -1
    while len(numbers) > size:
        size = len(numbers)
        numbers |= {sources[k] for sources, _ in actions for k in numbers}
    return [elements[k] for k in sorted(numbers)]


def _parity(element: StereoElement, image: StereoElement, relabelling: Relabelling) -> int:
    """Parity of the substituents of ``element``, relabelled, in their order at ``image``."""
    parity = 1
    for atom, others in zip(element.atoms, element.substituents, strict=True):
        there = image.substituents[image.atoms.index(relabelling[atom])]
        places = [there.index(relabelling[other]) for other in others]
        parity *= (-1) ** sum(a > b for a, b in itertools.combinations(places, 2))
    return parity


def orbit_of(reference: Signs, actions: list[Action]) -> set[Signs]:
    """Signs of the reference and of all its relabellings."""
    reached, pending = {reference}, [reference]
    while pending:
        signs = pending.pop()
        for sources, parities in actions:
            new = tuple(p * signs[k] for k, p in zip(sources, parities, strict=True))
            if new not in reached:
                reached.add(new)
                pending.append(new)
        if len(reached) > MOST_ARRANGEMENTS:
            raise MolecularSystemError(
                "domain of Z",
                f"more than {MOST_ARRANGEMENTS:,} arrangements of the {len(reference)} centres and bonds are "
                "the same molecule with its atoms relabelled",
                "let isomers be (system.free_isomers: [all])",
            )
    return reached


def held(elements: list[StereoElement], orbit: set[Signs]) -> tuple[list[StereoElement], set[Signs]]:
    """Elements and signs without those that a relabelling changes alone."""
    left = list(elements)
    while left:
        without = {e: {(*signs[:k], *signs[k + 1 :]) for signs in orbit} for k, e in enumerate(left)}
        drop = next((e for e in left if 2 * len(without[e]) == len(orbit)), None)
        if drop is None:
            break
        left.remove(drop)
        orbit = without[drop]
    return left, orbit
