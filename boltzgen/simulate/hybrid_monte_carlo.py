"""Dynamics of many configurations without an error of the time step, each step one compiled call on one core.

Generalised hybrid Monte Carlo (Horowitz, Phys. Lett. B 268, 247, 1991): friction and noise act on velocities
between stretches of leapfrog steps. A stretch conserves volume and can be reversed, so that to accept or
reject it by its change of the total energy leaves the canonical distribution as it is, however long its steps
are.
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
from boltzgen.potential.program import check_same
from boltzgen.runtime.graph_compiler import compiled_part, traced
from boltzgen.runtime.threads import LARGEST_PART, workers
from boltzgen.simulate.bias import Bias

Step = Callable[..., tuple[Tensor, ...]]
"""Positions, velocities, accelerations, strengths, time step and parameters of a bias, to the first three,
energies and those of the bias."""
_MOVED = ("x", "v", "acceleration", "energy", "bias")


@dataclass
class Part:
    """Configurations that one core moves.

    x, v, acceleration
        ``(n_atoms, 3, B)``, in nm and ps, float64.
    kT
        In kJ/mol ``(B,)``.
    strength
        What the bias is multiplied by, ``(B,)``.
    energy, bias
        Of the positions [kJ/mol] ``(B,)``: of the molecule, and of the bias at full strength.
    """

    x: Tensor
    v: Tensor
    acceleration: Tensor
    kT: Tensor
    strength: Tensor
    energy: Tensor
    bias: Tensor
    generator: torch.Generator

    def noise(self) -> Tensor:
        """Standard normal numbers ``(n_atoms, 3, B)``, float64."""
        return torch.randn(self.x.shape, dtype=self.x.dtype, generator=self.generator)


class HybridMonteCarlo:
    """Moves parts, by compiled code beside each other or step by step.

    evaluator
        Energies in single precision; it is for these that the sampling is exact.
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

    def started(self, x: Tensor, kT: Tensor, generator: torch.Generator) -> Part:
        """A part at positions ``(n_atoms, 3, B)``, with velocities of its own."""
        v, acceleration = torch.zeros_like(x), torch.zeros_like(x)
        strength, energy, bias = torch.zeros(3, len(kT), dtype=x.dtype).unbind()
        part = Part(x.clone(), v, acceleration, kT, strength, energy, bias, generator)
        self._refresh(part, 0.0)
        self.find_forces(part)
        return part

    def find_forces(self, part: Part) -> None:
        """Those of where it is, as a step of no time has them: after the bias has changed."""
        self._leap(part, self._step or self._eager, 1, 0.0)

    def propose(self, parts: Sequence[Part], n: int, dt: float, friction: float) -> Tensor:
        """A stretch of ``n`` steps of ``dt`` [ps] with ``friction`` [1/ps]; which of all accepted it."""
        step = self._step or self._made(parts[0])
        parallel = workers().map if step is not self._eager and len(parts) > 1 else map
        return torch.cat(list(parallel(lambda part: self._propose(part, step, n, dt, friction), parts)))

    def _propose(self, part: Part, step: Step, n: int, dt: float, friction: float) -> Tensor:
        """Configurations that do not accept stay, and turn back."""
        self._refresh(part, math.exp(-friction * n * dt))
        before, start = {name: getattr(part, name) for name in _MOVED}, self._total(part)
        self._leap(part, step, n, dt)
        uniform = torch.rand(start.shape, dtype=start.dtype, generator=part.generator)
        accepted = uniform.log() < start - self._total(part)
        before["v"].neg_()
        for name, old in before.items():  # kept in place, so that the heap of thousands of parts stays whole
            setattr(part, name, torch.where(accepted, getattr(part, name), old, out=old))
        return accepted

    def _leap(self, part: Part, step: Step, n: int, dt: float) -> None:
        """Velocities are half a step behind positions in between, and at the same time before and after."""
        length = torch.tensor(dt, dtype=torch.float64)
        part.v = part.v - 0.5 * dt * part.acceleration
        with torch.no_grad():
            for _ in range(n):
                part.x, part.v, part.acceleration, part.energy, part.bias = step(
                    part.x, part.v, part.acceleration, part.strength, length, self.parameters
                )
        part.v = part.v + 0.5 * dt * part.acceleration

    def _refresh(self, part: Part, keep: float) -> None:
        """Velocities that remember this share of what they were, the rest thermal."""
        thermal = (part.kT / self.masses[:, None, None]).sqrt()
        part.v.mul_(keep).add_(math.sqrt(1.0 - keep**2) * thermal * part.noise())

    def _total(self, part: Part) -> Tensor:
        """Potential and kinetic energies over kT ``(B,)``."""
        kinetic = 0.5 * (self.masses[:, None, None] * part.v.square()).sum((0, 1))
        return (part.energy + part.strength * part.bias + kinetic) / part.kT

    def _made(self, part: Part) -> Step:
        self._step = self._eager
        if self.compiled:
            example = [part.x, part.v, part.acceleration, torch.ones_like(part.strength)]
            example += [torch.tensor(1e-3, dtype=torch.float64), torch.ones_like(self.parameters)]
            try:
                self._step = _compiled(self._one_step(to_compile=True), self._eager, example)
            except Exception as error:  # any failure of the compiler leaves a working, slower program
                warnings.warn(f"dynamics stay uncompiled ({said_by(error)})", stacklevel=2)
        return self._step

    def _one_step(self, to_compile: bool) -> Step:
        """One leapfrog step as a function of tensors."""
        one_pass = self.evaluator.one_pass(torch.device("cpu"), to_compile)
        heavy, added = self.masses[:, None, None], self.bias

        def step(*tensors: Tensor) -> tuple[Tensor, ...]:
            x, v, acceleration, strength, dt, parameters = tensors
            v = v + dt * acceleration
            x = x + dt * v
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
        ours, expected = ([value.float() for value in step(*example)] for step in (made, eager))
    for k in (3, 4):
        check_same((ours[k], ours[2]), (expected[k], expected[2]))
    return made
