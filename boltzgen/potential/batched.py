"""An OpenMM System compiled to torch: energies and forces of thousands of configurations at once."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import openmm
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from boltzgen.potential import compound, custom, forces
from boltzgen.potential.coordinates import Frame, Unsupported
from boltzgen.potential.terms import Layout, Term

OnePass = Callable[[Tensor], tuple[Tensor, Tensor]]
"""``(n_atoms, 3, B)`` positions to energies ``(B,)`` and forces ``(n_atoms, 3, B)``."""

COMPILE_AFTER_SECONDS = 10.0
"""Eager evaluation that has taken this long is compiled: half of what compiling takes the first time."""
LARGEST = 500
"""Atoms up to which all pairs of many configurations are worth holding in memory."""
LARGEST_FUSED = 128
"""Atoms up to which, on a CPU, sums over pairs are spelled out: the compiler's time grows with them."""
_PAIR_BUDGET = {"cpu": 2**16, "cuda": 2**22}
"""Pairs times configurations in one pass: on a CPU, a tensor of them stays in the cache of one core."""
_EAGER_PASSES = 4
"""Compiled passes on a CPU that make an eager one: all threads share it, and its operations one by one."""
_ONE_THREAD = {"cpp_wrapper": True, "cpp.threads": 1}
"""Options of the compiler for a pass that runs on one core and without the interpreter's lock."""

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


def compile_forces(system: openmm.System, like: Tensor, fused: bool = False) -> dict[str, list[Term]]:
    """The terms of every force, by force name, in the dtype and on the device of ``like``.

    ``fused`` terms are for a compiler, which merges their operations (see Sum). Raises Unsupported, with
    the name of what is in the way.
    """
    if system.getNumParticles() > LARGEST:
        raise Unsupported(f"{system.getNumParticles()} atoms: all pairs are held in memory up to {LARGEST}")
    for atom in range(system.getNumParticles()):
        if system.isVirtualSite(atom):
            raise Unsupported("virtual sites")
    masses = [system.getParticleMass(atom)._value for atom in range(system.getNumParticles())]
    layout = Layout(np.array(masses), like, fused)
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
            self._programs[device] = _Program(self, like)
        return self._programs[device]

    def __getstate__(self) -> dict[str, Any]:
        """Compiled code stays behind when the evaluator travels to another process."""
        return {**self.__dict__, "_programs": {}}


