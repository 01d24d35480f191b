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
from boltzgen.simulate.batched_replicas import BATCHED
from boltzgen.simulate.batched_run import run_batched
from boltzgen.simulate.recorder import Advance, Recorder, Task
from boltzgen.simulate.run_plan import RunPlan
from boltzgen.simulate.sampling_masses import openmm_time_step_fs
from boltzgen.simulate.temperature_ladder import temperatures_of


def checkpointed_frames(task: Task, log: Log) -> Recorder | None:
    """The frames of a run that an earlier attempt finished on the same platform."""
    piece = task.kept.load(task.finished, log)
    if piece is None or (piece["platform"], piece["seed"]) != (task.platform, task.seed):
        return None
    if "log_weights" not in piece:  # of a version without them
        return None
    energies, log_weights, replicas = (piece[key].tolist() for key in ("energies", "log_weights", "replicas"))
    return Recorder(list(piece["positions"].numpy()), energies, log_weights, replicas, piece["remarks"])


def _checkpoint_frames(task: Task, frames: Recorder) -> None:
    arrays = {
        "positions": torch.as_tensor(np.stack(frames.positions)),
        "energies": torch.tensor(frames.energies, dtype=torch.float64),
        "log_weights": torch.tensor(frames.log_weights, dtype=torch.float64),
        "replicas": torch.tensor(frames.replicas),
        "remarks": frames.remarks,
    }
    task.kept.save(task.finished, {"platform": task.platform, "seed": task.seed, **arrays})
    task.kept.remove(task.unfinished)


def run_task(task: Task, advance: Advance) -> Recorder:
    """One simulation, in this process, kept when it is done; breakdowns become a NumericalError."""
    settings, frames = task.settings, Recorder()
    try:
        if task.platform == BATCHED:
            frames = run_batched(task, advance)
        elif len(temperatures_of(settings, task.system.n_atoms, task.system.temperature_k)) == 1:
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
            f"try a smaller simulate.timestep_fs (now {_time_step_fs(task):g}) or a larger "
            f"simulate.friction_per_ps (now {settings.friction_per_ps:g})",
        ) from error
    _checkpoint_frames(task, frames)
    return frames


def _time_step_fs(task: Task) -> float:
    if task.platform == BATCHED:
        return 1000 * RunPlan.of(task.settings, task.system).dt_ps
    return openmm_time_step_fs(task.settings)


def _run_langevin(task: Task, frames: Recorder, advance: Advance) -> None:
    """Plain Langevin dynamics from the reference configuration; a frame every ``frame_interval_ps``."""
    system, settings, time_step = task.system, task.settings, openmm_time_step_fs(task.settings)
    integrator = openmm.LangevinMiddleIntegrator(
        system.temperature_k * unit.kelvin,
        settings.friction_per_ps / unit.picosecond,
        time_step * unit.femtosecond,
    )
    integrator.setRandomNumberSeed(1 + task.seed % (2**31 - 2))
    context = make_context(system, integrator, task.platform)
    context.setVelocitiesToTemperature(system.temperature_k * unit.kelvin, 1 + task.seed % (2**31 - 2))
    steps = max(1, round(1000 * settings.frame_interval_ps / time_step))
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
