"""An OpenMM System compiled to torch: energies and forces of thousands of configurations at once."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import openmm
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from boltzgen.potential import compound, custom, forces
from boltzgen.potential.coordinates import Frame, Unsupported
from boltzgen.potential.terms import Layout, Term

COMPILE_AFTER_SECONDS = 10.0
"""Eager evaluation that has taken this long is compiled: about what compilation itself takes."""
LARGEST = 500
"""Atoms up to which all pairs of many configurations are worth holding in memory."""
_PAIR_BUDGET = {"cpu": 2**17, "cuda": 2**22}
"""Pairs times configurations in one pass, on a CPU for each thread: a tensor of them stays in its cache."""
_EAGER_COST = 8
"""Roughly the cost of an eager pass over that of a compiled one of the same size."""

_COMPILERS: dict[str, Callable[[Any, Layout], list[Term]]] = {
    "HarmonicBondForce": forces.harmonic_bonds,
    "HarmonicAngleForce": forces.harmonic_angles,
    "PeriodicTorsionForce": forces.periodic_torsions,
    "RBTorsionForce": forces.rb_torsions,
    "CMAPTorsionForce": forces.torsion_maps,
    "NonbondedForce": forces.nonbonded,
    "GBSAOBCForce": custom.gbsa_obc,
    "CustomBondForce": custom.custom_bonds,
    "CustomAngleForce": custom.custom_angles,
    "CustomTorsionForce": custom.custom_torsions,
    "CustomExternalForce": custom.custom_external,
    "CustomNonbondedForce": custom.custom_nonbonded,
    "CustomGBForce": custom.custom_gb,
    "CustomCompoundBondForce": compound.compound_bonds,
    "CustomCentroidBondForce": compound.centroid_bonds,
}
_WITHOUT_ENERGY = {
    "CMMotionRemover",
    "AndersenThermostat",
    "MonteCarloBarostat",
    "MonteCarloAnisotropicBarostat",
    "MonteCarloMembraneBarostat",
    "MonteCarloFlexibleBarostat",
}


def compile_forces(system: openmm.System, like: Tensor) -> dict[str, list[Term]]:
    """The terms of every force, by force name, in the dtype and on the device of ``like``.

    Raises Unsupported, with the name of what is in the way.
    """
    if system.getNumParticles() > LARGEST:
        raise Unsupported(f"{system.getNumParticles()} atoms: all pairs are held in memory up to {LARGEST}")
    for atom in range(system.getNumParticles()):
        if system.isVirtualSite(atom):
            raise Unsupported("virtual sites")
    masses = [system.getParticleMass(atom)._value for atom in range(system.getNumParticles())]
    layout = Layout(np.array(masses), like)
    compiled: dict[str, list[Term]] = {}
    for force in system.getForces():
        name = type(force).__name__
        if name in _WITHOUT_ENERGY or _is_empty(force):
            continue
        if name not in _COMPILERS:
            raise Unsupported(f"a {name}")
        if force.usesPeriodicBoundaryConditions():
            raise Unsupported(f"a periodic {name}")
        compiled.setdefault(name, []).extend(_COMPILERS[name](force, layout))
    return compiled


def _is_empty(force: openmm.Force) -> bool:
    counts = ("getNumBonds", "getNumAngles", "getNumTorsions", "getNumParticles")
    return any(getattr(force, count)() == 0 for count in counts if hasattr(force, count))


class BatchedEvaluator:
    """Energies [kJ/mol] and forces [kJ/mol/nm] of an OpenMM System in torch, on the device of the input.

    system
        Compiled at construction; raises Unsupported where it cannot be.
    dtype
        Of the arithmetic and the results.
    compiled
        Whether to fuse everything into one kernel with ``torch.compile``; by default once the eager
        evaluation has taken as long as compiling would have.
    chunk
        Configurations in one pass where fewer than fit the cache are enough.
    """

    def __init__(
        self,
        system: openmm.System,
        dtype: torch.dtype,
        compiled: bool | None = None,
        chunk: int | None = None,
    ) -> None:
        self.system, self.dtype, self.compiled, self.chunk = system, dtype, compiled, chunk
        self._programs: dict[torch.device, _Program] = {}
        self.forces = sorted(self._program(torch.device("cpu")).forces)

    def energy(self, x: Tensor) -> Tensor:
        """Energies ``(n,)`` by plain tensor operations, differentiable any number of times in ``x``."""
        return self._program(x.device).energy(x.to(self.dtype).permute(1, 2, 0))

    def energy_and_forces(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies ``(n,)`` and forces ``(n, n_atoms, 3)`` without autograd, in chunks.

        An energy that is not a finite number is +inf; forces that are not finite are zero.
        """
        return self._program(x.device).energy_and_forces(x.detach().to(self.dtype))

    def _program(self, device: torch.device) -> _Program:
        if device not in self._programs:
            like = torch.empty(0, dtype=self.dtype, device=device)
            self._programs[device] = _Program(compile_forces(self.system, like), like, self)
        return self._programs[device]

    def __getstate__(self) -> dict[str, Any]:
        """Compiled code stays behind when the evaluator travels to another process."""
        return {**self.__dict__, "_programs": {}}


