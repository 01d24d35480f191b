"""Choosing the OpenMM platform by timing it on the system at hand, for dynamics and for energies."""

from __future__ import annotations

import functools
import time
import weakref

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import unit

from boltzgen.system.molecular_system import MolecularSystem

Array = NDArray[np.float64]

_CANDIDATES = ("Reference", "CPU", "OpenCL", "CUDA", "HIP")
_CHOSEN: weakref.WeakKeyDictionary[MolecularSystem, str] = weakref.WeakKeyDictionary()


def fastest_platform(system: MolecularSystem) -> openmm.Platform:
    """The platform that makes the most Langevin steps per second for this system on this machine.

    Each candidate gets a few milliseconds; one thread per context, since a small molecule gains nothing
    from more and other processes need them. The answer is remembered per system.
    """
    if system not in _CHOSEN:
        _CHOSEN[system] = time_platforms(system.openmm_system, system.positions, system.temperature_k)
    return openmm.Platform.getPlatformByName(_CHOSEN[system])


def time_platforms(system: openmm.System, positions: Array, temperature_k: float) -> str:
    """Name of the platform that makes the most steps per second from ``positions`` [nm], measured now."""
    timings = {
        name: _seconds_per_step(system, positions, temperature_k, name) for name in installed_platforms()
    }
    return min(timings, key=timings.__getitem__)


def steps_per_second(system: MolecularSystem, seconds: float = 0.2) -> float:
    """Langevin steps per second of one context on `fastest_platform`."""
    integrator = openmm.LangevinMiddleIntegrator(system.temperature_k, 1.0, 1e-4)
    integrator.setRandomNumberSeed(1)
    context = make_context(system, integrator, fastest_platform(system).getName())
    steps, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        integrator.step(20)
        context.getState(energy=True)
        steps += 20
    return steps / elapsed


def make_context(system: MolecularSystem, integrator: openmm.Integrator, platform: str) -> openmm.Context:
    """A context at the system's reference configuration, single-threaded on the CPU platform."""
    context = bare_context(system.openmm_system, integrator, platform)
    context.setPositions(system.positions)
    return context


def bare_context(system: openmm.System, integrator: openmm.Integrator, platform: str) -> openmm.Context:
    """A context without positions, single-threaded on the CPU platform."""
    return openmm.Context(
        system, integrator, openmm.Platform.getPlatformByName(platform), properties(platform)
    )


def properties(platform: str) -> dict[str, str]:
    """Platform properties used throughout: one CPU thread, mixed precision on accelerators."""
    if platform == "CPU":
        return {"Threads": "1"}
    return {"Precision": "mixed"} if platform in ("OpenCL", "CUDA", "HIP") else {}


def why_not(system: MolecularSystem, platform: str) -> str | None:
    """Why a platform cannot run a system on this machine; None where it can."""
    try:
        bare_context(system.openmm_system, openmm.VerletIntegrator(0.001), platform)
    except openmm.OpenMMException as error:
        return " ".join(str(error).split())
    return None


@functools.cache
def installed_platforms() -> tuple[str, ...]:
    """Names of the platforms that are worth trying."""
    names = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    return tuple(name for name in _CANDIDATES if name in names)


def _seconds_per_step(system: openmm.System, positions: Array, temperature_k: float, platform: str) -> float:
    """Time per step over a few milliseconds; infinite where the platform cannot run the system."""
    integrator = openmm.LangevinMiddleIntegrator(
        temperature_k * unit.kelvin, 1.0 / unit.picosecond, 1e-6 * unit.picosecond
    )
    integrator.setRandomNumberSeed(1)
    try:
        context = bare_context(system, integrator, platform)
        context.setPositions(positions)
        integrator.step(2)
        context.getState(energy=True)
        steps, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < 0.01:
            integrator.step(10)
            context.getState(energy=True)
            steps += 10
    except openmm.OpenMMException:
        return float("inf")
    return elapsed / steps
