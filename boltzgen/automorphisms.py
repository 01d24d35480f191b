"""Symmetries of a molecular graph: relabellings of atoms that leave elements and bonds as they are.

The graph is first reduced to its core: pendant branches that cannot matter become part of the colour of the
atom they hang on. The core's automorphisms come as generators, found as in the algorithm of Schreier and Sims
(Sims, Computational Problems in Abstract Algebra, 1970): atom after atom is fixed, and for each atom that the
next one can be mapped to, one automorphism does so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import networkx as nx

Relabelling = dict[int, int]
"""Atom -> the atom whose place it takes."""
Matters = Callable[[int, list[int], list[str]], bool]
"""Whether an atom stays in the core, from its index and the branches stripped from it: roots, colours."""


@dataclass(frozen=True)
class Core:
    """What is left of a graph without the branches that do not matter.

    graph
        Atoms that are left, with their ``colour``: the element and the branches that hung on it.
    branches
        Roots of the branches stripped from each atom, core or not.
    colours
        Colour of every atom with all of its branches.
    order
        Number of relabellings of atoms within the branches.
    """

    graph: nx.Graph
    branches: dict[int, list[int]]
    colours: dict[int, str]
    order: int

    def extended(self, mapping: Relabelling) -> Relabelling:
        """A relabelling of the core as one of all atoms that hang on it."""
        whole, pending = dict(mapping), list(mapping.items())
        while pending:
            atom, image = pending.pop()
            ours, theirs = (
                sorted(self.branches[a], key=lambda b: (self.colours[b], b)) for a in (atom, image)
            )
            pairs = list(zip(ours, theirs, strict=True))
            whole.update(pairs)
            pending += pairs
        return whole


def core_of(graph: nx.Graph, matters: Matters) -> Core:
    """Strip branches until every leaf matters; ``graph`` has a ``label`` at every node."""
    left, order = graph.copy(), 1
    branches: dict[int, list[int]] = {atom: [] for atom in graph}
    colours = {atom: str(label) for atom, label in graph.nodes(data="label")}

    def hang(atom: int, on: int | None) -> None:
        nonlocal order
        inner = [colours[b] for b in branches[atom]]
        order *= _copies(inner)
        colours[atom] = f"({colours[atom]}{''.join(sorted(inner))})"
        left.remove_node(atom)
        if on is not None:
            branches[on].append(atom)

    fragments: list[int] = []
    while True:
        leaves = [
            atom
            for atom in left
            if left.degree(atom) <= 1
            and not matters(atom, branches[atom], [colours[b] for b in branches[atom]])
        ]
        if not leaves:
            break
        for atom in leaves:
            partner = next(iter(left.neighbors(atom)), None)
            hang(atom, partner)
            if partner is None:
                fragments.append(atom)
            elif partner in leaves:  # the two last atoms of a fragment: its middle is their bond
                order *= 2 if _same(atom, partner, branches, colours) else 1
                leaves.remove(partner)
    order *= _copies([colours[atom] for atom in fragments])
    for atom in left:
        inner = [colours[b] for b in branches[atom]]
        order *= _copies(inner)
        colours[atom] = f"({colours[atom]}{''.join(sorted(inner))})"
        left.nodes[atom]["colour"] = colours[atom]
    return Core(left, branches, colours, order)


def _same(atom: int, partner: int, branches: dict[int, list[int]], colours: dict[int, str]) -> bool:
    """Whether ``atom``, hung on ``partner`` just now, looks like the rest of it."""
    rest = sorted(colours[b] for b in branches[partner] if b != atom)
    return colours[atom] == f"({colours[partner]}{''.join(rest)})"


def _copies(colours: Iterable[str]) -> int:
    """Number of ways of exchanging what has the same colour."""
    return math.prod(math.factorial(n) for n in Counter(colours).values())


def generators(graph: nx.Graph) -> tuple[list[Relabelling], int]:
    """Automorphisms that generate all those of a graph with a ``colour`` at every node, and their number."""
    found: list[Relabelling] = []
    order, fixed = 1, dict.fromkeys(graph, "")
    for base in sorted(graph):
        classes = _refined(graph, fixed)
        if len(set(classes.values())) == len(graph):
            break
        orbit, level = {base}, []
        for other in sorted(graph):
            if other in orbit or classes[other] != classes[base]:
                continue
            mapping = _mapping(graph, fixed, base, other)
            if mapping is not None:
                level.append(mapping)
                orbit = _closed(orbit, level)
        found += level
        order *= len(orbit)
        fixed[base] = f"fixed {base}"
    return found, order


def _closed(orbit: set[int], level: list[Relabelling]) -> set[int]:
    """All atoms that repeated relabelling takes those of ``orbit`` to."""
    reached, pending = set(orbit), list(orbit)
    while pending:
        atom = pending.pop()
        new = {g[atom] for g in level} - reached
        reached |= new
        pending += new
    return reached


def _refined(graph: nx.Graph, marks: dict[int, str]) -> dict[int, str]:
    """Weisfeiler-Lehman colours of a graph with some atoms marked."""
    marked = _marked(graph, marks)
    hashes = nx.weisfeiler_lehman_subgraph_hashes(
        marked,
        node_attr="colour",
        iterations=max(len(graph) // 2, 1),
        digest_size=16,
        include_initial_labels=True,
    )
    return {atom: found[-1] for atom, found in hashes.items()}


def _marked(graph: nx.Graph, marks: dict[int, str]) -> nx.Graph:
    copy = nx.Graph()
    copy.add_nodes_from(
        (atom, {"colour": f"{colour}|{marks[atom]}"}) for atom, colour in graph.nodes(data="colour")
    )
    copy.add_edges_from(graph.edges)
    return copy


def _mapping(graph: nx.Graph, fixed: dict[int, str], base: int, other: int) -> Relabelling | None:
    """An automorphism that maps ``base`` to ``other`` and leaves the fixed atoms where they are."""
    sides = []
    for chosen in (base, other):
        marks = fixed | {chosen: "base"}
        side = nx.Graph()
        side.add_nodes_from((atom, {"colour": colour}) for atom, colour in _refined(graph, marks).items())
        side.add_edges_from(graph.edges)
        sides.append(side)
    matcher = nx.isomorphism.GraphMatcher(*sides, node_match=lambda a, b: a["colour"] == b["colour"])
    return next(matcher.isomorphisms_iter(), None)
