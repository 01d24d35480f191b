"""Training losses against closed forms for Gaussian data, and the levels that samples are noised to."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from boltzgen.config.choices import OBJECTIVE_NAMES
from boltzgen.diffusion.losses import (
    LEVEL_LOSSES,
    Energy,
    EnergyAndDerivatives,
    Noised,
    diffclf,
    dsm,
    level_loss,
    nce,
    noised,
    tsm,
)
from boltzgen.diffusion.noise_levels import LevelChoice, draw_levels
from boltzgen.diffusion.process import ZeroCentroidGaussian
from boltzgen.geometry import dof, zero_centroid_noise

N_ATOMS, DATA = 3, 0.3


def gaussian_energy(x: Tensor, log_sigma: Tensor) -> Tensor:
    """The exact energy of isotropic Gaussian data noised to a level."""
    gaussian = ZeroCentroidGaussian.isotropic(N_ATOMS, DATA**2).to(x.dtype, x.device)
    return gaussian.energy(x, log_sigma.exp())


def exact(x: Tensor, log_sigma: Tensor) -> tuple[Tensor, ...]:
    """Energy, score and slope, the latter by central differences."""
    h = 1e-4
    slope = (gaussian_energy(x, log_sigma + h) - gaussian_energy(x, log_sigma - h)) / (2 * h)
    score = -x / (DATA**2 + (2 * log_sigma).exp()).view(-1, 1, 1)
    return gaussian_energy(x, log_sigma), score, slope


def batch_of(model: EnergyAndDerivatives, sigmas: list[float], n: int, seed: int) -> Noised:
    g = torch.Generator().manual_seed(seed)
    x0 = DATA * zero_centroid_noise((n, N_ATOMS, 3), g, torch.float64)
    log_sigmas = torch.tensor(sigmas).double().log().view(-1, 1).expand(-1, n)
    noise = zero_centroid_noise((len(sigmas), n, N_ATOMS, 3), g, torch.float64)
    return noised(model, x0, log_sigmas, noise, dof(N_ATOMS))


def test_dsm_of_the_exact_gaussian_score_is_one_at_every_level() -> None:
    """The posterior variance is (sigma DATA)^2 / (sigma^2 + DATA^2), and the weight its inverse."""
    batch = batch_of(exact, [0.01, 5.0], 20_000, seed=0)
    assert level_loss("dsm", batch, gaussian_energy) is None
    torch.testing.assert_close(dsm(batch, DATA).mean(1), torch.ones(2).double(), rtol=0.02, atol=0.0)


@pytest.mark.parametrize("loss", [diffclf, nce])
def test_levels_that_cannot_be_told_apart_cost_log_k(loss: object) -> None:
    batch = batch_of(exact, [1.0, 1.0, 1.0], 50, seed=1)
    value = loss(batch, gaussian_energy)  # type: ignore[operator]
    torch.testing.assert_close(value, torch.full((50,), math.log(3.0)).double())


@pytest.mark.parametrize(("loss", "origins"), [(diffclf, (0, 1, 2)), (nce, (0,))])
def test_classification_is_the_cross_entropy_of_the_exact_posterior(
    loss: object, origins: tuple[int, ...]
) -> None:
    """For exact energies the mean loss is the Bayes-optimal one, found here by brute force."""
    n, sigmas = 40_000, [0.5, 1.0, 1.3]
    value = loss(batch_of(exact, sigmas, n, seed=2), gaussian_energy)  # type: ignore[operator]
    g, expected = torch.Generator().manual_seed(12), []
    for i in origins:
        y = (DATA**2 + sigmas[i] ** 2) ** 0.5 * zero_centroid_noise((n, N_ATOMS, 3), g, torch.float64)
        logits = torch.stack([-gaussian_energy(y, torch.full((n,), s).double().log()) for s in sigmas])
        expected.append(-torch.log_softmax(logits, 0)[i])
    samples = torch.cat(expected)
    error = float((value.var() / n + samples.var() / len(samples)) ** 0.5)
    assert error < 0.01
    assert float(value.mean()) == pytest.approx(float(samples.mean()), abs=3.5 * error)


def test_time_score_matching_is_least_for_the_exact_slope() -> None:
    """Its excess over the exact slope is the squared deviation over the variance 2 dof."""
    batch = batch_of(exact, [0.2, 0.5], 20_000, seed=6)
    assert batch.d_log_sigma is not None
    wrong = Noised(
        *(getattr(batch, f) for f in ("clean", "y", "log_sigmas", "energy", "score")),
        d_log_sigma=batch.d_log_sigma + 1.5,
        dof=batch.dof,
    )
    excess = tsm(wrong).mean(1) - tsm(batch).mean(1)
    torch.testing.assert_close(excess, torch.full((2,), 1.5**2 / 12).double(), rtol=0.1, atol=0.0)
    with pytest.raises(ValueError, match="dlog_sigma"):
        tsm(batch_of(lambda x, s: exact(x, s)[:2], [0.2], 10, seed=6))


def test_a_constant_between_levels_raises_every_loss_that_compares_levels() -> None:
    """What score matching cannot see: energies that disagree between levels."""

    def shifted(x: Tensor, log_sigma: Tensor) -> Tensor:
        return gaussian_energy(x, log_sigma) + 2.0 * log_sigma

    def shifted_with_derivatives(x: Tensor, log_sigma: Tensor) -> tuple[Tensor, ...]:
        _, score, slope = exact(x, log_sigma)
        return shifted(x, log_sigma), score, slope + 2.0

    # In both orders: nce has points of the first level only, and needs every level to come first sometimes.
    good = bad = {name: 0.0 for name in ("dsm+diffclf", "dsm+nce", "dsm+tsm")}
    for sigmas in ([0.5, 1.0], [1.0, 0.5]):
        right = batch_of(exact, sigmas, 5000, seed=4)
        wrong = batch_of(shifted_with_derivatives, sigmas, 5000, seed=4)
        torch.testing.assert_close(dsm(right, DATA), dsm(wrong, DATA))
        good = {name: v + mean_level_loss(name, right, gaussian_energy) for name, v in good.items()}
        bad = {name: v + mean_level_loss(name, wrong, shifted) for name, v in bad.items()}
    for name, value in good.items():
        assert bad[name] > value + 0.02


def mean_level_loss(name: str, batch: Noised, energy: Energy) -> float:
    value = level_loss(name, batch, energy)  # type: ignore[arg-type]
    assert value is not None
    return float(value.mean())


LOW, HIGH = math.log(0.002), math.log(2.0)


def levels(choice: LevelChoice, k: int, n: int = 4000) -> Tensor:
    g = torch.Generator().manual_seed(5)
    return draw_levels(choice, k, n, (LOW, HIGH), lambda s: torch.full_like(s, 20.0), g)


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("choice", ["kl", "neighbouring", "uniform"])
def test_levels_cover_the_range_evenly(choice: LevelChoice, k: int) -> None:
    rows = levels(choice, k)
    assert rows.shape == (k, 4000)
    assert float(rows.min()) >= LOW - 1e-5 and float(rows.max()) <= HIGH + 1e-5
    counts = torch.histc(rows[0], 10, LOW, HIGH)
    assert float(counts.min()) > 340


def test_levels_of_a_sample_lie_at_the_wanted_divergence() -> None:
    rows = levels("kl", 2)
    divergence = 20.0 * (rows[1] - rows[0]).square()
    assert float(divergence.min()) > 0.049 and float(divergence.max()) < 10.1


@pytest.mark.parametrize("choice", ["kl", "neighbouring", "uniform"])
def test_either_level_of_a_pair_comes_first_as_often(choice: LevelChoice) -> None:
    """Everywhere: a loss with points of the first level only would learn the difference."""
    g = torch.Generator().manual_seed(6)
    rows = draw_levels(choice, 2, 40_000, (LOW, HIGH), lambda s: 63.0 * s**2 / (s**2 + 0.03), g)
    middle = ((rows.mean(0) - LOW) / (HIGH - LOW) * 10).long().clamp(0, 9)
    for band in range(10):
        first, second = rows[:, (middle == band) & (rows[0] != rows[1])]
        share = float((first < second).double().mean())
        assert abs(share - 0.5) < 4.0 * 0.5 / len(first) ** 0.5


def test_neighbouring_levels_are_consecutive_rows_of_the_table() -> None:
    spacing = (HIGH - LOW) / 511
    gaps = levels("neighbouring", 3).sort(0).values.diff(dim=0)
    torch.testing.assert_close(gaps, torch.full_like(gaps, spacing), rtol=1e-3, atol=1e-5)


def test_names_of_objectives_are_those_that_are_registered() -> None:
    assert list(LEVEL_LOSSES) == OBJECTIVE_NAMES
