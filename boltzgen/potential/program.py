"""Terms of energy on one device: eager at first, then compiled, in passes beside each other on a CPU."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from boltzgen.potential.coordinates import Frame
from boltzgen.potential.terms import Term
from boltzgen.runtime.graph_compiler import compiled_part, traced
from boltzgen.runtime.threads import workers

Terms = dict[str, list[Term]]
"""By the name of the force they come from."""
OnePass = Callable[[Tensor], tuple[Tensor, Tensor]]
"""``(n_atoms, 3, B)`` positions to energies ``(B,)`` and forces ``(n_atoms, 3, B)``."""

COMPILE_AFTER_SECONDS = 10.0
"""Eager evaluation that has taken this long is compiled: half of what compiling takes the first time."""
LARGEST_FUSED = 128
"""Atoms up to which, on a CPU, sums over pairs are spelled out: the compiler's time grows with them."""
SAME_WITHIN = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Relative deviation that compiled energies and forces may have from eager ones."""
THERMAL = 5.0
"""Energies [kJ/mol] and forces [kJ/mol/nm] below this times the number of atoms are held to the deviation
allowed of that: the more terms cancel, the more is rounded."""
LARGEST_ENERGY = torch.finfo(torch.float32).max
"""Energies [kJ/mol] beyond it are infinite in any precision: atoms in one place."""
_PAIR_BUDGET = {"cpu": 2**15, "cuda": 2**22}
"""Pairs times configurations in one pass: on a CPU, a tensor of them stays in the cache of one core."""
_EAGER_PASSES = 8
"""Compiled passes on a CPU that make an eager one: all threads share it, and its operations one by one."""


class Program:
    """The terms of a System on one device, in passes of at most ``chunk`` configurations.

    forces, fused_forces
        The terms, and what makes them for a compiler that merges their operations (see Sum).
    like
        A tensor with the dtype and device of the evaluation.
    compiled, chunk
        See BatchedEvaluator.
    """

    def __init__(
        self,
        forces: Terms,
        fused_forces: Callable[[], Terms],
        n_atoms: int,
        like: Tensor,
        compiled: bool | None,
        chunk: int | None,
    ) -> None:
        self.forces, self._fused_forces = forces, fused_forces
        budget = _PAIR_BUDGET.get(like.device.type, _PAIR_BUDGET["cuda"])
        # Six an atom at least: below 2^15 coordinates a copy of a pass is not shared between threads either.
        pairs = max(32, 6 * n_atoms, n_atoms * (n_atoms - 1) // 2)
        fitting = max(16, 2 ** ((budget // pairs).bit_length() - 1) if budget > pairs else 16)
        self.chunk = min(fitting, chunk or fitting)
        self.eager_chunk = self.chunk * (_EAGER_PASSES if like.device.type == "cpu" else 1)
        self._compile_after = {None: COMPILE_AFTER_SECONDS, True: 0.0, False: float("inf")}[compiled]
        self._eager_seconds, self.dtype = 0.0, like.dtype
        self._kernel: OnePass | None = None
        self.fused = like.device.type == "cpu" and n_atoms <= LARGEST_FUSED

    def one_pass(self, to_compile: bool) -> OnePass:
        """Energies and forces by plain tensor operations, on their own or as a part of what is compiled."""
        forces = self._fused_forces() if to_compile and self.fused else self.forces
        return lambda x: _one_pass(forces, x)

    def energy(self, x: Tensor) -> Tensor:
        """Energies ``(B,)`` of ``(n_atoms, 3, B)`` positions."""
        return _energy(self.forces, x)

    def energy_and_forces(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies ``(n,)`` and forces ``(n, n_atoms, 3)`` of any number of configurations.

        Every pass converts its own, on its core: copies of all of them would be shared between threads.
        """
        energy = torch.empty(len(x), dtype=self.dtype, device=x.device)
        force = torch.empty(x.shape, dtype=self.dtype, device=x.device)

        def fill(first: int, size: int, evaluate: OnePass) -> None:
            part = slice(first, first + size)
            energy[part], columns = evaluate(self._columns(x[part]))
            force[part] = columns.permute(2, 0, 1)

        first = 0
        while first < len(x) and not self._is_compiled(x[first:]):
            fill(first, self.eager_chunk, self._eager)
            first += self.eager_chunk
        if (kernel := self._kernel) is not None:
            starts = range(first, len(x), self.chunk)
            parallel = workers().map if self.fused and len(starts) > 1 else map
            list(parallel(lambda start: fill(start, self.chunk, kernel), starts))
        return energy, force

    def _columns(self, x: Tensor) -> Tensor:
        return x.permute(1, 2, 0).to(self.dtype).contiguous()

    def _is_compiled(self, x: Tensor) -> bool:
        """Whether there is a kernel; it is made once eager passes have taken long enough."""
        if self._kernel is None and self._eager_seconds >= self._compile_after:
            self._compile(self._columns(x[: self.chunk]))
        return self._kernel is not None

    def _eager(self, x: Tensor) -> tuple[Tensor, Tensor]:
        started = time.perf_counter()
        energy, force = _one_pass(self.forces, x.detach())
        self._eager_seconds += time.perf_counter() - started
        return energy.detach(), force.detach()

    def _compile(self, x: Tensor) -> None:
        """Trace one pass of a full chunk, gradient included, and fuse it; stay eager if that fails."""
        example = _filled(x, self.chunk)
        try:
            kernel = _compiled(self.one_pass(to_compile=True), example, self.fused)
            with torch.no_grad():
                ours, expected = kernel(example), _one_pass(self.forces, example.clone())
            check_same(ours, expected)
        except Exception as error:  # any failure of the compiler leaves a working, slower program
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
            warnings.warn(f"target energies stay uncompiled: {message}", stacklevel=2)
            self._compile_after = float("inf")
            return
        self._kernel = torch.no_grad()(lambda x: _padded(kernel, x, self.chunk))


