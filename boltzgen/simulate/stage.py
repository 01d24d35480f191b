"""Molecular dynamics and parallel tempering on the target itself: the training and reference ensemble."""

from __future__ import annotations

import math

import numpy as np

from boltzgen.config.schema import SimulateSettings
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.runtime.checkpoints import Checkpoints
from boltzgen.runtime.context import Context
from boltzgen.runtime.cores import usable_cores
from boltzgen.simulate.batched_replicas import BATCHED
from boltzgen.simulate.engine import choose_platform
from boltzgen.simulate.one_run import checkpointed_frames, run_task
from boltzgen.simulate.process_pool import SimulationProgress, run_in_processes
from boltzgen.simulate.recorder import Task, joined
from boltzgen.system.molecular_system import MolecularSystem


def simulate(
    system: MolecularSystem, settings: SimulateSettings, context: Context, platform: str | None = None
) -> WeightedEnsemble:
    """Run ``settings.n_runs`` independent simulations and join their frames.

    OpenMM makes each in a process of its own; batched ones (`boltzgen.simulate.batched_replicas`) follow one
    another here.

    system
        Simulated without constraints from its reference configuration, by OpenMM's LangevinMiddle dynamics or
        by hybrid Monte Carlo (batched).
    settings
        ``langevin`` is plain dynamics; ``parallel_tempering`` exchanges with hotter replicas;
        ``flat_histogram`` biases collective variables. Equilibration is discarded.
    context
        The same seed and platform give the same frames. Progress is told as simulated ps over all runs, and
        every run that has finished is kept as a checkpoint; scratch files go there too.
    platform
        OpenMM platform name, or ``batched``; the one of `choose_platform` by default.

    Returns frames, by batched runs those of all temperatures with their weights at the target's, with
    ``islands`` numbering the continuous trajectories (runs, or replicas of batched runs) and ``lineages`` the
    decorrelated blocks of frames (`boltzgen.ensemble.correlation`). Raises NumericalError if a run breaks
    down. Worker processes are spawned: a script that calls this needs the usual ``if __name__ ==
    "__main__"`` guard unless ``n_runs`` is 1.
    """
    processes, kept = context.processes, Checkpoints(context.checkpoints)
    platform = processes.from_first(platform or choose_platform(system, settings, context.checkpoints))
    assert platform is not None
    if kept.directory is not None:
        kept.directory.mkdir(parents=True, exist_ok=True)
    seeds = [int(s) for s in np.random.SeedSequence(context.seed).generate_state(settings.n_runs)]
    if settings.minutes is not None:  # the runs of one process follow each other
        share = settings.minutes / math.ceil(settings.n_runs / processes.size)
        settings = settings.model_copy(update={"minutes": share})
    tasks = [Task(system, settings, platform, run, seed, kept) for run, seed in enumerate(seeds)]
    progress = SimulationProgress(settings, context.on_progress)
    runs = {task.run: frames for task in tasks if (frames := checkpointed_frames(task, context.log))}
    for run in runs:
        progress.done_ps[run] = settings.equilibration_ps + settings.production_ps
    left = [tasks[run] for run in processes.share(len(tasks)) if run not in runs]
    n_workers = min(len(left), max(1, usable_cores() // processes.local_size))
    here = len(left) == 1 or platform == BATCHED
    made = (
        [run_task(task, progress.of_run(task.run)) for task in left]
        if here
        else run_in_processes(left, n_workers, progress)
    )
    runs |= {task.run: frames for task, frames in zip(left, made, strict=True)}
    processes.barrier()
    runs |= {
        task.run: frames
        for task in tasks
        if task.run not in runs and (frames := checkpointed_frames(task, context.log))
    }
    processes.barrier()  # nobody removes what another one has still to read
    in_order = kept.in_order("simulation: runs", runs, len(tasks))
    for run, frames in enumerate(in_order):
        for line in frames.remarks:
            context.log(f"run {run + 1}: {line}")
    return joined(system, in_order)
