"""Reverse moves from one noise level to the next, and the noising kernel that they undo."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from boltzgen.config.choices import KERNEL_NAMES
from boltzgen.geometry import gaussian_log_density, zero_centroid_noise
from boltzgen.smc.elastic_network import DenoisingError, ElasticStep, Springs


class Step(Protocol):
    """A Gaussian about each of n configurations."""

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A configuration from each, ``(n, n_atoms, 3)``, and its log density ``(n,)``."""

    def log_density(self, x: Tensor) -> Tensor:
        """Of ``x`` ``(n, n_atoms, 3)``, ``(n,)`` in float64."""


@dataclass(frozen=True)
class IsotropicStep:
    """``N(mean, variance)`` on the zero-centroid space, ``mean`` ``(n, n_atoms, 3)`` [nm]."""

    mean: Tensor
    variance: float

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        mean = self.mean
        noise = zero_centroid_noise(tuple(mean.shape), generator, mean.dtype, mean.device)
        x = mean + self.variance**0.5 * noise
        return x, self.log_density(x)

    def log_density(self, x: Tensor) -> Tensor:
        away = (x - self.mean).double()
        return gaussian_log_density(away, away.new_tensor(self.variance))


@dataclass(frozen=True)
class ReverseKernel:
    """Gaussian ``q(x' | x)`` from noise level ``a`` down to ``b < a``, and the ``F(x | x')`` it undoes.

    F is the noising kernel ``N(x', a^2 - b^2)``. The denoiser is ``D = x + a^2 score``, and the mean of q is
    ``D + c (x - D) / a`` with ``c = b^2 / a``: that of the posterior given D in place of the data. Levels are
    in nm. A subclass says ``reverse``, and what of this it does otherwise; its fields are options of
    `make_kernel`, ``springs`` (`boltzgen.smc.elastic_network`) only if it says that it uses them.
    """

    springs: Springs | None = None
    uses_springs: ClassVar[bool] = False

    def reverse(self, x: Tensor, score: Tensor, a: float, b: float, error: DenoisingError) -> Step:
        """q, from ``x`` and the score at level ``a``; ``error`` is the denoiser's there."""
        raise NotImplementedError

    def forward(self, x: Tensor, score: Tensor, a: float, b: float) -> IsotropicStep:
        """F, from ``x`` and the score at level ``b``."""
        return IsotropicStep(x + (b**2 - a * self.kept(a, b)) * score, a**2 - b**2)

    def mean(self, x: Tensor, score: Tensor, a: float, b: float) -> Tensor:
        """Of q."""
        return x + (a**2 - a * self.kept(a, b)) * score

    def kept(self, a: float, b: float) -> float:
        """c, the length that is left of ``x - D`` of length a."""
        return b**2 / a


def _ratio(a: float, b: float) -> float:
    """``r = (a^2 - b^2) / a^2``; the posterior's variance is ``v = b^2 r``."""
    return (a**2 - b**2) / a**2


@dataclass(frozen=True)
class Ddpm(ReverseKernel):
    """The posterior with the denoiser in place of the data, variance v."""

    def reverse(self, x: Tensor, score: Tensor, a: float, b: float, error: DenoisingError) -> Step:
        return IsotropicStep(self.mean(x, score, a, b), b**2 * _ratio(a, b))


@dataclass(frozen=True)
class DdpmMse(ReverseKernel):
    """v widened by ``r^2`` times the denoiser's mean squared error, the best isotropic (Bao et al. 2022)."""

    def reverse(self, x: Tensor, score: Tensor, a: float, b: float, error: DenoisingError) -> Step:
        ratio = _ratio(a, b)
        return IsotropicStep(self.mean(x, score, a, b), b**2 * ratio + ratio**2 * error.mse)


@dataclass(frozen=True)
class DdpmCov(ReverseKernel):
    """v widened by ``r^2`` times the covariance of the data about D, of an elastic network of springs.

    Without springs it is `DdpmMse`.
    """

    uses_springs: ClassVar[bool] = True

    def reverse(self, x: Tensor, score: Tensor, a: float, b: float, error: DenoisingError) -> Step:
        if self.springs is None:
            return DdpmMse().reverse(x, score, a, b, error)
        ratio, mean, denoised = _ratio(a, b), self.mean(x, score, a, b), x + a**2 * score
        return ElasticStep(mean, denoised, self.springs, error, b**2 * ratio, ratio / b**2)


@dataclass(frozen=True)
class ExponentialIntegrator(ReverseKernel):
    """The posterior's mean, the variance ``a^2 - b^2`` of the reverse SDE's exponential integrator."""

    def reverse(self, x: Tensor, score: Tensor, a: float, b: float, error: DenoisingError) -> Step:
        return IsotropicStep(self.mean(x, score, a, b), a**2 - b**2)


@dataclass(frozen=True)
class Ddim(ReverseKernel):
    """Variance ``eta^2 v`` and ``c^2 = b^2 - eta^2 v`` (Song et al. 2021); with eta = 1 it is `Ddpm`.

    Moves so narrow would never meet the noising kernel: F is the conditional of x in the same Gaussian model,
    mean ``D' + (a c / b^2) (x' - D')`` with the denoiser at ``x'``, variance ``eta^2 a^2 v / b^2``.
    """

    eta: float = 0.5

    def reverse(self, x: Tensor, score: Tensor, a: float, b: float, error: DenoisingError) -> Step:
        return IsotropicStep(self.mean(x, score, a, b), self.eta**2 * (b**2 * _ratio(a, b)))

    def forward(self, x: Tensor, score: Tensor, a: float, b: float) -> IsotropicStep:
        return IsotropicStep(x + (b**2 - a * self.kept(a, b)) * score, self.eta**2 * (a**2 - b**2))

    def kept(self, a: float, b: float) -> float:
        return math.sqrt(b**2 - self.eta**2 * b**2 * (a**2 - b**2) / a**2)


KERNELS: dict[str, type[ReverseKernel]] = {}


def register(name: str, kernel: type[ReverseKernel]) -> None:
    """Let ``sample.kernel`` name another kernel, or replace one."""
    KERNELS[name] = kernel
    if name not in KERNEL_NAMES:
        KERNEL_NAMES.append(name)


register("ddpm+cov", DdpmCov)
register("ddpm+mse", DdpmMse)
register("ddpm", Ddpm)
register("ei", ExponentialIntegrator)
register("ddim", Ddim)
DEFAULT_KERNEL = DdpmCov()


def make_kernel(name: str, **options: Any) -> ReverseKernel:
    """The kernel of that name with those of the options that it takes (``eta``, ``springs``)."""
    kernel = KERNELS[name]
    taken = {field.name for field in fields(kernel) if field.name != "springs" or kernel.uses_springs}
    return kernel(**{key: value for key, value in options.items() if key in taken})
