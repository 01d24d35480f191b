"""One simulation in this process: made by OpenMM or as batched replicas, and kept when it is done."""

from __future__ import annotations

import time

import numpy as np
import openmm
import torch
from openmm import unit

from boltzgen.errors import NumericalError
from boltzgen.potential.platforms import make_context
from boltzgen.runtime.context import Log
from boltzgen.simulate.batched_replicas import BATCHED, n_temperatures_of, run_batched
from boltzgen.simulate.recorder import Advance, Recorder, Task


def checkpointed_frames(task: Task, log: Log) -> Recorder | None:
    """The frames of a run that an earlier attempt finished on the same platform."""
    piece = task.kept.load(f"run_{task.run}", log)
    if piece is None or (piece["platform"], piece["seed"]) != (task.platform, task.seed):
        return None
    return Recorder(list(piece["positions"].numpy()), piece["energies"].tolist())


def _checkpoint_frames(task: Task, frames: Recorder) -> None:
    positions, energies = np.stack(frames.positions), np.array(frames.energies)
    arrays = {"positions": torch.as_tensor(positions), "energies": torch.as_tensor(energies)}
    task.kept.save(f"run_{task.run}", {"platform": task.platform, "seed": task.seed, **arrays})


def run_task(task: Task, advance: Advance) -> Recorder:
    """One simulation, in this process, kept when it is done; breakdowns become a NumericalError."""
    settings, frames = task.settings, Recorder()
    try:
        if task.platform == BATCHED:
            run_batched(task.system, settings, task.seed, frames, advance)
        elif n_temperatures_of(settings) == 1:
            _run_langevin(task, frames, advance)
        else:
            from boltzgen.simulate.replica_exchange import (
                run_parallel_tempering,  # openmmtools takes seconds to import
            )

            run_parallel_tempering(task, frames, advance)
    except (FloatingPointError, openmm.OpenMMException) as error:
        raise NumericalError(
            str(task.system.name),
            f"run {task.run + 1} broke down ({' '.join(str(error).split())})",
            f"try a smaller simulate.timestep_fs (now {settings.timestep_fs:g}) or a larger "
            f"simulate.friction_per_ps (now {settings.friction_per_ps:g})",
        ) from error
    _checkpoint_frames(task, frames)
    return frames


def _run_langevin(task: Task, frames: Recorder, advance: Advance) -> None:
    """Plain Langevin dynamics from the reference configuration; a frame every ``frame_interval_ps``."""
    system, settings = task.system, task.settings
    integrator = openmm.LangevinMiddleIntegrator(
        system.temperature_k * unit.kelvin,
        settings.friction_per_ps / unit.picosecond,
        settings.timestep_fs * unit.femtosecond,
    )
    integrator.setRandomNumberSeed(1 + task.seed % (2**31 - 2))
    context = make_context(system, integrator, task.platform)
    context.setVelocitiesToTemperature(system.temperature_k * unit.kelvin, 1 + task.seed % (2**31 - 2))
    steps = max(1, round(1000 * settings.frame_interval_ps / settings.timestep_fs))
    n_discarded = round(settings.equilibration_ps / settings.frame_interval_ps)
    n_frames = max(1, round(settings.production_ps / settings.frame_interval_ps))
    told = time.monotonic()
    for k in range(n_discarded + n_frames):
        integrator.step(steps)
        state = context.getState(positions=True, energy=True)
        if k >= n_discarded:
            frames.add(state.getPositions(asNumpy=True)._value, state.getPotentialEnergy()._value)
        if time.monotonic() - told > 0.2:
            told = time.monotonic()
            advance((k + 1) * settings.frame_interval_ps, "")
