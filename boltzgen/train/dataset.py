"""The frames that training sees: positions, forces and weights of an ensemble, and what is held out of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from boltzgen.config.schema import TrainSettings
from boltzgen.ensemble.state_balance import up_weighted, up_weighting
from boltzgen.ensemble.weighted import WeightedEnsemble, systematic_rows
from boltzgen.errors import DataError
from boltzgen.geometry import dof
from boltzgen.potential import make_potential
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.train.batch import Batch

VIRIAL_TOLERANCE = 0.25
"""Deviation of the generalised equipartition ``<x . du/dx> = dof`` that data may have, beside its error."""


@dataclass(frozen=True)
class Frames:
    """Positions [nm] and scores of their density [1/nm] ``(n, n_atoms, 3)``, and weights ``(n,)``."""

    positions: Tensor
    forces: Tensor
    weights: Tensor

    def drawn(self, n: int, seed: int) -> Batch:
        """``n`` frames by weight, by systematic resampling and in random order."""
        rows = torch.as_tensor(systematic_rows(self.weights.numpy(), n, seed))
        return self.positions[rows], self.forces[rows]


def training_frames(
    system: MolecularSystem, data: WeightedEnsemble, settings: TrainSettings, seed: int, device: str
) -> tuple[Frames, Frames]:
    """Frames to train on and held-out ones, with rare states up-weighted (`boltzgen.ensemble.state_balance`).

    Forces are scores of the up-weighted density: the gradient of its factor is part of them. Raises DataError
    where the data are not of the system at its temperature, as far as forces tell.
    """
    forces = _forces(data, system, settings, device)
    held = _held_out(data, system, settings, seed)

    def part(rows: NDArray[np.int64]) -> Frames:
        chosen = data.select(rows)
        factor = up_weighting(chosen, system, settings.min_state_weight)
        score = forces[rows]
        if settings.denoise_to == "forces":
            score = score + torch.as_tensor(factor.gradient(chosen.positions)).to(score)
        weights = up_weighted(chosen, factor).weights
        return Frames(torch.as_tensor(chosen.positions), score, torch.as_tensor(weights))

    return part(np.flatnonzero(~held)), part(np.flatnonzero(held))


def _forces(data: WeightedEnsemble, system: MolecularSystem, settings: TrainSettings, device: str) -> Tensor:
    """Reduced forces [1/nm] of all data; zeros where they are not asked for."""
    x = torch.as_tensor(data.positions)
    if settings.denoise_to == "data":
        return torch.zeros_like(x)
    forces = -make_potential(system).reduced_energy_and_gradient(x.to(device))[1].to(x)
    broken = ~forces.isfinite().flatten(1).all(1)
    if broken.any():
        row = int(broken.nonzero()[0])
        raise DataError(
            "data", f"the system has no finite forces in frame {row}", "is it of this force field?"
        )
    virials = -(forces * x).sum((1, 2)).double().numpy() / dof(x.shape[1])
    virial = data.expectation(virials)
    error = math.sqrt(data.expectation((virials - virial) ** 2) / data.ess)
    if abs(virial - 1.0) > VIRIAL_TOLERANCE + 4.0 * error:
        raise DataError(
            "data",
            f"the mean of -force . x is {virial:.3g} kT per degree of freedom, not 1",
            f"are they of this force field at {system.temperature_k:g} K? train.denoise_to=data takes any",
        )
    return forces


def _held_out(
    data: WeightedEnsemble, system: MolecularSystem, settings: TrainSettings, seed: int
) -> NDArray[np.bool_]:
    """Which rows are held out: whole blocks, but of no state all that the data have."""
    weighty = data.weights > 0.0
    rows = np.arange(len(data))
    lineages = rows if data.lineages is None else data.lineages
    names, groups = np.unique(lineages, return_inverse=True)
    rng = np.random.default_rng(seed)
    held = (rng.random(len(names)) < settings.held_out_fraction)[groups]
    for state in system.states:
        inside = state.members(data.positions) & weighty
        if inside.any() and held[inside].all():
            held[lineages == lineages[rng.choice(np.flatnonzero(inside))]] = False
    if not (held & weighty).any() or not (~held & weighty).any():
        held = np.zeros(len(data), bool)
        held[np.flatnonzero(weighty)[:: max(int(1 / settings.held_out_fraction), 2)]] = True
    return held
