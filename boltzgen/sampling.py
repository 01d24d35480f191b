"""The sampling stage: from a trained network and an OpenMM system to a weighted ensemble."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from boltzgen.balance import balanced
from boltzgen.config import SampleSettings
from boltzgen.diagnostics import judge_run, path_diagnostics, summarise
from boltzgen.diffusion import EnergyAndScore, MeanFreeGaussian, ReverseKernel
from boltzgen.ensemble import WeightedEnsemble
from boltzgen.errors import NumericalError
from boltzgen.handedness import Hand
from boltzgen.heights import state_members
from boltzgen.model.compiled import compile_energy_and_score, in_chunks
from boltzgen.model.energy import EnergyModel
from boltzgen.potential import Potential, make_potential
from boltzgen.potential.symmetry import check_translation_invariant
from boltzgen.progress import Report, silent
from boltzgen.sampler.islands import Combined, combine
from boltzgen.sampler.ladder import FoldLevel, Ladder, Level, Particles
from boltzgen.sampler.paths import Populations, forward_paths, reverse_paths
from boltzgen.sampler.pilot import Plan, plan_ladder
from boltzgen.sampler.resampling import normalised
from boltzgen.sampler.smc import Population, run_smc, start
from boltzgen.sampler.tempering import Tempered
from boltzgen.system import MolecularSystem

COMPILE_FROM_EVALUATIONS = 100_000
"""Network evaluations from which compiling for inference wins its time back."""


@dataclass
class Counter:
    """A network function that counts the configurations it was given."""

    function: EnergyAndScore
    evaluations: int = 0

    def __call__(self, x: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
        self.evaluations += len(x)
        return self.function(x, log_sigma)


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
    check_translation_invariant(system)
    generator = torch.Generator().manual_seed(seed)
    model = model.to(device).eval()
    counter = Counter(_network(model, data, settings, device, report))
    network = Tempered(counter, data.temperature_k / system.temperature_k)
    gaussian = network.gaussian(model.prior.gaussian)
    data = data.at_temperature(system.temperature_k)
    potential, hand = make_potential(system), Hand(system)
    tally = collections.Counter[str]()

    def counted_fold(x: Tensor) -> tuple[Tensor, Tensor]:
        tally.update(hand.tally(x))
        return hand.fold(x)

    members = state_members(system, hand)
    entrance = FoldLevel(network, network.level(model.spec.sigma_min), _target(potential, hand), hand.fold)
    as_trained = balanced(data, system, model.spec.state_share)
    x0 = _data_batch(as_trained, settings.n_forward, generator).to(device)
    report(0.0, 1.0, "pilot run: placing noise levels, bridge and step sizes")
    ladder = _plan(model, network, entrance, x0, settings, generator)
    report(0.1, 1.0, "forward and reverse paths for J")
    forward = forward_paths(network, gaussian, ladder, x0, members, generator)
    reverse = reverse_paths(network, gaussian, ladder, len(x0), members, generator)
    levels: list[Level] = [
        *ladder.noise_levels(network, moving=True),
        *ladder.bridge_levels(replace(entrance, fold=counted_fold)),
    ]
    watcher = Watcher(members, report, min(settings.n_islands, settings.n_particles), len(levels))
    populations = _islands(network, gaussian, ladder.sigmas[0], levels, settings, generator, watcher)
    combined = combine(populations)
    if not np.isfinite(combined.log_z):
        raise NumericalError(
            "sampling: every particle has weight zero; the network is too poor to reach the target: "
            "train longer (train.minutes) or use more levels (sample.n_levels)"
        )
    diagnostics = summarise(system, data, combined, populations, dict(tally))
    diagnostics |= path_diagnostics(ladder, forward, reverse, watcher.mean_shares())
    diagnostics |= {
        "z_domain": hand.domain,
        "network_evaluations": counter.evaluations,
        "target_evaluations": potential.evaluations,
        "target_seconds": potential.seconds,
        "target_backend": f"{potential.backend}: {potential.reason}",
        "seconds": time.monotonic() - started,
    }
    diagnostics["verdict"] = judge_run(diagnostics, system, data).to_dict()
    return _ensemble(system, combined), diagnostics


def _network(
    model: EnergyModel, data: WeightedEnsemble, settings: SampleSettings, device: str, report: Report
) -> EnergyAndScore:
    """The network in chunks, compiled where the run is long enough."""
    size = min(settings.chunk_size, settings.n_particles)
    moves = 1 + 0.5 * settings.ladder_moves * settings.leapfrog_steps
    expected = settings.n_particles * settings.n_levels * moves
    if expected < COMPILE_FROM_EVALUATIONS:
        return in_chunks(model.energy_and_score, size)
    report(0.0, 1.0, "compiling the network (about a minute)")
    rows = np.arange(size) % len(data)
    x = torch.as_tensor(data.positions[rows]).to(device)
    log_sigma = torch.linspace(*model.log_sigma_range, size, device=device)
    return in_chunks(compile_energy_and_score(model, x, log_sigma), size)


def _target(potential: Potential, hand: Hand) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """u and du/dx of the system, +inf outside the reference hand."""

    def evaluate(x: Tensor) -> tuple[Tensor, Tensor]:
        u, gradient = potential.reduced_energy_and_gradient(x)
        return torch.where(hand.allowed(x), u, torch.inf), gradient

    return evaluate


def _data_batch(data: WeightedEnsemble, n: int, generator: torch.Generator) -> Tensor:
    """``n`` configurations drawn from the data by weight."""
    rows = data.resampled_indices(n, int(torch.randint(2**31, (), generator=generator)))
    return torch.as_tensor(data.positions[rows])


def _plan(
    model: EnergyModel,
    network: Tempered,
    entrance: FoldLevel,
    x0: Tensor,
    settings: SampleSettings,
    generator: torch.Generator,
) -> Ladder:
    device = x0.device

    def information(sigma: np.ndarray) -> np.ndarray:
        values = torch.as_tensor(network.of_model(sigma), dtype=torch.float32, device=device)
        return model.prior.level_information(values).cpu().numpy()

    plan = Plan(
        n_levels=settings.n_levels,
        n_pilot=settings.n_pilot,
        ladder_moves=settings.ladder_moves,
        move_below=network.level(settings.move_sigma_nm or 0.5 * model.spec.sigma_data),
        bridge_moves=settings.bridge_moves,
        n_leapfrog=settings.leapfrog_steps,
        bridge_cess=settings.bridge_cess,
        resample_below=settings.resample_below,
        kernel=ReverseKernel(settings.kernel, settings.ddim_eta),
        classes=model.classes,
    )
    gaussian = network.gaussian(model.prior.gaussian)
    sigma_max = network.level(model.spec.sigma_max)
    return plan_ladder(network, gaussian, entrance, x0, information, sigma_max, plan, generator)


def _islands(
    network: EnergyAndScore,
    gaussian: MeanFreeGaussian,
    sigma_max: float,
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
            start(network, gaussian, sigma_max, n, generator),
            levels,
            resample_below=settings.resample_below if settings.sampler == "smc" else 0.0,
            generator=generator,
            scheme=settings.resampling,
            observe=watcher,
        )
        populations.append(population)
    return populations


def _ensemble(system: MolecularSystem, combined: Combined) -> WeightedEnsemble:
    return WeightedEnsemble(
        positions=combined.x.float().cpu().numpy(),
        log_weights=combined.log_weights.cpu().numpy(),
        reduced_energies=combined.energies[:, 1].cpu().numpy(),
        temperature_k=system.temperature_k,
        log_z=combined.log_z,
        log_z_error=combined.log_z_error,
        lineages=combined.ancestors.cpu().numpy(),
        islands=combined.islands.cpu().numpy(),
    )
