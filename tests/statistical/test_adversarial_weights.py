"""Weights made to deceive: no verdict of *trusted* where log Z is more than three stated errors off.

Mixtures of two Gaussians, the second of which the energies have too high by a constant, so that the sampler
loses it and its weights look perfect; and weights whose mean is carried by few or has no variance. Without
the fault the same problems are trusted.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from boltzgen.diffusion.process import ZeroCentroidGaussian
from boltzgen.ensemble.regions import find_regions
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.geometry import dof, gaussian_log_density, remove_centroid, squared_norm, zero_centroid_noise
from boltzgen.sample.coverage import energy_presence, region_presence
from boltzgen.sample.diagnostics import judge_run, path_diagnostics, summarise
from boltzgen.sample.stage import ensemble_of
from boltzgen.sample.units_of_motion import distance_units
from boltzgen.smc.adaptation import Plan, plan_schedule
from boltzgen.smc.algorithm import Population, run_smc, start
from boltzgen.smc.base import Particles
from boltzgen.smc.bidirectional import forward_paths, reverse_paths
from boltzgen.smc.combine import Combined, combine
from boltzgen.smc.kernels import DdpmMse
from boltzgen.smc.levels import BridgeStart, Ends, Schedule, at_level

VARIANCE, SIGMA_MAX, SIGMA_MIN = 0.05, 8.0, 0.05
N_DATA = 512
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

    def __str__(self) -> str:
        fault = f"{self.raised:g} kT too high {self.where}" if self.raised else "without a fault"
        return f"{self.second:g} in {dof(self.n_atoms)} dimensions, {fault}"

    @functools.cached_property
    def centres(self) -> Tensor:
        g = torch.Generator().manual_seed(0)
        return remove_centroid(torch.randn((2, self.n_atoms, 3), generator=g, dtype=torch.float64))

    @functools.cached_property
    def gaussian(self) -> ZeroCentroidGaussian:
        weights = torch.tensor([1 - self.second, self.second]).double()
        spread = float(weights @ squared_norm(self.centres)) / dof(self.n_atoms)
        return ZeroCentroidGaussian.isotropic(self.n_atoms, VARIANCE + spread)

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
        noise = zero_centroid_noise((n, self.n_atoms, 3), generator, torch.float64)
        return self.centres[second.long()] + VARIANCE**0.5 * noise

    @property
    def bridge_start(self) -> BridgeStart:
        return BridgeStart(self.model, SIGMA_MIN, self.target, lambda x: (x, torch.ones(len(x)).bool()))

    @functools.cached_property
    def schedule(self) -> Schedule:
        g = torch.Generator().manual_seed(1)
        plan = Plan(
            n_levels=24,
            n_pilot=128,
            level_moves=1,
            move_below=0.2,
            bridge_moves=1,
            n_leapfrog=1,
            bridge_cess=0.9,
            kernel=DdpmMse(),
            classes=torch.arange(self.n_atoms),
        )
        return plan_schedule(
            Ends(self.gaussian, SIGMA_MAX, self.model, self.bridge_start),
            self.data(400, g),
            lambda sigma: self.gaussian.level_information(torch.as_tensor(sigma)).numpy(),
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
def run_of(mixture: Mixture, generator: torch.Generator, n_island: int = 512) -> Outcome:
    """One run of four islands with paths in both directions, and its verdict."""
    schedule, ends = mixture.schedule, (mixture.model, mixture.gaussian)
    x0 = mixture.data(N_DATA, generator)
    forward = forward_paths(*ends, schedule, x0, lambda x: {}, generator)
    reverse = reverse_paths(*ends, schedule, N_DATA, lambda x: {}, generator)
    levels = [
        *schedule.noise_levels(mixture.model, moving=True),
        *schedule.bridge_levels(mixture.bridge_start),
    ]
    populations = [
        run_smc(start(*ends, SIGMA_MAX, n_island, generator), levels, resample_below=0.5, generator=generator)
        for _ in range(4)
    ]
    combined = combine(populations)
    u = mixture.target(x0)[0]
    data = WeightedEnsemble(x0.float().numpy(), np.zeros(N_DATA), u.numpy(), 300.0)
    gaps = (at_level(mixture.model, x0, SIGMA_MIN)[0] - u).numpy()
    paths = path_diagnostics(schedule, forward, reverse, {})
    return outcome(populations, combined, paths | {"regions": presences(mixture, data, gaps, combined)}, data)


def presences(
    mixture: Mixture, data: WeightedEnsemble, gaps: np.ndarray, combined: Combined
) -> list[dict[str, object]]:
    """What of the data the sample has, with every pair of atoms an orbit of its own."""
    samples, n = ensemble_of(combined, 300.0), mixture.n_atoms
    regions = find_regions(distance_units(data.positions, np.arange(n * n).reshape(n, n)), data)
    of_samples = (combined.energies[:, 0] - combined.energies[:, 1]).numpy()
    in_energy = energy_presence(gaps, np.arange(N_DATA), of_samples, samples)
    return [vars(presence) for presence in (*region_presence(regions, samples), in_energy)]


def outcome(
    populations: list[Population],
    combined: Combined,
    further: Mapping[str, object],
    data: WeightedEnsemble,
    log_z: float = 0.0,
) -> Outcome:
    """The verdict on a run as `boltzgen.sample.stage.sample` makes it; ``log_z`` is the right one."""
    found = summarise(SYSTEM, ensemble_of(combined, 300.0), combined, populations, {}) | further
    verdict = judge_run(found, SYSTEM, data)
    return Outcome(verdict.level, combined.log_z - log_z, combined.log_z_error, verdict.reasons)


def weighed(log_weights: np.ndarray, log_z: float) -> Outcome:
    """The verdict on four islands of independent weights, paths of which show nothing."""
    populations = []
    for part in np.split(log_weights, 4):
        n = len(part)
        particles = Particles(torch.zeros(n, 2, 3), torch.zeros(n, 2), torch.zeros(n, 0), torch.arange(n))
        population = Population(particles, torch.zeros(n).double())
        population.reweight(torch.as_tensor(part))
        populations.append(population)
    data = WeightedEnsemble(np.zeros((4, 2, 3), np.float32), np.zeros(4), np.zeros(4), 300.0)
    return outcome(populations, combine(populations), {"jeffreys": 0.5}, data, log_z)


FAULTS = [
    Mixture(n_atoms, second, raised, where)
    for n_atoms in (3, 11)
    for second, raised in ((0.2, 8.0), (0.6, 12.0))
    for where in get_args(Where)
]
SOUND = [Mixture(n_atoms, second) for n_atoms in (3, 11) for second in (0.2, 0.6)]


def replicates(mixture: Mixture, n: int, n_island: int) -> list[Outcome]:
    generator = torch.Generator().manual_seed(7)
    found = [run_of(mixture, generator, n_island) for _ in range(n)]
    levels = Counter(one.level for one in found)
    print(f"\n{mixture}: {dict(levels)}, deceived {sum(one.deceives for one in found)} of {n}")
    return found


@pytest.mark.parametrize("mixture", FAULTS, ids=str)
def test_a_mode_that_is_lost_is_not_trusted(mixture: Mixture) -> None:
    found = replicates(mixture, 6 if mixture.n_atoms == 3 else 3, 256)
    assert not any(one.deceives for one in found)


@pytest.mark.parametrize("mixture", SOUND, ids=str)
def test_the_same_mixtures_without_the_fault_are_trusted(mixture: Mixture) -> None:
    """All but one at most: one in fifty of these samples has a few heavy weights, and says so."""
    found = replicates(mixture, 8 if mixture.n_atoms == 3 else 4, 512)
    assert sum(one.level != "trusted" for one in found) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("mixture", FAULTS, ids=str)
def test_at_most_one_lost_mode_in_two_hundred_is_trusted(mixture: Mixture) -> None:
    assert sum(one.deceives for one in replicates(mixture, 200, 512)) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("mixture", SOUND, ids=str)
def test_nineteen_of_twenty_sound_mixtures_are_trusted(mixture: Mixture) -> None:
    assert sum(one.level == "trusted" for one in replicates(mixture, 200, 512)) >= 190


def lognormal(sd: float) -> tuple[Callable[[np.random.Generator], np.ndarray], float]:
    return lambda rng: rng.normal(0.0, sd, 2048), 0.5 * sd**2


def pareto(index: float) -> tuple[Callable[[np.random.Generator], np.ndarray], float]:
    return lambda rng: rng.exponential(1 / index, 2048), math.log(index / (index - 1))


@pytest.mark.parametrize(
    ("kind", "n_deceived", "n_trusted"),
    [
        pytest.param(lognormal(6.0), 1, 0, id="lognormal of sd 6"),
        pytest.param(pareto(1.3), 1, 0, id="Pareto of index 1.3"),
        pytest.param(lognormal(0.7), 200, 190, id="lognormal of sd 0.7"),
        pytest.param(lognormal(1.2), 200, 190, id="lognormal of sd 1.2"),
        pytest.param(pareto(5.0), 200, 190, id="Pareto of index 5"),
    ],
)
def test_heavy_weights_are_not_trusted_and_light_ones_are(
    kind: tuple[Callable[[np.random.Generator], np.ndarray], float], n_deceived: int, n_trusted: int
) -> None:
    rng, (draw, log_z) = np.random.default_rng(0), kind
    found = [weighed(draw(rng), log_z) for _ in range(200)]
    levels = Counter(one.level for one in found)
    print(f"\n{dict(levels)}, deceived {sum(one.deceives for one in found)} of 200")
    assert sum(one.deceives for one in found) <= n_deceived
    assert levels["trusted"] >= n_trusted
