"""Reverse kernels and the elastic network of their covariance, against closed forms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from boltzgen.config import choices
from boltzgen.config.schema import SampleSettings
from boltzgen.geometry import dof, gaussian_log_density, remove_centroid, squared_norm, zero_centroid_noise
from boltzgen.smc.elastic_network import DenoisingError, ElasticStep, Springs, fitted, precision
from boltzgen.smc.kernels import KERNELS, Ddim, Ddpm, IsotropicStep, Step, make_kernel, register
from boltzgen.smc.spacing import MeasuredErrors

N_ATOMS = 4
SPRINGS = Springs(torch.tensor([[0, 1], [1, 2], [2, 3], [0, 2]]), torch.tensor([0, 0, 1, 2]))
ERROR = DenoisingError(0.1, 10.0, (50.0, 50.0, 20.0, 5.0))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def configurations(n: int) -> Tensor:
    return remove_centroid(torch.randn((n, N_ATOMS, 3), generator=generator(1), dtype=torch.float64))


def projected(matrices: Tensor) -> Tensor:
    """Onto the zero-centroid space."""
    centred = torch.eye(N_ATOMS).double() - 1.0 / N_ATOMS
    project = torch.kron(centred, torch.eye(3).double())
    return project @ matrices @ project


def covariance_of_step(step: ElasticStep, matrices: Tensor) -> Tensor:
    identity = torch.eye(3 * N_ATOMS).double()
    return step.variance * projected(identity + step.ratio * torch.linalg.inv(matrices))


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("kind", list(KERNELS))
@pytest.mark.parametrize("springs", [None, SPRINGS], ids=["free", "springs"])
def test_reverse_kernels_with_the_exact_score_are_exact_for_a_gaussian(
    kind: str, eta: float, springs: Springs | None
) -> None:
    """Weights ``p_b(x') F(x | x') / (p_a(x) q(x' | x))`` average to one, with the best variance are one."""
    g, kernel, n = generator(3), make_kernel(kind, eta=eta, springs=springs), 100_000
    a, b, data = 1.0, 0.8, 0.3
    va, vb = data**2 + a**2, data**2 + b**2
    mse = data**2 * a**2 / va
    error = DenoisingError(mse, 1.0 / mse, (0.0,) * 4)
    x = va**0.5 * zero_centroid_noise((n, N_ATOMS, 3), g, torch.float64)
    reverse = kernel.reverse(x, -x / va, a, b, error)
    moved, log_density = reverse.sample(g)
    torch.testing.assert_close(log_density, reverse.log_density(moved))
    log_ratio = kernel.forward(moved, -moved / vb, a, b).log_density(x) - log_density
    ends = [gaussian_log_density(y, y.new_tensor(v)) for y, v in ((moved, vb), (x, va))]
    w = (ends[0] - ends[1] + log_ratio).exp()
    standard_error = float(w.std()) / n**0.5
    assert standard_error < 0.02
    assert abs(float(w.mean()) - 1.0) < 3.5 * standard_error + 1e-9
    if kind in ("ddpm+mse", "ddpm+cov"):
        assert float(w.std()) < 1e-9
        assert float(squared_norm(moved).mean()) == pytest.approx(dof(N_ATOMS) * vb, rel=0.01)


def test_ddim_with_eta_one_is_ddpm() -> None:
    x, score, moved = torch.randn((3, 5, N_ATOMS, 3), generator=generator(4), dtype=torch.float64)
    ddim, ddpm = Ddim(eta=1.0), Ddpm()
    steps = [k.reverse(x, score, 1.0, 0.7, ERROR).log_density(moved) for k in (ddim, ddpm)]
    torch.testing.assert_close(*steps)
    steps = [k.forward(moved, score, 1.0, 0.7).log_density(x) for k in (ddim, ddpm)]
    torch.testing.assert_close(*steps)


def test_density_of_an_elastic_step_is_that_of_its_covariance() -> None:
    x, mean = configurations(8).split(4)
    step = ElasticStep(mean, configurations(4), SPRINGS, ERROR, 0.03, 3.0)
    covariance = covariance_of_step(step, precision(configurations(4), SPRINGS, ERROR))
    values, vectors = torch.linalg.eigh(covariance)
    away = (vectors.mT @ (x - mean).flatten(1).unsqueeze(-1)).squeeze(-1)[:, 3:]
    values = values[:, 3:]
    expected = -0.5 * (away.square() / values + (2 * math.pi * values).log()).sum(1)
    torch.testing.assert_close(step.log_density(x), expected)


def test_samples_of_an_elastic_step_have_its_covariance() -> None:
    n, one = 100_000, configurations(1)
    many = one.expand(n, -1, -1)
    step = ElasticStep(many, many, SPRINGS, ERROR, 0.03, 3.0)
    samples, _ = step.sample(generator())
    away = (samples - one).flatten(1)
    expected = covariance_of_step(step, precision(one, SPRINGS, ERROR))[0]
    bound = 5.0 * float(expected.diagonal().max()) * (2.0 / n) ** 0.5
    assert float((away.T @ away / n - expected).abs().max()) < bound
    assert float(samples.mean(1).abs().max()) < 1e-12


def test_springs_are_found_again() -> None:
    """From residuals that have the covariance of a network, about configurations that differ."""
    denoised = 3.0 * configurations(128)
    factors = torch.linalg.cholesky(precision(denoised, SPRINGS, ERROR))
    residuals = []
    for _ in range(200):
        noise = torch.randn((128, 3 * N_ATOMS, 1), generator=generator(len(residuals))).double()
        solved = torch.linalg.solve_triangular(factors.mT, noise, upper=True)
        residuals.append(remove_centroid(solved.view(-1, N_ATOMS, 3)))
    errors = [fitted(SPRINGS, denoised, r) for r in residuals]
    for name in ("base", "stiffness"):
        found = torch.tensor([getattr(error, name) for error in errors]).double().reshape(200, -1)
        expected = torch.tensor(getattr(ERROR, name)).double().reshape(-1)
        assert bool(((found.median(0).values / expected - 1.0).abs() < 0.2).all())


def test_without_springs_only_the_mean_square_is_known() -> None:
    residuals = configurations(7)
    error = fitted(None, residuals, residuals)
    assert error == DenoisingError(float(squared_norm(residuals).mean()) / dof(N_ATOMS))


def test_errors_between_levels_are_interpolated_over_log_sigma() -> None:
    low, high = DenoisingError(1e-4, 1e4, (1e2,)), DenoisingError(1e-2, 1e2, (1e4,))
    (middle,) = MeasuredErrors([1.0, 0.01], [high, low]).at([0.1])
    assert middle.mse == pytest.approx(1e-3)
    assert middle.base == pytest.approx(1e3)
    assert middle.stiffness == pytest.approx((1e3,))


def test_a_kernel_is_added_by_one_registration() -> None:
    """As a third party would: no other file knows of it."""

    @dataclass(frozen=True)
    class Wide(Ddpm):
        factor: float = 2.0

        def reverse(self, x: Tensor, score: Tensor, a: float, b: float, error: DenoisingError) -> Step:
            return IsotropicStep(self.mean(x, score, a, b), self.factor * (a**2 - b**2))

    with pytest.raises(ValidationError, match="it should be 'ddpm\\+cov', "):
        SampleSettings(kernel="wide")
    register("wide", Wide)
    try:
        kernel = make_kernel(SampleSettings(kernel="wide").kernel, factor=3.0, springs=SPRINGS)
    finally:
        del KERNELS["wide"]
        choices.KERNEL_NAMES.remove("wide")
    assert kernel == Wide(factor=3.0)
    assert list(KERNELS) == choices.KERNEL_NAMES
