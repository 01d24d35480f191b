"""The rival of `network.py`: an equivariant graph network (EGNN) turned into an energy of noised molecules.

EGNN after Satorras et al. 2021, every ordered pair of atoms an edge, with the attention, the sizes and the
energy (displacement times position) that the DiffCLF paper (arXiv 2601.21025) describes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from boltzgen.geometry import dof, remove_centroid, squared_norm
from boltzgen.model.energy import EnergyModel, derivatives
from boltzgen.system.molecular_system import MolecularSystem


class NoiseFeatures(nn.Module):
    """``(n, width)`` features of ``log_sigma (n,)`` from Gaussians equally spaced in log sigma."""

    centres: Tensor

    def __init__(self, low: float, high: float, width: int, n_basis: int = 16) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(low, high, n_basis))
        self.spacing = (high - low) / (n_basis - 1)
        self.mlp = nn.Sequential(nn.Linear(n_basis, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, log_sigma: Tensor) -> Tensor:
        offset = (log_sigma.unsqueeze(-1) - self.centres) / self.spacing
        return self.mlp(torch.exp(-0.5 * offset.square()))


class EGNNLayer(nn.Module):
    """Messages between all atoms, gated by attention, that displace the atoms and update their features."""

    def __init__(self, width: int, last: bool) -> None:
        super().__init__()
        # The first layer of the edge network acts on (h_i, h_j, r_ij^2, initial r_ij^2, bond flag), so its
        # large parts can be applied to atoms instead of pairs.
        self.receiver = nn.Linear(width, width)
        self.sender = nn.Linear(width, width, bias=False)
        self.pair = nn.Linear(3, width, bias=False)
        self.message = nn.Linear(width, width)
        self.attention = nn.Linear(width, 1)
        self.displace = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1, bias=False))
        nn.init.xavier_uniform_(self.displace[-1].weight, gain=1e-3)
        if not last:
            self.update = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.last = last

    def forward(self, h: Tensor, x: Tensor, constant: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(n, n_atoms, width)`` and positions ``(n, n_atoms, 3)``, both updated.

        ``constant`` holds the edge inputs that layers share, ``(n, n_atoms, n_atoms, 2)``; ``others`` is 1
        where the two atoms of an edge differ.
        """
        difference = x.unsqueeze(2) - x.unsqueeze(1)
        r2 = difference.square().sum(-1, keepdim=True)
        nodes = self.receiver(h).unsqueeze(2) + self.sender(h).unsqueeze(1)
        message = silu(self.message(silu(nodes + self.pair(torch.cat([r2, constant], dim=-1)))))
        message = message * (torch.sigmoid(self.attention(message)) * others)
        step = difference * (self.displace(message) / (1.0 + (r2 + 1e-8).sqrt()))
        x = x + step.sum(2) / (x.shape[1] - 1)
        if not self.last:
            h = h + self.update(torch.cat([h, message.sum(2)], dim=-1))
        return h, x


class EGNNEnergy(nn.Module):
    """``U(x, sigma)``: an isotropic Gaussian, a preconditioned EGNN energy, a learned constant per level.

    ``U = |x|^2 / (2 s^2) + (dof / 2) log(2 pi s^2) + (sigma_data / sigma) E(x / s, log sigma) + f(sigma)
    - f(sigma_max)`` with ``s^2 = sigma^2 + sigma_data^2`` and ``E = sum_i d_i . x_i``, displacements d
    of zero centroid.
    """

    classes: Tensor
    bonded: Tensor
    others: Tensor
    top: Tensor

    def __init__(
        self, system: MolecularSystem, model: EnergyModel, hidden: int = 128, n_layers: int = 5
    ) -> None:
        """Noise range, data scale and atom classes are those of ``model``, the network is new."""
        super().__init__()
        low, high = model.log_sigma_range
        self.sigma_data = model.spec.sigma_data
        classes = torch.as_tensor(system.atom_classes)
        self.register_buffer("classes", classes)
        bonded = torch.as_tensor(system.topological_distances == 1).float().unsqueeze(-1)
        self.register_buffer("bonded", bonded)
        self.register_buffer("others", 1.0 - torch.eye(system.n_atoms).unsqueeze(-1))
        self.register_buffer("top", torch.tensor([high]))
        self.embedding = nn.Embedding(int(classes.max()) + 1, hidden)
        self.noise = NoiseFeatures(low, high, hidden)
        self.layers = nn.ModuleList([EGNNLayer(hidden, k == n_layers - 1) for k in range(n_layers)])
        self.level = nn.Sequential(NoiseFeatures(low, high, 32), nn.SiLU(), nn.Linear(32, 1, bias=False))
        nn.init.zeros_(self.level[-1].weight)

    def energy(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        """``U`` ``(n,)`` of configurations [nm] ``(n, n_atoms, 3)`` at levels ``(n,)``."""
        x, sigma = remove_centroid(x), log_sigma.exp()
        variance = sigma.square() + self.sigma_data**2
        gaussian = 0.5 * (squared_norm(x) / variance + dof(x.shape[1]) * torch.log(2 * math.pi * variance))
        level = (self.level(log_sigma) - self.level(self.top)).squeeze(-1)
        network = self.network(x * variance.rsqrt().view(-1, 1, 1), log_sigma)
        return gaussian + self.sigma_data / sigma * network + level

    def network(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        """``E`` ``(n,)`` of scaled, zero-centroid configurations."""
        r2 = (x.unsqueeze(2) - x.unsqueeze(1)).square().sum(-1, keepdim=True)
        constant = torch.cat([r2, self.bonded.expand_as(r2)], dim=-1)
        h, moved = self.embedding(self.classes) + self.noise(log_sigma).unsqueeze(1), x
        for layer in self.layers:
            h, moved = layer(h, moved, constant, self.others)
        return (remove_centroid(moved - x) * x).sum((1, 2))

    def forward(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        return self.energy(x, log_sigma)

    def energy_and_score(self, x: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Energies ``(n,)`` and scores ``-dU/dx`` ``(n, n_atoms, 3)`` [1/nm]."""
        u, score = derivatives(self.energy, x, log_sigma)
        return u.detach(), score.detach()
