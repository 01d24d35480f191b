"""The frames that training sees: positions, forces and weights of an ensemble, and what is held out of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from boltzgen.config import TrainSettings
from boltzgen.ensemble import WeightedEnsemble
from boltzgen.errors import DataError
from boltzgen.geometry import dof
from boltzgen.potential import make_potential
from boltzgen.system import MolecularSystem
from boltzgen.train.module import Batch

HELD_OUT_BATCHES = 4
VIRIAL_TOLERANCE = 0.25
"""Deviation of the generalised equipartition ``<x . du/dx> = dof`` that data may have, beside its error."""


@dataclass(frozen=True)
class TrainingFrames:
    """Positions [nm] and reduced forces [1/nm] ``(n, n_atoms, 3)``, weights ``(n,)``, and held-out frames."""

    positions: Tensor
    forces: Tensor
    weights: Tensor
    held_out: Batch

    def drawn(self, n: int, seed: int) -> Batch:
        """``n`` frames by weight, or as many as there are."""
        generator = torch.Generator().manual_seed(seed)
        rows = torch.multinomial(self.weights, min(len(self.positions), n), generator=generator)
        return self.positions[rows], self.forces[rows]


def training_frames(
    system: MolecularSystem, data: WeightedEnsemble, settings: TrainSettings, seed: int, device: str
) -> TrainingFrames:
    """Forces of all frames, and some stretches of them held out.

    Raises DataError where the data are not of the system at its temperature, as far as forces tell.
    """
    x, forces = _with_forces(data, system, settings, device)
    rows, held_out = _split(data, settings, seed)
    weights = torch.as_tensor(data.weights)[rows]
    return TrainingFrames(x[rows], forces[rows], weights, (x[held_out], forces[held_out]))


def _with_forces(
    data: WeightedEnsemble, system: MolecularSystem, settings: TrainSettings, device: str
) -> tuple[Tensor, Tensor]:
    """Positions [nm] and reduced forces [1/nm] of all data; zeros for forces where they are not asked for."""
    x = torch.as_tensor(data.positions)
    if settings.denoise_to == "data":
        return x, torch.zeros_like(x)
    forces = -make_potential(system).reduced_energy_and_gradient(x.to(device))[1].to(x)
    broken = ~forces.isfinite().flatten(1).all(1)
    if broken.any():
        row = int(broken.nonzero()[0])
        raise DataError(f"data: the system has no finite forces in frame {row}; is it of this force field?")
    virials = -(forces * x).sum((1, 2)).double().numpy() / dof(x.shape[1])
    virial = data.expectation(virials)
    error = math.sqrt(data.expectation((virials - virial) ** 2) / data.ess)
    if abs(virial - 1.0) > VIRIAL_TOLERANCE + 4.0 * error:
        raise DataError(
            f"data: the mean of -force . x is {virial:.3g} kT per degree of freedom, not 1; are they "
            f"of this force field at {system.temperature_k:g} K? train.denoise_to=data takes any"
        )
    return x, forces


def _split(data: WeightedEnsemble, settings: TrainSettings, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to train on, and those of a few held-out batches drawn by weight (whole lineages held out)."""
    generator = torch.Generator().manual_seed(seed)
    rows, weights = torch.arange(len(data)), torch.as_tensor(data.weights)
    lineages = rows if data.lineages is None else torch.as_tensor(data.lineages)
    names, groups = lineages.unique(return_inverse=True)
    held = torch.rand(len(names), generator=generator)[groups] < settings.held_out_fraction
    if held.all() or not held.any():
        held = rows % max(int(1 / settings.held_out_fraction), 2) == 0
    n = HELD_OUT_BATCHES * settings.batch_size
    chosen = torch.multinomial(weights[held], n, replacement=True, generator=generator)
    return rows[~held], rows[held][chosen]
