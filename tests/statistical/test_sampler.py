"""The sampler against closed forms: exact mixture energies in place of the network, known Z and weights."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from boltzgen import geometry
from boltzgen.diffusion.process import ZeroCentroidGaussian
from boltzgen.ensemble.uncertainty import Estimate
from boltzgen.geometry import dof, gaussian_log_density, remove_centroid, zero_centroid_noise
from boltzgen.smc import algorithm as smc
from boltzgen.smc import kernels
from boltzgen.smc.adaptation import Plan, plan_schedule
from boltzgen.smc.bidirectional import forward_paths, reverse_paths
from boltzgen.smc.bounds import MIN_INDEPENDENT
from boltzgen.smc.combine import combine
from boltzgen.smc.divergences import bar_log_z, jeffreys_divergence
from boltzgen.smc.elastic_network import Springs
from boltzgen.smc.kernels import IsotropicStep, ReverseKernel, make_kernel
from boltzgen.smc.levels import BridgeStart, Ends, NoiseLevel, Schedule
from boltzgen.smc.resampling import Scheme, genealogical_variance, systematic

N_ATOMS, VARIANCE, LOG_Z, SIGMA_MAX, SIGMA_MIN = 3, 0.05, -3.0, 8.0, 0.05
SHARES = torch.tensor([0.2, 0.8]).double()
N_PARTICLES, N_REPLICATES = 256, 24
SPRINGS = Springs(torch.tensor([[0, 1], [1, 2], [0, 2]]), torch.tensor([0, 1, 2]))


@functools.cache
def centres() -> Tensor:
    g = torch.Generator().manual_seed(0)
    return remove_centroid(torch.randn((2, N_ATOMS, 3), generator=g, dtype=torch.float64))


def mixture_energy(x: Tensor, variance: Tensor) -> Tensor:
    """Minus the log density of two Gaussians with weights SHARES."""
    logs = [gaussian_log_density(x - centre, variance) for centre in centres()]
    return -torch.logsumexp(torch.stack(logs, -1) + SHARES.log(), -1)


def with_gradient(energy, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        u = energy(x)
        (gradient,) = torch.autograd.grad(u.sum(), x)
    return u.detach(), gradient


def exact_model(x: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Exact up to a constant at each level, as a network's energies are; such constants must cancel."""
    u, gradient = with_gradient(lambda y: mixture_energy(y, VARIANCE + (2 * log_sigma).exp()), x)
    return u + 2.0 * log_sigma, -gradient


def target(x: Tensor) -> tuple[Tensor, Tensor]:
    """``u`` with ``log Z = LOG_Z``."""
    return with_gradient(lambda y: mixture_energy(y, y.new_full((len(y),), VARIANCE)) - LOG_Z, x)


def bridge_start() -> BridgeStart:
    return BridgeStart(exact_model, SIGMA_MIN, target, lambda x: (x, torch.ones(len(x)).bool()))


def in_first_mode(x: Tensor) -> Tensor:
    first, second = (geometry.squared_norm(x - centre) for centre in centres())
    return first < second


def data(n: int, generator: torch.Generator) -> Tensor:
    component = torch.multinomial(SHARES, n, replacement=True, generator=generator)
    noise = zero_centroid_noise((n, N_ATOMS, 3), generator, torch.float64)
    return centres()[component] + VARIANCE**0.5 * noise


@functools.cache
def gaussian() -> ZeroCentroidGaussian:
    spread = float(SHARES @ geometry.squared_norm(centres())) / dof(N_ATOMS)
    return ZeroCentroidGaussian.isotropic(N_ATOMS, VARIANCE + spread)


@functools.cache
def schedule(kernel: str = "ddpm+cov", n_leapfrog: int = 1, n_levels: int = 16) -> Schedule:
    g = torch.Generator().manual_seed(1)
    plan = Plan(
        n_levels=n_levels,
        n_pilot=128,
        level_moves=1,
        move_below=0.2,
        bridge_moves=1,
        n_leapfrog=n_leapfrog,
        bridge_cess=0.95,
        kernel=make_kernel(kernel, springs=SPRINGS),
        classes=torch.arange(N_ATOMS),
    )
    return plan_schedule(
        Ends(gaussian(), SIGMA_MAX, exact_model, bridge_start()),
        data(400, g),
        lambda sigma: gaussian().level_information(torch.as_tensor(sigma)).numpy(),
        plan,
        g,
    )


