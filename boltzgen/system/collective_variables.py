"""Collective variables of a molecule, and states: regions of their values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from boltzgen import geometry
from boltzgen.config.choices import CVKind
from boltzgen.errors import MolecularSystemError

LARGEST_ANGLE = 6.3
"""An interval of angles that reaches beyond this, a full turn, was meant in degrees."""
NEARLY_PI = 1e-3
"""How far beyond +-pi an end may be that was meant to be there."""
ATOMS_PER_KIND = {"torsion": 4, "angle": 3, "distance": 2}
"""The other kinds take any number of atoms from two, and all of them where none are named."""


@dataclass(frozen=True)
class CollectiveVariable:
    """A named function of the configuration: radians for torsions and angles, nm for the others.

    atoms
        Their indices from 0; none for all, where the kind takes any number.
    reference
        What an ``rmsd`` is measured from: positions [nm] of its atoms, one ``(x, y, z)`` each.
        `boltzgen.with_variables` takes them from the reference configuration of a system.
    """

    name: str
    kind: CVKind
    atoms: tuple[int, ...] = ()
    reference: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        number, wanted = len(self.atoms), ATOMS_PER_KIND.get(self.kind)
        if number != wanted and (wanted is not None or number == 1):
            article = "an" if self.kind in ("angle", "rmsd") else "a"
            raise MolecularSystemError(
                f"collective variable {self.name}",
                f"{article} {self.kind} takes {wanted or 'two or more'} atoms, not {number}",
                "name as many",
            )
        if (self.kind == "rmsd") != bool(self.reference) or number not in (0, len(self.reference) or number):
            raise MolecularSystemError(
                f"collective variable {self.name}",
                f"{len(self.reference)} reference positions do not fit",
                "give an rmsd one for each of its atoms, and other kinds none",
            )
        if len(set(self.atoms)) < len(self.atoms):
            raise MolecularSystemError(
                f"collective variable {self.name}",
                f"{list(self.atoms)} names an atom twice",
                "name each once",
            )

    @property
    def periodic(self) -> bool:
        """Whether values are equivalent modulo 2 pi."""
        return self.kind == "torsion"

    @property
    def unit(self) -> str:
        return "rad" if self.kind in ("torsion", "angle") else "nm"

    def evaluate(self, x: Tensor) -> Tensor:
        """Values with shape ``(n,)`` for configurations [nm] with shape ``(n, n_atoms, 3)``."""
        if self.kind not in ATOMS_PER_KIND:
            x = x[..., list(self.atoms), :] if self.atoms else x
            if self.kind == "rmsd":
                return geometry.rmsd(x, x.new_tensor(self.reference))
            return geometry.radius_of_gyration(x)
        function = {"torsion": geometry.torsion, "angle": geometry.angle, "distance": geometry.distance}
        return function[self.kind](x, self.atoms)

    def values(self, positions: NDArray[np.float32]) -> NDArray[np.float64]:
        """The same for a NumPy array."""
        return self.evaluate(torch.as_tensor(positions, dtype=torch.float64)).numpy()


@dataclass(frozen=True)
class State:
    """A named region: the union of half-open intervals ``[low, high)`` of one collective variable.

    Those of a torsion may reach across +-pi; they are kept as their parts in [-pi, pi).
    """

    name: str
    cv: CollectiveVariable
    intervals: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if not self.intervals:
            raise MolecularSystemError(
                f"state {self.name}", "has no intervals", "give at least one [low, high)"
            )
        for low, high in self.intervals:
            if not low < high:
                raise MolecularSystemError(
                    f"state {self.name}",
                    f"[{low:g}, {high:g}) is empty",
                    "give the lower end first, and let a region across +-pi go on beyond it, as [2.5, 3.8)",
                )
            if self.cv.unit == "rad" and any(LARGEST_ANGLE < abs(v) < math.inf for v in (low, high)):
                raise MolecularSystemError(
                    f"state {self.name}",
                    f"[{low:g}, {high:g}) is no region of an angle in radians",
                    "if degrees were meant, divide by 57.2958",
                )
        if self.cv.periodic:
            parts = [part for interval in self.intervals for part in _on_circle(*interval)]
            object.__setattr__(self, "intervals", tuple(parts))

    def contains(self, values: Tensor) -> Tensor:
        """Boolean ``(n,)`` for CV values ``(n,)``; torsions are compared in [-pi, pi)."""
        inside = torch.zeros_like(values, dtype=torch.bool)
        for low, high in self.intervals:
            inside |= (values >= low) & (values < high)
        return inside

    def members(self, positions: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Boolean ``(n,)`` for configurations [nm] with shape ``(n, n_atoms, 3)``."""
        return self.contains(self.cv.evaluate(torch.as_tensor(positions, dtype=torch.float64))).numpy()


def _on_circle(low: float, high: float) -> tuple[tuple[float, float], ...]:
    """``[low, high)`` of a torsion [rad] as its parts in [-pi, pi), or as given where it is one already."""
    below, beyond = (-math.inf < low < -math.pi - NEARLY_PI), (math.pi + NEARLY_PI < high < math.inf)
    turn = 2 * math.pi
    if below and beyond:
        return ((-math.pi, math.pi),)
    if below:
        return ((low + turn, high + turn),) if high <= -math.pi else ((low + turn, math.pi), (-math.pi, high))
    if beyond:
        return ((low - turn, high - turn),) if low >= math.pi else ((low, math.pi), (-math.pi, high - turn))
    return ((low, high),)
