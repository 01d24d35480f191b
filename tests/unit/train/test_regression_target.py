"""Denoising targets with forces as control variates: the same mean, and far less variance."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.dimer import LENGTH, dimers
from helpers.dimer import WIDTH as BOND_WIDTH
from torch import Tensor

from boltzgen import make_potential
from boltzgen.config.schema import ModelSettings, TrainSettings
from boltzgen.diffusion.process import perturb
from boltzgen.geometry import remove_centroid, zero_centroid_noise
from boltzgen.model.energy import EnergyModel
from boltzgen.system.collective_variables import CollectiveVariable, State
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system
from boltzgen.train.dataset import Frames, training_frames
from boltzgen.train.regression_target import N_FITTED_LEVELS, DenoisingTarget

WIDTH = 0.016  # nm, of the chain's bonds


def exact_chain(n: int, generator: torch.Generator) -> Tensor:
    """``n`` exact samples [nm] of four atoms in a chain of harmonic bonds."""
    proposal = 0.2 + WIDTH * torch.randn((40 * n,), generator=generator)
    lengths = proposal[torch.rand(40 * n, generator=generator) < (proposal / 0.3).square()][: 3 * n]
    directions = torch.randn((n, 3, 3), generator=generator)
    bonds = lengths.view(n, 3, 1) * directions / directions.norm(dim=-1, keepdim=True)
    return remove_centroid(torch.cat([torch.zeros(n, 1, 3), bonds.cumsum(1)], dim=1))


def fitted(system: MolecularSystem, x0: Tensor, forces: Tensor) -> tuple[DenoisingTarget, EnergyModel]:
    model = EnergyModel.from_data(system, x0, ModelSettings(n_layers=1, n_channels=4, n_radial=4, hidden=16))
    target = DenoisingTarget(model.prior, system.atom_classes, model.log_sigma_range)
    target.fit(x0[:2000], forces[:2000], torch.Generator().manual_seed(1))
    return target, model


def reduced_forces(system: MolecularSystem, x: Tensor) -> Tensor:
    return -make_potential(system).reduced_energy_and_gradient(x)[1].float()


@pytest.fixture(scope="module")
def chain() -> tuple[MolecularSystem, Tensor, Tensor]:
    system = load_system("harmonic_chain")
    x0 = exact_chain(20_000, torch.Generator().manual_seed(0))
    return system, x0, reduced_forces(system, x0)


def test_in_a_harmonic_well_it_is_the_exact_denoiser() -> None:
    system, stiffness = load_system("harmonic_well"), 250.0
    k = stiffness / system.kT
    x0 = zero_centroid_noise((3000, 4, 3), torch.Generator().manual_seed(0)) / math.sqrt(k)
    forces = reduced_forces(system, x0)
    torch.testing.assert_close(forces, -k * x0, rtol=1e-4, atol=1e-3)
    target, model = fitted(system, x0, forces)
    for log_sigma in torch.linspace(*model.log_sigma_range, N_FITTED_LEVELS)[::4]:
        levels = log_sigma.expand(len(x0))
        y = perturb(x0, levels.exp(), torch.Generator().manual_seed(2))
        exact = y / (1.0 + k * (2.0 * log_sigma).exp())
        error = (target(y, x0, forces, levels) - exact).square().mean() / (x0 - exact).square().mean()
        assert float(error) < 0.01  # the statistical error of two coefficients from 2,000 samples


@pytest.mark.parametrize("sigma", [0.25 * WIDTH, WIDTH, 4 * WIDTH, 0.5])
def test_the_mean_given_y_is_that_of_the_data(
    chain: tuple[MolecularSystem, Tensor, Tensor], sigma: float
) -> None:
    system, x0, forces = chain
    target, model = fitted(system, x0, forces)
    levels = torch.full((len(x0),), math.log(sigma))
    y = perturb(x0, levels.exp(), torch.Generator().manual_seed(3))
    added = (target(y, x0, forces, levels) - x0).double()
    probes = {
        "y": y,
        "stiff": y - model.prior.denoised(y, levels.exp()),
        "cubic": y * y.square().sum((1, 2), keepdim=True),
    }
    for name, probe in probes.items():
        values = (added * probe).sum((1, 2)).numpy()
        standard_error = values.std() / math.sqrt(len(values))
        assert abs(values.mean()) < 4.0 * standard_error, name


def test_the_variance_at_low_noise_is_gone(chain: tuple[MolecularSystem, Tensor, Tensor]) -> None:
    system, x0, forces = chain
    target, model = fitted(system, x0, forces)
    ratios = []
    for sigma in (0.25 * WIDTH, WIDTH, 0.5):
        levels = torch.full((len(x0),), math.log(sigma))
        y = perturb(x0, levels.exp(), torch.Generator().manual_seed(4))
        about = model.prior.denoised(y, levels.exp())
        improved = (target(y, x0, forces, levels) - about).square().sum((1, 2)).mean()
        ratios.append(float(improved / (x0 - about).square().sum((1, 2)).mean()))
    assert ratios[0] < 0.1 and ratios[1] < 0.6 and np.isclose(ratios[2], 1.0, atol=0.02), ratios


SHORT_AND_LONG = LENGTH + 0.5 * BOND_WIDTH
"""Where two states of the dimer meet, at a fifth less than the greatest density of its bond."""


@pytest.fixture(scope="module")
def up_weighted_dimer() -> tuple[MolecularSystem, Frames]:
    """Exact samples of a bond, the rarer state of two that meet where it is likely up-weighted to a half."""
    bond = CollectiveVariable("r", "distance", (0, 1))
    ends = ((0.0, SHORT_AND_LONG), (SHORT_AND_LONG, math.inf))
    states = tuple(State(name, bond, (end,)) for name, end in zip(("short", "long"), ends, strict=True))
    system = replace(load_system("harmonic_dimer"), states=states)
    settings = TrainSettings(steps=1, min_state_weight=0.5)
    return system, training_frames(system, dimers(60_000), settings, 0, "cpu")[0]


def test_scores_of_up_weighted_frames_obey_the_virial_theorem(
    up_weighted_dimer: tuple[MolecularSystem, Frames],
) -> None:
    """``<x . d log p/dx> = -dof`` of any density without jumps; forces alone are off by 0.8."""
    system, frames = up_weighted_dimer
    inside = torch.as_tensor(system.states[1].members(frames.positions.numpy()))
    assert float(frames.weights[inside].sum()) == pytest.approx(0.5, abs=0.01)
    virials = (frames.positions * frames.forces).sum((1, 2)).double()
    error = float((frames.weights * (virials + system.dof)).square().sum().sqrt())
    assert error < 0.1
    assert abs(float((frames.weights * virials).sum()) + system.dof) < 4.0 * error


@pytest.mark.parametrize("sigma", [0.25 * BOND_WIDTH, BOND_WIDTH])
def test_the_mean_given_y_is_that_of_the_data_where_up_weighted_states_meet(
    up_weighted_dimer: tuple[MolecularSystem, Frames], sigma: float
) -> None:
    """Of noised bonds about the end of a state, what is added to the data has no mean along the bond."""
    system, frames = up_weighted_dimer
    target, _ = fitted(system, *frames.drawn(2000, seed=1))
    levels = torch.full((len(frames.positions),), math.log(sigma))
    y = perturb(frames.positions, levels.exp(), torch.Generator().manual_seed(3))
    added = (target(y, frames.positions, frames.forces, levels) - frames.positions).double()
    bond = (y[:, 1] - y[:, 0]).double()
    r = bond.norm(dim=-1, keepdim=True)
    along = ((added[:, 1] - added[:, 0]) * bond / r).sum(-1) / BOND_WIDTH
    near = torch.exp(-0.5 * ((r[:, 0] - SHORT_AND_LONG) / BOND_WIDTH).square())
    values = frames.weights * near * along
    error = float((values - frames.weights * values.sum()).square().sum().sqrt())
    assert error < 0.01
    assert abs(float(values.sum())) < 4.0 * error


def test_forces_are_left_alone_where_no_weight_changes() -> None:
    """States with an end where hardly any frame lies, as those of alanine dipeptide: nothing is lost."""
    bond = CollectiveVariable("r", "distance", (0, 1))
    rare = State("long", bond, ((LENGTH + 3.5 * BOND_WIDTH, math.inf),))
    system = replace(load_system("harmonic_dimer"), states=(rare,))
    frames, _ = training_frames(system, dimers(20_000), TrainSettings(steps=1), 0, "cpu")
    plain = reduced_forces(system, frames.positions)
    changed = (frames.forces != plain).flatten(1).any(1)
    assert 0 < int(changed.sum()) < 0.01 * len(changed)
