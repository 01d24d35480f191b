"""What the network learns to denoise to: the clean data, or a far less noisy target with the same mean.

Given a noised ``y``, both ``(x_0 - y) / sigma^2`` and the score ``f = d log p/dx (x_0)`` of the data's
density p have the score of the noised density as their mean (target score identity: De Bortoli et al. 2024,
arXiv 2402.08667), as long as p has no jumps. The score is the reduced force -du/dx, and where states are
up-weighted the gradient of their factor besides (`boltzgen.ensemble.state_balance`, which lets it change
smoothly for this reason). So their difference ``h = f - (x_0 - y) / sigma^2`` has mean zero, and any linear
map of it that depends on y and sigma only may be added to the first: a control variate. For a harmonic u with
Hessian H the map ``(1 + sigma^2 H)^-1`` leaves no variance at all.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from boltzgen.diffusion.process import per_configuration, perturb
from boltzgen.diffusion.tables import between_levels
from boltzgen.geometry import remove_centroid
from boltzgen.model.prior import PriorEnergy

N_FITTED_LEVELS = 33
"""Entries of the tables of coefficients over log sigma."""


class DenoisingTarget:
    """``x_0 + sigma^2 (a h + b (1 + sigma^2 H)^-1 h)``, H about the Hessian of the prior's stiff distances.

    a, b
        One coefficient per noise level and atom class, those of least variance on data: tables
        ``(N_FITTED_LEVELS, 2, n_atoms)``. Whatever they are, the mean given y is that of x_0.
    """

    def __init__(self, prior: PriorEnergy, classes: np.ndarray, log_sigma_range: tuple[float, float]) -> None:
        device = prior.variances.device
        self.prior = prior
        self.same = torch.as_tensor(classes[:, None] == classes[None, :], device=device).float()
        self.bounds = torch.tensor(log_sigma_range, device=device)
        self.coefficients = torch.zeros((N_FITTED_LEVELS, 2, len(classes)), device=device)

    @torch.no_grad()
    def fit(self, x0: Tensor, forces: Tensor, generator: torch.Generator) -> None:
        """Coefficients of least variance, by least squares on data and their scores ``(n, n_atoms, 3)``.

        The variance of the target given y and its second moment about y differ by what no coefficient
        changes, so no score is needed. Classes of atoms are independent of each other in this.
        """
        low, high = self.bounds.tolist()
        for level, log_sigma in enumerate(torch.linspace(low, high, N_FITTED_LEVELS)):
            sigma = log_sigma.exp().to(x0).expand(len(x0))
            y = perturb(x0, sigma, generator)
            terms = self._terms(y, x0, forces, sigma)
            gram = torch.einsum("pnid,qnid->ipq", terms, terms).double()
            moment = torch.einsum("pnid,nid->ip", terms, y - x0).double()
            same = self.same.double()
            gram, moment = torch.einsum("ij,jpq->ipq", same, gram), same @ moment
            best = torch.linalg.pinv(gram, hermitian=True, rtol=1e-9) @ moment.unsqueeze(-1)
            self.coefficients[level] = best.squeeze(-1).T.float()

    @torch.no_grad()
    def __call__(self, y: Tensor, x0: Tensor, forces: Tensor, log_sigma: Tensor) -> Tensor:
        """Targets ``(n, n_atoms, 3)`` [nm] for ``y`` noised from ``x0`` at levels ``(n,)``; forces [1/nm]."""
        a = between_levels(self.coefficients, log_sigma, self.bounds).transpose(0, 1).unsqueeze(-1)
        return x0 + remove_centroid((a * self._terms(y, x0, forces, log_sigma.exp())).sum(0))

    def _terms(self, y: Tensor, x0: Tensor, forces: Tensor, sigma: Tensor) -> Tensor:
        """``sigma^2 h`` and its preconditioned form, ``(2, n, n_atoms, 3)``."""
        h = per_configuration(sigma.square()) * forces + y - x0
        return torch.stack([h, self.prior.preconditioned(h, self.prior.denoised(y, sigma), sigma)])
