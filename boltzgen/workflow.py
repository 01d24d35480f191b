"""The stages of a run in order: simulate, train, sample, analyze, export; each skipped where still valid.

A run that has been analysed ends with its page, report.html.
"""

from __future__ import annotations

import functools
import json
import shutil
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from boltzgen import estimate, shipped
from boltzgen.config import DataSettings, Workflow
from boltzgen.errors import ConfigError, DataError
from boltzgen.files import atomic_directory, write_atomically
from boltzgen.lock import run_lock
from boltzgen.manifest import (
    Manifest,
    check_output_directory,
    file_digest,
)
from boltzgen.progress import Report, progress_bar, silent
from boltzgen.stages import OUTPUTS, READS, STAGES, Stage, inputs_of
from boltzgen.world import ALONE, World

if TYPE_CHECKING:
    from boltzgen.ensemble import WeightedEnsemble
    from boltzgen.system import MolecularSystem


@dataclass(frozen=True)
class Run:
    """What every stage is given: the settings, the built system, and where things go."""

    workflow: Workflow
    base: Path
    out: Path
    device: str
    system: MolecularSystem
    say: Callable[[str], None]
    own_data: WeightedEnsemble | None = None
    """The user's own MD, read before the stage that stores it."""
    world: World = ALONE

    def seed(self, stage: Stage) -> int:
        """Seed of one stage, so that no two stages share random numbers."""
        words = np.random.SeedSequence([self.workflow.seed, STAGES.index(stage)]).generate_state(1)
        return int(words[0]) & 0x3FFFFFFF

    def resume(self, stage: Stage) -> Path:
        """Where a stage keeps what it has finished, until the stage is recorded as done."""
        return self.out / "resume" / stage

    @property
    def target(self) -> MolecularSystem:
        """What is sampled: the system, at another temperature than that of its data if so asked."""
        return self.system.at_temperature(self.workflow.sample.temperature_k)

    def data(self) -> WeightedEnsemble:
        """The training ensemble."""
        return _load(self.out / "data" / "ensemble.h5")

    def samples(self) -> WeightedEnsemble:
        """The weighted samples."""
        return _load(self.out / "samples" / "ensemble.h5")


def run(
    workflow: Workflow,
    base: Path,
    out: Path,
    until: Stage = "export",
    force: Collection[Stage] = (),
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    world: World = ALONE,
) -> dict[str, Any] | None:
    """Carry out the stages up to ``until`` in the run directory ``out``; return the analysis if it is done.

    A stage is skipped if its settings, the system, the seed and what it reads are unchanged and it is not
    in ``force``. One that was killed goes on from what it had finished. Everything that can be wrong with
    the input is checked before anything is written. Of several processes, all of which call this, the first
    decides and writes, and has the analysis; the others take their parts of simulate, train and sample.
    """
    device, data_files, system = check(workflow, base, out, until, force, world.size)
    if not world.first:
        _assist(Run(workflow, base, out, device, system, lambda line: None, world=world))
        return None
    with run_lock(out, say):
        results = _run_stages(
            Run(workflow, base, out, device, system, say, world=world), data_files, until, force
        )
    world.from_first(None)
    return results


def check(
    workflow: Workflow, base: Path, out: Path, until: Stage, force: Collection[Stage], n_processes: int
) -> tuple[str, list[str], MolecularSystem]:
    """Everything that can be wrong with the input; the device, digests of the user's own MD, the system."""
    _check_force(force, until)
    if workflow.train.batch_size % n_processes:
        raise ConfigError(
            f"train.batch_size: {workflow.train.batch_size} cannot be shared by {n_processes} processes; "
            "make it a multiple"
        )
    device = resolve_device(workflow.device)
    data_files = [file_digest(path) for path in _data_files(workflow.data, base)]
    from boltzgen.preflight import check_run
    from boltzgen.registry import build_system

    system = build_system(workflow, base)
    check_output_directory(out)
    check_run(workflow, system, out)
    return device, data_files, system


def _assist(this: Run) -> None:
    """Take part in the stages that the first process comes to, until it has no more."""
    while stage := this.world.from_first(None):
        _STAGE_FUNCTIONS[cast("Stage", stage)](this, silent)


def _shared(stage: Stage, this: Run) -> bool:
    """Whether other processes have a part in a stage: not where something that is there is copied."""
    made_here = not this.workflow.pretrained
    return {"simulate": made_here and this.own_data is None, "train": made_here, "sample": True}.get(
        stage, False
    )


