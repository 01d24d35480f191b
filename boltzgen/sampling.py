"""The sampling stage: from a trained network and an OpenMM system to a weighted ensemble."""

from __future__ import annotations

import collections
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from boltzgen.annealing import Annealing, plan, prepare
from boltzgen.config import SampleSettings
from boltzgen.diagnostics import judge_run, path_diagnostics, summarise
from boltzgen.ensemble import WeightedEnsemble
from boltzgen.errors import NumericalError
from boltzgen.model.energy import EnergyModel
from boltzgen.progress import Report, silent
from boltzgen.sampler.islands import Combined, combine
from boltzgen.sampler.ladder import Ladder, Level, Particles
from boltzgen.sampler.paths import Populations, forward_paths, reverse_paths
from boltzgen.sampler.resampling import normalised
from boltzgen.sampler.smc import Population, run_smc, start
from boltzgen.system import MolecularSystem


@dataclass
class Watcher:
    """Observer of the production runs: reports progress, keeps state populations at every noise level."""

    members: Populations
    report: Report
    n_islands: int
    n_levels: int
    island: int = 0
    log_z: float = 0.0
    shares: dict[str, list[list[float]]] = field(default_factory=dict)
    n_seen: int = 0

    def begin(self, island: int) -> None:
        """A new population starts."""
        self.island, self.log_z, self.n_seen = island, 0.0, 0

    def __call__(
        self, level: Level, particles: Particles, log_weights: Tensor, record: dict[str, float]
    ) -> None:
        self.n_seen += 1
        self.log_z += record["log_z_increment"]
        if "sigma" in record:
            weights = normalised(log_weights)
            for name, inside in self.members(particles.x).items():
                rows = self.shares.setdefault(name, [[] for _ in range(self.n_islands)])
                rows[self.island].append(float(weights[inside].sum()))
        done = (self.island + self.n_seen / self.n_levels) / self.n_islands
        where = " ".join(f"{k} {v:.4g}" for k, v in level.coordinate.items())
        values = f"ESS {record['ess']:.2f}  log Z {self.log_z:.2f}"
        message = f"island {self.island + 1}/{self.n_islands}  {where}  {values}"
        self.report(0.2 + 0.8 * done, 1.0, message)

    def mean_shares(self) -> dict[str, list[float]]:
        """Population of each state at every noise level, averaged over islands."""
        return {name: [float(v) for v in np.mean(rows, axis=0)] for name, rows in self.shares.items()}


def sample(
    system: MolecularSystem,
    model: EnergyModel,
    data: WeightedEnsemble,
    settings: SampleSettings,
    seed: int,
    device: str = "cpu",
    report: Report = silent,
) -> tuple[WeightedEnsemble, dict[str, object]]:
    """Anneal particles from Gaussian noise to ``exp(-u)`` and weigh them.

    A pilot run places levels and step sizes on ``data``; production uses fresh particles. ``data`` are those
    the model was trained on; where ``system`` has another temperature the model is tempered and they are
    reweighted. Returns the ensemble and the diagnostics as JSON-ready values. Raises NumericalError if no
    particle survives.
    """
    started = time.monotonic()
    generator = torch.Generator().manual_seed(seed)
    annealing = prepare(system, model, data, settings, generator, device, report)
    report(0.0, 1.0, "pilot run: placing noise levels, bridge and step sizes")
    ladder = plan(annealing, settings, generator)
    report(0.1, 1.0, "forward and reverse paths for J")
    ends = (annealing.network, annealing.gaussian, ladder)
    forward = forward_paths(*ends, annealing.x0, annealing.members, generator)
    reverse = reverse_paths(*ends, len(annealing.x0), annealing.members, generator)
    tally = collections.Counter[str]()
    levels = production_levels(annealing, ladder, tally)
    watcher = Watcher(annealing.members, report, min(settings.n_islands, settings.n_particles), len(levels))
    populations = run_islands(annealing, levels, settings, generator, watcher)
    combined = combine(populations)
    if not np.isfinite(combined.log_z):
        raise NumericalError(
            "sampling: every particle has weight zero; the network is too poor to reach the target: "
            "train longer (train.minutes) or use more levels (sample.n_levels)"
        )
    diagnostics = summarise(system, annealing.data, combined, populations, dict(tally))
    diagnostics |= path_diagnostics(ladder, forward, reverse, watcher.mean_shares())
    diagnostics |= {
        "z_domain": annealing.hand.domain,
        "network_evaluations": annealing.counter.evaluations,
        "target_evaluations": annealing.potential.evaluations,
        "target_seconds": annealing.potential.seconds,
        "target_backend": f"{annealing.potential.backend}: {annealing.potential.reason}",
        "seconds": time.monotonic() - started,
    }
    diagnostics["verdict"] = judge_run(diagnostics, system, annealing.data).to_dict()
    return ensemble_of(combined, system.temperature_k), diagnostics


def production_levels(
    annealing: Annealing, ladder: Ladder, tally: collections.Counter[str] | None = None
) -> list[Level]:
    """Noise levels with their moves, the fold and the bridge; folds are counted in ``tally``."""
    entrance = annealing.entrance(tally)
    return [*ladder.noise_levels(annealing.network, moving=True), *ladder.bridge_levels(entrance)]


def run_islands(
    annealing: Annealing,
    levels: list[Level],
    settings: SampleSettings,
    generator: torch.Generator,
    watcher: Watcher,
) -> list[Population]:
    """Run the independent populations one after the other."""
    populations = []
    for island in range(watcher.n_islands):
        watcher.begin(island)
        n = settings.n_particles // watcher.n_islands
        population = run_smc(
            start(annealing.network, annealing.gaussian, annealing.sigma_max, n, generator),
            levels,
            resample_below=settings.resample_below if settings.sampler == "smc" else 0.0,
            generator=generator,
            scheme=settings.resampling,
            observe=watcher,
        )
        populations.append(population)
    return populations


def ensemble_of(combined: Combined, temperature_k: float) -> WeightedEnsemble:
    """The combined islands as a weighted ensemble of the target."""
    return WeightedEnsemble(
        positions=combined.x.float().cpu().numpy(),
        log_weights=combined.log_weights.cpu().numpy(),
        reduced_energies=combined.energies[:, 1].cpu().numpy(),
        temperature_k=temperature_k,
        log_z=combined.log_z,
        log_z_error=combined.log_z_error,
        lineages=combined.ancestors.cpu().numpy(),
        islands=combined.islands.cpu().numpy(),
    )