def _energy(forces: Terms, x: Tensor) -> Tensor:
    """Energies ``(B,)`` of ``(n_atoms, 3, B)`` positions."""
    frame = Frame(x)
    # The first summand is zero, or NaN where a position is not a finite number.
    return sum((term(frame) for terms in forces.values() for term in terms), 0.0 * x.sum((0, 1)))


def _one_pass(forces: Terms, x: Tensor) -> tuple[Tensor, Tensor]:
    """Energies ``(B,)`` and forces ``(n_atoms, 3, B)`` of ``(n_atoms, 3, B)`` positions.

    An energy that is not a number below LARGEST_ENERGY is +inf, with forces of zero.
    """
    with torch.enable_grad():
        x = x.requires_grad_(True)
        energy = _energy(forces, x)
        (gradient,) = torch.autograd.grad(energy.sum(), x)
    energy = torch.where(energy.abs() <= LARGEST_ENERGY, energy, torch.inf)
    usable = gradient.isfinite().all(1).all(0) & energy.isfinite()
    return energy, torch.where(usable, -gradient, torch.zeros_like(gradient))


def _compiled(one_pass: OnePass, example: Tensor, one_core: bool) -> OnePass:
    """The same function of configurations like the example, fused.

    ``one_core`` is for passes beside each other (`boltzgen.runtime.threads`).
    """
    graph = traced(one_pass, [example.clone()])
    if not one_core:
        return torch.compile(graph, dynamic=False)
    with torch.no_grad():
        return compiled_part(graph, [example])


def check_same(ours: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    """Raise AssertionError unless the kernel gives the energies and forces of the eager pass.

    Each configuration within SAME_WITHIN of its own energy and largest force, or of what is thermal.
    """
    within, thermal = SAME_WITHIN[expected[0].dtype], THERMAL * len(expected[1])
    finite = expected[0].isfinite()
    for value, reference in zip(ours, expected, strict=True):
        value, reference = value[..., finite], reference[..., finite]
        size = reference.abs() if reference.ndim == 1 else reference.abs().amax((0, 1))
        excess = (value - reference).abs() / (within * size.clamp_min(thermal))
        assert bool((excess <= 1.0).all()), (
            f"the compiled energies are off by {float(excess.max()):.2g} bounds"
        )


def _padded(kernel: OnePass, x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """A pass of ``size`` configurations or less: however few, this is faster than an eager pass."""
    energy, force = kernel(_filled(x, size))
    return energy[: x.shape[-1]], force[..., : x.shape[-1]]


def _filled(x: Tensor, size: int) -> Tensor:
    """Exactly ``size`` configurations: the last one repeated as often as it takes."""
    missing = size - x.shape[-1]
    return torch.cat([x, x[..., -1:].expand(*x.shape[:-1], missing)], dim=-1) if missing else x
