"""Weights made to deceive: no verdict of *trusted* where log Z is more than three stated errors off.

Mixtures of two Gaussians, the second of which the energies have too high by a constant, so that the sampler
loses it and its weights look perfect; and weights whose mean is carried by few or has no variance. Without the
fault the same problems are trusted.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from boltzgen.coverage import energy_presence, region_presence
from boltzgen.diagnostics import judge_run, path_diagnostics, summarise
from boltzgen.diffusion import MeanFreeGaussian
from boltzgen.ensemble import WeightedEnsemble
from boltzgen.geometry import dof, gaussian_log_density, mean_free_noise, remove_centroid, squared_norm
from boltzgen.regions import find_regions
from boltzgen.sampler.islands import Combined, combine
from boltzgen.sampler.kernels import ReverseKernel
from boltzgen.sampler.ladder import FoldLevel, Ladder, Particles, at_level
from boltzgen.sampler.paths import forward_paths, reverse_paths
from boltzgen.sampler.pilot import Plan, plan_ladder
from boltzgen.sampler.smc import Population, run_smc, start
from boltzgen.sampling import ensemble_of
from boltzgen.units_of_motion import distance_units

VARIANCE, SIGMA_MAX, SIGMA_MIN = 0.05, 8.0, 0.05
N_DATA, N_ISLANDS, N_ISLAND = 512, 4, 512
SYSTEM: Any = SimpleNamespace(states=())
Where = Literal["everywhere", "low noise"]


@dataclass(frozen=True)
class Mixture:
    """Two Gaussians of weights ``1 - second`` and ``second``; log Z is zero.

    raised
        How much too high [kT] the energies are at the second one.
    where
        At every noise level, as energies of a wrong mixture are, or where the two have parted.
    """

    n_atoms: int
    second: float
    raised: float = 0.0
    where: Where = "everywhere"

    @property
    def n_levels(self) -> int:
        return 16 if self.n_atoms < 5 else 24

    @functools.cached_property
    def centres(self) -> Tensor:
        g = torch.Generator().manual_seed(0)
        return remove_centroid(torch.randn((2, self.n_atoms, 3), generator=g, dtype=torch.float64))

    @functools.cached_property
    def gaussian(self) -> MeanFreeGaussian:
        weights = torch.tensor([1 - self.second, self.second]).double()
        spread = float(weights @ squared_norm(self.centres)) / dof(self.n_atoms)
        return MeanFreeGaussian.isotropic(self.n_atoms, VARIANCE + spread)

    def energy(self, x: Tensor, variance: Tensor, raised: Tensor | float) -> tuple[Tensor, Tensor]:
        """Minus the log density ``(n,)`` and its gradient, the second mode raised."""
        shifts = x.new_tensor([math.log(1 - self.second), math.log(self.second)])
        logs = torch.stack([gaussian_log_density(x - c, variance) for c in self.centres], -1) + shifts
        logs[:, 1] -= raised
        shares = torch.softmax(logs, -1)
        mean = torch.einsum("nk,kad->nad", shares, self.centres)
        return -torch.logsumexp(logs, -1), (x - mean) / variance.view(-1, 1, 1)

    def model(self, x: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
        sigma = log_sigma.exp()
        raised = self.raised * (torch.ones_like(sigma) if self.where == "everywhere" else (sigma < 0.2))
        u, gradient = self.energy(x, VARIANCE + sigma.square(), raised)
        return u, -gradient

    def target(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.energy(x, x.new_full((len(x),), VARIANCE), 0.0)

    def data(self, n: int, generator: torch.Generator) -> Tensor:
        second = torch.rand(n, generator=generator, dtype=torch.float64) < self.second
        noise = mean_free_noise((n, self.n_atoms, 3), generator, torch.float64)
        return self.centres[second.long()] + VARIANCE**0.5 * noise

    @property
    def entrance(self) -> FoldLevel:
        return FoldLevel(self.model, SIGMA_MIN, self.target, lambda x: (x, torch.zeros(len(x)).double()))

    @functools.cached_property
    def ladder(self) -> Ladder:
        g = torch.Generator().manual_seed(1)
        plan = Plan(
            n_levels=self.n_levels,
            n_pilot=128,
            ladder_moves=1,
            move_below=0.2,
            bridge_moves=1,
            n_leapfrog=1,
            bridge_cess=0.9,
            kernel=ReverseKernel("ddpm+mse"),
            classes=torch.arange(self.n_atoms),
        )
        return plan_ladder(
            self.model,
            self.gaussian,
            self.entrance,
            self.data(400, g),
            lambda sigma: self.gaussian.level_information(torch.as_tensor(sigma)).numpy(),
            SIGMA_MAX,
            plan,
            g,
        )


@dataclass(frozen=True)
class Outcome:
    """What a run says of itself, and how far its log Z is off."""

    level: str
    off: float
    error: float | None
    reasons: tuple[str, ...]

    @property
    def deceives(self) -> bool:
        return self.level == "trusted" and (self.error is None or abs(self.off) > 3 * self.error)


@torch.no_grad()
def run_of(mixture: Mixture, generator: torch.Generator) -> Outcome:
    """One run of islands, and its verdict, as `boltzgen.sampling.sample` makes them."""
    ladder, model, gaussian = mixture.ladder, mixture.model, mixture.gaussian
    x0 = mixture.data(N_DATA, generator)
    ends = (model, gaussian, ladder)
    forward = forward_paths(*ends, x0, lambda x: {}, generator)
    reverse = reverse_paths(*ends, N_DATA, lambda x: {}, generator)
    levels = [*ladder.noise_levels(model, moving=True), *ladder.bridge_levels(mixture.entrance)]
    populations = [
        run_smc(
            start(model, gaussian, SIGMA_MAX, N_ISLAND, generator),
            levels,
            resample_below=0.5,
            generator=generator,
        )
        for _ in range(N_ISLANDS)
    ]
    combined = combine(populations)
    samples = ensemble_of(combined, 300.0)
    found = summarise(SYSTEM, samples, combined, populations, {})
    found |= path_diagnostics(ladder, forward, reverse, {})
    data = WeightedEnsemble(x0.float().numpy(), np.zeros(N_DATA), mixture.target(x0)[0].numpy(), 300.0)
    regions = find_regions(distance_units(data.positions, pairs(mixture.n_atoms)), data)
    of_data = (at_level(model, x0, SIGMA_MIN)[0] - mixture.target(x0)[0]).numpy()
    of_samples = (combined.energies[:, 0] - combined.energies[:, 1]).numpy()
    in_energy = energy_presence(of_data, np.arange(N_DATA), of_samples, samples.weights)
    found["regions"] = [vars(p) for p in (*region_presence(regions, samples), in_energy)]
    verdict = judge_run(found, SYSTEM, data)
    return Outcome(verdict.level, combined.log_z, combined.log_z_error, verdict.reasons)


def pairs(n_atoms: int) -> np.ndarray:
    """Every pair of atoms an orbit of its own."""
    return np.arange(n_atoms**2).reshape(n_atoms, n_atoms)
