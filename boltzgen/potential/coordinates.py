"""Internal coordinates of many configurations at once, configurations along the last, contiguous axis.

A quantity of R rows (pairs, angles, ...) in B configurations is a tensor ``(R, B)``, positions are
``(n_atoms, 3, B)``. Picking atoms and adding up over them are linear maps, each the other's adjoint: naming
both keeps every derivative gathers or one matrix product, where autograd alone would scatter.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from boltzgen.errors import UserError

SMALLEST_SQUARE = 1e-12
"""Squared lengths [nm^2] below this are treated as this, with zero derivative: no division by zero."""
_NEXT_TO_ZERO = 1e-24
"""Added to squared distances [nm^2] under a root: lost in all but zero, and its third power is not."""
_LARGEST_INCIDENCE = 2**23
"""Elements of the largest dense incidence matrix; beyond it, rows are added up one by one."""

DISTANCE = ("r", "1/r")
"""The variables of an expression of a distance: its reciprocal comes with it at no cost."""

LinearMap = Callable[[Tensor], Tensor]


class Unsupported(UserError):
    """A System has something that is not compiled; the message names it."""


class _Linear(torch.autograd.Function):
    """``forth(x)`` for a linear map whose adjoint is ``back``; differentiable any number of times."""

    @staticmethod
    def forward(x: Tensor, forth: LinearMap, back: LinearMap) -> Tensor:
        return forth(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.forth, ctx.back = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Linear.apply(gradient, ctx.back, ctx.forth), None, None


class Sum:
    """Adds up R rows over the atoms they belong to, ``(R, ..., B)`` to ``(n_atoms, ..., B)``.

    ends
        Signs, each with the atom of every row that counts with this sign.
    fused
        Spell the sum out, one gather for every row of an atom: a compiler merges these with the arithmetic
        around them, which it cannot do to a matrix product. Slow where nothing is compiled.
    """

    def __init__(self, ends: Sequence[tuple[float, Tensor]], n_atoms: int, like: Tensor, fused: bool) -> None:
        self.n_atoms = n_atoms
        n_rows = len(ends[0][1])
        self.atoms = torch.cat([atoms for _, atoms in ends])
        self.rows = torch.arange(n_rows, device=like.device).repeat(len(ends))
        self.signs = torch.cat([torch.full((n_rows,), sign, dtype=like.dtype) for sign, _ in ends]).to(like)
        self.gathers = self._gathers() if fused else []
        self.incidence: Tensor | None = None
        if not self.gathers and n_atoms * n_rows <= _LARGEST_INCIDENCE:
            self.incidence = like.new_zeros(n_atoms, n_rows)
            self.incidence.index_put_((self.atoms, self.rows), self.signs, accumulate=True)

    def _gathers(self) -> list[tuple[Tensor, Tensor | float]]:
        """One row of every atom and its sign, time after time; the sign is zero once an atom has no more.

        A sign that all atoms share costs nothing: signs are kept apart unless that takes many more gathers.
        """
        together = self._gathers_of(self.signs != 0.0)
        apart = [gather for sign in self.signs.unique() for gather in self._gathers_of(self.signs == sign)]
        return apart if len(apart) <= 1.2 * len(together) else together

    def _gathers_of(self, chosen: Tensor) -> list[tuple[Tensor, Tensor | float]]:
        atoms, order = self.atoms[chosen].sort(stable=True)
        counts = atoms.bincount(minlength=self.n_atoms)
        first = (counts.cumsum(0) - counts).repeat_interleave(counts)
        place = torch.arange(len(order), device=order.device) - first, atoms
        empty = int(counts.max()), self.n_atoms
        rows = self.rows.new_zeros(empty).index_put_(place, self.rows[chosen][order])
        signs = self.signs.new_zeros(empty).index_put_(place, self.signs[chosen][order])
        return [(row, _shared_or_all(sign)) for row, sign in zip(rows, signs, strict=True)]

    def __call__(self, values: Tensor) -> Tensor:
        if self.gathers:
            values = kept(values)
            return functools.reduce(
                operator.add, [_signed(values[rows], sign) for rows, sign in self.gathers]
            )
        shape = self.n_atoms, *values.shape[1:]
        if self.incidence is not None:
            return (self.incidence @ values.flatten(1)).view(shape)
        return values.new_zeros(shape).index_add(0, self.atoms, _signed(values[self.rows], self.signs))


def _shared_or_all(signs: Tensor) -> Tensor | float:
    """A sign as a number where it is the same for all."""
    return float(signs[0]) if bool((signs == signs[0]).all()) else signs


def _signed(values: Tensor, sign: Tensor | float) -> Tensor:
    if isinstance(sign, Tensor):
        return values * sign.view(-1, *[1] * (values.ndim - 1))
    return values if sign == 1.0 else -values


def kept(values: Tensor) -> Tensor:
    """The same values as something that a compiler stores: a view of memory has to be one of memory."""
    values = values.contiguous()
    return values.as_strided(values.shape, values.stride())


class Rows:
    """R rows of one atom each: picks ``(R, ..., B)`` from ``(n_atoms, ..., B)`` and adds up the other way."""

    def __init__(self, index: np.ndarray, n_atoms: int, like: Tensor, fused: bool = False) -> None:
        self.index = torch.as_tensor(index, dtype=torch.long, device=like.device)
        self._sum = Sum([(1.0, self.index)], n_atoms, like, fused)

    def take(self, values: Tensor) -> Tensor:
        """Values of each row's atom."""
        return _Linear.apply(values, self._pick, self._sum)

    def add_up(self, values: Tensor) -> Tensor:
        """Sums of row values over the rows of each atom."""
        return _Linear.apply(values, self._sum, self._pick)

    def _pick(self, values: Tensor) -> Tensor:
        return values[self.index]


