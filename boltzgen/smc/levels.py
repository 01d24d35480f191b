"""The sequence of targets that particles pass: noise levels, the start of the bridge, the bridge."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from boltzgen.diffusion.process import EnergyAndScore, ZeroCentroidGaussian
from boltzgen.geometry import mirror
from boltzgen.smc.base import Level, Moves, Particles
from boltzgen.smc.elastic_network import DenoisingError
from boltzgen.smc.kernels import DEFAULT_KERNEL, ReverseKernel

Target = Callable[[Tensor], tuple[Tensor, Tensor]]
"""``x (n, n_atoms, 3) [nm] -> (u (n,), du/dx (n, n_atoms, 3))``; +inf outside the domain."""
Reflect = Callable[[Tensor], tuple[Tensor, Tensor]]
"""``x -> (x with enantiomers reflected into the domain, whether each is inside (n,))``."""


NO_MOVES = Moves()


def at_level(model: EnergyAndScore, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """``U(x, sigma)`` ``(n,)`` in float64 and ``dU/dx`` ``(n, n_atoms, 3)`` at one noise level [nm]."""
    u, score = model(x, torch.full((len(x),), math.log(sigma), dtype=x.dtype, device=x.device))
    return u.double(), -score


@dataclass(frozen=True)
class NoiseLevel:
    """Reverse move from noise level ``previous`` to ``sigma`` with the learned score.

    ``log w += U(x, a) - U(x', b) + log F(x | x') - log q(x' | x)``, F the forward noising kernel.
    """

    model: EnergyAndScore
    previous: float
    sigma: float
    error: DenoisingError
    moves: Moves = NO_MOVES
    kernel: ReverseKernel = DEFAULT_KERNEL
    coefficients: tuple[float, ...] = (1.0,)

    @property
    def coordinate(self) -> dict[str, float]:
        return {"sigma": self.sigma}

    def enter(self, particles: Particles, generator: torch.Generator) -> tuple[Particles, Tensor]:
        a, b, old = self.previous, self.sigma, particles.x
        reverse = self.kernel.reverse(old, -particles.gradients[:, 0], a, b, self.error)
        x, log_density = reverse.sample(generator)
        energies, gradients = self.evaluate(x)
        forward = self.kernel.forward(x, -gradients[:, 0], a, b)
        log_ratio = forward.log_density(old) - log_density
        increments = particles.energies[:, 0] - energies[:, 0] + log_ratio
        return Particles(x, energies, gradients, particles.ancestors), increments

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u, gradient = at_level(self.model, x, self.sigma)
        return u.unsqueeze(1), gradient.unsqueeze(1)


@dataclass(frozen=True)
class BridgeStart:
    """Enter the domain of the target: reflect enantiomers, evaluate the target, drop what lies outside.

    Where particles are reflected, one at x in the domain stands for x and its mirror image Rx, which have the
    density ``exp(-U(x)) + exp(-U(Rx))`` at sigma_min: the weight gains ``-log(1 + exp(U(x) - U(Rx)))``,
    whatever U is. Where U is symmetric that is ``-log 2``. A particle inside whose target energy is not
    finite gets an increment of NaN, which is counted.
    """

    model: EnergyAndScore
    sigma: float
    target: Target
    reflect: Reflect
    reflects: bool = False
    moves: Moves = NO_MOVES
    coefficients: tuple[float, ...] = (1.0, 0.0)

    @property
    def coordinate(self) -> dict[str, float]:
        return {"lambda": 0.0}

    def enter(self, particles: Particles, generator: torch.Generator) -> tuple[Particles, Tensor]:
        x, inside = self.reflect(particles.x)
        energies, gradients = self.evaluate(x)
        log_share = torch.zeros_like(energies[:, 0])
        if self.reflects:
            mirrored, _ = at_level(self.model, mirror(x), self.sigma)
            log_share = -torch.nn.functional.softplus(energies[:, 0] - mirrored)
        failed = inside & ~torch.isfinite(energies[:, 1])
        increments = torch.where(inside, log_share, -torch.inf)
        increments = torch.where(failed, torch.nan, increments)
        return Particles(x, energies, gradients, particles.ancestors), increments

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u, gradient = at_level(self.model, x, self.sigma)
        target, target_gradient = self.target(x)
        energies = torch.stack([u, target.double()], dim=1)
        return energies, torch.stack([gradient, target_gradient.to(gradient.dtype)], dim=1)


@dataclass(frozen=True)
class BridgeLevel:
    """Geometric bridge ``exp(-(1 - lambda) U(x, sigma_min) - lambda u(x))``; reweight, then move."""

    bridge_start: BridgeStart
    previous: float
    value: float
    moves: Moves = NO_MOVES

    @property
    def coefficients(self) -> tuple[float, ...]:
        return (1.0 - self.value, self.value)

    @property
    def coordinate(self) -> dict[str, float]:
        return {"lambda": self.value}

    def enter(self, particles: Particles, generator: torch.Generator) -> tuple[Particles, Tensor]:
        gap = particles.energies[:, 0] - particles.energies[:, 1]
        return particles, (self.value - self.previous) * gap

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.bridge_start.evaluate(x)


@dataclass(frozen=True)
class Ends:
    """Both ends of annealing, and the energies between them.

    gaussian, sigma_max
        Where particles start: the exact Gaussian at the highest noise level [nm].
    model
        Energy and score at every noise level.
    bridge_start
        From the lowest noise level into the target's domain.
    """

    gaussian: ZeroCentroidGaussian
    sigma_max: float
    model: EnergyAndScore
    bridge_start: BridgeStart


@dataclass(frozen=True)
class Schedule:
    """Everything a run needs that is fixed in advance.

    sigmas
        Decreasing noise levels [nm], ``(n + 1,)``.
    errors
        The denoiser's errors at each of them.
    lambdas
        Bridge values from 0 to 1, ``(m + 1,)``.
    noise_moves, bridge_moves
        MCMC moves at the noise levels ``(n + 1,)`` and at the bridge values ``(m + 1,)``; without an entry
        no level moves its particles.
    kernel
        How particles get from one noise level to the next.
    """

    sigmas: tuple[float, ...]
    errors: tuple[DenoisingError, ...]
    lambdas: tuple[float, ...] = (0.0, 1.0)
    noise_moves: tuple[Moves, ...] = ()
    bridge_moves: tuple[Moves, ...] = ()
    kernel: ReverseKernel = DEFAULT_KERNEL

    def noise_levels(self, model: EnergyAndScore, moving: bool = False) -> list[NoiseLevel]:
        """The noise levels, with their MCMC moves if ``moving``."""
        moves = self.noise_moves if moving and self.noise_moves else (NO_MOVES,) * len(self.sigmas)
        return [
            NoiseLevel(model, a, b, error, move, self.kernel)
            for a, b, error, move in zip(
                self.sigmas[:-1], self.sigmas[1:], self.errors[:-1], moves[1:], strict=True
            )
        ]

    def bridge_levels(self, bridge_start: BridgeStart) -> list[Level]:
        """The start of the bridge and the bridge behind it, with its MCMC moves."""
        moves = self.bridge_moves or (NO_MOVES,) * len(self.lambdas)
        bridge = [
            BridgeLevel(bridge_start, previous, value, move)
            for previous, value, move in zip(self.lambdas[:-1], self.lambdas[1:], moves[1:], strict=True)
        ]
        return [bridge_start, *bridge]
