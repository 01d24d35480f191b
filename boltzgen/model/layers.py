"""Blocks of the energy network: radial basis, density projection onto irreps, many-body invariants.

The neighbourhood of every atom is projected onto radial functions times spherical harmonics (as in the
atomic cluster expansion, Drautz 2019, and MACE, Batatia et al. 2022): cheap per pair, rich per atom.
"""

from __future__ import annotations

import torch
from e3nn import o3
from torch import Tensor, nn

from boltzgen.model.graph import MAX_TOPOLOGICAL_DISTANCE


class NoiseEmbedding(nn.Module):
    """Smooth features ``(n, width)`` of ``log_sigma`` ``(n,)`` between two noise levels."""

    centres: Tensor

    def __init__(self, log_sigma_min: float, log_sigma_max: float, width: int, n_basis: int = 16) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(log_sigma_min, log_sigma_max, n_basis))
        self.spacing = (log_sigma_max - log_sigma_min) / (n_basis - 1)
        self.mlp = nn.Sequential(nn.Linear(n_basis, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, log_sigma: Tensor) -> Tensor:
        offset = (log_sigma.unsqueeze(-1) - self.centres) / self.spacing
        return self.mlp(torch.exp(-0.5 * offset.square()))


class EdgeBasis(nn.Module):
    """``phi_k(r_ij) Y_lm(r_ij)`` for all pairs of atoms, shape ``(n, n_atoms, K, (l_max+1)^2, n_atoms)``.

    Distances enter in units of what can be told apart at a noise level: ``(r - mean) / sqrt(std^2 + 2
    sigma^2)`` with each pair's statistics in the data, and the same about the contact distance with a
    tenth of it as the width. So bonds of 0.003 nm and noise of 2 nm are resolved by the same functions.
    """

    COARSE = (-3.5, 4.5, 15)
    CONTACT = (-2.5, 2.5, 7)

    hops: Tensor
    statistics: Tensor
    self_mask: Tensor
    coarse: Tensor
    contact: Tensor

    def __init__(self, hops: Tensor, statistics: Tensor, n_radial: int, l_max: int, noise_width: int) -> None:
        """``hops`` ``(n_atoms, n_atoms)``; ``statistics`` [nm] ``(3, n_atoms, n_atoms)``."""
        super().__init__()
        self.harmonics = o3.SphericalHarmonics(
            list(range(l_max + 1)), normalize=False, normalization="component"
        )
        self.register_buffer("hops", hops)
        self.register_buffer("statistics", statistics.float())
        self.register_buffer("self_mask", 1.0 - torch.eye(len(hops)).unsqueeze(1))
        self.register_buffer("coarse", torch.linspace(*self.COARSE).view(-1, 1))
        self.register_buffer("contact", torch.linspace(*self.CONTACT).view(-1, 1))
        n_basis = self.COARSE[2] + self.CONTACT[2]
        n_types = MAX_TOPOLOGICAL_DISTANCE + 1
        self.mix = nn.Parameter(torch.randn(n_radial, n_basis) / n_basis**0.5)
        self.type_in = nn.Parameter(1.0 + 0.3 * torch.randn(n_types, n_basis))
        self.type_out = nn.Parameter(1.0 + 0.3 * torch.randn(n_types, n_radial))
        self.noise_scale = nn.Linear(noise_width, n_radial)

    def forward(self, x: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        mean, std, contact = self.statistics.unbind(0)
        spread = 2.0 * sigma.square().view(-1, 1, 1)
        scale = (std.square() + spread).sqrt()
        displacement = x.unsqueeze(1) - x.unsqueeze(2)
        r2 = displacement.square().sum(-1)
        r = (r2 + (0.1 * scale).square() + 1e-12).sqrt()
        z = ((r - mean) / scale).unsqueeze(2)
        z_contact = ((r - contact) / (0.01 * contact.square() + spread).sqrt()).unsqueeze(2)
        gaussians = torch.cat([_bumps(z, self.coarse), _bumps(z_contact, self.contact)], dim=2)
        radial = self.mix @ (gaussians * self.type_in[self.hops].transpose(1, 2))
        radial = radial * self.type_out[self.hops].transpose(1, 2) * self.self_mask
        radial = radial * (1.0 + self.noise_scale(noise)).view(len(x), 1, -1, 1)
        soft = (r2 + (0.3 * scale).square() + 1e-12).rsqrt()
        angular = self.harmonics(displacement * soft.unsqueeze(-1)).transpose(2, 3)
        return radial.unsqueeze(3) * angular.unsqueeze(2)


def _bumps(z: Tensor, centres: Tensor) -> Tensor:
    """Gaussians about ``centres`` as wide as their spacing."""
    spacing = centres[1] - centres[0]
    return torch.exp(-0.5 * ((z - centres) / spacing).square())


class ManyBodyInvariants(nn.Module):
    """Rotation and reflection invariants of each atom's density, up to products of three projections.

    Input: densities ``(n, n_atoms, K, (l_max+1)^2, C)``; output ``(n, n_atoms, n_out)``. Couplings use
    e3nn's real Wigner 3j symbols; only even total parity occurs since Y_l has parity (-1)^l.
    """

    def __init__(self, n_in: int, n_channels: int, l_max: int) -> None:
        super().__init__()
        self.slices = o3.Irreps.spherical_harmonics(l_max).slices()
        degrees = list(range(l_max + 1))
        self.first = nn.ParameterList([torch.randn(n_in, n_channels) / n_in**0.5 for _ in degrees])
        self.second = nn.ParameterList([torch.randn(n_in, n_channels) / n_in**0.5 for _ in degrees])
        self.triples = [
            (l1, l2, l3)
            for l1 in degrees[1:]
            for l2 in degrees[l1:]
            for l3 in degrees[1:]
            if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0
        ]
        for l1, l2, l3 in self.triples:
            coupling = o3.wigner_3j(l1, l2, l3).reshape(-1, 2 * l3 + 1).T * (2 * l3 + 1) ** 0.5
            self.register_buffer(f"w{l1}{l2}{l3}", coupling.contiguous())
        self.n_out = n_channels * (1 + (len(degrees) - 1) + len(self.triples))

    def forward(self, density: Tensor) -> Tensor:
        n, n_atoms, _, _, _ = density.shape
        a, b = [], []
        for degree, (rows, first, second) in enumerate(
            zip(self.slices, self.first, self.second, strict=True)
        ):
            block = density[:, :, :, rows].transpose(2, 3).reshape(n, n_atoms, 2 * degree + 1, -1)
            a.append(block @ first)
            b.append(block @ second)
        invariants = [a[0].squeeze(2)]
        invariants += [(a[k] * b[k]).sum(2) / (2 * k + 1) ** 0.5 for k in range(1, len(a))]
        for l1, l2, l3 in self.triples:
            outer = a[l1].unsqueeze(3) * a[l2].unsqueeze(2)
            coupled = getattr(self, f"w{l1}{l2}{l3}") @ outer.flatten(2, 3)
            invariants.append((coupled * b[l3]).sum(2) / (2 * l3 + 1) ** 0.5)
        return torch.cat(invariants, dim=-1)


class DensityLayer(nn.Module):
    """One round: project neighbours' features onto the edge basis, form invariants, update every atom."""

    def __init__(self, n_channels: int, n_radial: int, l_max: int, hidden: int, noise_width: int) -> None:
        super().__init__()
        self.invariants = ManyBodyInvariants(n_radial * n_channels, 2 * n_channels, l_max)
        self.inward = nn.Linear(self.invariants.n_out + n_channels, hidden)
        self.film = nn.Linear(noise_width, 2 * hidden)
        self.middle = nn.Linear(hidden, hidden)
        self.outward = nn.Linear(hidden, n_channels)
        self.energy = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.energy.weight)

    def forward(self, h: Tensor, basis: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(n, n_atoms, C)`` -> updated features and atomic energies ``(n, n_atoms)``."""
        n, n_atoms, n_radial, n_lm, _ = basis.shape
        density = (basis.reshape(n, -1, n_atoms) @ h).view(n, n_atoms, n_radial, n_lm, -1)
        hidden = self.inward(torch.cat([self.invariants(density), h], dim=-1))
        scale, shift = self.film(noise).unsqueeze(1).chunk(2, dim=-1)
        hidden = nn.functional.silu(hidden * (1.0 + scale) + shift)
        hidden = nn.functional.silu(self.middle(hidden))
        return h + self.outward(hidden), self.energy(hidden).squeeze(-1)
