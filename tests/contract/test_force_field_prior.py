"""The force field as part of the prior: exact without noise, harmless with a lot of it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from boltzgen import load_system, make_potential
from boltzgen.config.schema import ModelSettings
from boltzgen.diffusion.process import denoise, perturb
from boltzgen.geometry import dof, mirror, random_rotations, remove_centroid, squared_norm
from boltzgen.model.calibration import calibrate
from boltzgen.model.energy import EnergyModel, derivatives, load_model
from boltzgen.potential.agreement import thermal_frames
from boltzgen.system.molecular_system import MolecularSystem


@pytest.fixture(scope="module")
def system() -> MolecularSystem:
    return load_system("alanine_dipeptide")


@pytest.fixture(scope="module")
def data(system: MolecularSystem) -> torch.Tensor:
    frames = thermal_frames(system.openmm_system, system.positions, 300.0, n=300)
    return remove_centroid(torch.from_numpy(frames)).float()


@pytest.fixture(scope="module")
def model(system: MolecularSystem, data: torch.Tensor) -> EnergyModel:
    """Untrained: the network adds nothing."""
    torch.manual_seed(0)
    small = ModelSettings(prior="forcefield", n_channels=4, n_radial=4, hidden=16)
    model = EnergyModel.from_data(system, data, small)
    calibrate(model, data, torch.Generator().manual_seed(0))
    return model


def denoising_error(model: EnergyModel, x0: torch.Tensor, sigma: float) -> float:
    """Mean squared error per degree of freedom in units of sigma^2."""
    level = torch.full((len(x0),), sigma)
    y = perturb(x0, level, torch.Generator().manual_seed(1))
    _, score = model.energy_and_score(y, level.log())
    return float((squared_norm(denoise(y, level, score) - x0) / dof(22)).mean()) / sigma**2


def test_at_full_strength_it_tends_to_the_energy_of_the_system(
    model: EnergyModel, system: MolecularSystem, data: torch.Tensor
) -> None:
    full = copy.deepcopy(model)
    assert full.prior.force_field is not None
    full.prior.force_field.strengths.fill_(1.0)
    u = make_potential(system)(data)
    deviations = []
    for sigma in (4 * model.spec.sigma_min, model.spec.sigma_min / 20):
        level = torch.full((len(data),), sigma).log()
        deviations.append(float((full.energy(data, level).detach().double() - u).std()))
    assert deviations[1] < min(0.5 * deviations[0], 0.1 * float(u.std()))


def test_strengths_follow_the_noise(model: EnergyModel) -> None:
    assert model.prior.force_field is not None
    strengths = model.prior.force_field.strengths
    assert bool(((strengths >= 0) & (strengths <= 1)).all())
    assert float(strengths[:8].mean()) > 0.4
    assert float(strengths[-20:].max()) < 0.01


def test_it_denoises_better_than_bonds_alone_and_never_worse(
    model: EnergyModel, system: MolecularSystem, data: torch.Tensor
) -> None:
    bonded = EnergyModel.from_data(system, data, ModelSettings(n_channels=4, n_radial=4, hidden=16))
    for sigma, gain in ((0.003, 1.0), (0.01, 0.98), (0.1, 1.02), (1.0, 1.02)):
        assert denoising_error(model, data, sigma) < gain * denoising_error(bonded, data, sigma)


def test_symmetries_and_gradient(model: EnergyModel, data: torch.Tensor) -> None:
    x = perturb(data[:6].double(), torch.full((6,), 0.01).double(), torch.Generator().manual_seed(2))
    level = torch.tensor([0.002, 0.005, 0.01, 0.02, 0.1, 1.0]).double().log()
    double = copy.deepcopy(model).double()
    prior = lambda x, s: double.prior(x, s.exp())  # noqa: E731
    u, score = derivatives(prior, x, level)
    scale = float(score.detach().abs().max())
    rotation = random_rotations(1, torch.Generator().manual_seed(3), torch.float64)[0]
    for moved, expected in ((x @ rotation, score @ rotation), (mirror(x), mirror(score)), (x + 0.5, score)):
        u_moved, score_moved = derivatives(prior, moved, level)
        torch.testing.assert_close(u_moved, u, rtol=1e-5, atol=1e-3)
        torch.testing.assert_close(score_moved, expected, rtol=1e-3, atol=1e-4 * scale)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    step = 1e-6
    slope = (prior(x + step * direction, level) - prior(x - step * direction, level)) / (2 * step)
    torch.testing.assert_close(-(score * direction).sum((1, 2)), slope.detach(), rtol=1e-3, atol=0.1)


def test_overlapping_atoms_leave_energy_and_score_finite(model: EnergyModel, data: torch.Tensor) -> None:
    x = data[:2].clone()
    x[0, 3] = x[0, 9]
    x[1] = 0.0
    for sigma in (0.002, 0.02, 1.0):
        u, score = model.energy_and_score(x, torch.full((2,), sigma).log())
        assert bool(u.isfinite().all()) and bool(score.isfinite().all())


def test_it_is_loaded_with_its_system(
    model: EnergyModel, system: MolecularSystem, data: torch.Tensor, tmp_path: Path
) -> None:
    model.save(tmp_path)
    level = torch.full((4,), 0.005).log()
    loaded = load_model(tmp_path, system=system)
    torch.testing.assert_close(loaded.energy(data[:4], level), model.energy(data[:4], level))
