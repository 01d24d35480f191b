"""Molecular dynamics and parallel tempering on the target itself: the training and reference ensemble."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from openmm import unit

from boltzgen.config import SimulateSettings
from boltzgen.ensemble import WeightedEnsemble
from boltzgen.errors import NumericalError
from boltzgen.kept import Kept
from boltzgen.pace import by_walkers
from boltzgen.platform import fastest_platform, installed_platforms, make_context
from boltzgen.progress import Report, silent
from boltzgen.stretches import with_stretches
from boltzgen.system import MolecularSystem
from boltzgen.threads import usable_cores
from boltzgen.walkers import BATCHED, n_rungs, run_walkers
from boltzgen.world import ALONE, World

Advance = Callable[[float, str], None]
"""Called by a run as ``advance(ps_done, message)`` every fraction of a second; raises to end it."""


@dataclass
class Frames:
    """Positions [nm] ``(n_atoms, 3)`` float32 and energies [kJ/mol] of one run, in time order."""

    positions: list[NDArray[np.float32]] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)

    def add(self, positions: NDArray[np.float64], energy: float) -> None:
        """Keep one configuration, centred. Raises FloatingPointError if it has blown up."""
        centred = positions - positions.mean(axis=0)
        if not (np.isfinite(energy) and np.abs(centred).max() < FARTHEST_NM):
            raise FloatingPointError("energy or positions are not finite")
        self.positions.append(centred.astype(np.float32))
        self.energies.append(energy)

    def clear(self) -> None:
        """Forget everything so far."""
        self.positions.clear()
        self.energies.clear()


FARTHEST_NM = 1e4
"""An atom farther than this from the centroid means that the dynamics blew up."""


def simulate(
    system: MolecularSystem,
    settings: SimulateSettings,
    directory: Path,
    seed: int,
    report: Report = silent,
    platform: str | None = None,
    resume: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    world: World = ALONE,
) -> WeightedEnsemble:
    """Run ``settings.n_runs`` independent simulations and join their frames.

    OpenMM makes each in a process of its own; batched ones (`boltzgen.walkers`) follow one another here.

    system
        Simulated without constraints by LangevinMiddle dynamics from its reference configuration.
    settings
        ``langevin`` is plain dynamics; ``parallel_tempering`` exchanges with hotter rungs and keeps the
        frames of the lowest. Equilibration is discarded.
    directory
        Holds scratch files during the run; nothing stays in it.
    seed
        Fixes every random number; the same seed and platform give the same frames.
    report
        Told simulated ps over all runs.
    platform
        OpenMM platform name, or ``batched``; the one of `choose_platform` by default.
    resume
        Where every run that has finished is kept, so that the same call after a kill makes only the others;
        for the caller to remove. None keeps nothing.
    world
        Processes that each make a part of the runs, and meet in ``resume``.

    Returns equally weighted frames with ``islands`` numbering the runs, or the walkers of batched runs, and
    ``lineages`` the decorrelated blocks of frames (`boltzgen.stretches`). Raises NumericalError if a run
    breaks down. Worker processes are spawned: a script that calls this needs the usual
    ``if __name__ == "__main__"`` guard unless ``n_runs`` is 1.
    """
    platform = world.from_first(platform or choose_platform(system, settings, resume))
    assert platform is not None
    directory.mkdir(parents=True, exist_ok=True)
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(settings.n_runs)]
    tasks = [
        _Task(system, settings, directory, platform, run, run_seed, Kept(resume))
        for run, run_seed in enumerate(seeds)
    ]
    progress = _Progress(settings, report)
    runs = {task.run: frames for task in tasks if (frames := _kept_frames(task, say))}
    for run in runs:
        progress.done_ps[run] = settings.equilibration_ps + settings.production_ps
    left = [tasks[run] for run in world.share(len(tasks)) if run not in runs]
    n_workers = min(len(left), max(1, usable_cores() // world.local_size))
    here = len(left) == 1 or platform == BATCHED
    made = (
        [_run(task, progress.of_run(task.run)) for task in left]
        if here
        else _run_in_processes(left, n_workers, progress)
    )
    runs |= {task.run: frames for task, frames in zip(left, made, strict=True)}
    world.barrier()
    runs |= {
        task.run: frames for task in tasks if task.run not in runs and (frames := _kept_frames(task, say))
    }
    world.barrier()  # nobody removes what another one has still to read
    in_order = Kept(resume).in_order("simulation: runs", runs, len(tasks))
    return _joined(system, in_order, settings.n_walkers if platform == BATCHED else 1)


def choose_platform(system: MolecularSystem, settings: SimulateSettings, resume: Path | None = None) -> str:
    """The platform asked for, or that of the runs kept in ``resume``, or the fastest on this machine."""
    if settings.platform != "auto":
        return settings.platform
    kept = (Kept(resume).load(f"run_{run}", lambda line: None) for run in range(settings.n_runs))
    used = next((piece["platform"] for piece in kept if piece), None)
    if used in (BATCHED, *installed_platforms()):
        return str(used)
    return BATCHED if by_walkers(system, settings) else fastest_platform(system).getName()


# ---- one run ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    system: MolecularSystem
    settings: SimulateSettings
    directory: Path
    platform: str
    run: int
    seed: int
    kept: Kept


def _kept_frames(task: _Task, say: Callable[[str], None]) -> Frames | None:
    """The frames of a run that an earlier attempt finished on the same platform."""
    piece = task.kept.load(f"run_{task.run}", say)
    if piece is None or (piece["platform"], piece["seed"]) != (task.platform, task.seed):
        return None
    return Frames(list(piece["positions"].numpy()), piece["energies"].tolist())


def _keep_frames(task: _Task, frames: Frames) -> None:
    positions, energies = np.stack(frames.positions), np.array(frames.energies)
    arrays = {"positions": torch.as_tensor(positions), "energies": torch.as_tensor(energies)}
    task.kept.save(f"run_{task.run}", {"platform": task.platform, "seed": task.seed, **arrays})


def _run(task: _Task, advance: Advance) -> Frames:
    """One simulation, in this process, kept when it is done; breakdowns become a NumericalError."""
    settings, frames = task.settings, Frames()
    try:
        if task.platform == BATCHED:
            run_walkers(task.system, settings, task.seed, frames, advance)
        elif n_rungs(settings) == 1:
            _run_langevin(task, frames, advance)
        else:
            from boltzgen.tempering import run_parallel_tempering  # openmmtools takes seconds to import

            run_parallel_tempering(
                task.system, settings, task.platform, task.seed, task.directory, frames, advance
            )
    except (FloatingPointError, openmm.OpenMMException) as error:
        raise NumericalError(
            str(task.system.name),
            f"run {task.run + 1} broke down ({' '.join(str(error).split())})",
            f"try a smaller simulate.timestep_fs (now {settings.timestep_fs:g}) or a larger "
            f"simulate.friction_per_ps (now {settings.friction_per_ps:g})",
        ) from error
    _keep_frames(task, frames)
    return frames


def _run_langevin(task: _Task, frames: Frames, advance: Advance) -> None:
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


def _joined(system: MolecularSystem, runs: Sequence[Frames], n_walkers: int) -> WeightedEnsemble:
    """All frames of all runs, equally weighted; those of ``n_walkers`` follow each other in each run."""
    lengths = [len(frames.energies) // n_walkers for frames in runs for _ in range(n_walkers)]
    n = sum(lengths)
    joined = WeightedEnsemble(
        positions=np.concatenate([np.stack(frames.positions) for frames in runs]),
        log_weights=np.zeros(n),
        reduced_energies=np.concatenate([np.array(frames.energies) for frames in runs]) / system.kT,
        temperature_k=system.temperature_k,
        islands=np.repeat(np.arange(len(lengths)), lengths),
    )
    return with_stretches(system, joined)


# ---- several runs ----------------------------------------------------------------------------------


@dataclass
class _Progress:
    """Adds up what the runs report and words the message."""

    settings: SimulateSettings
    report: Report
    done_ps: dict[int, float] = field(default_factory=dict)
    started: tuple[float, float] | None = None

    def update(self, run: int, ps: float, message: str) -> None:
        """Note that ``run`` has come ``ps`` far."""
        self.done_ps[run] = ps
        done = sum(self.done_ps.values())
        total = self.settings.n_runs * (self.settings.equilibration_ps + self.settings.production_ps)
        self.started = self.started or (time.monotonic(), done)  # processes take seconds to start
        seconds = time.monotonic() - self.started[0]
        words = [f"{86.4 * (done - self.started[1]) / seconds:.0f} ns/day"] if seconds > 1 else []
        self.report(min(done, total), total, ", ".join([*words, *([message] if message else [])]))

    def of_run(self, run: int) -> Advance:
        """The callback of one run in this process."""
        return lambda ps, message: self.update(run, ps, message)


def _run_in_processes(tasks: Sequence[_Task], n_workers: int, progress: _Progress) -> list[Frames]:
    """Every task in its own spawned process, ``n_workers`` at a time; all stop if one fails."""
    if not tasks:
        return []
    spawn = multiprocessing.get_context("spawn")
    messages: Any = spawn.Queue()
    stop: Any = spawn.Event()
    pool = concurrent.futures.ProcessPoolExecutor(
        max_workers=n_workers,
        mp_context=spawn,
        initializer=_start_worker,
        initargs=(messages, stop),
    )
    try:
        with _interrupts_ignored():  # workers inherit that, and the first submissions start them
            futures = [pool.submit(_run_in_worker, task) for task in tasks]
        while not all(future.done() for future in futures):
            _pass_on(messages, progress)
            for future in futures:
                if future.done():
                    future.result()  # raises what the run raised
        return [future.result() for future in futures]
    except concurrent.futures.process.BrokenProcessPool as error:
        raise NumericalError(
            "simulate",
            "a worker process died",
            'lower simulate.n_runs if memory is short, and guard scripts with if __name__ == "__main__"',
        ) from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        messages.close()


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C for a moment; only the main thread may."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _pass_on(messages: Any, progress: _Progress) -> None:
    """Report the next message, waiting a little for it."""
    with contextlib.suppress(queue.Empty):
        progress.update(*messages.get(timeout=0.1))


class _Stopped(Exception):
    """The parent process asked this run to end, or is gone."""


def _start_worker(messages: Any, stop: Any) -> None:
    """Leave Ctrl-C to the parent, which sets ``stop``; remember where progress goes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _WORKER["messages"], _WORKER["stop"] = messages, stop
    messages.cancel_join_thread()


_WORKER: dict[str, Any] = {}


def _leave_with_parent() -> None:
    """End this process soon after its parent was killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    time.sleep(2.0)  # a run notices by itself, and takes its scratch files away
    os._exit(1)


def _run_in_worker(task: _Task) -> Frames:
    parent = multiprocessing.parent_process()

    def advance(ps: float, message: str) -> None:
        if _WORKER["stop"].is_set() or (parent is not None and not parent.is_alive()):
            raise _Stopped
        _WORKER["messages"].put((task.run, ps, message))

    return _run(task, advance)
