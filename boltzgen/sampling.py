"""The sampling stage: from a trained network and an OpenMM system to a weighted ensemble."""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from boltzgen.config import SampleSettings
from boltzgen.diffusion import EnergyAndScore, MeanFreeGaussian
from boltzgen.ensemble import WeightedEnsemble
from boltzgen.errors import NumericalError
from boltzgen.handedness import Hand
from boltzgen.model.compiled import compile_energy_and_score, in_chunks
from boltzgen.model.energy import EnergyModel
from boltzgen.potential.openmm import OpenMMPotential, check_translation_invariant
from boltzgen.progress import Report, silent
from boltzgen.sampler.islands import Combined, combine
from boltzgen.sampler.ladder import FoldLevel, Ladder, Level, Particles
from boltzgen.sampler.paths import Paths, bar_log_z, forward_paths, jeffreys, reverse_paths, surviving
from boltzgen.sampler.pilot import plan_ladder
from boltzgen.sampler.smc import Population, run_smc, start
from boltzgen.sampler.verdict import judge
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

    A pilot run places levels and step sizes on ``data``; production uses fresh particles. Returns the
    ensemble and the diagnostics as JSON-ready values. Raises NumericalError if no particle survives.
    """
    started = time.monotonic()
    check_translation_invariant(system)
    generator = torch.Generator().manual_seed(seed)
    model = model.to(device).eval()
    network = Counter(_network(model, data, settings, device, report))
    potential = OpenMMPotential(system)
    hand = Hand(system)
    entrance = FoldLevel(network, model.spec.sigma_min, _target(potential, hand), hand.fold)
    gaussian = model.prior.gaussian
    x0 = _data_batch(data, settings.n_forward, generator).to(device)
    report(0.0, 1.0, "pilot run: placing noise levels, bridge and step sizes")
    ladder = _plan(model, network, entrance, x0, settings, generator)
    members = _membership(system, hand)
    report(0.1, 1.0, "forward and reverse paths for J")
    forward = forward_paths(network, gaussian, ladder, x0, members, generator)
    reverse = reverse_paths(network, gaussian, ladder, len(x0), members, generator)
    tally = collections.Counter[str]()

    def counted_fold(x: Tensor) -> tuple[Tensor, Tensor]:
        tally.update(hand.tally(x))
        return hand.fold(x)

    entrance = replace(entrance, fold=counted_fold)
    populations, shares = _islands(model, network, entrance, ladder, members, settings, generator, report)
    combined = combine(populations)
    if not np.isfinite(combined.log_z):
        raise NumericalError(
            "sampling: every particle has weight zero; the network is too poor to reach the target: "
            "train longer (train.minutes) or use more levels (sample.n_levels)"
        )
    diagnostics = _diagnostics(system, data, combined, populations, ladder, forward, reverse, tally)
    _add_populations(diagnostics["paths"], shares, forward)  # type: ignore[arg-type]
    diagnostics |= {
        "z_domain": hand.domain,
        "network_evaluations": network.evaluations,
        "target_evaluations": potential.evaluations,
        "seconds": time.monotonic() - started,
    }
    return _ensemble(system, combined), diagnostics


def _network(
    model: EnergyModel, data: WeightedEnsemble, settings: SampleSettings, device: str, report: Report
) -> EnergyAndScore:
    """The network in chunks, compiled where the run is long enough."""
    size = min(settings.chunk_size, settings.n_particles)
    moves = 1 + 0.5 * settings.ladder_moves
    expected = settings.n_particles * settings.n_levels * moves
    if expected < COMPILE_FROM_EVALUATIONS:
        return in_chunks(model.energy_and_score, size)
    report(0.0, 1.0, "compiling the network (about a minute)")
    rows = np.arange(size) % len(data)
    x = torch.as_tensor(data.positions[rows]).to(device)
    x = x + 0.01 * torch.randn_like(x)
    log_sigma = torch.linspace(*model.log_sigma_range, size, device=device)
    return in_chunks(compile_energy_and_score(model, x, log_sigma, training=False), size)


def _target(potential: OpenMMPotential, hand: Hand) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
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
    network: EnergyAndScore,
    entrance: FoldLevel,
    x0: Tensor,
    settings: SampleSettings,
    generator: torch.Generator,
) -> Ladder:
    device = x0.device

    def information(sigma: np.ndarray) -> np.ndarray:
        values = torch.as_tensor(sigma, dtype=torch.float32, device=device)
        return model.prior.level_information(values).cpu().numpy()

    return plan_ladder(
        network,
        model.prior.gaussian,
        entrance,
        x0,
        information,
        sigma_max=model.spec.sigma_max,
        n_levels=settings.n_levels,
        n_pilot=settings.n_pilot,
        ladder_moves=settings.ladder_moves,
        move_below=_move_below(model, settings),
        bridge_moves=settings.bridge_moves,
        bridge_cess=settings.bridge_cess,
        with_mse=settings.kernel_variance == "mse",
        resample_below=settings.resample_below,
        generator=generator,
    )


def _move_below(model: EnergyModel, settings: SampleSettings) -> float:
    return settings.move_sigma_nm or 0.5 * model.spec.sigma_data


def _membership(system: MolecularSystem, hand: Hand) -> Callable[[Tensor], dict[str, Tensor]]:
    def members(x: Tensor) -> dict[str, Tensor]:
        """Membership of each state; a mirror image counts as the configuration it mirrors."""
        x, _ = hand.fold(x)
        return {state.name: state.contains(state.cv.evaluate(x)) for state in system.states}

    return members


def _islands(
    model: EnergyModel,
    network: EnergyAndScore,
    entrance: FoldLevel,
    ladder: Ladder,
    members: Callable[[Tensor], dict[str, Tensor]],
    settings: SampleSettings,
    generator: torch.Generator,
    report: Report,
) -> tuple[list[Population], dict[str, np.ndarray]]:
    """Run the populations one after the other; also the mean state populations at each noise level."""
    gaussian: MeanFreeGaussian = model.prior.gaussian
    levels: list[Level] = [
        *ladder.noise_levels(network, settings.ladder_moves, _move_below(model, settings)),
        *ladder.bridge_levels(entrance, settings.bridge_moves),
    ]
    n_islands = min(settings.n_islands, settings.n_particles)
    shares: dict[str, np.ndarray] = {}
    populations = []
    for island in range(n_islands):
        population = start(
            model=network,
            gaussian=gaussian,
            sigma=ladder.sigmas[0],
            n=settings.n_particles // n_islands,
            generator=generator,
        )
        seen: list[dict[str, float]] = []

        def observe(
            level: Level,
            particles: Particles,
            log_weights: Tensor,
            record: dict[str, float],
            island: int = island,
            population: Population = population,
            seen: list[dict[str, float]] = seen,
        ) -> None:
            weights = torch.nan_to_num(torch.softmax(log_weights, 0))
            if "sigma" in record:
                inside = members(particles.x)
                seen.append({name: float(weights[m].sum()) for name, m in inside.items()})
            done = (island + len(population.history) / len(levels)) / n_islands
            where = " ".join(f"{k} {v:.4g}" for k, v in level.coordinate.items())
            values = f"ESS {record['ess']:.2f}  log Z {population.log_z:.2f}"
            report(0.2 + 0.8 * done, 1.0, f"island {island + 1}/{n_islands}  {where}  {values}")

        resample_below = settings.resample_below if settings.sampler == "smc" else 0.0
        population = run_smc(
            population, levels, resample_below=resample_below, generator=generator, observe=observe
        )
        populations.append(population)
        for name in seen[0] if seen else ():
            values = np.array([row[name] for row in seen]) / n_islands
            shares[name] = shares.get(name, 0.0) + values
    return populations, shares


def _diagnostics(
    system: MolecularSystem,
    data: WeightedEnsemble,
    combined: Combined,
    populations: list[Population],
    ladder: Ladder,
    forward: Paths,
    reverse: Paths,
    tally: collections.Counter[str],
) -> dict[str, object]:
    """Everything the report says about how the run went."""
    divergence = jeffreys(forward, reverse)
    data_shares = {s.name: float(data.weights[s.members(data.positions)].sum()) for s in system.states}
    alive = torch.isfinite(combined.log_weights)
    carriers = {}
    for state in system.states:
        inside = state.contains(state.cv.evaluate(combined.x.double())) & alive
        carriers[state.name] = len(combined.ancestors[inside].unique())
    n_non_finite = sum(p.n_non_finite for p in populations)
    verdict = judge(
        genealogical_ess=combined.genealogical_ess,
        log_z_error=combined.log_z_error,
        jeffreys=divergence[-1],
        ancestors_per_state=carriers,
        data_populations=data_shares,
        n_particles=len(combined.x),
        n_lost=n_non_finite + tally["diastereomers"],
    )
    history = populations[0].history
    final = reverse.log_weights[-1]
    return {
        "log_z": combined.log_z,
        "log_z_error": combined.log_z_error,
        "log_z_islands": [p.log_z for p in populations],
        "kish_ess_fraction": _kish(final),
        "genealogical_ess": combined.genealogical_ess,
        "jeffreys": divergence[-1],
        "bar_log_z_gap": bar_log_z(forward.log_weights[-1].cpu(), final.cpu()) - _log_mean(final),
        "n_ancestors": len(combined.ancestors[alive].unique()),
        "n_particles": len(combined.x),
        "ancestors_per_state": carriers,
        "non_finite": n_non_finite,
        "wrong_hand": tally["wrong_hand"],
        "diastereomers": tally["diastereomers"],
        "levels": [_clean(r) for r in history if "sigma" in r],
        "bridge": [_clean(r) for r in history if "lambda" in r],
        "paths": _path_table(ladder, forward, reverse, divergence),
        "verdict": verdict.to_dict(),
    }


def _path_table(
    ladder: Ladder, forward: Paths, reverse: Paths, divergence: list[float]
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for k, sigma in enumerate(ladder.sigmas):
        weights = reverse.log_weights[k]
        kept = surviving(weights)
        rows.append(
            {
                "sigma": sigma,
                "sd_log_w": float(kept.std()),
                "sd_log_w_forward": float(surviving(forward.log_weights[k]).std()),
                "lost_paths": 1.0 - len(kept) / len(weights),
                "ess": _kish(weights),
                "jeffreys": divergence[k],
            }
        )
    return rows


def _add_populations(rows: list[dict[str, object]], shares: dict[str, np.ndarray], forward: Paths) -> None:
    """State populations of the sampler beside those of noised data, level by level."""
    for k, row in enumerate(rows):
        row["data_populations"] = {name: values[k] for name, values in forward.populations.items()}
        if k > 0:
            row["populations"] = {name: float(values[k - 1]) for name, values in shares.items()}


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


def _kish(log_weights: Tensor) -> float:
    weights = torch.nan_to_num(torch.softmax(log_weights, 0))
    total = float(weights.square().sum())
    return 1.0 / (len(weights) * total) if total > 0 else 0.0


def _log_mean(log_weights: Tensor) -> float:
    return float(torch.logsumexp(log_weights, 0)) - math.log(len(log_weights))


def _clean(record: dict[str, float]) -> dict[str, object]:
    cleaned: dict[str, object] = {k: v for k, v in record.items() if math.isfinite(v)}
    return cleaned | {"resampled": bool(record["resampled"]), "acceptance": record.get("acceptance")}
