"""Potential: reduced energies of a system by the best evaluator that agrees with OpenMM."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from torch import Tensor

from boltzgen.errors import UserError, said_by
from boltzgen.potential.agreement import Agreement, compare, embedding
from boltzgen.potential.batched import BatchedEvaluator
from boltzgen.potential.coordinates import Unsupported
from boltzgen.potential.openmm import OpenMMEvaluator
from boltzgen.potential.platforms import fastest_platform, time_platforms
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.units import thermal_energy

Array = NDArray[np.float64]
Backend = Literal["batched", "openmm"]

_LOG = logging.getLogger(__name__)


class Potential:
    """Reduced energy ``u = U / kT`` of configurations [nm] with shape ``(n, n_atoms, 3)``.

    Calling it returns ``(n,)`` values that can be differentiated: once with OpenMM behind it, any number
    of times when batched. Configurations are taken as they are, never moved or centred. One without a
    finite energy (overlapping atoms, NaN) has ``u = +inf`` and a zero gradient: in a sampler that is
    weight zero, not a crash.

    backend
        ``"batched"`` or ``"openmm"``; ``reason`` says in one line why.
    agreement
        How well batched energies were found to agree with OpenMM at construction.
    evaluations, seconds
        Configurations evaluated so far, and the time it took.
    """

    def __init__(
        self,
        evaluator: BatchedEvaluator | OpenMMEvaluator,
        kT: float,
        reason: str,
        agreement: Agreement | None = None,
    ) -> None:
        self.evaluator, self.kT, self.reason, self.agreement = evaluator, kT, reason, agreement
        self.n_atoms: int = evaluator.system.getNumParticles()
        self.evaluations, self.seconds = 0, 0.0

    @property
    def backend(self) -> Backend:
        """What evaluates the energies."""
        return "batched" if isinstance(self.evaluator, BatchedEvaluator) else "openmm"

    def __call__(self, x: Tensor) -> Tensor:
        """Reduced energies ``(n,)`` on the device of ``x``."""
        return _ReducedEnergy.apply(x, self)

    def energy_and_forces(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies [kJ/mol] ``(n,)`` and forces [kJ/mol/nm] ``(n, n_atoms, 3)``, no autograd."""
        if x.ndim != 3 or x.shape[1:] != (self.n_atoms, 3):
            raise ValueError(f"positions have shape {tuple(x.shape)}, expected (n, {self.n_atoms}, 3)")
        started = time.perf_counter()
        result = self.evaluator.energy_and_forces(x)
        self.seconds += time.perf_counter() - started
        self.evaluations += len(x)
        return result

    def reduced_energy_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``u`` with shape ``(n,)`` and ``du/dx`` [1/nm] ``(n, n_atoms, 3)``, no autograd."""
        energy, forces = self.energy_and_forces(x)
        return energy / self.kT, forces / -self.kT


class _ReducedEnergy(torch.autograd.Function):
    """Forces come with the energy, so the first derivative costs nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, potential: Potential) -> Tensor:
        u, gradient = potential.reduced_energy_and_gradient(x)
        ctx.potential = potential
        ctx.save_for_backward(x, gradient.to(x.dtype))
        return u

    @staticmethod
    def backward(ctx: Any, grad_u: Tensor) -> tuple[Tensor, None]:
        x, gradient = ctx.saved_tensors
        evaluator = ctx.potential.evaluator
        if torch.is_grad_enabled() and x.requires_grad:
            if not isinstance(evaluator, BatchedEvaluator):
                raise RuntimeError("second derivatives need the batched backend")
            u = evaluator.energy(x) / ctx.potential.kT
            (gradient,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        return grad_u[:, None, None].to(gradient.dtype) * gradient, None


def make_potential(
    system: MolecularSystem,
    backend: Literal["auto", "batched", "openmm"] = "auto",
    dtype: torch.dtype = torch.float64,
    *,
    platform: str | None = None,
    compiled: bool | None = None,
    chunk: int | None = None,
) -> Potential:
    """The reduced energy of a system at its temperature, batched in torch where that agrees with OpenMM.

    backend
        ``"auto"`` compiles the System to torch, compares energies and forces with OpenMM's Reference
        platform (reference, thermal and strongly distorted configurations) and takes OpenMM itself where
        compilation is not possible or the deviation exceeds ``agreement.BOUNDS``. ``"batched"`` raises
        UserError instead; ``"openmm"`` is OpenMM.
    dtype
        float64 or float32, of the batched arithmetic; OpenMM's results are always float64.
    platform
        OpenMM platform for the openmm backend; the fastest one here by default.
    compiled
        Whether batched evaluation is fused into one kernel: by default once it has run long enough
        to win the compilation time back.
    chunk
        How many configurations there will be at a time, where fewer than fit the cache: compiled code is
        made for one number.
    """
    if isinstance(system, openmm.System):
        raise UserError(
            "make_potential",
            "an OpenMM System has no temperature",
            "use potential_of_openmm(system, temperature), in K",
        )
    if dtype not in (torch.float64, torch.float32):
        raise UserError("make_potential", f"dtype is {dtype}", "use torch.float64 or torch.float32")
    if backend not in ("auto", "batched", "openmm"):
        raise UserError("make_potential", f"backend is {backend!r}", "use auto, batched or openmm")
    target, reason = _Target(system.openmm_system, system.temperature_k, system.positions), "asked for"
    if backend != "openmm":
        found = _batched(target, dtype, compiled, chunk)
        if isinstance(found, Potential):
            return found
        _refuse_or_warn(found, backend)
        reason = found
    name = platform or fastest_platform(system).getName()
    return Potential(OpenMMEvaluator(system.openmm_system, name), target.kT, reason)


def potential_of_openmm(
    system: openmm.System,
    temperature: float,
    positions: Array | None = None,
    backend: Literal["auto", "batched", "openmm"] = "auto",
) -> Potential:
    """The same of a bare OpenMM System at a temperature [K], in float64.

    positions
        A configuration [nm] ``(n_atoms, 3)`` at which batched energies are compared with OpenMM's; by
        default one is built.
    """
    target, reason = _Target(system, temperature, positions), "asked for"
    if backend != "openmm":
        found = _batched(target, torch.float64, None, None)
        if isinstance(found, Potential):
            return found
        _refuse_or_warn(found, backend)
        reason = found
    platform = time_platforms(system, target.start(), temperature)
    return Potential(OpenMMEvaluator(system, platform), target.kT, reason)


@dataclass(frozen=True)
class _Target:
    """What is evaluated, at which temperature [K], and where [nm] it is compared with OpenMM."""

    system: openmm.System
    temperature: float
    positions: Array | None

    def start(self) -> Array:
        """Those positions, or some that are built."""
        return embedding(self.system, self.temperature) if self.positions is None else self.positions

    @property
    def kT(self) -> float:
        return thermal_energy(self.temperature)


def _batched(
    target: _Target, dtype: torch.dtype, compiled: bool | None, chunk: int | None
) -> Potential | str:
    """Batched energies that agree with OpenMM, or why there are none."""
    try:
        evaluator = BatchedEvaluator(target.system, dtype, compiled, chunk)
        agreement = compare(evaluator, target.start(), target.temperature)
    except Unsupported as unsupported:
        return f"not batched: {unsupported}"
    except openmm.OpenMMException as error:
        return f"batched energies could not be compared with OpenMM ({said_by(error)})"
    if agreement.ok:
        return Potential(evaluator, target.kT, _agreement_in_words(agreement), agreement)
    return f"batched energies deviate from OpenMM by {agreement.excess:.3g} times the bound"


def _refuse_or_warn(reason: str, backend: str) -> None:
    if backend == "batched":
        raise UserError("make_potential", reason, "use the backend auto or openmm")
    _LOG.warning("target energies by OpenMM, one configuration at a time (%s)", reason)


def _agreement_in_words(agreement: Agreement) -> str:
    return (
        f"agrees with OpenMM within {agreement.energy_error:.1e} kJ/mol "
        f"and {agreement.force_error:.1e} of the largest force"
    )
