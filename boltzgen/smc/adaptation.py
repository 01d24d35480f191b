"""The pilot run that places noise levels, bridge values and step sizes; production then keeps them fixed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from boltzgen.geometry import averaged_over
from boltzgen.smc.algorithm import run_smc, start
from boltzgen.smc.base import Level, Moves, Particles
from boltzgen.smc.kernels import DEFAULT_KERNEL, ReverseKernel
from boltzgen.smc.levels import BridgeLevel, BridgeStart, Ends, NoiseLevel, Schedule
from boltzgen.smc.moves import MOVES, combined
from boltzgen.smc.resampling import conditional_ess_fraction
from boltzgen.smc.spacing import interpolated, measured_errors, spaced_levels


class NoParticleLeft(Exception):
    """Every particle of the pilot run has weight zero."""


MAX_BRIDGE = 1000
"""A bridge that needs more steps than this ends with one last jump."""


@dataclass(frozen=True)
class Plan:
    """What the user decides about a schedule; a pilot run finds the rest.

    level_moves, bridge_moves
        MCMC moves per noise level below ``move_below`` [nm], and per bridge step.
    n_leapfrog, move
        Leapfrog steps of a move, and which one it is.
    bridge_cess
        Conditional ESS of each step of the bridge.
    classes
        Class of each atom ``(n_atoms,)``: equivalent atoms move by the same steps. None: all alike.
    """

    n_levels: int
    n_pilot: int
    level_moves: int
    move_below: float
    bridge_moves: int
    n_leapfrog: int = 1
    move: str = "hmc"
    bridge_cess: float = 0.9
    resample_below: float = 0.5
    kernel: ReverseKernel = DEFAULT_KERNEL
    classes: Tensor | None = None


@dataclass
class Adaptation:
    """Moves and bridge values as the pilot goes; an observer of `run_smc`."""

    plan: Plan
    step: float
    scales: Tensor | None = None
    noise_moves: list[Moves] = field(default_factory=list)
    bridge_moves: list[Moves] = field(default_factory=list)
    lambdas: list[float] = field(default_factory=lambda: [0.0])
    particles: Particles | None = None
    log_weights: Tensor | None = None

    def observe(
        self, level: Level, particles: Particles, log_weights: Tensor, record: dict[str, float]
    ) -> None:
        self.particles, self.log_weights = particles, log_weights
        if "acceptance" in record:
            wanted = MOVES[level.moves.kind].acceptance(level.moves)
            self.step *= float(np.exp(0.5 * (record["acceptance"] - wanted)))
        self.scales = relative_scales(combined(particles.gradients, level.coefficients), self.plan.classes)
        (self.noise_moves if "sigma" in record else self.bridge_moves).append(self._moves(level.moves.n))

    def _moves(self, n: int) -> Moves:
        return Moves(n, self.step, self.plan.n_leapfrog, self.scales, self.plan.move)

    def noise_levels(self, levels: list[NoiseLevel]) -> Iterator[NoiseLevel]:
        """The given levels, with moves below a noise level by the step of the moment."""
        for level in levels:
            if level.sigma < self.plan.move_below and self.plan.level_moves:
                self.step *= (level.sigma / level.previous) ** 0.5
                yield replace(level, moves=self._moves(self.plan.level_moves))
            else:
                self.step = level.sigma / 2.0**0.5
                yield level

    def bridge(self, bridge_start: BridgeStart) -> Iterator[Level]:
        """The start of the bridge, then bridge values each chosen for the wanted conditional ESS."""
        yield bridge_start
        if self.log_weights is None or not torch.isfinite(self.log_weights).any():
            raise NoParticleLeft
        while self.lambdas[-1] < 1.0:
            assert self.particles is not None and self.log_weights is not None
            gap = self.particles.energies[:, 0] - self.particles.energies[:, 1]
            value = self._next_lambda(torch.nan_to_num(gap, nan=-torch.inf, posinf=-torch.inf))
            self.lambdas.append(value)
            yield BridgeLevel(
                bridge_start, self.lambdas[-2], value, self._moves(max(self.plan.bridge_moves, 1))
            )

    def _next_lambda(self, gap: Tensor) -> float:
        """Bisection for the largest step whose conditional ESS is at least the wanted one."""
        assert self.log_weights is not None
        now, low, high = self.lambdas[-1], self.lambdas[-1], 1.0
        alive = torch.isfinite(gap)
        gap, log_weights = gap[alive], self.log_weights[alive]
        if len(self.lambdas) >= MAX_BRIDGE or len(gap) == 0:
            return 1.0
        if conditional_ess_fraction(log_weights, (1.0 - now) * gap) >= self.plan.bridge_cess:
            return 1.0
        for _ in range(40):
            middle = 0.5 * (low + high)
            good = conditional_ess_fraction(log_weights, (middle - now) * gap) >= self.plan.bridge_cess
            low, high = (middle, high) if good else (low, middle)
        return max(low, now + 1e-6)


def plan_schedule(
    ends: Ends,
    x0: Tensor,
    information: Callable[[np.ndarray], np.ndarray],
    plan: Plan,
    generator: torch.Generator,
) -> Schedule:
    """Levels, bridge values and moves from a pilot population that is then thrown away.

    Levels start equally spaced in ``sqrt(F) d log sigma`` (F: ``information``) and are moved to where
    the pilot's increments spread most.
    """
    model, sigma_max, sigma_min = ends.model, ends.sigma_max, ends.bridge_start.sigma

    def by_information(sigma: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(information(sigma), 1.0))

    errors = measured_errors(model, x0, (sigma_max, sigma_min), plan.kernel.springs, generator)
    first = spaced_levels(sigma_max, sigma_min, by_information, plan.n_levels)
    schedule = Schedule(tuple(first), errors.at(first), kernel=plan.kernel)
    adaptation = Adaptation(plan, step=plan.move_below / 2.0**0.5)
    population = start(model, ends.gaussian, sigma_max, plan.n_pilot, generator)
    run = functools.partial(
        run_smc, resample_below=plan.resample_below, generator=generator, observe=adaptation.observe
    )
    population = run(population, adaptation.noise_levels(schedule.noise_levels(model)))
    spread = [record["sd_increment"] for record in population.history]
    run(population, adaptation.bridge(ends.bridge_start))

    final = spaced_levels(sigma_max, sigma_min, _refined(first, spread, by_information), plan.n_levels)
    moves = adaptation.bridge_moves
    return Schedule(
        sigmas=tuple(final),
        errors=errors.at(final),
        lambdas=tuple(adaptation.lambdas),
        noise_moves=_moves_at(final, first[1:], adaptation.noise_moves, plan),
        bridge_moves=tuple(replace(m, n=plan.bridge_moves) for m in moves),
        kernel=plan.kernel,
    )


def relative_scales(gradients: Tensor, classes: Tensor | None) -> Tensor:
    """Relative leapfrog step of each atom, ``(n_atoms, 1)``, from gradients ``(n, n_atoms, 3)``.

    The mean square of a gradient component is the mean curvature along it (Fisher information), so steps
    are taken as its inverse root, with medians over particles against overlapping atoms, averaged over a
    class, and with geometric mean one.
    """
    stiffness = torch.nan_to_num(gradients.double().square().sum(-1), nan=torch.inf).median(0).values
    log_scales = -0.5 * stiffness.clamp(1e-12, 1e30).log()
    if classes is None:
        log_scales = log_scales.mean().expand_as(log_scales)
    else:
        log_scales = averaged_over(classes, log_scales)
    return (log_scales - log_scales.mean()).exp().unsqueeze(-1)


def _moves_at(
    sigmas: list[float], measured_at: list[float], measured: list[Moves], plan: Plan
) -> tuple[Moves, ...]:
    """The moves found at some noise levels, at others: steps and scales interpolated over log sigma."""
    steps = interpolated(measured_at, [moves.step for moves in measured], sigmas)
    table = torch.stack([moves.scales for moves in measured if moves.scales is not None])
    columns = [interpolated(measured_at, column.tolist(), sigmas) for column in table.squeeze(-1).T]
    scales = torch.tensor(columns, dtype=torch.float64).T.unsqueeze(-1)
    return tuple(
        Moves(plan.level_moves if sigma < plan.move_below else 0, step, plan.n_leapfrog, scale, plan.move)
        for sigma, step, scale in zip(sigmas, steps, scales, strict=True)
    )


def _refined(
    sigmas: list[float], spread: list[float], base: Callable[[np.ndarray], np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    """Density of levels for equal spread of the increments, smoothed and mixed with the base density."""
    log_sigmas = np.log(sigmas)
    middle, widths = 0.5 * (log_sigmas[1:] + log_sigmas[:-1]), -np.diff(log_sigmas)
    rate = np.minimum(np.asarray(spread), 5.0) / widths
    kernel = np.exp(-0.5 * ((middle[:, None] - middle[None, :]) / 0.15) ** 2)
    rate = kernel @ rate / kernel.sum(1)

    def density(sigma: np.ndarray) -> np.ndarray:
        measured = np.interp(-np.log(sigma), -middle, rate)
        prior = base(sigma)
        return measured / measured.mean() + 0.3 * prior / prior.mean()

    return density
