"""Where noise levels are put, and the denoiser's errors along them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from boltzgen.diffusion.process import EnergyAndScore, denoise, perturb
from boltzgen.smc.elastic_network import DenoisingError, Springs, fitted

N_MEASURED = 25
"""Levels at which errors are measured."""


def spaced_levels(
    sigma_max: float, sigma_min: float, density: Callable[[np.ndarray], np.ndarray], n: int
) -> list[float]:
    """``n + 1`` decreasing levels with equal integrals of ``density(sigma)`` over log sigma between them."""
    grid = np.linspace(np.log(sigma_max), np.log(sigma_min), 2001)
    values = density(np.exp(grid))
    steps = 0.5 * (values[1:] + values[:-1]) * -np.diff(grid)
    cumulative = np.concatenate([[0.0], np.cumsum(steps)])
    placed = np.interp(np.linspace(0.0, cumulative[-1], n + 1), cumulative, grid)
    levels = np.exp(placed)
    levels[0], levels[-1] = sigma_max, sigma_min
    return [float(v) for v in levels]


@dataclass(frozen=True)
class MeasuredErrors:
    """The denoiser's errors at some noise levels ``sigmas`` [nm]."""

    sigmas: list[float]
    errors: list[DenoisingError]

    def at(self, sigmas: list[float]) -> tuple[DenoisingError, ...]:
        """At others, every number interpolated over log sigma."""
        table = np.array([[e.mse, e.base, *e.stiffness] for e in self.errors])
        columns = [interpolated(self.sigmas, column.tolist(), sigmas) for column in table.T]
        return tuple(
            DenoisingError(mse, base, tuple(stiffness))
            for mse, base, *stiffness in zip(*columns, strict=True)
        )


def measured_errors(
    model: EnergyAndScore,
    x0: Tensor,
    ends: tuple[float, float],
    springs: Springs | None,
    generator: torch.Generator,
) -> MeasuredErrors:
    """Errors of the denoiser on data ``x0`` ``(n, n_atoms, 3)`` between two noise levels [nm]."""
    sigmas = spaced_levels(*ends, np.ones_like, N_MEASURED - 1)
    errors: list[DenoisingError] = []
    for sigma in reversed(sigmas):
        level = x0.new_full((len(x0),), sigma)
        y = perturb(x0, level, generator)
        _, score = model(y, level.log())
        denoised = denoise(y, level, score)
        errors.append(fitted(springs, denoised, x0 - denoised, errors[-1] if errors else None))
    return MeasuredErrors(sigmas, errors[::-1])


def interpolated(
    x: list[float], y: list[float], at: list[float], smallest: float = 1e-12
) -> tuple[float, ...]:
    """Log-log interpolation of positive values; x need not be sorted."""
    order = np.argsort(x)
    logs = np.log(np.maximum(np.asarray(y)[order], smallest))
    return tuple(float(v) for v in np.exp(np.interp(np.log(at), np.log(np.asarray(x)[order]), logs)))
