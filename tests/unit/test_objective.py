"""Training losses against closed forms for Gaussian data."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from boltzgen.diffusion import MeanFreeGaussian
from boltzgen.geometry import mean_free_noise
from boltzgen.objective import draw_level_pairs, losses

N_ATOMS, DATA = 3, 0.3


def gaussian_energy(x: Tensor, log_sigma: Tensor) -> Tensor:
    """The exact energy of isotropic Gaussian data noised to a level."""
    gaussian = MeanFreeGaussian.isotropic(N_ATOMS, DATA**2).to(x.dtype, x.device)
    return gaussian.energy(x, log_sigma.exp())


def energy_and_score(x: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
    return gaussian_energy(x, log_sigma), -x / (DATA**2 + (2 * log_sigma).exp()).view(-1, 1, 1)


def data(n: int, generator: torch.Generator) -> Tensor:
    return DATA * mean_free_noise((n, N_ATOMS, 3), generator, torch.float64)


def test_dsm_of_the_exact_gaussian_score_is_one_at_every_level() -> None:
    """The posterior variance is (sigma DATA)^2 / (sigma^2 + DATA^2), and the weight its inverse."""
    g = torch.Generator().manual_seed(0)
    log_sigmas = torch.tensor([[0.01], [5.0]]).double().log().expand(2, 20_000)
    result = losses(energy_and_score, None, data(20_000, g), log_sigmas, DATA, g)
    assert result.classification is None
    torch.testing.assert_close(result.dsm.mean(1), torch.ones(2).double(), rtol=0.02, atol=0.0)


def test_levels_that_cannot_be_told_apart_cost_log_k() -> None:
    g = torch.Generator().manual_seed(1)
    log_sigmas = torch.zeros((3, 50)).double()
    result = losses(energy_and_score, gaussian_energy, data(50, g), log_sigmas, DATA, g)
    assert result.classification is not None
    torch.testing.assert_close(result.classification, torch.full((50,), math.log(3.0)).double())


def test_classification_is_the_cross_entropy_of_the_exact_posterior() -> None:
    """For exact energies the mean loss is the Bayes-optimal one, found here by brute force."""
    g = torch.Generator().manual_seed(2)
    n, sigmas = 40_000, torch.tensor([0.5, 1.0]).double()
    log_sigmas = sigmas.log().view(2, 1).expand(2, n)
    result = losses(energy_and_score, gaussian_energy, data(n, g), log_sigmas, DATA, g)
    assert result.classification is not None
    expected = []
    for i in range(2):
        y = (DATA**2 + sigmas[i] ** 2).sqrt() * mean_free_noise((n, N_ATOMS, 3), g, torch.float64)
        logits = torch.stack([-gaussian_energy(y, s.log().expand(n)) for s in sigmas])
        expected.append(-torch.log_softmax(logits, 0)[i])
    samples = torch.cat(expected)
    error = float(samples.std()) * (1.0 / n) ** 0.5
    assert error < 0.01
    assert float(result.classification.mean()) == pytest.approx(float(samples.mean()), abs=3.5 * error)


def test_a_constant_between_levels_raises_the_classification_loss() -> None:
    """What score matching cannot see: heights that disagree between levels."""
    g = torch.Generator().manual_seed(3)
    log_sigmas = torch.tensor([[0.5], [1.0]]).double().log().expand(2, 5000)
    x0 = data(5000, g)

    def shifted(x: Tensor, log_sigma: Tensor) -> Tensor:
        return gaussian_energy(x, log_sigma) + 2.0 * log_sigma

    def shifted_with_score(x: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
        return shifted(x, log_sigma), energy_and_score(x, log_sigma)[1]

    right = losses(energy_and_score, gaussian_energy, x0, log_sigmas, DATA, torch.Generator().manual_seed(4))
    wrong = losses(shifted_with_score, shifted, x0, log_sigmas, DATA, torch.Generator().manual_seed(4))
    torch.testing.assert_close(right.dsm, wrong.dsm)
    assert right.classification is not None and wrong.classification is not None
    assert float(wrong.classification.mean()) > float(right.classification.mean()) + 0.02


def test_level_pairs_lie_in_range_at_the_wanted_divergence() -> None:
    g = torch.Generator().manual_seed(5)
    low, high = math.log(0.002), math.log(2.0)
    pairs = draw_level_pairs(4000, (low, high), lambda s: torch.full_like(s, 20.0), g)
    assert pairs.shape == (2, 4000)
    assert float(pairs.min()) >= low and float(pairs.max()) <= high
    divergence = 20.0 * (pairs[0] - pairs[1]).square()
    assert float(divergence.min()) > 0.049 and float(divergence.max()) < 10.1
    counts = torch.histc(pairs[0], 10, low, high)
    assert float(counts.min()) > 350