class _Program:
    """The terms on one device, in passes of at most ``chunk`` configurations."""

    def __init__(self, compiled: dict[str, list[Term]], like: Tensor, evaluator: BatchedEvaluator) -> None:
        self.forces = compiled
        n_atoms = evaluator.system.getNumParticles()
        budget = _PAIR_BUDGET.get(like.device.type, _PAIR_BUDGET["cuda"])
        budget *= torch.get_num_threads() if like.device.type == "cpu" else 1
        pairs = max(32, n_atoms * (n_atoms - 1) // 2)
        fitting = max(16, 2 ** ((budget // pairs).bit_length() - 1) if budget > pairs else 16)
        self.chunk = min(fitting, evaluator.chunk or fitting)
        self._compile_after = {None: COMPILE_AFTER_SECONDS, True: 0.0, False: float("inf")}[
            evaluator.compiled
        ]
        self._eager_seconds = 0.0
        self._kernel: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None

    def energy(self, x: Tensor) -> Tensor:
        """Energies ``(B,)`` of ``(n_atoms, 3, B)`` positions."""
        frame = Frame(x)
        # The first summand is zero, or NaN where a position is not a finite number.
        return sum((term(frame) for terms in self.forces.values() for term in terms), 0.0 * x.sum((0, 1)))

    def one_pass(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies ``(B,)`` and forces ``(n_atoms, 3, B)``, eagerly."""
        with torch.enable_grad():
            x = x.requires_grad_(True)
            energy = self.energy(x)
            (gradient,) = torch.autograd.grad(energy.sum(), x)
        energy = torch.where(energy.isfinite(), energy, torch.inf)
        usable = gradient.isfinite().all(1).all(0) & energy.isfinite()
        return energy, torch.where(usable, -gradient, torch.zeros_like(gradient))

    def energy_and_forces(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies ``(n,)`` and forces ``(n, n_atoms, 3)`` of any number of configurations."""
        energy, force = x.new_empty(len(x)), torch.empty_like(x)
        for first in range(0, len(x), self.chunk):
            part = slice(first, first + self.chunk)
            energy[part], columns = self._pass(x[part].permute(1, 2, 0).contiguous())
            force[part] = columns.permute(2, 0, 1)
        return energy, force

    def _pass(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self._kernel is None and self._eager_seconds >= self._compile_after:
            self._compile(x)
        n = x.shape[-1]
        if self._kernel is not None and n * _EAGER_COST >= self.chunk:
            energy, force = self._kernel(_filled(x, self.chunk))
            return energy[:n], force[..., :n]
        started = time.perf_counter()
        energy, force = self.one_pass(x.detach())
        self._eager_seconds += time.perf_counter() - started
        return energy.detach(), force.detach()

    def _compile(self, x: Tensor) -> None:
        """Trace one pass of a full chunk, gradient included, and fuse it; stay eager if that fails."""
        example = _filled(x, self.chunk)
        try:
            kernel = torch.compile(make_fx(lambda x: self.one_pass(x))(example.clone()), dynamic=False)
            with torch.no_grad():
                ours, expected = kernel(example), self.one_pass(example.clone())
            _check_same(ours, expected)
        except Exception as error:  # any failure of the compiler leaves a working, slower program
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
            warnings.warn(f"target energies stay uncompiled: {message}", stacklevel=2)
            self._compile_after = float("inf")
            return
        self._kernel = torch.no_grad()(kernel)


def _check_same(ours: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    """Raise AssertionError unless the kernel gives the energies and forces of the eager pass."""
    finite = expected[0].isfinite()
    for value, reference in zip(ours, expected, strict=True):
        value, reference = value[..., finite], reference[..., finite]
        scale = float(reference.abs().max()) if reference.numel() else 0.0
        torch.testing.assert_close(value, reference, rtol=1e-3, atol=1e-5 * scale)


def _filled(x: Tensor, size: int) -> Tensor:
    """Exactly ``size`` configurations: the last one repeated as often as it takes."""
    missing = size - x.shape[-1]
    return torch.cat([x, x[..., -1:].expand(*x.shape[:-1], missing)], dim=-1) if missing else x