def _run_stages(
    this: Run, data_files: list[str], until: Stage, force: Collection[Stage]
) -> dict[str, Any] | None:
    """The stages in order, each skipped where it is still valid."""
    from boltzgen.preflight import check_room

    workflow, out, say, began = this.workflow, this.out, this.say, False
    manifest = Manifest(out, workflow.model_dump(mode="json", exclude={"quick"}))
    for stage in STAGES[: STAGES.index(until) + 1]:
        inputs = inputs_of(stage, workflow, this.system, manifest, data_files)
        outputs = [out / path for path in OUTPUTS[stage]]
        why = "asked for" if stage in force else manifest.why_run(stage, inputs, outputs)
        if why is None:
            _forget(this, stage)
            say(f"{stage}: skipped, nothing it depends on has changed")
            continue
        for earlier in READS[stage]:
            manifest.check_outputs(earlier)
        if not began:
            check_room(workflow, this.system, out, STAGES[STAGES.index(stage) : STAGES.index(until) + 1])
        this, began = _examined(stage, this), True
        say(f"{stage}: running ({why}){_outlook(stage, this)}")
        clear = functools.partial(_clear, this, stage)
        with manifest.running(stage, inputs, outputs, clear) as recorded, progress_bar(stage) as report:
            if _shared(stage, this):
                this.world.from_first(stage)
            recorded.update(_STAGE_FUNCTIONS[stage](this, report) or {})
        _forget(this, stage)
    if until not in ("analyze", "export"):
        return None
    results = _results(out)
    _report(out)
    return results


def _check_force(force: Collection[str], until: Stage) -> None:
    """ConfigError for a stage that there is not, or that the command does not come to."""
    for stage in force:
        if stage not in STAGES:
            raise ConfigError(f"--force {stage}: no such stage; there are {', '.join(STAGES)}")
        if STAGES.index(stage) > STAGES.index(until):
            raise ConfigError(
                f"--force {stage}: this command ends with {until}; use `boltzgen {stage}` or run"
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
            "device: cuda was asked for but torch sees no CUDA device; use --device cpu or auto"
        )
    return "cpu"


# ---- the stages ------------------------------------------------------------------------------------


def _simulate(this: Run, report: Report) -> dict[str, Any]:
    from boltzgen.frames import unvisited_states
    from boltzgen.storage import save_ensemble

    if this.workflow.pretrained:
        shipped.copy(this.workflow.pretrained, this.system, data=this.out / "data")
        return {}
    directory, ensemble, recorded = this.out / "data", this.own_data, {}
    if ensemble is None:
        from boltzgen.simulate import choose_platform, simulate

        settings, resume = this.workflow.simulate, this.resume("simulate")
        platform = this.world.from_first(choose_platform(this.system, settings, resume))
        recorded["platform"], seed = platform, this.seed("simulate")
        ensemble = simulate(
            this.system, settings, resume, seed, report, platform, resume, this.say, this.world
        )
    if not this.world.first:
        return recorded
    for line in unvisited_states(this.system, ensemble):
        this.say(line)
    directory.mkdir(exist_ok=True)
    save_ensemble(ensemble, this.system.topology, directory / "ensemble.h5")
    return recorded


def _train(this: Run, report: Report) -> dict[str, Any]:
    from boltzgen.train import train

    settings, directory = this.workflow, this.out / "model"
    if settings.pretrained:
        shipped.copy(settings.pretrained, this.system, model=directory)
        return {}
    data, seed, resume = this.data(), this.seed("train"), this.resume("train")
    where: tuple[Any, ...] = (directory, seed, this.device, report, resume, this.say, this.world)
    try:
        train(this.system, data, settings.model, settings.train, *where)
    except SystemExit:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt from None
    came_to = json.loads((directory / "training.json").read_text(encoding="utf-8"))
    return {"train_steps": came_to["steps"], "compile": came_to["compile"]}


