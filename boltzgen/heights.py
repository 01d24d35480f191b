"""How well a trained energy's heights agree across noise levels: sd(log w), J and state populations.

Plain annealing without moves or resampling, from noise and from noised data, says what a sampler will find.
Neither number is enough alone: an energy that has lost a state scores well on sd(log w).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from boltzgen.diagnostics import path_diagnostics
from boltzgen.diffusion import EnergyAndScore
from boltzgen.handedness import Hand
from boltzgen.model.energy import EnergyModel
from boltzgen.sampler.ladder import Ladder
from boltzgen.sampler.paths import Populations, forward_paths, reverse_paths
from boltzgen.sampler.pilot import denoising_errors, interpolated, spaced_levels
from boltzgen.system import MolecularSystem


def state_members(system: MolecularSystem, hand: Hand | None = None) -> Populations:
    """Membership of each state; a mirror image counts as the configuration it mirrors."""
    hand = hand or Hand(system)

    def members(x: Tensor) -> dict[str, Tensor]:
        x, _ = hand.fold(x)
        return {state.name: state.contains(state.cv.evaluate(x)) for state in system.states}

    return members


def plain_ladder(
    model: EnergyModel,
    network: EnergyAndScore,
    x0: Tensor,
    sigma_end: float,
    n: int,
    generator: torch.Generator,
) -> Ladder:
    """``n`` steps from sigma_max to ``sigma_end``, equally spaced in the Gaussian's information."""

    def density(sigma: np.ndarray) -> np.ndarray:
        values = torch.as_tensor(sigma, dtype=x0.dtype, device=x0.device)
        return np.sqrt(np.maximum(model.prior.level_information(values).cpu().numpy(), 1.0))

    grid = spaced_levels(model.spec.sigma_max, sigma_end, np.ones_like, 24)
    sigmas = spaced_levels(model.spec.sigma_max, sigma_end, density, n)
    mse = interpolated(grid, denoising_errors(network, x0, grid, generator), sigmas)
    return Ladder(tuple(sigmas), mse)


def height_curves(
    system: MolecularSystem,
    model: EnergyModel,
    network: EnergyAndScore,
    x0: Tensor,
    *,
    sigma_end: float | None = None,
    n_levels: int = 200,
    seed: int = 0,
) -> dict[str, object]:
    """`boltzgen.diagnostics.path_diagnostics` of plain paths, as many as data ``x0`` ``(n, n_atoms, 3)``.

    network
        Energy and score of ``model``, compiled or in chunks.
    sigma_end
        Where the ladder of ``n_levels`` steps ends [nm]; sigma_min by default.
    """
    generator = torch.Generator().manual_seed(seed)
    members = state_members(system)
    ladder = plain_ladder(model, network, x0, sigma_end or model.spec.sigma_min, n_levels, generator)
    gaussian = model.prior.gaussian
    forward = forward_paths(network, gaussian, ladder, x0, members, generator)
    reverse = reverse_paths(network, gaussian, ladder, len(x0), members, generator)
    shares = {name: values[1:] for name, values in reverse.populations.items()}
    return path_diagnostics(ladder, forward, reverse, shares)
