"""A trained energy at another temperature: ``exp(-gamma U)`` at every noise level, gamma = T / T'.

A Gaussian of variance ``v + sigma^2`` raised to the power gamma is one of variance ``(v + sigma^2) / gamma``.
So a tempered energy is an energy at levels ``sigma / sqrt(gamma)`` whose data have variances ``v / gamma``,
and schedule, kernels and moves need not know of it (Skreta et al. 2025, arXiv 2503.02819, anneal scores
instead and correct the weights).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from boltzgen.diffusion.process import EnergyAndScore, ZeroCentroidGaussian


@dataclass(frozen=True)
class Tempered:
    """``gamma U(x, sqrt(gamma) sigma)`` and its score, for the levels ``sigma`` that particles see.

    gamma
        Inverse temperature of the target over that of the data: T / T'.
    """

    model: EnergyAndScore
    gamma: float

    def __call__(self, x: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Energies ``(n,)`` and scores ``(n, n_atoms, 3)`` at ``log_sigma`` ``(n,)``."""
        u, score = self.model(x, log_sigma + 0.5 * math.log(self.gamma))
        return self.gamma * u, self.gamma * score

    def level(self, sigma: float) -> float:
        """The level [nm] that stands for the model's ``sigma``."""
        return sigma / math.sqrt(self.gamma)

    def of_model(self, sigma: np.ndarray) -> np.ndarray:
        """The model's levels that stand behind levels ``sigma``."""
        return sigma * math.sqrt(self.gamma)

    def gaussian(self, gaussian: ZeroCentroidGaussian) -> ZeroCentroidGaussian:
        """Where particles start."""
        return ZeroCentroidGaussian(gaussian.modes, gaussian.variances / self.gamma)