def _sample(this: Run, report: Report) -> None:
    from boltzgen.model import load_model
    from boltzgen.sampling import sample
    from boltzgen.storage import save_ensemble

    model = load_model(this.out / "model", this.device, this.system)
    data, seed, resume = this.data(), this.seed("sample"), this.resume("sample")
    samples, diagnostics = sample(
        this.target,
        model,
        data,
        this.workflow.sample,
        seed,
        this.device,
        report,
        resume,
        this.say,
        this.world,
    )
    if not this.world.first:
        return
    with atomic_directory(this.out / "samples") as directory:
        save_ensemble(samples, this.system.topology, directory / "ensemble.h5")
        write_atomically(directory / "diagnostics.json", _json(diagnostics))


def _analyze(this: Run, report: Report) -> None:
    from boltzgen.analysis import analyze
    from boltzgen.simulate import with_stretches

    diagnostics = _json_object(this.out / "samples" / "diagnostics.json", "sample")
    data = this.data()
    if this.workflow.collective_variables:  # declared after the data were made, perhaps, and slower
        data = with_stretches(this.system, data)
    analyze(
        this.target,
        this.samples(),
        reference=data.at_temperature(this.target.temperature_k),
        diagnostics=diagnostics,
        settings=this.workflow.analyze,
        directory=this.out / "results",
        seed=this.seed("analyze"),
        metrics_csv=this.out / "model" / "metrics.csv",
    )


def _export(this: Run, report: Report) -> None:
    from boltzgen.export import export_samples

    seed, directory = this.seed("export"), this.out / "export"
    export_samples(this.target, this.samples(), this.workflow.export, directory, seed)


_STAGE_FUNCTIONS: dict[Stage, Callable[[Run, Report], dict[str, Any] | None]] = {
    "simulate": _simulate,
    "train": _train,
    "sample": _sample,
    "analyze": _analyze,
    "export": _export,
}


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
            raise DataError(f"{key}: no file {base / name}; paths start from the workflow file's directory")
    return [base / name for _, name in named]


def _examined(stage: Stage, this: Run) -> Run:
    """The run with what this stage reads from outside, checked before anything is announced or removed."""
    own_data = None
    if stage == "sample":
        from boltzgen.preflight import check_model

        check_model(this.out / "model", this.system)
    if stage == "simulate" and this.workflow.data.trajectory:
        from boltzgen.trajectories import load_trajectories

        own_data = load_trajectories(this.system, this.workflow.data, this.base, this.say)
    return replace(this, own_data=own_data)


def _clear(this: Run, stage: Stage) -> None:
    """Remove what another attempt at a stage left: pieces of it, and files that would be added to."""
    shutil.rmtree(this.resume(stage), ignore_errors=True)
    written: dict[Stage, str] = {"simulate": "data", "train": "model"}
    if stage in written:
        shutil.rmtree(this.out / written[stage], ignore_errors=True)


def _forget(this: Run, stage: Stage) -> None:
    """Remove what a stage could have resumed from: it is recorded as done."""
    directory = this.resume(stage)
    if directory.parent.exists():
        shutil.rmtree(directory, ignore_errors=True)
        with suppress(OSError):
            directory.parent.rmdir()


def _outlook(stage: Stage, this: Run) -> str:
    """What is known beforehand of the time and memory a stage takes."""
    if this.workflow.pretrained and stage in ("simulate", "train"):
        return f"; taken from the model {this.workflow.pretrained} that comes with boltzgen"
    if stage == "simulate" and not this.workflow.data.trajectory:
        return "; " + estimate.of_simulation(this.system, this.workflow.simulate)
    if stage == "train":
        return "; " + estimate.of_training(this.workflow.train)
    if stage == "sample":
        return "; " + estimate.of_sampling(this.system, this.out / "model", this.workflow.sample, this.device)
    return ""


def _results(out: Path) -> dict[str, Any]:
    return _json_object(out / "results" / "results.json", "analyze")


def _json_object(path: Path, stage: Stage) -> dict[str, Any]:
    """What a stage wrote as JSON; DataError where it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise DataError(f"{path}: is damaged; `--force {stage}` makes it again")
    return content


def _load(path: Path) -> WeightedEnsemble:
    from boltzgen.storage import load_ensemble

    return load_ensemble(path)


def _json(value: object) -> str:
    """JSON text; NumPy and torch values become numbers and lists."""

    def plain(item: Any) -> Any:
        if hasattr(item, "tolist"):
            return item.tolist()
        if isinstance(item, Path):
            return str(item)
        raise DataError(f"a result of type {type(item).__name__} cannot be written as JSON")

    return json.dumps(value, indent=2, default=plain)