@dataclass(frozen=True)
class Replicates:
    """Estimates of Z / Z_exact and of the first mode's weight from independent runs."""

    z: np.ndarray
    share: np.ndarray
    predicted_variance: np.ndarray

    def z_score(self) -> tuple[float, float]:
        """Deviation of the mean of Z from one in standard errors, and that error."""
        error = float(self.z.std(ddof=1)) / len(self.z) ** 0.5
        return (float(self.z.mean()) - 1.0) / error, error


def parts(population: smc.Population, n: int) -> list[smc.Population]:
    """A population that was never resampled as ``n`` populations, each with its own estimate of Z."""
    found = []
    for rows in torch.arange(len(population.log_weights)).chunk(n):
        log_weights = population.log_weights[rows]
        log_z = float(torch.logsumexp(log_weights, 0)) - math.log(len(rows))
        own = replace(population.particles.take(rows), ancestors=torch.arange(len(rows)))
        found.append(smc.Population(own, log_weights, log_z))
    return found


def replicate(
    resample_below: float,
    seed: int = 2,
    n: int = N_REPLICATES,
    scheme: Scheme = "systematic",
    **options: Any,
) -> Replicates:
    """Independent runs on the schedule that ``options`` name.

    Without resampling no particle knows of another, so that many are as good as runs one after the other.
    """
    g = torch.Generator().manual_seed(seed)
    plan = schedule(**options)
    levels = [*plan.noise_levels(exact_model, moving=True), *plan.bridge_levels(bridge_start())]
    at_once = 1 if resample_below > 0.0 else n
    populations = []
    for _ in range(n // at_once):
        population = smc.start(exact_model, gaussian(), SIGMA_MAX, at_once * N_PARTICLES, g)
        smc.run_smc(population, levels, resample_below=resample_below, generator=g, scheme=scheme)
        populations += [population] if at_once == 1 else parts(population, at_once)
    z, share, variance = [], [], []
    for population in populations:
        combined = combine([population])
        z.append(math.exp(combined.log_z - LOG_Z))
        share.append(float(torch.softmax(combined.log_weights, 0)[in_first_mode(combined.x)].sum()))
        variance.append(population.relative_variance)
    return Replicates(np.array(z), np.array(share), np.array(variance))


def assert_exact(runs: Replicates, largest_error: float) -> None:
    """Z and mode weights within 3.5 standard errors of the replicates, which are bounded themselves."""
    deviation, error = runs.z_score()
    assert error < largest_error
    assert abs(deviation) < 3.5
    share_error = float(runs.share.std(ddof=1)) / N_REPLICATES**0.5
    assert share_error < largest_error
    assert abs(float(runs.share.mean()) - 0.2) < 3.5 * share_error


@pytest.mark.parametrize("n_leapfrog", [1, 3], ids=["mala", "hmc"])
@pytest.mark.parametrize("scheme", get_args(Scheme))
@pytest.mark.parametrize("resample_below", [0.0, 0.9], ids=["ais", "smc"])
def test_z_and_mode_weights_are_exact(resample_below: float, scheme: Scheme, n_leapfrog: int) -> None:
    assert_exact(replicate(resample_below, scheme=scheme, n_leapfrog=n_leapfrog), 0.02)


@pytest.mark.parametrize("kernel", ["ddpm+mse", "ddpm", "ei", "ddim"])
@pytest.mark.parametrize("resample_below", [0.0, 0.9], ids=["ais", "smc"])
def test_every_kernel_is_exact(resample_below: float, kernel: str) -> None:
    assert_exact(replicate(resample_below, kernel=kernel, n_levels=64), 0.06)


def test_a_dropped_increment_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    enter, removed = NoiseLevel.enter, schedule().sigmas[10]

    def forgetful(self: NoiseLevel, particles, generator):
        moved, increments = enter(self, particles, generator)
        return moved, torch.zeros_like(increments) if self.sigma == removed else increments

    monkeypatch.setattr(NoiseLevel, "enter", forgetful)
    deviation, _ = replicate(0.9).z_score()
    assert abs(deviation) > 3.5


def test_three_n_degrees_of_freedom_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels normalised in 3N dimensions, as the transition densities of some codes are."""

    def wrong(x: Tensor, variance: Tensor) -> Tensor:
        n = 3 * x.shape[-2]
        return -0.5 * geometry.squared_norm(x) / variance - 0.5 * n * torch.log(2 * math.pi * variance)

    monkeypatch.setattr(kernels, "gaussian_log_density", wrong)
    deviation, _ = replicate(0.9).z_score()
    assert abs(deviation) > 3.5


def test_weights_kept_on_resampling_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_reset(self: smc.Population, scheme: Scheme, generator: torch.Generator) -> None:
        rows = systematic(self.log_weights, generator)
        self.particles = self.particles.take(rows)
        self.log_weights = self.log_weights[rows]

    monkeypatch.setattr(smc.Population, "resample", without_reset)
    runs = replicate(0.9, n=96, kernel="ddpm")
    share_error = float(runs.share.std(ddof=1)) / 96**0.5
    deviations = [abs(runs.z_score()[0]), abs(float(runs.share.mean()) - 0.2) / share_error]
    assert max(deviations) > 3.5


def inverse_z_of_forward_paths(kernel: str, n: int = 20_000) -> tuple[float, float]:
    """Deviation of the mean of exp(-log w) over forward paths from 1 / Z, in standard errors, and these."""
    g = torch.Generator().manual_seed(10)
    short = schedule(kernel, n_levels=64)
    paths = forward_paths(exact_model, gaussian(), short, data(n, g), lambda _: {}, g)
    log_z = -2.0 * math.log(SIGMA_MIN)  # of the constants in exact_model
    ratios = (log_z - paths.log_weights[-1]).exp()
    error = float(ratios.std()) / n**0.5
    return (float(ratios.mean()) - 1.0) / error, error


@pytest.mark.parametrize("kernel", ["ddpm+cov", "ddpm+mse", "ddim"])
def test_forward_paths_are_exact(kernel: str) -> None:
    deviation, error = inverse_z_of_forward_paths(kernel)
    assert error < 0.02
    assert abs(deviation) < 3.5


def test_a_wrong_forward_variance_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the density alone: data are still noised with the right one."""
    schedule("ddpm+mse", n_levels=64)
    forward = ReverseKernel.forward

    class Wide(IsotropicStep):
        def log_density(self, x: Tensor) -> Tensor:
            return IsotropicStep(self.mean, 1.1 * self.variance).log_density(x)

    def wide(self: ReverseKernel, *arguments: Any) -> IsotropicStep:
        step = forward(self, *arguments)
        return Wide(step.mean, step.variance)

    monkeypatch.setattr(ReverseKernel, "forward", wide)
    deviation, _ = inverse_z_of_forward_paths("ddpm+mse")
    assert abs(deviation) > 3.5


@pytest.mark.parametrize("scheme", get_args(Scheme))
def test_genealogical_variance_predicts_the_spread_of_z(scheme: Scheme) -> None:
    runs = replicate(0.9, seed=5, n=60, scheme=scheme)
    ratio = float(runs.predicted_variance.mean() / runs.z.var(ddof=1))
    assert 0.5 < ratio < 2.5


@pytest.mark.parametrize(
    "resample_below", [pytest.param(0.0, id="ais", marks=pytest.mark.slow), pytest.param(0.5, id="smc")]
)
def test_intervals_of_log_z_cover_the_truth(resample_below: float) -> None:
    """The stated 95 % interval of four islands, on 200 cheap replicates; nearly all state one."""
    g, plan = torch.Generator().manual_seed(8), schedule()
    levels = [*plan.noise_levels(exact_model, moving=True), *plan.bridge_levels(bridge_start())]
    covered = []
    for _ in range(200):
        islands = [
            smc.run_smc(
                smc.start(exact_model, gaussian(), SIGMA_MAX, 64, g),
                levels,
                resample_below=resample_below,
                generator=g,
            )
            for _ in range(4)
        ]
        combined = combine(islands)
        interval = Estimate(combined.log_z, combined.log_z_error, dof=combined.log_z_dof).interval
        if interval is None:
            assert combined.genealogical_ess < MIN_INDEPENDENT
        else:
            covered.append(interval[0] < LOG_Z < interval[1])
    print(f"\n{np.mean(covered):.3f} of {len(covered)}")
    assert len(covered) >= 180
    assert 0.92 <= np.mean(covered) <= 0.99  # of two errors the larger one counts


def test_genealogical_variance_without_resampling_is_that_of_the_mean_weight() -> None:
    log_weights = torch.randn(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    w = log_weights.exp() / log_weights.exp().mean()
    expected = float(w.var()) / 500
    assert genealogical_variance(log_weights, torch.arange(500)) == pytest.approx(expected, rel=1e-6)


def test_forward_and_reverse_paths_agree_for_exact_energies() -> None:
    g = torch.Generator().manual_seed(3)
    members = lambda x: {"first": in_first_mode(x)}  # noqa: E731
    forward = forward_paths(exact_model, gaussian(), schedule(), data(400, g), members, g)
    reverse = reverse_paths(exact_model, gaussian(), schedule(), 400, members, g)
    ends = forward.log_weights[-1], reverse.log_weights[-1]
    assert 0.0 < jeffreys_divergence(*ends).value < 1.0
    log_z = bar_log_z(*ends)
    lost = torch.tensor([math.inf, -math.inf, math.nan]).double()
    assert bar_log_z(torch.cat([ends[0], lost]), ends[1]) == pytest.approx(log_z)
    assert bar_log_z(lost, ends[1]) is None and bar_log_z(ends[0], lost) is None
    half = torch.cat([ends[1], torch.full((400,), -math.inf).double()])  # weight zero, and of as many paths
    assert bar_log_z(ends[0], half) == pytest.approx(log_z - math.log(2.0), abs=0.1)
    assert log_z == pytest.approx(-2.0 * math.log(SIGMA_MIN), abs=0.1)
    assert forward.populations["first"][-1] == pytest.approx(0.2, abs=0.07)


def test_a_mode_lost_along_the_schedule_shows_in_the_populations() -> None:
    """An energy that forgets the first mode below 0.5 nm loses it there, against the noised data."""

    def forgetful(x: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
        if float(log_sigma[0].exp()) > 0.5:
            return exact_model(x, log_sigma)
        variance = VARIANCE + (2 * log_sigma).exp()
        u, gradient = with_gradient(lambda y: -gaussian_log_density(y - centres()[1], variance), x)
        return u, -gradient

    g = torch.Generator().manual_seed(4)
    members = lambda x: {"first": in_first_mode(x)}  # noqa: E731
    forward = forward_paths(forgetful, gaussian(), schedule(), data(400, g), members, g)
    reverse = reverse_paths(forgetful, gaussian(), schedule(), 400, members, g)
    assert reverse.populations["first"][10] > 0.1
    assert reverse.populations["first"][-1] < 0.05 < forward.populations["first"][-1]
    assert float(forward.log_weights[-1].std()) > 5.0


def test_infinite_and_nan_energies_are_weight_zero_and_counted() -> None:
    def broken(x: Tensor) -> tuple[Tensor, Tensor]:
        u, gradient = target(x)
        u[0], u[1] = torch.inf, torch.nan
        return u, gradient

    level = BridgeStart(exact_model, SIGMA_MIN, broken, lambda x: (x, torch.ones(len(x)).bool()))
    g = torch.Generator().manual_seed(6)
    population = smc.start(exact_model, gaussian(), SIGMA_MAX, 64, g)
    levels = [
        *schedule().noise_levels(exact_model),
        *replace(schedule(), bridge_moves=()).bridge_levels(level),
    ]
    population = smc.run_smc(population, levels, resample_below=0.0, generator=g)
    assert math.isfinite(population.log_z)
    assert bool(torch.isneginf(population.log_weights[:2]).all())
    assert population.n_non_finite == 2


def test_islands_combine_to_the_mean_of_z() -> None:
    g = torch.Generator().manual_seed(7)
    levels = schedule().noise_levels(exact_model)
    runs = [
        smc.run_smc(
            smc.start(exact_model, gaussian(), SIGMA_MAX, 64, g), levels, resample_below=0.9, generator=g
        )
        for _ in range(3)
    ]
    combined = combine(runs)
    assert combined.log_z == pytest.approx(math.log(np.mean([math.exp(p.log_z) for p in runs])))
    mean_weight = float(torch.logsumexp(combined.log_weights, 0)) - math.log(3 * 64)
    assert mean_weight == pytest.approx(combined.log_z)
    assert len(combined.ancestors.unique()) > 64


def test_an_island_that_lost_everything_counts_as_zero() -> None:
    g = torch.Generator().manual_seed(7)
    alive, dead = (smc.start(exact_model, gaussian(), SIGMA_MAX, 64, g) for _ in range(2))
    dead.reweight(torch.full((64,), -math.inf).double())
    combined = combine([alive, dead])
    assert combined.log_z == pytest.approx(alive.log_z - math.log(2.0))
    assert combined.log_weights[:64].isfinite().all() and torch.isneginf(combined.log_weights[64:]).all()
    assert math.isfinite(combined.log_z_error) and 0.0 < combined.genealogical_ess <= 64.0
