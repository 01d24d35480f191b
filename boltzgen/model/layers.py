"""Blocks of the energy network: radial basis, density projection onto irreps, many-body invariants.

The neighbourhood of every atom is projected onto radial functions times spherical harmonics (as in the
atomic cluster expansion, Drautz 2019, and MACE, Batatia et al. 2022): cheap per pair, rich per atom.

Configurations run along the last, contiguous axis of every tensor: mixing channels is then one matrix
product, and sums over pairs and couplings of irreps fuse into loops that fill the vector registers.
"""

from __future__ import annotations

import torch
from e3nn import o3
from torch import Tensor, nn

from boltzgen.model.graph import MAX_TOPOLOGICAL_DISTANCE

USUAL_NEIGHBOURS = 21
"""Sums over more neighbours are scaled down to so many: products of three would grow with the cube."""

Coupling = list[tuple[float, int, int, int]]
"""Entries ``(w, m1, m2, m3)`` of a Wigner 3j symbol that are not zero."""


def coupling(l1: int, l2: int, l3: int) -> Coupling:
    """e3nn's real Wigner 3j symbol."""
    w = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
    return [(float(w[*m]), *m) for m in w.abs().gt(1e-8).nonzero().tolist()]


class Harmonics:
    """Real spherical harmonics as polynomials, ``|Y_l(v)|^2 = (2 l + 1) |v|^2l``, in e3nn's order."""

    def __init__(self, l_max: int) -> None:
        self.l_max = l_max
        self.steps: list[Coupling] = []
        for l in range(2, l_max + 1):
            unit = o3.spherical_harmonics([1, l - 1, l], torch.ones(3), True, "component").double()
            first, before, wanted = unit[:3], unit[3 : 2 + 2 * l], unit[2 + 2 * l :]
            step = coupling(1, l - 1, l)
            made = torch.zeros(2 * l + 1, dtype=torch.float64)
            for w, m1, m2, m3 in step:
                made[m3] += w * first[m1] * before[m2]
            scale = float(wanted.norm() / made.norm())
            self.steps.append([(scale * w, *m) for w, *m in step])  # type: ignore[misc]

    def __call__(self, vectors: Tensor) -> Tensor:
        """``Y_lm`` of vectors ``(3, ...)``, all l up to l_max in one axis ``((l_max+1)^2, ...)``."""
        first = list((3**0.5 * vectors).unbind(0))
        degrees = [[torch.ones_like(first[0])], first]
        for l, step in enumerate(self.steps, start=2):
            degree = [torch.zeros_like(first[0]) for _ in range(2 * l + 1)]
            for w, m1, m2, m3 in step:
                degree[m3] = degree[m3] + w * first[m1] * degrees[-1][m2]
            degrees.append(degree)
        return torch.stack([y for degree in degrees[: self.l_max + 1] for y in degree])


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
    """Radial functions ``(K, n_atoms, n_atoms, B)`` and spherical harmonics of all pairs of atoms.

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
        self.harmonics = Harmonics(l_max)
        self.register_buffer("hops", hops)
        self.register_buffer("statistics", statistics.float())
        self.register_buffer("self_mask", 1.0 - torch.eye(len(hops)))
        self.register_buffer("coarse", torch.linspace(*self.COARSE))
        self.register_buffer("contact", torch.linspace(*self.CONTACT))
        n_types = MAX_TOPOLOGICAL_DISTANCE + 1
        n_gaussians = self.COARSE[2] + self.CONTACT[2]
        self.mix = nn.ParameterList(
            [torch.randn(n_radial, n) / n_gaussians**0.5 for n in (self.COARSE[2], self.CONTACT[2])]
        )
        self.type_in = nn.ParameterList(
            [1.0 + 0.3 * torch.randn(n, n_types) for n in (self.COARSE[2], self.CONTACT[2])]
        )
        self.type_out = nn.Parameter(1.0 + 0.3 * torch.randn(n_radial, n_types))
        self.noise_scale = nn.Linear(noise_width, n_radial)

    def forward(self, x: Tensor, sigma: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """``phi_k(r_ij)`` ``(K, i, j, B)`` and ``Y_lm`` ``(lm, i, j, B)`` of ``x`` ``(n_atoms, 3, B)``."""
        mean, std, contact = self.statistics.unsqueeze(-1)
        spread = 2.0 * sigma.square()
        scale = (std.square() + spread).sqrt()
        displacement = (x.unsqueeze(0) - x.unsqueeze(1)).movedim(2, 0)
        r2 = displacement.square().sum(0)
        r = (r2 + (0.1 * scale).square() + 1e-12).sqrt()
        z = (r - mean) / scale
        z_contact = (r - contact) / (0.01 * contact.square() + spread).sqrt()
        parts = [
            mix @ (_gaussians(value, centres) * weights[:, self.hops].unsqueeze(-1)).flatten(1)
            for value, centres, weights, mix in zip(
                (z, z_contact), (self.coarse, self.contact), self.type_in, self.mix, strict=True
            )
        ]
        radial = (parts[0] + parts[1]).view(-1, *r.shape) * (
            self.type_out[:, self.hops] * self.self_mask
        ).unsqueeze(-1)
        radial = radial * (1.0 + self.noise_scale(noise).T[:, None, None])
        soft = (r2 + (0.3 * scale).square() + 1e-12).rsqrt()
        return radial, self.harmonics(displacement * soft)


def _gaussians(z: Tensor, centres: Tensor) -> Tensor:
    """Gaussians about ``centres`` as wide as their spacing, ``(len(centres), ...)``."""
    spacing = centres[1] - centres[0]
    return torch.exp(-0.5 * ((z - centres.view(-1, *(1,) * z.ndim)) / spacing).square())


class ManyBodyInvariants(nn.Module):
    """Rotation and reflection invariants of each atom's density, up to products of three projections.

    Input: densities ``(C, (l_max+1)^2, n_atoms, B)``; output ``(n_out, n_atoms, B)``. Only couplings of
    even total parity occur since Y_l has parity (-1)^l.
    """

    def __init__(self, n_channels: int, l_max: int) -> None:
        super().__init__()
        self.dims = [2 * l + 1 for l in range(l_max + 1)]
        degrees = range(l_max + 1)
        self.mix = nn.ParameterList(
            [
                torch.randn(n_channels * (2 if l else 1), n_channels)
                / (n_channels * (2 * l + 1) ** 0.5) ** 0.5
                for l in degrees
            ]
        )
        self.triples = {
            (l1, l2, l3): coupling(l1, l2, l3)
            for l1 in degrees[1:]
            for l2 in degrees[l1:]
            for l3 in degrees[1:]
            if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0
        }
        self.n_out = n_channels * (1 + l_max + len(self.triples))

    def forward(self, density: Tensor) -> Tensor:
        mixed = [
            (mix @ block.flatten(1)).view(-1, *block.shape[1:])
            for block, mix in zip(density.split(self.dims, dim=1), self.mix, strict=True)
        ]
        invariants = [mixed[0].squeeze(1)]
        halves = [block.chunk(2) for block in mixed[1:]]
        invariants += [(a * b).sum(1) for a, b in halves]
        first, second = ([half.unbind(1) for half in side] for side in zip(*halves, strict=True))
        for (l1, l2, l3), entries in self.triples.items():
            a1, a2, b = first[l1 - 1], first[l2 - 1], second[l3 - 1]
            invariants.append(sum(w * a1[m1] * a2[m2] * b[m3] for w, m1, m2, m3 in entries))
        return torch.cat(invariants)


class DensityLayer(nn.Module):
    """One round: project neighbours' features onto the edge basis, form invariants, update every atom.

    Each channel has a radial function of its own: ``A_i[lm, c] = sum_j R_c(r_ij) Y_lm(r_ij) h_j[c]``.
    """

    def __init__(self, n_channels: int, n_radial: int, l_max: int, hidden: int, noise_width: int) -> None:
        super().__init__()
        self.radial = nn.Parameter(torch.randn(n_channels, n_radial) / n_radial**0.5)
        self.invariants = ManyBodyInvariants(n_channels, l_max)
        self.inward = nn.Linear(self.invariants.n_out + n_channels, hidden)
        self.film = nn.Linear(noise_width, 2 * hidden)
        self.middle = nn.Linear(hidden, hidden)
        self.outward = nn.Linear(hidden, n_channels)
        self.energy = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.energy.weight)

    def forward(self, h: Tensor, radial: Tensor, angular: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(C, n_atoms, B)`` -> updated features and atomic energies ``(n_atoms, B)``."""
        own = (self.radial @ radial.flatten(1)).view(-1, *radial.shape[1:])
        own = own * min(1.0, USUAL_NEIGHBOURS / max(h.shape[1] - 1, 1))
        density = (angular * (own * h.unsqueeze(1)).unsqueeze(1)).sum(3)
        scale, shift = self.film(noise).T.unsqueeze(1).chunk(2)
        hidden = _linear(self.inward, torch.cat([self.invariants(density), h]))
        hidden = nn.functional.silu(hidden * (1.0 + scale) + shift)
        hidden = nn.functional.silu(_linear(self.middle, hidden))
        return h + _linear(self.outward, hidden), _linear(self.energy, hidden).squeeze(0)


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """A linear layer over the first axis of ``(features, n_atoms, B)``."""
    y = (layer.weight @ x.flatten(1)).view(-1, *x.shape[1:])
    return y if layer.bias is None else y + layer.bias.view(-1, 1, 1)
