"""Several simulations side by side, each in a process of its own, and how far all of them are."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from boltzgen.config.schema import SimulateSettings
from boltzgen.errors import NumericalError
from boltzgen.runtime.progress import OnProgress
from boltzgen.simulate.one_run import run_task
from boltzgen.simulate.recorder import Advance, Recorder, Task
from boltzgen.system.registry import import_files, imported_files


@dataclass
class SimulationProgress:
    """Adds up what the runs report and words the message."""

    settings: SimulateSettings
    on_progress: OnProgress
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
        self.on_progress(min(done, total), total, ", ".join([*words, *([message] if message else [])]))

    def of_run(self, run: int) -> Advance:
        """The callback of one run in this process."""
        return lambda ps, message: self.update(run, ps, message)


def run_in_processes(tasks: Sequence[Task], n_workers: int, progress: SimulationProgress) -> list[Recorder]:
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
        initargs=(messages, stop, imported_files()),
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


def _pass_on(messages: Any, progress: SimulationProgress) -> None:
    """Report the next message, waiting a little for it."""
    with contextlib.suppress(queue.Empty):
        progress.update(*messages.get(timeout=0.1))


class _Stopped(Exception):
    """The parent process asked this run to end, or is gone."""


def _start_worker(messages: Any, stop: Any, files: Sequence[Path]) -> None:
    """Leave Ctrl-C to the parent, which sets ``stop``; import what it has; remember where progress goes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    import_files(files)
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


def _run_in_worker(task: Task) -> Recorder:
    parent = multiprocessing.parent_process()

    def advance(ps: float, message: str) -> None:
        if _WORKER["stop"].is_set() or (parent is not None and not parent.is_alive()):
            raise _Stopped
        _WORKER["messages"].put((task.run, ps, message))

    return run_task(task, advance)
