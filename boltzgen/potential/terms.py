"""The kinds of energy term: rows of atoms, an internal coordinate, and an expression of it.

Every term maps a Frame of B configurations to energies ``(B,)`` in kJ/mol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from boltzgen.potential.coordinates import Frame, Pairs, Rows
from boltzgen.potential.expressions import Expression, Function
from boltzgen.potential.slopes import Sloped
from boltzgen.potential.tables import Spline

Index = NDArray[np.int64]
Term = Callable[[Frame], Tensor]
Constants = Mapping[str, NDArray[np.float64] | float]


class Layout:
    """Makes the index rows and expressions of one System, sharing rows that are the same.

    masses
        Of its particles [Da] ``(n_atoms,)``.
    like
        A tensor with the dtype and device of the evaluation.
    fused
        Whether a compiler will merge the operations (see Sum).
    """

    def __init__(self, masses: NDArray[np.float64], like: Tensor, fused: bool = False) -> None:
        self.n_atoms, self.masses, self.like, self.fused = len(masses), masses, like, fused
        self._rows: dict[bytes, Rows] = {}
        self._pairs: dict[tuple[bytes, bytes], Pairs] = {}

    def rows(self, atoms: Sequence[int] | Index) -> Rows:
        """One atom per row."""
        index = np.asarray(atoms, dtype=np.int64)
        if index.tobytes() not in self._rows:
            self._rows[index.tobytes()] = Rows(index, self.n_atoms, self.like, self.fused)
        return self._rows[index.tobytes()]

    def pairs(self, i: Sequence[int] | Index, j: Sequence[int] | Index) -> Pairs:
        """Two atoms per row."""
        i, j = np.asarray(i, dtype=np.int64), np.asarray(j, dtype=np.int64)
        key = i.tobytes(), j.tobytes()
        if key not in self._pairs:
            self._pairs[key] = Pairs(i, j, self.n_atoms, self.like, self.fused)
        return self._pairs[key]

    def bonds(self, atoms: Index) -> list[Pairs]:
        """The vectors along each row of ``(R, k)`` atoms."""
        return [self.pairs(atoms[:, k], atoms[:, k + 1]) for k in range(atoms.shape[1] - 1)]

    def expression(
        self,
        text: str,
        constants: Constants,
        variables: tuple[str, ...],
        functions: Mapping[str, Function] | None = None,
    ) -> Expression:
        """An expression whose array parameters hold one value per row."""
        columns = {name: column(value) for name, value in constants.items()}
        kind = Sloped if self.fused else Expression
        return kind(text, columns, variables, self.like, functions)


def column(value: NDArray[np.float64] | float) -> Tensor:
    """A parameter per row as ``(R, 1)`` float64; a scalar stays one."""
    tensor = torch.as_tensor(value, dtype=torch.float64)
    return tensor[:, None] if tensor.ndim == 1 else tensor


def summed(values: Tensor, rows: int, frame: Frame) -> Tensor:
    """Sum over rows; an expression without variables counts for every configuration."""
    return values.expand(rows, frame.x.shape[-1]).sum(0)


@dataclass(frozen=True)
class Stretch:
    """``sum expression(r)`` over pairs at distance r."""

    pairs: Pairs
    expression: Expression

    def __call__(self, frame: Frame) -> Tensor:
        return summed(self.expression(**frame.separation(self.pairs)), len(self.pairs), frame)


@dataclass(frozen=True)
class Bend:
    """``sum expression(theta)`` over angles."""

    first: Pairs
    second: Pairs
    expression: Expression

    def __call__(self, frame: Frame) -> Tensor:
        theta = frame.angle(self.first, self.second)
        return summed(self.expression(theta=theta), len(theta), frame)


@dataclass(frozen=True)
class Twist:
    """``sum expression(theta)`` over dihedral angles."""

    bonds: list[Pairs]
    expression: Expression

    def __call__(self, frame: Frame) -> Tensor:
        theta = frame.torsion(self.bonds)
        return summed(self.expression(theta=theta), len(theta), frame)


@dataclass(frozen=True)
class FourierTwist:
    """``sum_n a_n cos(n phi) + b_n sin(n phi)`` over dihedral angles, without inverse functions.

    cosines, sines
        ``a_n`` and ``b_n`` [kJ/mol] with shape ``(n_max + 1, R, 1)``.
    """

    bonds: list[Pairs]
    cosines: Tensor
    sines: Tensor

    def __call__(self, frame: Frame) -> Tensor:
        c, s = frame.torsion_cos_sin(self.bonds)
        energy = self.cosines[0] + self.cosines[1] * c + self.sines[1] * s
        before, now = (torch.ones_like(c), torch.zeros_like(s)), (c, s)
        for a, b in zip(self.cosines[2:], self.sines[2:], strict=True):
            before, now = now, (2.0 * c * now[0] - before[0], 2.0 * c * now[1] - before[1])
            energy = energy + a * now[0] + b * now[1]
        return energy.sum(0)


@dataclass(frozen=True)
class TorsionMap:
    """``sum map(phi, psi)`` over pairs of dihedral angles (CMAP); ``which`` map, ``(R, 1)``."""

    first: list[Pairs]
    second: list[Pairs]
    maps: Spline
    which: Tensor

    def __call__(self, frame: Frame) -> Tensor:
        return self.maps(frame.torsion(self.first), frame.torsion(self.second), which=self.which).sum(0)


@dataclass(frozen=True)
class Site:
    """``sum expression(x, y, z)`` over atoms."""

    rows: Rows
    expression: Expression

    def __call__(self, frame: Frame) -> Tensor:
        x, y, z = self.rows.take(frame.x).unbind(1)
        return summed(self.expression(x=x, y=y, z=z), len(x), frame)
