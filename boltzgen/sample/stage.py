"""The sampling stage: from a trained network and an OpenMM system to a weighted ensemble."""

from __future__ import annotations

import collections
import time
from dataclasses import asdict

import numpy as np
import torch

from boltzgen.config.schema import SampleSettings
from boltzgen.ensemble.uncertainty import cluster_index
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.model.energy import EnergyModel
from boltzgen.runtime.context import Context
from boltzgen.sample.coverage import energy_presence, region_presence
from boltzgen.sample.diagnostics import judge_run, path_diagnostics, summarise
from boltzgen.sample.islands import mean_shares, pilot_of, run_islands
from boltzgen.sample.setup import Annealing, all_lost, annealing_of
from boltzgen.sample.units_of_motion import regions_of
from boltzgen.simulate.frame_checks import inside_domain
from boltzgen.smc.combine import Combined, combine
from boltzgen.smc.presence import Presence
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.stereochemistry.descriptors import described


def sample(
    system: MolecularSystem,
    model: EnergyModel,
    data: WeightedEnsemble,
    settings: SampleSettings,
    context: Context,
) -> tuple[WeightedEnsemble, dict[str, object]]:
    """Anneal particles from Gaussian noise to ``exp(-u)`` and weigh them.

    A pilot run places levels and step sizes on ``data``; production uses fresh particles. ``data`` are those
    the model was trained on; where ``system`` has another temperature the model is tempered and they are
    reweighted. The pilot run's schedule and every finished island are kept as checkpoints, so that the same
    call after a kill goes on with the next island; processes each run a part of the islands. Returns the
    ensemble and the diagnostics as JSON-ready values. Raises NumericalError if no particle survives.
    """
    started = time.monotonic()
    generator = torch.Generator().manual_seed(context.seed)
    data, left_out = inside_domain(system, data)
    if left_out:
        context.log(left_out)
    annealing = annealing_of(system, model, data, settings, context, generator)
    getting_ready = time.monotonic() - started
    pilot = pilot_of(annealing, settings, context, generator)
    islands = run_islands(annealing, pilot.schedule, settings, context)
    populations = [island.population for island in islands]
    combined = combine(populations)
    counts = sum((collections.Counter(island.counts) for island in islands), collections.Counter[str]())
    if not np.isfinite(combined.log_z):
        raise all_lost("the islands", len(combined.x), counts)
    cost = sum((island.cost for island in islands), pilot.cost)
    samples = ensemble_of(combined, system.temperature_k)
    diagnostics = summarise(system, samples, combined, populations, dict(counts))
    diagnostics |= path_diagnostics(
        pilot.schedule,
        pilot.forward,
        pilot.reverse,
        mean_shares(islands),
        pilot.blocks,
    )
    diagnostics |= {
        "regions": [asdict(presence) for presence in _presences(annealing, samples, combined, settings)],
        "z_domain": annealing.domain.description,
        "z_domain_key": annealing.domain.key,
        "stereochemistry": [str(entry) for entry in described(annealing.domain)]
        if context.processes.first
        else [],
        "tempered": data.temperature_k != system.temperature_k,
        "network_evaluations": cost.network,
        "target_evaluations": cost.target,
        "target_seconds": cost.target_seconds,
        "target_backend": f"{annealing.potential.backend}: {annealing.potential.reason}",
        "seconds": getting_ready + cost.seconds,
    }
    diagnostics["verdict"] = judge_run(diagnostics, system, annealing.data).to_dict()
    return samples, diagnostics


def _presences(
    annealing: Annealing, samples: WeightedEnsemble, combined: Combined, settings: SampleSettings
) -> list[Presence]:
    """What of the data the sample has: regions that nobody declared, and the range of energies."""
    data, energies = annealing.data, combined.energies.cpu().numpy()
    rows = data.resampled_indices(settings.n_forward, seed=0)
    blocks = cluster_index(data)[0][rows]
    of_data = annealing.energy_gaps(torch.as_tensor(data.positions[rows]).to(annealing.x0.device))
    of_samples = energies[:, 0] - energies[:, 1]
    in_energy = energy_presence(of_data.cpu().numpy(), blocks, of_samples, samples)
    return [*region_presence(regions_of(annealing.system, data), samples), in_energy]


def ensemble_of(combined: Combined, temperature_k: float) -> WeightedEnsemble:
    """The combined islands as a weighted ensemble of the target."""
    return WeightedEnsemble(
        positions=combined.x.float().cpu().numpy(),
        log_weights=combined.log_weights.cpu().numpy(),
        reduced_energies=combined.energies[:, 1].cpu().numpy(),
        temperature_k=temperature_k,
        log_z=combined.log_z,
        log_z_error=combined.log_z_error,
        log_z_dof=combined.log_z_dof,
        lineages=combined.ancestors.cpu().numpy(),
        islands=combined.islands.cpu().numpy(),
    )