class Pairs:
    """R rows of two atoms ``i`` and ``j``."""

    def __init__(self, i: np.ndarray, j: np.ndarray, n_atoms: int, like: Tensor, fused: bool = False) -> None:
        self.i, self.j = (torch.as_tensor(index, dtype=torch.long, device=like.device) for index in (i, j))
        self._spread = Sum([(-1.0, self.i), (1.0, self.j)], n_atoms, like, fused)
        self.fused = fused

    def __len__(self) -> int:
        return len(self.i)

    def difference(self, values: Tensor) -> Tensor:
        """``values_j - values_i`` with shape ``(R, ..., B)``."""
        return _Linear.apply(values, self._subtract, self._spread)

    def _subtract(self, values: Tensor) -> Tensor:
        return values[self.j] - values[self.i]


class _Distance(torch.autograd.Function):
    """Lengths of vectors where these are known already, to be differentiated once."""

    @staticmethod
    def forward(apart: Tensor, distance: Tensor, reciprocal: Tensor) -> Tensor:
        return distance.view_as(distance)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        apart, _, reciprocal = inputs
        ctx.save_for_backward(apart, reciprocal)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        apart, reciprocal = ctx.saved_tensors
        return kept(gradient * reciprocal)[:, None] * apart, None, None


@dataclass
class Frame:
    """Positions ``(n_atoms, 3, B)`` [nm]; distances are computed once for each set of pairs."""

    x: Tensor
    _separations: dict[Pairs, dict[str, Tensor]] = field(default_factory=dict)

    def distance(self, pairs: Pairs) -> Tensor:
        """Distances [nm] ``(R, B)``; exactly zero, with zero derivative, where two atoms coincide."""
        return self.separation(pairs)["r"]

    def separation(self, pairs: Pairs) -> dict[str, Tensor]:
        """Distances [nm] ``(R, B)`` and their reciprocals, by their names in expressions (`DISTANCE`)."""
        if pairs not in self._separations:
            apart = pairs.difference(self.x)
            square = dot(apart, apart)
            # No comparison: a mask that is kept for the gradient costs more than the rest of a pair.
            reciprocal = torch.rsqrt(square + _NEXT_TO_ZERO)
            distance = square * reciprocal
            if pairs.fused:
                reciprocal = kept(reciprocal.detach())
                distance = _Distance.apply(apart, kept(distance.detach()), reciprocal)
            self._separations[pairs] = dict(zip(DISTANCE, (distance, reciprocal), strict=True))
        return self._separations[pairs]

    def angle(self, first: Pairs, second: Pairs) -> Tensor:
        """Angles [rad] in [0, pi] between the vectors of two sets of pairs, ``(R, B)``."""
        a, b = first.difference(self.x), second.difference(self.x)
        return torch.atan2(norm(cross(a, b)), dot(a, b))

    def torsion_cos_sin(self, bonds: Sequence[Pairs]) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the dihedral angle (IUPAC sign) along three bonds, each ``(R, B)``.

        Three atoms in line leave the angle undefined; it is then taken as zero, with zero derivative.
        """
        b1, b2, b3 = (pairs.difference(self.x) for pairs in bonds)
        normal = cross(b2, b3)
        c, s = dot(cross(b1, b2), normal), norm(b2) * dot(b1, normal)
        square = c * c + s * s
        defined = square > 1e-30
        scale = torch.rsqrt(torch.where(defined, square, torch.ones_like(square)))
        return torch.where(defined, c * scale, torch.ones_like(c)), torch.where(defined, s * scale, 0.0)

    def torsion(self, bonds: Sequence[Pairs]) -> Tensor:
        """Dihedral angles [rad] in (-pi, pi], ``(R, B)``."""
        c, s = self.torsion_cos_sin(bonds)
        return torch.atan2(s, c)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Scalar products of ``(R, 3, B)`` vectors."""
    return (a * b).sum(1)


def cross(a: Tensor, b: Tensor) -> Tensor:
    """Vector products of ``(R, 3, B)`` vectors."""
    (ax, ay, az), (bx, by, bz) = a.unbind(1), b.unbind(1)
    return torch.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], dim=1)


def norm(a: Tensor) -> Tensor:
    """Lengths of ``(R, 3, B)`` vectors, differentiable everywhere."""
    return torch.sqrt(dot(a, a).clamp_min(SMALLEST_SQUARE))
