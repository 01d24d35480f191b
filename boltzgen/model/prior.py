"""The analytic part of the energy: a Gaussian of the whole molecule, and stiff distances at low noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from boltzgen.diffusion import MeanFreeGaussian
from boltzgen.model.graph import (
    averaged_over,
    gaussian_approximation,
    orbits_of_pairs_of_pairs,
    pair_orbits,
    stiff_pairs,
)
from boltzgen.system import MolecularSystem

GATE_FRACTION = 0.35
"""The stiff prior takes over below this fraction of the shortest bond, where noise acts nearly linearly."""
RIDGE = 0.5
"""Added to G in units of its mean diagonal: near its null directions second-order noise dominates.

Measured on alanine dipeptide, DSM loss of the prior alone at sigma = 0.006, 0.02 and 0.05 nm: ridge 0.001
gives 3.0, 210, 4800; 0.1 gives 0.52, 0.68, 7.4; 0.5 gives 0.54, 0.42, 0.59; the Gaussian 0.69, 0.55, 0.44.
"""


class PriorEnergy(nn.Module):
    """``(1 - g) Gaussian + g stiff``: a closed-form energy at every noise level.

    The Gaussian is that of `MeanFreeGaussian`. The stiff part describes the vector ``dr`` of all bond
    lengths and 1-3 distances jointly, ``1/2 dr^T (S + sigma^2 G)^-1 dr``, with S their covariance in
    the data and ``G = <J J^T>`` the mean product of their Jacobians: pairs that share atoms are moved
    together by noise. Diagonalising S and G at once leaves one division per level. The gate g goes
    from 1 to exactly 0 at sigma_max.
    """

    modes: Tensor
    variances: Tensor
    pairs: Tensor
    stiff_mean: Tensor
    stiff_modes: Tensor
    stiff_variances: Tensor
    gate_sigma: Tensor
    sigma_max: Tensor

    def __init__(self, n_atoms: int, n_pairs: int) -> None:
        super().__init__()
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

    @classmethod
    def from_data(
        cls, system: MolecularSystem, positions: Tensor, sigma_max: float, stiff: bool
    ) -> PriorEnergy:
        """Estimate all its parameters from data [nm] ``(n, n_atoms, 3)``."""
        pairs = torch.as_tensor(stiff_pairs(system)) if stiff else torch.zeros((0, 2), dtype=torch.long)
        prior = cls(system.n_atoms, len(pairs))
        gaussian = gaussian_approximation(system, positions)
        prior.modes, prior.variances = gaussian.modes.float(), gaussian.variances.float()
        prior.sigma_max.fill_(sigma_max)
        prior.pairs = pairs
        if len(pairs):
            orbits = torch.as_tensor(pair_orbits(system))[pairs[:, 0], pairs[:, 1]]
            joint = torch.as_tensor(orbits_of_pairs_of_pairs(system, pairs.numpy()))
            prior._fit_stiff(positions.double(), orbits, joint)
        return prior

    def _fit_stiff(self, x: Tensor, orbits: Tensor, joint_orbits: Tensor) -> None:
        """Means, and S and G diagonalised at once, all averaged over equivalent (pairs of) pairs."""
        bond = x[:, self.pairs[:, 1]] - x[:, self.pairs[:, 0]]
        r = bond.norm(dim=-1)
        mean = averaged_over(orbits, r.mean(0))
        deviation = r - mean
        covariance = averaged_over(joint_orbits, deviation.T @ deviation / len(x))
        directions = (bond / r.unsqueeze(-1)).float()
        incidence = torch.zeros((len(self.pairs), x.shape[1]))
        incidence[torch.arange(len(self.pairs)), self.pairs[:, 1]] = 1.0
        incidence[torch.arange(len(self.pairs)), self.pairs[:, 0]] = -1.0
        gram = (
            torch.einsum("npd,nqd->pq", directions, directions) / len(x) * (incidence @ incidence.T)
        ).double()
        gram = averaged_over(joint_orbits, gram)
        gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        floor = 1e-3 * covariance.diagonal().min()
        covariance += floor * torch.eye(len(covariance), dtype=covariance.dtype)
        factor = torch.linalg.inv(torch.linalg.cholesky(gram))
        variances, vectors = torch.linalg.eigh(factor @ covariance @ factor.T)
        self.stiff_mean, self.stiff_variances = mean.float(), variances.clamp_min(1e-10).float()
        self.stiff_modes = (factor.T @ vectors).float()
        self.gate_sigma.fill_(GATE_FRACTION * float(mean.min()))

    @property
    def gaussian(self) -> MeanFreeGaussian:
        return MeanFreeGaussian(self.modes, self.variances)

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
        bond = x[:, self.pairs[:, 1]] - x[:, self.pairs[:, 0]]
        r = (bond.square().sum(-1) + 1e-10).sqrt()
        variances = self.stiff_variances + sigma.square().unsqueeze(-1)
        amplitudes = (r - self.stiff_mean) @ self.stiff_modes
        stiff = 0.5 * (amplitudes.square() / variances + torch.log(variances)).sum(-1)
        gate = self.gate(sigma)
        return (1.0 - gate) * gaussian + gate * stiff
