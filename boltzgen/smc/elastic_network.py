"""What noise leaves unknown of a molecule: the covariance of an elastic network fitted to denoising errors.

Bonds of a noised molecule are known to their thermal width, torsions hardly better than the noise. So the
clean configuration x_0 given a noised one is described by a Gaussian about the denoised configuration D with
the precision of an elastic network (the anisotropic network model of Atilgan et al. 2001),
``Lambda = base + sum_k kappa_k g_k g_k^T``, with g_k the gradient of the k-th distance at D.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from boltzgen.geometry import averaged_over, dof, remove_centroid, squared_norm
from boltzgen.runtime.threads import by_rows

N_ROUNDS = 20
"""Rounds of the fit at each level, which starts from the level below."""
N_FITTED = 128
"""Configurations that the fit looks at."""
_MATRIX_ELEMENTS = 2**25
"""Of all matrices held at once: a quarter of a gibibyte."""
_SOFTEST, _STIFFEST = 1e-8, 1e8
"""Bounds of a stiffness in units of the base: without effect, and within what float64 can invert."""


@dataclass(frozen=True)
class Springs:
    """Pairs of atoms joined by a spring.

    pairs
        ``(n_springs, 2)``.
    kinds
        Springs of one kind are equally stiff, ``(n_springs,)``.
    """

    pairs: Tensor
    kinds: Tensor

    def to(self, device: torch.device | str) -> Springs:
        return Springs(self.pairs.to(device), self.kinds.to(device))


@dataclass(frozen=True)
class DenoisingError:
    """Second moments of ``x_0 - D`` at one noise level.

    mse
        Mean square per degree of freedom [nm^2].
    base
        Precision [1/nm^2] that every direction has without springs.
    stiffness
        kappa [1/nm^2] of each spring.
    """

    mse: float
    base: float = 0.0
    stiffness: tuple[float, ...] = ()


def precision(denoised: Tensor, springs: Springs, error: DenoisingError) -> Tensor:
    """Lambda at denoised configurations ``(n, n_atoms, 3)``, ``(n, 3 n_atoms, 3 n_atoms)`` in float64."""
    x = denoised.double()
    n, n_atoms = x.shape[:2]
    i, j = springs.pairs.to(x.device).T
    stiffness = x.new_tensor(error.stiffness)
    direction = torch.nn.functional.normalize(x[:, j] - x[:, i], dim=-1)
    blocks = torch.einsum("k,nka,nkb->nkab", stiffness, direction, direction)
    own = x.new_zeros((n, n_atoms, 3, 3)).index_add_(1, i, blocks).index_add_(1, j, blocks)
    own.diagonal(dim1=-2, dim2=-1).add_(error.base)
    matrix = x.new_zeros((n, n_atoms, 3, n_atoms, 3))
    pairs = matrix.transpose(2, 3)
    pairs[:, i, j] = pairs[:, j, i] = -blocks
    atoms = torch.arange(n_atoms, device=x.device)
    pairs[:, atoms, atoms] = own
    return matrix.view(n, 3 * n_atoms, 3 * n_atoms)


def fitted(
    springs: Springs | None, denoised: Tensor, residuals: Tensor, start: DenoisingError | None = None
) -> DenoisingError:
    """Base and stiffness of maximum likelihood for residuals ``x_0 - D`` ``(n, n_atoms, 3)`` [nm].

    The log determinant of a sum of positive terms is convex in the logs of their coefficients, so each round
    of ``kappa <- kappa <g^T Lambda^-1 g> / <(g^T r)^2>``, means over the springs of a kind, raises the
    likelihood.
    """
    n_atoms = residuals.shape[1]
    mse = float(squared_norm(residuals.double()).mean()) / dof(n_atoms)
    if springs is None:
        return DenoisingError(mse)
    denoised, residuals = denoised[:N_FITTED].double(), residuals[:N_FITTED].double()
    springs = springs.to(denoised.device)
    i, j = springs.pairs.T
    direction = torch.nn.functional.normalize(denoised[:, j] - denoised[:, i], dim=-1)
    stretch = ((residuals[:, j] - residuals[:, i]) * direction).sum(-1)
    square = float(squared_norm(residuals).mean())
    seen = averaged_over(springs.kinds, stretch.square().mean(0)).clamp_min(1e-12)
    error = start or DenoisingError(mse, 1.0 / mse, tuple((1.0 / seen).tolist()))
    for _ in range(N_ROUNDS):
        factor = _cholesky(precision(denoised, springs, error))
        covariance = torch.cholesky_inverse(factor).view(-1, n_atoms, 3, n_atoms, 3)
        own = torch.diagonal(covariance, dim1=1, dim2=3).permute(0, 3, 1, 2)
        shared = covariance.transpose(2, 3)[:, i, j]
        relative = own[:, i] + own[:, j] - shared - shared.transpose(-1, -2)
        expected = torch.einsum("nka,nkab,nkb->nk", direction, relative, direction).mean(0)
        trace = own.diagonal(dim1=-2, dim2=-1).sum((1, 2)).mean() - 3.0 / error.base
        stiffness = residuals.new_tensor(error.stiffness) * averaged_over(springs.kinds, expected) / seen
        base = error.base * float(trace) / square
        error = DenoisingError(mse, base, tuple(stiffness.clamp(_SOFTEST * base, _STIFFEST * base).tolist()))
    return error


@dataclass(frozen=True)
class ElasticStep:
    """The Gaussian ``N(mean, variance (1 + ratio Lambda^-1))`` on the zero-centroid space.

    mean
        ``(n, n_atoms, 3)`` [nm].
    denoised
        Where Lambda is taken, of the same shape.
    """

    mean: Tensor
    denoised: Tensor
    springs: Springs
    error: DenoisingError
    variance: float
    ratio: float

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A configuration from each Gaussian ``(n, n_atoms, 3)``, and its log density ``(n,)``."""
        shape, dtype = (2, *self.mean.shape), self.mean.dtype
        noise = torch.randn(shape, generator=generator, dtype=dtype, device=generator.device)

        def moved(mean: Tensor, denoised: Tensor, white: Tensor, coloured: Tensor) -> tuple[Tensor, Tensor]:
            narrow, wide = self._factors(denoised)
            flat = coloured.double().flatten(1).unsqueeze(-1)
            solved = torch.linalg.solve_triangular(narrow.mT, flat, upper=True).view_as(white)
            x = mean + remove_centroid(self.variance**0.5 * (white + self.ratio**0.5 * solved)).to(dtype)
            return x, self._log_density(x - mean, narrow, wide)

        rows = self.mean, self.denoised, *noise.to(self.mean.device)
        x, log_density = by_rows(moved, *rows, at_once=self._at_once)
        return x, log_density

    def log_density(self, x: Tensor) -> Tensor:
        """Of ``x`` ``(n, n_atoms, 3)``, ``(n,)`` in float64."""

        def of(away: Tensor, denoised: Tensor) -> tuple[Tensor]:
            return (self._log_density(away, *self._factors(denoised)),)

        return by_rows(of, x - self.mean, self.denoised, at_once=self._at_once)[0]

    @property
    def _at_once(self) -> int:
        return max(1, _MATRIX_ELEMENTS // (3 * self.mean.shape[1]) ** 2)

    def _factors(self, denoised: Tensor) -> tuple[Tensor, Tensor]:
        """Cholesky factors of ``Lambda`` and ``Lambda + ratio``."""
        matrix = precision(denoised, self.springs, self.error)
        narrow = _cholesky(matrix)
        matrix.diagonal(dim1=-2, dim2=-1).add_(self.ratio)
        return narrow, _cholesky(matrix)

    def _log_density(self, away: Tensor, narrow: Tensor, wide: Tensor) -> Tensor:
        """From the distance to the mean; the centroid's share of the determinants is left out."""
        away = away.double().flatten(1)
        solved = torch.linalg.solve_triangular(wide, away.unsqueeze(-1), upper=False).squeeze(-1)
        square = (away.square().sum(1) - self.ratio * solved.square().sum(1)) / self.variance
        log_det = _log_det(wide) - _log_det(narrow) - 3.0 * math.log1p(self.ratio / self.error.base)
        n = dof(self.mean.shape[1])
        return -0.5 * (square + log_det + n * math.log(2 * math.pi * self.variance))


def _cholesky(matrices: Tensor) -> Tensor:
    """Lower factors; not-a-number where a matrix is not positive definite."""
    factors, info = torch.linalg.cholesky_ex(matrices)
    if bool(info.any()):
        factors[info != 0] = torch.nan
    return factors


def _log_det(factors: Tensor) -> Tensor:
    return 2.0 * factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
