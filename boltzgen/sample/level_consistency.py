"""How well the relative energies of a network's noise levels agree: sd(log w), J and state populations.

Plain annealing without moves or resampling, from noise and from noised data, says what a sampler will find.
Neither number is enough alone: an energy that has lost a state scores well on sd(log w). How much of a
disagreement is a constant of each level, `level_offsets` says.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.integrate import trapezoid
from torch import Tensor

from boltzgen.diffusion.process import EnergyAndScore, perturb
from boltzgen.model.compiled import in_chunks
from boltzgen.model.energy import EnergyModel
from boltzgen.runtime.files import write_atomically
from boltzgen.sample.diagnostics import path_diagnostics
from boltzgen.sample.of_system import elastic_kernel, state_members
from boltzgen.smc.bidirectional import forward_paths, reverse_paths
from boltzgen.smc.levels import Schedule
from boltzgen.smc.spacing import measured_errors, spaced_levels
from boltzgen.system.molecular_system import MolecularSystem

CONSISTENCY_LEVELS = 100
"""Noise levels of the paths that show whether they agree."""
OFFSET_SPACING = 1.25
"""Distance between the levels of `level_offsets`, the root of the KL divergence between neighbours."""
OVERLAPPING = 3
"""Levels to either side whose samples count: at a KL divergence of 14 nats next to nothing is shared."""
_NO_OVERLAP = 200.0
"""Energy [nats] above that of the level of origin which stands for no overlap at all."""


def write_level_consistency(
    system: MolecularSystem, model: EnergyModel, x0: Tensor, directory: Path
) -> dict[str, object]:
    """``level_consistency.json``: curves of plain paths, as many as data ``x0``, and offsets of levels."""
    network = in_chunks(model.energy_and_score, len(x0))
    curves = consistency_curves(system, model, network, x0, n_levels=CONSISTENCY_LEVELS)
    curves["offsets"] = level_offsets(model, x0)
    write_atomically(directory / "level_consistency.json", json.dumps(curves, indent=1) + "\n")
    return curves


def consistency_curves(
    system: MolecularSystem,
    model: EnergyModel,
    network: EnergyAndScore,
    x0: Tensor,
    *,
    sigma_end: float | None = None,
    n_levels: int = 200,
) -> dict[str, object]:
    """`diagnostics.path_diagnostics` of plain paths, as many as data ``x0`` ``(n, n_atoms, 3)``.

    network
        Energy and score of ``model``, compiled or in chunks.
    sigma_end
        Where the schedule of ``n_levels`` steps, equally spaced in the prior's information, ends [nm];
        sigma_min by default.
    """
    generator = torch.Generator().manual_seed(0)
    members, kernel = state_members(system), elastic_kernel(system)
    ends = model.spec.sigma_max, sigma_end or model.spec.sigma_min
    sigmas = spaced_levels(*ends, _information_density(model), n_levels)
    errors = measured_errors(network, x0, ends, kernel.springs, generator)
    schedule = Schedule(tuple(sigmas), errors.at(sigmas), kernel=kernel)
    gaussian = model.prior.gaussian
    forward = forward_paths(network, gaussian, schedule, x0, members, generator)
    reverse = reverse_paths(network, gaussian, schedule, len(x0), members, generator)
    shares = {name: values[1:] for name, values in reverse.populations.items()}
    return path_diagnostics(schedule, forward, reverse, shares)


@torch.no_grad()
def level_offsets(model: EnergyModel, x0: Tensor, *, seed: int = 0) -> list[dict[str, float]]:
    """How far each level's learned free energy is above the one that MBAR gives for the same energies.

    Data ``x0`` ``(n, n_atoms, 3)`` are noised to every level. Seen as samples of ``exp(-U_theta(., sigma))``
    they have relative free energies by MBAR (Shirts and Chodera 2008), the constants at which the loss of
    classifying all levels is lowest; with exact energies all are zero. Returns rows of ``sigma`` [nm],
    ``offset`` and ``error`` [nats], relative to sigma_max.
    """
    generator = torch.Generator().manual_seed(seed)
    ends, density = (model.spec.sigma_max, model.spec.sigma_min), _information_density(model)
    grid = np.geomspace(*ends, 2001)
    n_levels = 1 + math.ceil(-trapezoid(density(grid), np.log(grid)) / OFFSET_SPACING)
    sigmas = x0.new_tensor(spaced_levels(*ends, density, n_levels - 1))
    y = torch.stack([perturb(x0, sigma.expand(len(x0)), generator) for sigma in sigmas])
    energies = y.new_full((n_levels, n_levels, len(x0)), torch.nan)  # level of evaluation, of origin, sample
    for level, sigma in enumerate(sigmas):
        for origin in range(max(level - OVERLAPPING, 0), min(level + OVERLAPPING + 1, n_levels)):
            energies[level, origin] = model.energy(y[origin], sigma.log().expand(len(x0)))
    u = energies.double().cpu().numpy()
    own = u[np.arange(n_levels), np.arange(n_levels)]
    u = np.where(np.isnan(u), own + _NO_OVERLAP, u).reshape(n_levels, -1)
    logging.getLogger("pymbar").setLevel(logging.ERROR)
    from pymbar import MBAR

    free = MBAR(u, np.full(n_levels, len(x0))).compute_free_energy_differences()
    columns = sigmas.tolist(), free["Delta_f"][0].tolist(), free["dDelta_f"][0].tolist()
    return [{"sigma": s, "offset": f, "error": e} for s, f, e in zip(*columns, strict=True)]


def _information_density(model: EnergyModel) -> Callable[[np.ndarray], np.ndarray]:
    """``sqrt(F(sigma))``, at least 1: where levels equally far apart in the prior's information belong."""

    def density(sigma: np.ndarray) -> np.ndarray:
        values = model.prior.variances.new_tensor(sigma)
        return np.sqrt(np.maximum(model.prior.level_information(values).cpu().numpy(), 1.0))

    return density
