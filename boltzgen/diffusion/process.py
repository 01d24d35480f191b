"""The variance-exploding noising process: perturbation, denoising, and the Gaussian end.

``x_sigma = x_0 + sigma z`` with ``z`` standard normal on the zero-centroid space (Karras et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from boltzgen.geometry import zero_centroid_noise

EnergyAndScore = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""``(x (n, n_atoms, 3) [nm], log_sigma (n,)) -> (U (n,), score = -dU/dx (n, n_atoms, 3) [1/nm])``."""


def per_configuration(values: Tensor) -> Tensor:
    """View ``(n,)`` as ``(n, 1, 1)`` so that it multiplies configurations."""
    return values.view(-1, 1, 1)


def perturb(x0: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
    """Noise configurations ``(n, n_atoms, 3)`` to levels ``sigma`` ``(n,)`` [nm]."""
    noise = zero_centroid_noise(tuple(x0.shape), generator, x0.dtype, x0.device)
    return x0 + per_configuration(sigma) * noise


def denoise(x: Tensor, sigma: Tensor, score: Tensor) -> Tensor:
    """Tweedie's estimate ``D = x + sigma^2 s`` of the clean configuration."""
    return x + per_configuration(sigma.square()) * score


@dataclass(frozen=True)
class ZeroCentroidGaussian:
    """Gaussian with covariance ``(C + sigma^2)`` between atoms, isotropic in space, at zero centroid.

    It is the best Gaussian approximation of the noised, randomly rotated data, and exact at sigma_max.

    modes
        Orthonormal eigenvectors of C, the covariance between atoms, ``(n_atoms, n_atoms - 1)``.
    variances
        Its eigenvalues per spatial direction [nm^2], ``(n_atoms - 1,)``.
    """

    modes: Tensor
    variances: Tensor

    @classmethod
    def isotropic(
        cls, n_atoms: int, variance: float, dtype: torch.dtype = torch.float64
    ) -> ZeroCentroidGaussian:
        """All modes with the same variance [nm^2]."""
        return cls.from_covariance(variance * torch.eye(n_atoms, dtype=dtype))

    @classmethod
    def from_covariance(cls, covariance: Tensor) -> ZeroCentroidGaussian:
        """From a covariance between atoms ``(n_atoms, n_atoms)`` [nm^2], at zero centroid."""
        n_atoms = len(covariance)
        uniform = torch.full((n_atoms, 1), n_atoms**-0.5, dtype=covariance.dtype)
        basis = torch.linalg.qr(
            torch.cat([uniform, torch.eye(n_atoms, dtype=covariance.dtype)[:, 1:]], dim=1)
        )[0][:, 1:]
        variances, vectors = torch.linalg.eigh(basis.T @ covariance @ basis)
        return cls(basis @ vectors, variances.clamp_min(0.0))

    def to(self, dtype: torch.dtype, device: torch.device | str) -> ZeroCentroidGaussian:
        return ZeroCentroidGaussian(self.modes.to(device, dtype), self.variances.to(device, dtype))

    def energy(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Minus the log density of ``x`` ``(n, n_atoms, 3)`` at noise levels ``sigma`` ``(n,)``."""
        variances = self.variances + sigma.square().unsqueeze(-1)
        amplitudes = torch.einsum("nad,am->nmd", x, self.modes).square().sum(-1)
        return 0.5 * (amplitudes / variances).sum(-1) + 1.5 * torch.log(2 * math.pi * variances).sum(-1)

    def sample(self, n: int, sigma: float, generator: torch.Generator) -> Tensor:
        """``n`` independent configurations at noise level ``sigma``."""
        shape = (n, len(self.variances), 3)
        noise = torch.randn(shape, generator=generator, dtype=self.modes.dtype, device=generator.device)
        noise = noise.to(self.modes.device) * (self.variances + sigma**2).sqrt().view(1, -1, 1)
        return torch.einsum("am,nmd->nad", self.modes, noise)

    def level_information(self, sigma: Tensor) -> Tensor:
        """``F(sigma)``: the KL divergence between neighbouring levels is ``F (d log sigma)^2``."""
        s2 = sigma.square().unsqueeze(-1)
        return 3.0 * (s2 / (s2 + self.variances)).square().sum(-1)
