"""OpenMMPotential: the reference evaluator of an energy, one OpenMM context fed one frame at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from torch import Tensor

from boltzgen import geometry
from boltzgen.errors import MolecularSystemError
from boltzgen.platform import fastest_platform, make_context
from boltzgen.system import MolecularSystem

Array = NDArray[np.float64]


class OpenMMPotential:
    """Reduced energy ``u = U / kT`` of configurations [nm] with shape ``(n, n_atoms, 3)``.

    Calling it returns ``(n,)`` float64 values that can be differentiated once. Configurations are taken
    as they are, never centred. One that OpenMM cannot evaluate (overlapping atoms, NaN) has
    ``u = +inf`` and a zero gradient: in a sampler that is weight zero, not a crash.

    system
        Whose energy it is.
    platform
        OpenMM platform name; the fastest one on this machine by default.

    ``evaluations`` counts the configurations evaluated so far.
    """

    def __init__(self, system: MolecularSystem, platform: str | None = None) -> None:
        self.system = system
        self.platform = fastest_platform(system).getName() if platform is None else platform
        self.evaluations = 0
        self._context: openmm.Context | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Reduced energies ``(n,)``, float64, on the device of ``x``."""
        return _ReducedEnergy.apply(x, self)

    def energy_and_forces(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies [kJ/mol] ``(n,)`` and forces [kJ/mol/nm] ``(n, n_atoms, 3)``, float64, no autograd."""
        if x.ndim != 3 or x.shape[1:] != (self.system.n_atoms, 3):
            raise ValueError(f"positions have shape {tuple(x.shape)}, expected (n, {self.system.n_atoms}, 3)")
        positions = x.detach().to("cpu", torch.float64).numpy()
        energies, forces = np.empty(len(positions)), np.empty(positions.shape)
        for k, frame in enumerate(positions):
            energies[k], forces[k] = self._evaluate(frame)
        self.evaluations += len(positions)
        return torch.from_numpy(energies).to(x.device), torch.from_numpy(forces).to(x.device)

    def reduced_energy_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``u`` with shape ``(n,)`` and ``du/dx`` [1/nm] ``(n, n_atoms, 3)``, float64, no autograd."""
        energy, forces = self.energy_and_forces(x)
        return energy / self.system.kT, forces / -self.system.kT

    def _evaluate(self, positions: Array) -> tuple[float, Array | float]:
        if not np.isfinite(positions).all():
            return np.inf, 0.0
        if self._context is None:
            self._context = make_context(self.system, openmm.VerletIntegrator(0.001), self.platform)
        try:
            self._context.setPositions(positions)
            state = self._context.getState(energy=True, forces=True)
        except openmm.OpenMMException:
            return np.inf, 0.0
        energy = state.getPotentialEnergy()._value
        forces = state.getForces(asNumpy=True)._value
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            return np.inf, 0.0
        return energy, forces

    def __getstate__(self) -> dict[str, Any]:
        """Contexts stay behind when the potential travels to another process."""
        return {**self.__dict__, "_context": None}


class _ReducedEnergy(torch.autograd.Function):
    """First-order autograd: forces come with the energy, so backward costs nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, potential: OpenMMPotential) -> Tensor:
        u, gradient = potential.reduced_energy_and_gradient(x)
        ctx.save_for_backward(gradient.to(x.dtype))
        return u

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_u: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return grad_u[:, None, None].to(gradient.dtype) * gradient, None


def check_translation_invariant(system: MolecularSystem) -> None:
    """Raise MolecularSystemError if moving the whole molecule changes its energy."""
    reference = torch.as_tensor(system.positions)
    shifts = torch.tensor(
        [[0.0, 0.0, 0.0], [0.31, 0.0, 0.0], [0.0, -0.53, 0.0], [0.0, 0.0, 0.97]], dtype=torch.float64
    )
    energy, forces = OpenMMPotential(system).energy_and_forces(reference + shifts[:, None, :])
    net, scale = float(forces.sum(dim=1).norm(dim=-1).max()), float(forces.abs().max())
    change = float((energy - energy[0]).abs().max())
    if change > 1e-3 * (1.0 + abs(float(energy[0]))) or net > 1e-2 * (1.0 + scale):
        raise MolecularSystemError(
            f"{system.name}: the energy changes by {change:.3g} kJ/mol when the whole molecule is moved; "
            "remove external forces and position restraints (forces must depend on relative positions only)"
        )


def reflection_is_symmetry(system: MolecularSystem) -> bool:
    """Whether mirror images have the same energy, tested on distorted copies of the reference."""
    generator = torch.Generator().manual_seed(0)
    reference = torch.as_tensor(system.positions)
    noise = torch.randn((8, *reference.shape), generator=generator, dtype=torch.float64)
    scales = torch.linspace(0.002, 0.02, 8, dtype=torch.float64)[:, None, None]
    x = reference + scales * noise
    potential = OpenMMPotential(system)
    u, mirrored = potential(x), potential(geometry.mirror(x))
    return bool(torch.allclose(u, mirrored, rtol=1e-5, atol=1e-3))
