"""The noising process: normalisers, dimensions and kernels against closed forms."""

from __future__ import annotations

import math

import torch

from boltzgen.diffusion.process import ZeroCentroidGaussian, perturb
from boltzgen.geometry import (
    dof,
    gaussian_log_density,
    random_rotations,
    remove_centroid,
    squared_norm,
    torsion,
    zero_centroid_noise,
)

N_ATOMS = 4


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_gaussian_density_is_normalised_on_the_mean_free_space() -> None:
    """Importance sampling from a wider Gaussian integrates the density to one; 3N would be far off."""
    g = generator()
    n, wide, narrow = 200_000, torch.tensor(1.2).double(), torch.tensor(1.0).double()
    x = wide.sqrt() * zero_centroid_noise((n, N_ATOMS, 3), g, torch.float64)
    ratio = torch.exp(gaussian_log_density(x, narrow) - gaussian_log_density(x, wide))
    error = float(ratio.std()) / n**0.5
    assert error < 0.005
    assert abs(float(ratio.mean()) - 1.0) < 3.5 * error


def test_anisotropic_gaussian_agrees_with_the_isotropic_one() -> None:
    x = zero_centroid_noise((5, N_ATOMS, 3), generator(), torch.float64)
    sigma = torch.linspace(0.1, 2.0, 5).double()
    gaussian = ZeroCentroidGaussian.isotropic(N_ATOMS, 0.3)
    expected = -gaussian_log_density(x, 0.3 + sigma.square())
    torch.testing.assert_close(gaussian.energy(x, sigma), expected)


def test_samples_of_a_gaussian_have_its_covariance_and_no_centroid() -> None:
    covariance = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0]).double())
    gaussian = ZeroCentroidGaussian.from_covariance(covariance)
    x = gaussian.sample(100_000, 0.5, generator())
    assert float(x.mean(1).abs().max()) < 1e-12
    amplitudes = torch.einsum("nad,am->nmd", x, gaussian.modes).square().mean((0, 2))
    expected = gaussian.variances + 0.25
    standard_error = expected * (2.0 / 300_000) ** 0.5
    assert bool(((amplitudes - expected).abs() < 4.0 * standard_error).all())


def test_noise_has_dof_dimensions() -> None:
    x0 = torch.zeros((50_000, N_ATOMS, 3))
    y = perturb(x0, torch.full((50_000,), 2.0), generator())
    mean = float(squared_norm(y).mean()) / 4.0
    error = (2.0 * dof(N_ATOMS) / 50_000) ** 0.5
    assert abs(mean - dof(N_ATOMS)) < 3.5 * error


def test_torsions_change_sign_under_reflection() -> None:
    x = remove_centroid(torch.randn((7, 4, 3), generator=generator()).double())
    rotated = x @ random_rotations(1, generator(1), torch.float64)[0]
    flipped = x * torch.tensor([1.0, 1.0, -1.0])
    atoms = (0, 1, 2, 3)
    torch.testing.assert_close(torsion(rotated, atoms), torsion(x, atoms))
    torch.testing.assert_close(torsion(flipped, atoms), -torsion(x, atoms))
    assert float(torsion(x, atoms).abs().max()) <= math.pi
