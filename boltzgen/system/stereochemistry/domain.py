"""The domain of Z: which arrangement of stereocentres, double bonds and amides the configurations have."""

from __future__ import annotations

import functools
import zlib
from collections import Counter
from decimal import Decimal

import torch
from torch import Tensor

from boltzgen.errors import MolecularSystemError
from boltzgen.geometry import mirror
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.stereochemistry.arrangements import actions_of, closed, held, marked, orbit_of
from boltzgen.system.stereochemistry.automorphisms import generators
from boltzgen.system.stereochemistry.elements import StereoElement, stereo_elements

PLURALS = {"centre": "centres", "double bond": "double bonds", "amide": "amides", "axis": "axes"}
"""What elements of each kind are called together, as in ``free_isomers``."""
AT_ONCE = 4096
"""Arrangements that signs are compared with at a time."""
COUNTS = ("wrong_hand", "diastereomers")
"""Of `Domain.counts`: enantiomers, and other isomers."""


class Domain:
    """Configurations that are the molecule of the reference structure, atoms relabelled in any way.

    Of two enantiomers it holds the one of the reference. What the system lists as ``free_isomers`` may have
    either arrangement.

    elements, free
        What is arranged as in the reference, and what may have either arrangement.
    n_relabellings
        Number of automorphisms of the molecular graph that take bonds that do not turn into such bonds.
    """

    def __init__(self, system: MolecularSystem) -> None:
        self.system = system
        elements, core = stereo_elements(system)
        moves, order = generators(marked(elements, core))
        self.n_relabellings = order * core.order
        asked = {*self._asked_free(elements), *(e for e in elements if e.crossed)}
        self.free = closed(asked, elements, actions_of(elements, core, moves))
        possible = [e for e in elements if e not in self.free]
        signs = _signs(possible, torch.as_tensor(system.positions)[None])[0].tolist()
        orbit = orbit_of(tuple(s or 1 for s in signs), actions_of(possible, core, moves))
        self.elements, orbit = held(possible, orbit)
        _check_arranged(
            system, [e for e, s in zip(possible, signs, strict=True) if not s and e in self.elements]
        )
        parity = [-1 if element.odd else 1 for element in self.elements]
        mirrored = {tuple(p * s for p, s in zip(parity, signs, strict=True)) for signs in orbit}
        self.reflects = mirrored != orbit
        """Whether mirror images are outside: there are two enantiomers."""
        self._inside = torch.tensor(sorted(orbit), dtype=torch.int8).reshape(len(orbit), -1)
        self._mirrored = torch.tensor(sorted(mirrored), dtype=torch.int8).reshape(len(orbit), -1)

    def _asked_free(self, elements: list[StereoElement]) -> list[StereoElement]:
        """The elements that the system's ``free_isomers`` name."""
        names = {self.name(e): e for e in elements}
        kinds = {"all", *PLURALS.values()}
        free = []
        for asked in self.system.free_isomers:
            chosen = [
                e for name, e in names.items() if asked in (name, name.split(" ")[-1], "all", PLURALS[e.kind])
            ]
            if not chosen and asked not in kinds:
                raise MolecularSystemError(
                    "system.free_isomers",
                    f"{asked} names nothing here",
                    f"there are {', '.join(sorted(kinds))}" + (f", and {', '.join(names)}" if names else ""),
                )
            free += chosen
        return free

    def signs(self, x: Tensor) -> Tensor:
        """Arrangement of each element, ``(n, n_elements)`` of +1 and -1."""
        return _signs(self.elements, x)

    def contains(self, x: Tensor) -> Tensor:
        """Whether configurations ``(n, n_atoms, 3)`` are inside, ``(n,)`` bool."""
        return _among(self.signs(x), self._inside)

    def reflected(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Enantiomers reflected into the domain, and whether each configuration then is inside, ``(n,)``."""
        signs = self.signs(x)
        inside = _among(signs, self._inside)
        wrong = _among(signs, self._mirrored) & ~inside if self.reflects else torch.zeros_like(inside)
        return torch.where(wrong.view(-1, 1, 1), mirror(x), x), inside | wrong

    def counts(self, x: Tensor) -> Counter[str]:
        """How many configurations are enantiomers (``wrong_hand``) or other isomers (``diastereomers``).

        Beside them stand the elements that are wrong in those isomers, by name. Positions that are not finite
        are no isomers.
        """
        signs = self.signs(x[x.isfinite().flatten(1).all(1)])
        inside, mirrored = (_among(signs, allowed) for allowed in (self._inside, self._mirrored))
        other = ~inside & ~mirrored
        found = Counter(dict(zip(COUNTS, (int((mirrored & ~inside).sum()), int(other.sum())), strict=True)))
        if not other.any():
            return found
        allowed = torch.cat([self._inside, self._mirrored])
        rows, numbers = signs[other].cpu().unique(dim=0, return_counts=True)
        for row, n in zip(rows, numbers.tolist(), strict=True):
            wrong = row != allowed
            nearest = wrong[wrong.sum(1).argmin()]
            found.update({self.name(self.elements[k]): n for k in nearest.nonzero().flatten().tolist()})
        return found

    @functools.cached_property
    def _atoms(self) -> list[str]:
        return [f"{atom.name}({atom.index})" for atom in self.system.topology.atoms()]

    def name(self, element: StereoElement) -> str:
        """What an element is called in messages, after its atoms."""
        return f"{element.kind} " + "-".join(self._atoms[atom] for atom in element.atoms)

    def arrangement(self, element: StereoElement) -> str:
        """The arrangement of an element in the reference: cis or trans where that tells it, else a sign."""
        positive = bool(element.value(torch.as_tensor(self.system.positions)) > 0)
        if element.odd or any(len(self._heavy(others)) != 1 for others in element.substituents):
            return "+" if positive else "-"
        return "cis" if positive else "trans"

    def _heavy(self, atoms: tuple[int, ...]) -> list[int]:
        """Those atoms of the substituents of an end that a chain goes on with."""
        graph, symbols = self.system.graph, list(self.system.topology.atoms())
        return [i for i in atoms if symbols[i].name[:1] != "H" and graph.degree(i) > 1]

    @property
    def description(self) -> str:
        """What an absolute log Z covers, in words."""
        parts = ["zero-centroid configurations [nm^dof]", "all rotations"]
        n = self.n_relabellings
        number = f"{n:,}" if n < 10**9 else f"{Decimal(n):.1e}"
        parts.append(f"all {number} relabellings of equivalent atoms")
        parts.append("one enantiomer" if self.reflects else "both mirror images")
        fixed = ", ".join(f"{self.name(e)} {self.arrangement(e)}" for e in self.elements)
        free = ", ".join(map(self.name, self.free))
        said = [fixed and f"as in the reference: {fixed}", free and f"either arrangement: {free}"]
        return "; ".join([", ".join(parts), *filter(None, said)])

    @property
    def key(self) -> str:
        """The same for comparison, without names of atoms: equal where bonds and domain are."""
        fixed = [f"{e.kind} {'-'.join(map(str, e.atoms))}" for e in self.elements]
        signs = "".join("+" if s > 0 else "-" for s in self._inside[-1].tolist())
        bonds = zlib.crc32(repr(self.system.bonds).encode())
        return f"bonds {bonds:x}; {self.n_relabellings} relabellings; {', '.join(fixed)}; {signs}"


@functools.lru_cache(maxsize=4)
def domain_of(system: MolecularSystem) -> Domain:
    """The domain of a system, made once."""
    return Domain(system)


def _signs(elements: list[StereoElement], x: Tensor) -> Tensor:
    if not elements:
        return torch.ones((len(x), 0), dtype=torch.int8, device=x.device)
    return torch.stack([torch.nan_to_num(e.value(x).sign()).to(torch.int8) for e in elements], dim=1)


def _among(signs: Tensor, allowed: Tensor) -> Tensor:
    """Whether each row ``(n, k)`` of signs is one of those allowed ``(m, k)``: their product is then k."""
    found = torch.zeros(len(signs), dtype=torch.bool, device=signs.device)
    for rows in allowed.to(signs.device).float().split(AT_ONCE):
        found |= (signs.float() @ rows.T == signs.shape[1]).any(dim=1)
    return found


def _check_arranged(system: MolecularSystem, flat: list[StereoElement]) -> None:
    """Raise MolecularSystemError for elements of which the reference has no arrangement, if there are any."""
    atoms = list(system.topology.atoms())
    for element in flat:
        where = "-".join(f"{atoms[i].name}({i})" for i in element.atoms)
        raise MolecularSystemError(
            system.name,
            f"the reference structure has no arrangement at the {element.kind} {where} (its "
            "neighbours lie in a plane)",
            "give a relaxed structure",
        )
