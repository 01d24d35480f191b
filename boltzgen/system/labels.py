"""Atoms and residues as people see them in their file: ``CA of ALA 2``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from openmm import app

Names = tuple[tuple[str, str], ...]
"""Residue and atom name of every atom."""


class Labels:
    """Names for messages; the chain is named where there are several.

    names
        Those of the file where a reader changed them, one pair for each atom; none for the topology's own.
    """

    def __init__(self, topology: app.Topology, names: Names = ()) -> None:
        self._names = names
        self._chains = len({chain.id for chain in topology.chains()}) > 1

    def residue(self, residue: app.topology.Residue) -> str:
        """``ALA 2``, or ``ALA 2 of chain B``."""
        first = next(residue.atoms(), None)
        name = self._names[first.index][0] if self._names and first is not None else residue.name
        chain = f" of chain {residue.chain.id}" if self._chains and residue.chain.id.strip() else ""
        return f"{name} {residue.id}{residue.insertionCode.strip()}{chain}"

    def name(self, atom: app.topology.Atom) -> str:
        """``CA``."""
        return self._names[atom.index][1] if self._names else str(atom.name)

    def atom(self, atom: app.topology.Atom) -> str:
        """``CA of ALA 2``."""
        return f"{self.name(atom)} of {self.residue(atom.residue)}"

    def bond(self, a: app.topology.Atom, b: app.topology.Atom) -> str:
        """``CA - HA of ALA 2``, or both residues where there are two."""
        if a.residue is b.residue:
            return f"{self.name(a)} - {self.atom(b)}"
        return f"{self.atom(a)} - {self.atom(b)}"


def symbol_of(element: app.Element | None) -> str:
    """Chemical symbol, empty for a particle that is no atom."""
    return "" if element is None else str(element.symbol)


def both_names(labels: Labels, atom: app.topology.Atom) -> str:
    """``CA``, or ``1HB (here HB1)`` where OpenMM calls it otherwise than the file."""
    name = labels.name(atom)
    return name if name == atom.name else f"{name} (here {atom.name})"


def listed(items: Iterable[str], most: int = 4) -> str:
    """``a, b and c``; what is beyond ``most`` is counted."""
    names: Sequence[str] = list(dict.fromkeys(items))
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} others"]
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""
