"""The production runs of the sampler: independent islands, each kept on disk when it is done."""

from __future__ import annotations

import collections
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from boltzgen.config.schema import SampleSettings
from boltzgen.runtime.checkpoints import Checkpoints
from boltzgen.runtime.context import Context
from boltzgen.runtime.progress import OnProgress
from boltzgen.runtime.random_streams import numbered_generator
from boltzgen.sample.setup import Annealing, schedule_of
from boltzgen.smc.algorithm import Population, run_smc, start
from boltzgen.smc.base import Level, Moves, Particles
from boltzgen.smc.bidirectional import Paths, StateMembers, forward_paths, reverse_paths
from boltzgen.smc.elastic_network import DenoisingError, Springs
from boltzgen.smc.kernels import KERNELS
from boltzgen.smc.levels import NoiseLevel, Schedule
from boltzgen.smc.resampling import normalised

BRIDGE_RESAMPLE_BELOW = 0.1
"""ESS / n below which the bridge resamples. It is short, and a state that was up-weighted in training loses
its ancestors there: better to keep them with small weights."""


@dataclass
class Watcher:
    """Observer of the production runs: reports progress, keeps state populations at every noise level."""

    members: StateMembers
    on_progress: OnProgress
    n_islands: int
    n_levels: int
    island: int = 0
    log_z: float = 0.0
    shares: dict[str, list[float]] = field(default_factory=dict)
    n_seen: int = 0

    def begin(self, island: int) -> None:
        """A new population starts."""
        self.island, self.log_z, self.n_seen, self.shares = island, 0.0, 0, {}

    def __call__(
        self, level: Level, particles: Particles, log_weights: Tensor, record: dict[str, float]
    ) -> None:
        self.n_seen += 1
        self.log_z += record["log_z_increment"]
        if "sigma" in record:
            weights = normalised(log_weights)
            for name, inside in self.members(particles.x).items():
                self.shares.setdefault(name, []).append(float(weights[inside].sum()))
        done = (self.island + self.n_seen / self.n_levels) / self.n_islands
        where = " ".join(f"{k} {v:.4g}" for k, v in level.coordinate.items())
        values = f"ESS {record['ess']:.2f}  log Z {self.log_z:.2f}"
        message = f"island {self.island + 1}/{self.n_islands}  {where}  {values}"
        self.on_progress(0.2 + 0.8 * done, 1.0, message)


@dataclass(frozen=True)
class Cost:
    """Work that a piece of sampling took: evaluations of either energy, and seconds."""

    network: int = 0
    target: int = 0
    target_seconds: float = 0.0
    seconds: float = 0.0

    @classmethod
    def so_far(cls, annealing: Annealing) -> Cost:
        """What this process has spent, from an arbitrary zero."""
        potential = annealing.potential
        return cls(annealing.counter.evaluations, potential.evaluations, potential.seconds, time.monotonic())

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.network + other.network,
            self.target + other.target,
            self.target_seconds + other.target_seconds,
            self.seconds + other.seconds,
        )

    def since(self, before: Cost) -> Cost:
        """What was spent after ``before``."""
        return self + Cost(-before.network, -before.target, -before.target_seconds, -before.seconds)


@dataclass(frozen=True)
class Pilot:
    """What every island needs and the report shows: the schedule, and paths along it in both directions.

    ``blocks`` ``(n,)`` number the correlated frames that forward paths begin at; None in older checkpoints.
    """

    schedule: Schedule
    forward: Paths
    reverse: Paths
    cost: Cost
    blocks: Tensor | None = None


@dataclass(frozen=True)
class Island:
    """One finished population; ``shares`` are its state populations at every noise level."""

    population: Population
    shares: dict[str, list[float]]
    counts: dict[str, int]
    cost: Cost


def checkpoints_in(directory: Path | None) -> Checkpoints:
    """Where the pieces of sampling are kept."""
    schedule = (Schedule, Moves, *KERNELS.values(), DenoisingError, Springs, Paths)
    return Checkpoints(directory, (Pilot, Island, Population, Particles, Cost, *schedule))


def pilot_of(
    annealing: Annealing,
    settings: SampleSettings,
    context: Context,
    generator: torch.Generator,
) -> Pilot:
    """Schedule and paths, from a checkpoint or made now; of several processes the first makes them."""
    kept, processes = checkpoints_in(context.checkpoints), context.processes
    if not processes.first:
        processes.barrier()
    pilot = kept.load("preparation", context.log, str(annealing.x0.device))
    if not isinstance(pilot, Pilot):
        pilot = _run_pilot(annealing, settings, generator, context.on_progress)
        kept.save("preparation", pilot)
    if processes.first:
        processes.barrier()
    return pilot


