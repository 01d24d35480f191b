"""OpenMM's tabulated functions as tensors: discrete tables, and natural or periodic cubic splines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

from boltzgen.potential.coordinates import Unsupported

Array = NDArray[np.float64]


class Spline:
    """Tensor-product cubic spline through values on a regular grid of one, two or three dimensions.

    Zero outside the grid, as in OpenMM; a periodic one repeats. ``values`` may have a leading axis of
    several tables, chosen by ``which`` at evaluation.
    """

    def __init__(self, values: Array, ranges: Sequence[tuple[float, float]], periodic: bool) -> None:
        dims = len(ranges)
        coefficients = values if values.ndim > dims else values[None]
        self.cells = [size - 1 for size in coefficients.shape[1:]]
        for axis, ((low, high), cells) in enumerate(zip(ranges, self.cells, strict=True)):
            knots = np.linspace(low, high, cells + 1)
            kind = "periodic" if periodic else "natural"
            spline = CubicSpline(knots, coefficients, axis=1 + axis, bc_type=kind)
            # (power, cell, ...) -> cells back in their place, powers last, lowest first
            coefficients = np.moveaxis(spline.c[::-1], [0, 1], [-1, 1 + axis])
        self.coefficients = torch.from_numpy(np.ascontiguousarray(coefficients))
        self.ranges, self.periodic = list(ranges), periodic

    def __call__(self, *arguments: Tensor, which: Tensor | int = 0) -> Tensor:
        """Interpolated values, of the arguments' common shape."""
        arguments = torch.broadcast_tensors(*arguments)
        inside = torch.ones_like(arguments[0], dtype=torch.bool)
        cell_of, offset = [], []
        for x, (low, high), cells in zip(arguments, self.ranges, self.cells, strict=True):
            width = (high - low) / cells
            if self.periodic:
                x = x - (high - low) * torch.floor((x - low) / (high - low)).detach()
            inside = inside & (x >= low) & (x <= high)
            cell = ((x - low) / width).nan_to_num(0.0).floor().clamp(0, cells - 1).detach()
            cell_of.append(cell.long())
            offset.append(x - (low + cell * width))
        coefficients = self.coefficients.to(arguments[0])
        value = coefficients[(which, *cell_of)]
        for t in reversed(offset):
            t = t.reshape(t.shape + (1,) * (value.ndim - 1 - t.ndim))
            value = value[..., 0] + t * (value[..., 1] + t * (value[..., 2] + t * value[..., 3]))
        return torch.where(inside, value, torch.zeros_like(value))


class Lookup:
    """Table of values at whole numbers; NaN beyond its ends, as in OpenMM's Reference platform."""

    def __init__(self, values: Array) -> None:
        self.values = torch.from_numpy(np.ascontiguousarray(values))

    def __call__(self, *arguments: Tensor) -> Tensor:
        """Values at the nearest whole numbers, of the arguments' common shape."""
        rounded = [torch.floor(x + 0.5) for x in torch.broadcast_tensors(*arguments)]
        inside = torch.ones_like(rounded[0], dtype=torch.bool)
        index = []
        for x, size in zip(rounded, self.values.shape, strict=True):
            inside = inside & (x >= 0) & (x < size)
            index.append(x.nan_to_num(0.0).clamp(0, size - 1).long())
        return torch.where(inside, self.values.to(arguments[0])[tuple(index)], torch.nan)


def tabulated(function: openmm.TabulatedFunction) -> Spline | Lookup:
    """The tensor version of an OpenMM function. Raises Unsupported for kinds that are not known."""
    kind = type(function).__name__
    parameters = list(function.getFunctionParameters())
    if kind == "Discrete1DFunction":
        return Lookup(np.array(parameters, dtype=np.float64).ravel())
    if kind in ("Discrete2DFunction", "Discrete3DFunction"):
        *sizes, values = parameters
        return Lookup(np.array(values).reshape(sizes, order="F"))
    if kind == "Continuous1DFunction":
        values, low, high = parameters
        return Spline(np.array(values), [(low, high)], function.getPeriodic())
    if kind in ("Continuous2DFunction", "Continuous3DFunction"):
        dims = int(kind[len("Continuous")])
        sizes, values, limits = parameters[:dims], parameters[dims], parameters[dims + 1 :]
        ranges = list(pairwise(limits))[::2]
        return Spline(np.array(values).reshape(sizes, order="F"), ranges, function.getPeriodic())
    raise Unsupported(f"the tabulated function kind {kind}")
