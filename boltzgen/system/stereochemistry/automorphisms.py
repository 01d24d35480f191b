"""Symmetries of a molecular graph: relabellings of atoms that leave elements and bonds as they are.

The graph is first reduced to its core: pendant branches that cannot matter become part of the colour of the
atom they hang on. The core's automorphisms come as generators, found as in the algorithm of Schreier and Sims
(Sims, Computational Problems in Abstract Algebra, 1970): atom after atom is fixed, and for each atom that the
next one can be mapped to, one automorphism does so.
"""

from __future__ import annotations

import hashlib
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

    def with_branches(atom: int) -> str:
        return f"({colours[atom]}{''.join(sorted(colours[b] for b in branches[atom]))})"

    def close(atom: int) -> None:
        nonlocal order
        order *= _copies(colours[b] for b in branches[atom])
        colours[atom] = with_branches(atom)

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
        waiting = set(leaves)
        for leaf in leaves:
            if leaf not in waiting:
                continue
            atom, partner = leaf, next(iter(left.neighbors(leaf)), None)
            if partner in waiting:  # the two last atoms of a fragment: its middle is their bond
                atom, partner = sorted((leaf, partner), key=with_branches)
                order *= 2 if with_branches(atom) == with_branches(partner) else 1
            waiting -= {atom, partner}
            close(atom)
            left.remove_node(atom)
            (fragments if partner is None else branches[partner]).append(atom)
    order *= _copies(colours[atom] for atom in fragments)
    for atom in left:
        close(atom)
        left.nodes[atom]["colour"] = colours[atom]
    return Core(left, branches, colours, order)


def _copies(colours: Iterable[str]) -> int:
    """Number of ways of exchanging what has the same colour."""
    return math.prod(math.factorial(n) for n in Counter(colours).values())


def generators(graph: nx.Graph) -> tuple[list[Relabelling], int]:
    """Automorphisms that generate all those of a graph with a ``colour`` at every node, and their number."""
    found: list[Relabelling] = []
    order, fixed = 1, dict.fromkeys(graph, "")
    classes = _refined(graph, fixed)
    for base in sorted(graph):
        members = Counter(classes.values())
        if len(members) == len(graph):
            break
        if members[classes[base]] == 1:
            continue
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
        classes = _refined(graph, fixed)
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
    """Colours of a graph with some atoms marked, refined by those of neighbours until no class splits.

    They are digests of colours and marks, the same in isomorphic graphs (Weisfeiler and Leman, 1968).
    """
    colours = {atom: _digest(f"{colour}|{marks[atom]}") for atom, colour in graph.nodes(data="colour")}
    n_classes = 0
    while len(set(colours.values())) > n_classes:
        n_classes = len(set(colours.values()))
        colours = {
            atom: _digest(colours[atom] + "".join(sorted(colours[other] for other in graph[atom])))
            for atom in graph
        }
    return colours


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _mapping(graph: nx.Graph, fixed: dict[int, str], base: int, other: int) -> Relabelling | None:
    """An automorphism that maps ``base`` to ``other`` and leaves the fixed atoms where they are."""
    sides = []
    for chosen in (base, other):
        colours = _refined(graph, fixed | {chosen: "base"})
        side = nx.Graph()
        side.add_nodes_from((atom, {"colour": colour}) for atom, colour in colours.items())
        side.add_edges_from(graph.edges)
        sides.append(side)
    matcher = nx.isomorphism.GraphMatcher(*sides, node_match=lambda a, b: a["colour"] == b["colour"])
    return next(matcher.isomorphisms_iter(), None)
