"""How many configurations the evaluators of a system take in a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import openmm
import torch
from torch import Tensor

from boltzgen.potential.platforms import installed_platforms
from boltzgen.potential.potential import Potential, make_potential
from boltzgen.runtime.progress import OnProgress
from boltzgen.system.molecular_system import MolecularSystem

BATCH = 1024
"""Configurations per call in the throughput measurement."""
_SPREAD_NM = 0.003


def throughput_of(
    system: MolecularSystem,
    potentials: Mapping[str, Potential],
    seconds: float,
    compiled: bool,
    on_progress: OnProgress,
) -> dict[str, float]:
    """Energies with forces per second of each evaluator that starts on this machine."""
    evaluators = _evaluators(system, potentials, compiled)
    generator = torch.Generator().manual_seed(0)
    reference = torch.as_tensor(system.positions)
    x = reference + _SPREAD_NM * torch.randn(
        (BATCH, *reference.shape), generator=generator, dtype=reference.dtype
    )
    throughput = {}
    for k, (name, make) in enumerate(evaluators.items()):
        on_progress(0.2 + 0.8 * k / len(evaluators), 1.0, f"timing {name}")
        try:
            throughput[name] = configurations_per_second(make().energy_and_forces, x, seconds)
        except openmm.OpenMMException:  # a platform that is installed but finds no device
            continue
    return throughput


def _evaluators(
    system: MolecularSystem, potentials: Mapping[str, Potential], compiled: bool
) -> dict[str, Callable[[], Potential]]:
    def by_openmm(platform: str) -> Callable[[], Potential]:
        return lambda: make_potential(system, backend="openmm", platform=platform)

    def batched(dtype: torch.dtype, fused: bool) -> Callable[[], Potential]:
        return lambda: make_potential(system, backend="batched", dtype=dtype, compiled=fused)

    evaluators = {f"OpenMM {name}": by_openmm(name) for name in installed_platforms()}
    for name, potential in potentials.items():
        if potential.backend == "batched":
            dtype = getattr(torch, name)
            evaluators[f"batched {name}, eager"] = batched(dtype, False)
            if compiled:
                evaluators[f"batched {name}, compiled"] = batched(dtype, True)
    return evaluators


def configurations_per_second(evaluate: Callable[[Tensor], object], x: Tensor, seconds: float) -> float:
    """Throughput measured over about ``seconds``, after a first call that is not counted."""
    n = min(16, len(x))
    evaluate(x[:n])
    while n < len(x) and _seconds(evaluate, x[:n]) < seconds / 8:
        n = min(2 * n, len(x))
    done, spent = 0, 0.0
    while spent < seconds:
        spent += _seconds(evaluate, x[:n])
        done += n
    return done / spent


def _seconds(evaluate: Callable[[Tensor], object], x: Tensor) -> float:
    started = time.perf_counter()
    evaluate(x)
    return time.perf_counter() - started
