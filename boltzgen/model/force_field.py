"""The system's own energy, softened by noise, as part of the prior at low noise levels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from boltzgen.diffusion.tables import between_levels
from boltzgen.potential.batched import BatchedEvaluator
from boltzgen.system.molecular_system import MolecularSystem

N_STRENGTHS = 65
"""Entries of the table of strengths over log sigma."""
CLOSEST_NM = 0.02
"""Configurations with a pair closer than this are given a constant instead of their energy."""
HIGHEST = 1e12
"""That constant, before it is capped [kT]."""


class SoftenedForceField(nn.Module):
    """``strength(sigma) cap(u(x_hat) - stiff(x_hat) - offset)``: the force field without its stiff part.

    ``x_hat`` is the configuration denoised in its stiff coordinates, where ``stiff`` is the harmonic energy
    that the rest of the prior has already softened. ``cap(e) = c asinh(e / c)`` bounds forces of overlapping
    atoms; c grows as sigma falls, so that the whole prior tends to u(x) as sigma goes to zero.

    strengths
        Table over log sigma between two levels, fitted to noised data (`boltzgen.model.calibration`).
    offset
        Median of ``u - stiff`` in the data [kT].
    """

    strengths: Tensor
    offset: Tensor
    reference: Tensor
    cap_sigma: Tensor
    log_sigma_bounds: Tensor

    def __init__(self, system: MolecularSystem, log_sigma_range: tuple[float, float]) -> None:
        """Raises Unsupported where the system's forces cannot be compiled to torch."""
        super().__init__()
        self.kT = system.kT
        self._evaluators = {
            dtype: BatchedEvaluator(system.openmm_system, dtype, compiled=False)
            for dtype in (torch.float32, torch.float64)
        }
        self.register_buffer("reference", torch.as_tensor(system.positions).float())
        self.register_buffer("strengths", torch.zeros(N_STRENGTHS))
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("cap_sigma", torch.tensor(0.01))
        self.register_buffer("log_sigma_bounds", torch.tensor(log_sigma_range))

    def residual(self, x_hat: Tensor, stiff: Tensor) -> Tensor:
        """``u(x_hat) - stiff - offset`` [kT] ``(n,)``, a large constant where atoms overlap."""
        n_atoms = x_hat.shape[1]
        i, j = torch.triu_indices(n_atoms, n_atoms, 1, device=x_hat.device)
        nearest = (x_hat.detach()[:, i] - x_hat.detach()[:, j]).square().sum(-1).amin(1)
        apart = nearest > CLOSEST_NM**2
        safe = torch.where(apart.view(-1, 1, 1), x_hat, self.reference.to(x_hat))
        u = self._evaluators[x_hat.dtype].energy(safe) / self.kT
        return torch.where(apart, u - stiff - self.offset, HIGHEST)

    def strength(self, log_sigma: Tensor) -> Tensor:
        """Between 0 and 1, ``(n,)``."""
        return between_levels(self.strengths, log_sigma, self.log_sigma_bounds)

    def capped(self, residual: Tensor, sigma: Tensor) -> Tensor:
        """``c asinh(e / c)`` with c = 30 kT at noise levels above cap_sigma."""
        c = 30.0 * (1.0 + (self.cap_sigma / sigma).square())
        return c * torch.asinh(residual / c)

    def forward(self, x_hat: Tensor, stiff: Tensor, sigma: Tensor) -> Tensor:
        """Energies [kT] ``(n,)``."""
        return self.strength(sigma.log()) * self.capped(self.residual(x_hat, stiff), sigma)