class _Program:
    """The terms on one device, in passes of at most ``chunk`` configurations."""

    def __init__(self, evaluator: BatchedEvaluator, like: Tensor) -> None:
        self.system, self.like = evaluator.system, like
        self.forces = compile_forces(self.system, like)
        n_atoms = self.system.getNumParticles()
        budget = _PAIR_BUDGET.get(like.device.type, _PAIR_BUDGET["cuda"])
        # Six an atom at least: below 2^15 coordinates a copy of a pass is not shared between threads either.
        pairs = max(32, 6 * n_atoms, n_atoms * (n_atoms - 1) // 2)
        fitting = max(16, 2 ** ((budget // pairs).bit_length() - 1) if budget > pairs else 16)
        self.chunk = min(fitting, evaluator.chunk or fitting)
        self.eager_chunk = self.chunk * (_EAGER_PASSES if like.device.type == "cpu" else 1)
        self._compile_after = {None: COMPILE_AFTER_SECONDS, True: 0.0, False: float("inf")}[
            evaluator.compiled
        ]
        self._eager_seconds = 0.0
        self._kernel: OnePass | None = None
        self.fused = like.device.type == "cpu" and n_atoms <= LARGEST_FUSED
        self._workers = ThreadPoolExecutor(torch.get_num_threads()) if self.fused else None

    def energy(self, x: Tensor) -> Tensor:
        """Energies ``(B,)`` of ``(n_atoms, 3, B)`` positions."""
        return _energy(self.forces, x)

    def energy_and_forces(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies ``(n,)`` and forces ``(n, n_atoms, 3)`` of any number of configurations."""
        energy, force = x.new_empty(len(x)), torch.empty_like(x)

        def fill(first: int, size: int, evaluate: OnePass) -> None:
            part = slice(first, first + size)
            energy[part], columns = evaluate(x[part].permute(1, 2, 0).contiguous())
            force[part] = columns.permute(2, 0, 1)

        first = 0
        while first < len(x) and not self._is_compiled(x[first:]):
            fill(first, self.eager_chunk, self._eager)
            first += self.eager_chunk
        if (kernel := self._kernel) is not None:
            # Nothing here is large enough for torch to share between threads: once two threads have shared
            # work with others, all such work is slower for good.
            parallel = self._workers.map if self._workers is not None else map
            starts = range(first, len(x), self.chunk)
            list(parallel(lambda start: fill(start, self.chunk, kernel), starts))
        return energy, force

    def _is_compiled(self, x: Tensor) -> bool:
        """Whether there is a kernel; it is made once eager passes have taken long enough."""
        if self._kernel is None and self._eager_seconds >= self._compile_after:
            self._compile(x[: self.chunk].permute(1, 2, 0).contiguous())
        return self._kernel is not None

    def _eager(self, x: Tensor) -> tuple[Tensor, Tensor]:
        started = time.perf_counter()
        energy, force = _one_pass(self.forces, x.detach())
        self._eager_seconds += time.perf_counter() - started
        return energy.detach(), force.detach()

    def _compile(self, x: Tensor) -> None:
        """Trace one pass of a full chunk, gradient included, and fuse it; stay eager if that fails."""
        example = _filled(x, self.chunk)
        terms = compile_forces(self.system, self.like, self.fused)
        try:
            kernel = _compiled(lambda x: _one_pass(terms, x), example, self.fused)
            with torch.no_grad():
                ours, expected = kernel(example), _one_pass(self.forces, example.clone())
            _check_same(ours, expected)
        except Exception as error:  # any failure of the compiler leaves a working, slower program
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
            warnings.warn(f"target energies stay uncompiled: {message}", stacklevel=2)
            self._compile_after = float("inf")
            return
        self._kernel = torch.no_grad()(lambda x: _padded(kernel, x, self.chunk))


def _energy(forces: dict[str, list[Term]], x: Tensor) -> Tensor:
    """Energies ``(B,)`` of ``(n_atoms, 3, B)`` positions."""
    frame = Frame(x)
    # The first summand is zero, or NaN where a position is not a finite number.
    return sum((term(frame) for terms in forces.values() for term in terms), 0.0 * x.sum((0, 1)))


def _one_pass(forces: dict[str, list[Term]], x: Tensor) -> tuple[Tensor, Tensor]:
    """Energies ``(B,)`` and forces ``(n_atoms, 3, B)``."""
    with torch.enable_grad():
        x = x.requires_grad_(True)
        energy = _energy(forces, x)
        (gradient,) = torch.autograd.grad(energy.sum(), x)
    energy = torch.where(energy.isfinite(), energy, torch.inf)
    usable = gradient.isfinite().all(1).all(0) & energy.isfinite()
    return energy, torch.where(usable, -gradient, torch.zeros_like(gradient))


def _compiled(one_pass: OnePass, example: Tensor, one_core: bool) -> OnePass:
    """The same function of configurations like the example, fused.

    ``one_core`` has no loop shared between threads and holds no lock of the interpreter, for passes beside
    each other: threads that share one pass wait for each other after each of its loops. It is also called
    without the guards of ``torch.compile``, which take the lock for a tenth of a pass.
    """
    graph = make_fx(one_pass)(example.clone())
    if not one_core:
        return torch.compile(graph, dynamic=False)
    with torch.no_grad():
        return torch._inductor.standalone_compile(
            graph,
            [example],
            dynamic_shapes="from_example_inputs",
            options={"config_patches": _ONE_THREAD},
        )


def _check_same(ours: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    """Raise AssertionError unless the kernel gives the energies and forces of the eager pass."""
    finite = expected[0].isfinite()
    for value, reference in zip(ours, expected, strict=True):
        value, reference = value[..., finite], reference[..., finite]
        scale = float(reference.abs().max()) if reference.numel() else 0.0
        torch.testing.assert_close(value, reference, rtol=1e-3, atol=1e-5 * scale)


def _padded(kernel: OnePass, x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """A pass of ``size`` configurations or less: however few, this is faster than an eager pass."""
    energy, force = kernel(_filled(x, size))
    return energy[: x.shape[-1]], force[..., : x.shape[-1]]


def _filled(x: Tensor, size: int) -> Tensor:
    """Exactly ``size`` configurations: the last one repeated as often as it takes."""
    missing = size - x.shape[-1]
    return torch.cat([x, x[..., -1:].expand(*x.shape[:-1], missing)], dim=-1) if missing else x