def _run_pilot(
    annealing: Annealing, settings: SampleSettings, generator: torch.Generator, on_progress: OnProgress
) -> Pilot:
    before = Cost.so_far(annealing)
    on_progress(0.0, 1.0, "pilot run: placing noise levels, bridge and step sizes")
    schedule = schedule_of(annealing, settings, generator)
    on_progress(0.1, 1.0, "forward and reverse paths for J")
    ends = (annealing.network, annealing.gaussian, schedule)
    forward = forward_paths(*ends, annealing.x0, annealing.members, generator)
    reverse = reverse_paths(*ends, len(annealing.x0), annealing.members, generator)
    return Pilot(schedule, forward, reverse, Cost.so_far(annealing).since(before), annealing.blocks)


def run_islands(
    annealing: Annealing, schedule: Schedule, settings: SampleSettings, context: Context
) -> list[Island]:
    """The independent populations one after the other, those that have a checkpoint as they are.

    Each has random numbers of its own, from the seed and its number alone. Of several processes each makes
    a part of them and finds the others as checkpoints.
    """
    kept, processes = checkpoints_in(context.checkpoints), context.processes
    n_islands = settings.populations
    noise_levels, bridge = production_levels(annealing, schedule)
    watcher = Watcher(annealing.members, context.on_progress, n_islands, len(noise_levels) + len(bridge))
    islands: dict[int, Island] = {}

    def recover(numbers: Iterable[int]) -> None:
        for number in numbers:
            island = kept.load(f"island_{number}", context.log, str(annealing.x0.device))
            if isinstance(island, Island):
                islands[number] = island

    own = processes.share(n_islands)
    recover(own)
    for number in own:
        if number not in islands:
            watcher.begin(number)
            generator = numbered_generator(context.seed, number)
            islands[number] = _run_island(annealing, schedule, settings, generator, watcher)
            kept.save(f"island_{number}", islands[number])
    processes.barrier()
    recover(set(range(n_islands)) - set(own))
    processes.barrier()  # nobody removes what another one has still to read
    return kept.in_order("sampling: islands", islands, n_islands)


def production_levels(
    annealing: Annealing, schedule: Schedule, counts: collections.Counter[str] | None = None
) -> tuple[list[NoiseLevel], list[Level]]:
    """Noise levels with their moves; the start of the bridge, counted in ``counts``, and the bridge."""
    bridge = schedule.bridge_levels(annealing.bridge_start(counts))
    return schedule.noise_levels(annealing.network, moving=True), bridge


def mean_shares(islands: list[Island]) -> dict[str, list[float]]:
    """Population of each state at every noise level, islands weighted by their estimates of Z up to there."""
    populations = [island.population for island in islands]
    steps = np.array([[record["log_z_increment"] for record in p.history] for p in populations])
    at_start = np.array([p.log_z for p in populations]) - steps.sum(axis=1)
    noisy = ["sigma" in record for record in populations[0].history]
    weights = softmax((at_start[:, None] + steps.cumsum(axis=1))[:, noisy], axis=0)
    shares = {name: np.array([island.shares[name] for island in islands]) for name in islands[0].shares}
    return {name: (weights * values).sum(axis=0).tolist() for name, values in shares.items()}


def _run_island(
    annealing: Annealing,
    schedule: Schedule,
    settings: SampleSettings,
    generator: torch.Generator,
    watcher: Watcher,
) -> Island:
    before, counts = Cost.so_far(annealing), collections.Counter[str]()
    n = settings.n_particles // watcher.n_islands
    threshold = settings.resample_below if settings.sampler == "smc" else 0.0
    population = start(annealing.network, annealing.gaussian, annealing.sigma_max, n, generator)
    noise_levels, bridge = production_levels(annealing, schedule, counts)
    for levels, resample_below in (noise_levels, threshold), (bridge, min(threshold, BRIDGE_RESAMPLE_BELOW)):
        population = run_smc(
            population,
            levels,
            resample_below=resample_below,
            generator=generator,
            scheme=settings.resampling,
            observe=watcher,
        )
    gradients = population.particles.gradients[:, :0]  # most of the memory, and of no more use
    population.particles = replace(population.particles, gradients=gradients)
    return Island(population, watcher.shares, dict(counts), Cost.so_far(annealing).since(before))
