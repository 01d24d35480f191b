"""Reverse moves from one noise level to the next, and the noising kernel that they undo."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from boltzgen.choices import Kernel
from boltzgen.geometry import gaussian_log_density, mean_free_noise
from boltzgen.sampler.elastic import DenoisingError, ElasticStep, Springs


class Step(Protocol):
    """A Gaussian about each of n configurations."""

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A configuration from each, ``(n, n_atoms, 3)``, and its log density ``(n,)``."""

    def log_density(self, x: Tensor) -> Tensor:
        """Of ``x`` ``(n, n_atoms, 3)``, ``(n,)`` in float64."""


@dataclass(frozen=True)
class IsotropicStep:
    """``N(mean, variance)`` on the mean-free space, ``mean`` ``(n, n_atoms, 3)`` [nm]."""

    mean: Tensor
    variance: float

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        mean = self.mean
        noise = mean_free_noise(tuple(mean.shape), generator, mean.dtype, mean.device)
        x = mean + self.variance**0.5 * noise
        return x, self.log_density(x)

    def log_density(self, x: Tensor) -> Tensor:
        away = (x - self.mean).double()
        return gaussian_log_density(away, away.new_tensor(self.variance))


@dataclass(frozen=True)
class ReverseKernel:
    """Gaussian ``q(x' | x)`` from noise level ``a`` down to ``b < a``, and the ``F(x | x')`` it undoes.

    kind
        ``ddpm``: the posterior with the denoiser D in place of the data, mean ``D + (b/a)^2 (x - D)``,
        variance ``v = b^2 r`` with ``r = (a^2 - b^2) / a^2``. ``ddpm+cov``: that variance widened by ``r^2``
        times the covariance of the data about D, of an elastic network (`boltzgen.sampler.elastic`).
        ``ddpm+mse``: by the denoiser's mean squared error instead, the best isotropic one (Bao et al. 2022).
        ``ei``: the same mean, the variance ``a^2 - b^2`` of the reverse SDE's exponential integrator.
        ``ddim``: variance ``eta^2 v``, mean ``D + c (x - D) / a`` with ``c^2 = b^2 - eta^2 v`` (Song et al.
        2021); with eta = 1 it is ``ddpm``.
    springs
        Of the elastic network; without them ``ddpm+cov`` is ``ddpm+mse``.

    F is the noising kernel ``N(x', a^2 - b^2)``. Narrow ``ddim`` moves would never meet it: theirs is the
    conditional of x in the same Gaussian model, mean ``D' + (a c / b^2) (x' - D')`` with the denoiser at
    ``x'``, variance ``eta^2 a^2 v / b^2``. Levels ``a`` and ``b`` are in nm.
    """

    kind: Kernel = "ddpm+cov"
    eta: float = 0.5
    springs: Springs | None = None

    def reverse(self, x: Tensor, score: Tensor, a: float, b: float, error: DenoisingError) -> Step:
        """q, from ``x`` and the score at level ``a``; ``error`` is the denoiser's there."""
        ratio = (a**2 - b**2) / a**2
        posterior = b**2 * ratio
        mean = x + (a**2 - a * self._kept(a, b)) * score
        match self.kind:
            case "ddpm+cov" if self.springs is not None:
                denoised = x + a**2 * score
                return ElasticStep(mean, denoised, self.springs, error, posterior, ratio / b**2)
            case "ddpm+cov" | "ddpm+mse":
                return IsotropicStep(mean, posterior + ratio**2 * error.mse)
            case "ddpm":
                return IsotropicStep(mean, posterior)
            case "ei":
                return IsotropicStep(mean, a**2 - b**2)
            case "ddim":
                return IsotropicStep(mean, self.eta**2 * posterior)

    def forward(self, x: Tensor, score: Tensor, a: float, b: float) -> IsotropicStep:
        """F, from ``x`` and the score at level ``b``."""
        narrowed = self.eta**2 if self.kind == "ddim" else 1.0
        mean = x + (b**2 - a * self._kept(a, b)) * score
        return IsotropicStep(mean, narrowed * (a**2 - b**2))

    def _kept(self, a: float, b: float) -> float:
        """c, the length that is left of ``x - D`` of length a; ``b^2 / a`` for all but ddim."""
        if self.kind != "ddim":
            return b**2 / a
        return math.sqrt(b**2 - self.eta**2 * b**2 * (a**2 - b**2) / a**2)


DEFAULT_KERNEL = ReverseKernel()
