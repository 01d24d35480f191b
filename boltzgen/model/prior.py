"""The analytic part of the energy: a Gaussian of the whole molecule, and stiff distances at low noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from boltzgen.diffusion.process import ZeroCentroidGaussian
from boltzgen.geometry import averaged_over
from boltzgen.model.force_field import SoftenedForceField
from boltzgen.model.graph import (
    gaussian_approximation,
    orbits_of_pairs_of_pairs,
    pair_orbits,
    stiff_pairs,
)
from boltzgen.system.molecular_system import MolecularSystem

GATE_FRACTION = 0.35
"""The stiff prior takes over below this fraction of the shortest bond, where noise acts nearly linearly."""
REDUNDANT = 0.05
"""Directions in which G is below this fraction of its mean eigenvalue are left out.

Distances about a tetrahedral centre outnumber its degrees of freedom: in a direction that noise moves to
second order only, the data's width (0.0002 nm in alanine dipeptide) says nothing about noised data. The
eight redundant directions there have eigenvalues below 0.01 of the mean, the others above 0.08.
"""
RIDGE = 0.2
"""Added to G in units of its mean diagonal, for second-order noise in the directions that are kept.

Mean squared error of the prior alone per degree of freedom in units of sigma^2, on alanine dipeptide at
sigma = 0.006, 0.012, 0.025 and 0.05 nm: without ridge 0.542, 0.459, 0.453, 0.385; with 0.1 0.531, 0.428,
0.395, 0.374; with 0.3 0.535, 0.437, 0.400, 0.378.
"""


class PriorEnergy(nn.Module):
    """``(1 - g) Gaussian + g stiff``: a closed-form energy at every noise level.

    The Gaussian is that of `ZeroCentroidGaussian`. The stiff part describes the vector ``dr`` of all bond
    lengths and 1-3 distances jointly, ``1/2 dr^T (S + sigma^2 G)^-1 dr``, with S their covariance in
    the data and ``G = <J J^T>`` the mean product of their Jacobians: pairs that share atoms are moved
    together by noise. Diagonalising S and G at once leaves one division per level. The gate g goes
    from 1 to exactly 0 at sigma_max.
    """

    modes: Tensor
    variances: Tensor
    pairs: Tensor
    incidence: Tensor
    stiff_mean: Tensor
    stiff_modes: Tensor
    stiff_variances: Tensor
    gate_sigma: Tensor
    sigma_max: Tensor

    def __init__(self, n_atoms: int, n_pairs: int, force_field: SoftenedForceField | None = None) -> None:
        super().__init__()
        self.force_field = force_field
        for name, shape in (
            ("modes", (n_atoms, n_atoms - 1)),
            ("variances", (n_atoms - 1,)),
            ("stiff_mean", (n_pairs,)),
            ("stiff_modes", (n_pairs, n_pairs)),
            ("stiff_variances", (n_pairs,)),
            ("gate_sigma", ()),
            ("sigma_max", ()),
        ):
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("pairs", torch.zeros((n_pairs, 2), dtype=torch.long))
        self.register_buffer("incidence", torch.zeros((n_pairs, n_atoms)))

    def fit(self, system: MolecularSystem, positions: Tensor, sigma_max: float) -> None:
        """Estimate all its parameters from data [nm] ``(n, n_atoms, 3)``."""
        gaussian = gaussian_approximation(system, positions)
        self.modes, self.variances = gaussian.modes.float(), gaussian.variances.float()
        self.sigma_max.fill_(sigma_max)
        if not len(self.pairs):
            return
        pairs = self.pairs = torch.as_tensor(stiff_pairs(system))
        rows = torch.arange(len(pairs))
        self.incidence.zero_()
        self.incidence[rows, pairs[:, 1]], self.incidence[rows, pairs[:, 0]] = 1.0, -1.0
        orbits = torch.as_tensor(pair_orbits(system))[pairs[:, 0], pairs[:, 1]]
        joint = torch.as_tensor(orbits_of_pairs_of_pairs(system, pairs.numpy()))
        self._fit_stiff(positions.double(), orbits, joint)
        if self.force_field is not None:
            with torch.no_grad():
                x = positions[:1024].float()
                self.force_field.offset.fill_(0.0)
                residual = self.force_field.residual(x, self._harmonic(x))
            self.force_field.offset.copy_(residual.median())

    def _fit_stiff(self, x: Tensor, orbits: Tensor, joint_orbits: Tensor) -> None:
        """Means, and S and G diagonalised at once, all averaged over equivalent (pairs of) pairs."""
        bond = x[:, self.pairs[:, 1]] - x[:, self.pairs[:, 0]]
        r = bond.norm(dim=-1)
        mean = averaged_over(orbits, r.mean(0))
        deviation = r - mean
        covariance = averaged_over(joint_orbits, deviation.T @ deviation / len(x))
        directions = (bond / r.unsqueeze(-1)).float()
        shared = self.incidence @ self.incidence.T
        gram = (torch.einsum("npd,nqd->pq", directions, directions) / len(x) * shared).double()
        gram = averaged_over(joint_orbits, gram)
        stiffness, directions_of = torch.linalg.eigh(gram)
        kept = directions_of[:, stiffness > REDUNDANT * stiffness.mean()]
        ridge = RIDGE * gram.diagonal().mean() * torch.eye(kept.shape[1], dtype=gram.dtype)
        factor = torch.linalg.inv(torch.linalg.cholesky(kept.T @ gram @ kept + ridge))
        floor = 1e-3 * covariance.diagonal().min() * torch.eye(kept.shape[1], dtype=gram.dtype)
        variances, vectors = torch.linalg.eigh(factor @ (kept.T @ covariance @ kept + floor) @ factor.T)
        # Left-out directions become modes without amplitude.
        self.stiff_mean = mean.float()
        self.stiff_modes, self.stiff_variances = torch.zeros_like(self.stiff_modes), torch.ones(len(gram))
        self.stiff_modes[:, : kept.shape[1]] = (kept @ factor.T @ vectors).float()
        self.stiff_variances[: kept.shape[1]] = variances.clamp_min(1e-10).float()
        self.gate_sigma.fill_(GATE_FRACTION * float(mean.min()))

    @property
    def gaussian(self) -> ZeroCentroidGaussian:
        return ZeroCentroidGaussian(self.modes, self.variances)

    def gate(self, sigma: Tensor) -> Tensor:
        """g(sigma): near 1 below gate_sigma, 0 at sigma_max."""
        width = self.gate_sigma**4
        return width / (width + sigma**4) - width / (width + self.sigma_max**4)

    def level_information(self, sigma: Tensor) -> Tensor:
        """``F(sigma)``: KL between neighbouring levels is ``F (d log sigma)^2``; counts stiff modes too."""
        s2 = sigma.square().unsqueeze(-1)
        soft = self.gaussian.level_information(sigma)
        stiff = (s2 / (s2 + self.stiff_variances)).square().sum(-1)
        return torch.minimum(soft + stiff, torch.full_like(soft, 3.0 * len(self.variances)))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Energies ``(n,)`` of ``x`` ``(n, n_atoms, 3)`` at levels ``sigma`` ``(n,)``."""
        gaussian = self.gaussian.energy(x, sigma)
        if not len(self.pairs):
            return gaussian
        _, r = self._distances(x)
        variances = self.stiff_variances + sigma.square().unsqueeze(-1)
        amplitudes = (r - self.stiff_mean) @ self.stiff_modes
        stiff = 0.5 * (amplitudes.square() / variances + torch.log(variances)).sum(-1)
        gate = self.gate(sigma)
        energy = (1.0 - gate) * gaussian + gate * stiff
        if self.force_field is None:
            return energy
        x_hat = self.denoised(x, sigma)
        return energy + self.force_field(x_hat, self._harmonic(x_hat), sigma)

    def denoised(self, x: Tensor, sigma: Tensor) -> Tensor:
        """``x`` ``(n, n_atoms, 3)`` denoised in its stiff coordinates only, ``x - sigma^2 dstiff/dx``."""
        bond, r = self._distances(x)
        pull = self._solved((r - self.stiff_mean), sigma)
        return x - sigma.square().view(-1, 1, 1) * (self.incidence.T @ ((pull / r).unsqueeze(-1) * bond))

    def preconditioned(self, vectors: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """``v - sigma^2 J^T (S + sigma^2 G)^-1 J v`` of vectors ``(n, n_atoms, 3)``, J at ``x``.

        With G = J J^T that is ``(1 + sigma^2 H)^-1 v`` for ``H = J^T S^-1 J``; G is its mean over the data.
        """
        bond, r = self._distances(x)
        direction = bond / r.unsqueeze(-1)
        along = ((self.incidence @ vectors) * direction).sum(-1)
        removed = self.incidence.T @ (self._solved(along, sigma).unsqueeze(-1) * direction)
        return vectors - sigma.square().view(-1, 1, 1) * removed

    def _solved(self, values: Tensor, sigma: Tensor) -> Tensor:
        """``(S + sigma^2 G)^-1`` applied to one value per stiff pair, ``(n, n_pairs)``."""
        variances = self.stiff_variances + sigma.square().unsqueeze(-1)
        return ((values @ self.stiff_modes) / variances) @ self.stiff_modes.T

    def _distances(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors ``(n, n_pairs, 3)`` and distances ``(n, n_pairs)`` of the stiff pairs."""
        bond = self.incidence @ x
        return bond, (bond.square().sum(-1) + 1e-10).sqrt()

    def _harmonic(self, x: Tensor) -> Tensor:
        """The stiff energy without noise, ``(n,)``."""
        amplitudes = (self._distances(x)[1] - self.stiff_mean) @ self.stiff_modes
        return 0.5 * (amplitudes.square() / self.stiff_variances).sum(-1)
