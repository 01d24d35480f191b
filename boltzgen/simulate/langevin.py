"""Langevin dynamics of many configurations: each step one compiled call for a part of them, on one core.

The splitting of OpenMM's LangevinMiddleIntegrator: a kick, half a drift, friction and noise, half a drift
(Zhang et al., J. Phys. Chem. A 123, 6056, 2019).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from boltzgen.errors import said_by
from boltzgen.potential.batched import BatchedEvaluator
from boltzgen.runtime.graph_compiler import compiled_part, traced
from boltzgen.runtime.threads import LARGEST_PART, workers
from boltzgen.simulate.bias import Bias

Step = Callable[..., tuple[Tensor, ...]]
"""Positions, velocities, accelerations, thermal velocities, strengths, noise, constants and parameters of a
bias, to the first three, energies and those of the bias."""
_SAME_WITHIN = 1e-4
"""Relative deviation that a compiled step may have from an eager one, in single precision."""


@dataclass
class Part:
    """Configurations that one core moves.

    x, v, acceleration
        ``(n_atoms, 3, B)``, in nm and ps, float64.
    thermal
        Standard deviation of velocities [nm/ps] ``(n_atoms, 1, B)``.
    strength
        What the bias is multiplied by, ``(B,)``.
    energy, bias
        Of the positions [kJ/mol] ``(B,)``: of the molecule, and of the bias at full strength.
    """

    x: Tensor
    v: Tensor
    acceleration: Tensor
    thermal: Tensor
    strength: Tensor
    energy: Tensor
    bias: Tensor
    generator: torch.Generator

    def move(self, step: Step, parameters: Tensor, n: int, dt: float, friction: float) -> None:
        """``n`` steps of ``dt`` [ps] with ``friction`` [1/ps]."""
        keep = math.exp(-friction * dt)
        constants = torch.tensor([dt, keep, math.sqrt(1.0 - keep**2)], dtype=torch.float64)
        with torch.no_grad():
            for _ in range(n):
                self.x, self.v, self.acceleration, self.energy, self.bias = step(
                    *(self.x, self.v, self.acceleration, self.thermal, self.strength),
                    *(self.noise(), constants, parameters),
                )

    def noise(self) -> Tensor:
        """Standard normal numbers ``(n_atoms, 3, B)``, float32."""
        return torch.randn(self.x.shape, generator=self.generator)


class Langevin:
    """Moves parts, by compiled code beside each other or step by step.

    evaluator
        Energies in single precision.
    masses
        ``(n_atoms,)`` [dalton].
    compiled
        Whether to make code for parts of the shape that comes first; it rounds otherwise.
    bias
        Added to the energy, with ``parameters`` [kJ/mol] that may be changed at any time, at first zero.
    """

    def __init__(
        self, evaluator: BatchedEvaluator, masses: Tensor, compiled: bool, bias: Bias | None = None
    ) -> None:
        self.evaluator, self.masses, self.compiled, self.bias = evaluator, masses, compiled, bias
        self.parameters = bias.none_yet().float() if bias else torch.zeros(1, 1)
        self._eager = self._one_step(to_compile=False)
        self._step: Step | None = None

    def started(self, x: Tensor, thermal: Tensor, generator: torch.Generator) -> Part:
        """A part at positions ``(n_atoms, 3, B)``, with velocities of its own."""
        rest = torch.zeros_like(x)
        part = Part(x, rest, rest, thermal, rest[0, 0], rest[0, 0], rest[0, 0], generator)
        part.v = thermal * part.noise()
        self.find_forces(part)
        return part

    def find_forces(self, part: Part) -> None:
        """Those of where it is, as a step of no time has them: after the bias has changed."""
        part.move(self._step or self._eager, self.parameters, 1, 0.0, 0.0)

    def move(self, parts: Sequence[Part], n: int, dt: float, friction: float) -> None:
        """``n`` steps of ``dt`` [ps] with ``friction`` [1/ps] of every part."""
        step = self._step or self._made(parts[0])
        parallel = workers().map if step is not self._eager and len(parts) > 1 else map
        parameters = self.parameters
        list(parallel(lambda part: part.move(step, parameters, n, dt, friction), parts))

    def _made(self, part: Part) -> Step:
        self._step = self._eager
        if self.compiled:
            example = [part.x, part.v, part.acceleration, part.thermal, torch.ones_like(part.strength)]
            example += [torch.zeros_like(part.x).float()]
            example += [torch.tensor([1e-3, 0.9, 0.4], dtype=torch.float64), torch.ones_like(self.parameters)]
            try:
                self._step = _compiled(self._one_step(to_compile=True), self._eager, example)
            except Exception as error:  # any failure of the compiler leaves a working, slower program
                warnings.warn(f"dynamics stay uncompiled ({said_by(error)})", stacklevel=2)
        return self._step

    def _one_step(self, to_compile: bool) -> Step:
        """One step as a function of tensors."""
        one_pass = self.evaluator.one_pass(torch.device("cpu"), to_compile)
        heavy, added = self.masses[:, None, None], self.bias

        def step(*tensors: Tensor) -> tuple[Tensor, ...]:
            x, v, acceleration, thermal, strength, noise, constants, parameters = tensors
            dt, keep, amplitude = constants.unbind()
            v = v + dt * acceleration
            x = x + 0.5 * dt * v
            v = keep * v + amplitude * thermal * noise
            x = x + 0.5 * dt * v
            energy, force = one_pass(x.float())
            bias = torch.zeros_like(energy)
            if added is not None:
                bias, more = added.energy_and_forces(parameters, x.float())
                force = force + strength.float() * more
            return x, v, force.double() / heavy, energy.double(), bias.double()

        return step


def number_of_parts(n: int) -> int:
    """Into how many ``n`` configurations go, on any number of cores: each has random numbers of its own."""
    return max(math.ceil(n / LARGEST_PART), 2 if n >= LARGEST_PART // 2 else 1)


def _compiled(fused: Step, eager: Step, example: list[Tensor]) -> Step:
    example = [tensor.clone() for tensor in example]
    with torch.no_grad():
        # A lambda, as what is annotated is not found again among what was compiled before.
        made = compiled_part(traced(lambda *tensors: fused(*tensors), example), example)
        for ours, expected in zip(made(*example), eager(*example), strict=True):
            scale = float(expected.abs().max())
            assert float((ours - expected).abs().max()) <= _SAME_WITHIN * max(scale, 1.0), "it deviates"
    return made
