"""The stages of a run in order: simulate, train, sample, analyze, export; each skipped where still valid.

A run that has been analysed ends with its page, report.html.
"""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boltzgen.config.schema import DataSettings, Workflow
from boltzgen.errors import ConfigError, DataError
from boltzgen.rundir.lock import run_lock
from boltzgen.rundir.manifest import check_output_directory, file_digest
from boltzgen.runtime.processes import ALONE, Processes
from boltzgen.runtime.progress import progress_bar, silent
from boltzgen.workflow.stage import EVERYTHING, Dependencies, Goal, Run, Stage
from boltzgen.workflow.stage_functions import json_object, warn_of_states
from boltzgen.workflow.stage_inputs import manifest_of
from boltzgen.workflow.stages import NAMES, STAGES, stage_named

if TYPE_CHECKING:
    from boltzgen.system.molecular_system import MolecularSystem


def run(
    workflow: Workflow,
    base: Path,
    out: Path,
    goal: Goal = EVERYTHING,
    log: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    processes: Processes = ALONE,
) -> dict[str, Any] | None:
    """Carry out the stages up to a goal in the run directory ``out``; return the analysis if it is done.

    A stage is skipped if its settings, the system, the seed and what it reads are unchanged and it is not
    forced. One that was killed goes on from what it had finished, unless it is forced. Everything that can be
    wrong with the input is checked before anything is written. Of several processes, all of which call this,
    the first decides and writes, and has the analysis; the others take their parts of simulate, train and
    sample.
    """
    device, data_files, system = check_input(workflow, base, out, goal, processes.size)
    if not processes.first:
        _assist(Run(workflow, base, out, device, system, lambda line: None, processes=processes))
        return None
    for notice in system.notices:
        log(f"warning: {notice}")
    with run_lock(out, log):
        run = Run(workflow, base, out, device, system, log, processes=processes)
        results = _run_stages(run, data_files, goal)
    processes.from_first(None)
    return results


def check_input(
    workflow: Workflow, base: Path, out: Path, goal: Goal, n_processes: int
) -> tuple[str, list[str], MolecularSystem]:
    """Everything that can be wrong with the input; the device, digests of the user's own MD, the system."""
    _check_force(goal)
    if workflow.train.batch_size % n_processes:
        raise ConfigError(
            "train.batch_size",
            f"{workflow.train.batch_size} cannot be shared by {n_processes} processes",
            "make it a multiple",
        )
    device = resolve_device(workflow.device)
    data_files = [file_digest(path) for path in _data_files(workflow.data, base)]
    from boltzgen.system.registry import build_system
    from boltzgen.workflow.preflight import check_run

    system = build_system(workflow, base)
    check_output_directory(out)
    check_run(workflow, system, out)
    return device, data_files, system


def _assist(run: Run) -> None:
    """Take part in the stages that the first process comes to, until it has no more."""
    while name := run.processes.from_first(None):
        stage = stage_named(str(name))
        stage.work(run, stage, silent)


def _run_stages(run: Run, data_files: list[str], goal: Goal) -> dict[str, Any] | None:
    """The stages in order, each skipped where it is still valid."""
    from boltzgen.workflow.preflight import check_room

    out, log, began = run.out, run.log, False
    manifest = manifest_of(run)
    given, last = Dependencies(run, manifest, tuple(data_files)), NAMES.index(goal.until) + 1
    for number, stage in enumerate(STAGES[:last]):
        inputs, name = stage.inputs(given, stage), stage.name
        outputs = [out / path for path in stage.writes]
        why = "asked for" if name in goal.force else manifest.why_run(name, inputs, outputs)
        if why is None:
            _forget(run, stage)
            log(f"{name}: skipped, nothing it depends on has changed")
            continue
        for earlier in stage.reads:
            manifest.check_outputs(earlier)
        if not began:
            check_room(run, STAGES[number:last])
            if "simulate" in stage.reads:  # states may be newer than the data that are there
                warn_of_states(run, run.data())
        prepared, began = stage.prepare(run), True
        forecast = stage.forecast(prepared, True)
        log(f"{name}: running ({why}){'; ' if forecast else ''}{forecast}")
        if name in goal.force:
            manifest.abandon(name)
        clear = functools.partial(_clear, run, stage)
        with (
            manifest.running(name, inputs, outputs, clear, stage.records) as recorded,
            progress_bar(name) as on_progress,
        ):
            if stage.shared(prepared):
                run.processes.from_first(name)
            recorded.update(stage.work(prepared, stage, on_progress) or {})
        _forget(run, stage)
    if goal.until == "simulate":
        _tell_of_md(run)
    if goal.until not in ("analyze", "export"):
        return None
    results = json_object(out / "results" / "results.json", "analyze")
    _report(out)
    return results


def _tell_of_md(run: Run) -> None:
    """What the MD alone says, for who asked for no more: populations, Delta F, potentials of mean force."""
    from boltzgen.analyze.of_dynamics import write_md_results

    for line in write_md_results(run.system, run.data(), run.workflow.analyze, run.out / "data"):
        run.log(line)


def _check_force(goal: Goal) -> None:
    """ConfigError for a stage that there is not, or that the command does not come to."""
    for stage in goal.force:
        if stage not in NAMES:
            raise ConfigError(f"--force {stage}", "no such stage", f"there are {', '.join(NAMES)}")
        if NAMES.index(stage) > NAMES.index(goal.until):
            raise ConfigError(
                f"--force {stage}", f"this command ends with {goal.until}", f"use `boltzgen {stage}` or run"
            )


def resolve_device(device: str) -> str:
    """``cpu`` or ``cuda``; ConfigError for cuda where torch sees none."""
    if device == "cpu":
        return device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise ConfigError(
            "device", "cuda was asked for but torch sees no CUDA device", "use --device cpu or auto"
        )
    return "cpu"


def _report(out: Path) -> None:
    """The page of the run, made anew from its files."""
    from boltzgen.report.page import write_report

    write_report(out)


# ---- before and after a stage ----------------------------------------------------------------------


def _data_files(data: DataSettings, base: Path) -> list[Path]:
    """Files of the user's own MD; DataError for one that is missing."""
    named = [(f"data.trajectory[{i}]", name) for i, name in enumerate(data.trajectory)]
    named += [] if data.weights is None else [("data.weights", data.weights)]
    for key, name in named:
        if not (base / name).is_file():
            raise DataError(key, f"no file {base / name}", "paths start from the workflow file's directory")
    return [base / name for _, name in named]


def _clear(run: Run, stage: Stage) -> None:
    """Remove what another attempt at a stage left: pieces of it, and files that would be added to."""
    shutil.rmtree(run.resume(stage), ignore_errors=True)
    if stage.starts_without:
        shutil.rmtree(run.out / stage.starts_without, ignore_errors=True)


def _forget(run: Run, stage: Stage) -> None:
    """Remove what a stage could have resumed from: it is recorded as done."""
    directory = run.resume(stage)
    if directory.parent.exists():
        shutil.rmtree(directory, ignore_errors=True)
        with suppress(OSError):
            directory.parent.rmdir()
