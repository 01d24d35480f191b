"""What each stage of a run does: simulate, train, sample, analyze, export."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boltzgen.errors import DataError
from boltzgen.pretrained import shipped
from boltzgen.runtime.files import atomic_directory, write_atomically
from boltzgen.runtime.progress import Report
from boltzgen.workflow.stage import Run, Stage

if TYPE_CHECKING:
    from boltzgen.ensemble.weighted import WeightedEnsemble
    from boltzgen.train import Trained


def simulate(this: Run, stage: Stage, report: Report) -> dict[str, Any]:
    """Make the training ensemble by MD, or store the one that is given."""
    from boltzgen.ensemble.storage import save_ensemble
    from boltzgen.simulate.frame_checks import inside_domain

    if this.workflow.pretrained:
        shipped.copy(this.workflow.pretrained, data=this.out / "data")
        warn_of_states(this, this.data())
        return {}
    directory, ensemble = this.out / "data", this.own_data
    recorded: dict[str, Any] = {"data_remarks": list(this.data_remarks)} if this.data_remarks else {}
    if ensemble is None:
        from boltzgen.simulate import stage as dynamics
        from boltzgen.simulate.engine import choose_platform

        settings = this.workflow.simulate
        platform = this.world.from_first(choose_platform(this.system, settings, this.resume(stage)))
        recorded["platform"] = platform
        ensemble = dynamics.simulate(this.system, settings, this.context(stage, report), platform)
    if not this.world.first:
        return recorded
    n_made = len(ensemble)
    ensemble, line = inside_domain(this.system, ensemble)
    if line:
        this.say(line)
        recorded["frames_left_out"] = n_made - len(ensemble)
    warn_of_states(this, ensemble)
    directory.mkdir(exist_ok=True)
    save_ensemble(ensemble, this.system.mdtraj_topology, directory / "ensemble.h5")
    return recorded


def read_own_data(this: Run) -> Run:
    """The user's own trajectories, where there are some, with what was mended of them or is suspicious."""
    if not this.workflow.data.trajectory:
        return this
    from boltzgen.simulate.own_trajectories import load_trajectories

    remarks: list[str] = []

    def say(line: str) -> None:
        remarks.append(line.removeprefix("warning: "))
        this.say(line)

    data = load_trajectories(this.system, this.workflow.data, this.base, say)
    return replace(this, own_data=data, data_remarks=tuple(remarks))


def check_network(this: Run) -> Run:
    """DataError unless the network that is there is one of this system."""
    from boltzgen.workflow.preflight import check_model

    check_model(this.out / "model", this.system)
    return this


def warn_of_states(this: Run, data: WeightedEnsemble) -> None:
    """Say which declared states the data make of no use."""
    from boltzgen.ensemble.state_checks import state_warnings

    for line in state_warnings(this.system, data):
        this.say(line)


def train(this: Run, stage: Stage, report: Report) -> dict[str, Any]:
    """Train the network, or take the one that comes with boltzgen."""
    from boltzgen import train as training

    settings, directory = this.workflow, this.out / "model"
    if settings.pretrained:
        shipped.copy(settings.pretrained, model=directory)
        return {}
    context = this.context(stage, report)
    try:
        trained = training.train(this.system, this.data(), settings.model, settings.train, directory, context)
    except SystemExit:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt from None
    if this.world.first and settings.train.height_paths:
        report(1.0, 1.0, "annealing a few paths: do the heights of the levels agree?")
        _show_level_consistency(this, trained, context.seed + 5)
    came_to = json.loads((directory / "training.json").read_text(encoding="utf-8"))
    return {"train_steps": came_to["steps"], "compile": came_to["compile"]}


def _show_level_consistency(this: Run, trained: Trained, seed: int) -> None:
    """``heights.json`` and ``heights.png`` of plain paths that begin at held-out frames, and at noise."""
    from boltzgen.report.pictures import level_consistency
    from boltzgen.sample.level_consistency import write_level_consistency

    directory, n = this.out / "model", this.workflow.train.height_paths
    x0 = trained.held_out.drawn(n, seed)[0].to(this.device)
    curves = write_level_consistency(this.system, trained.model, x0, directory)
    level_consistency(curves["paths"], curves["offsets"], directory / "heights.png")  # type: ignore[arg-type]


def sample(this: Run, stage: Stage, report: Report) -> None:
    """Draw weighted samples of the target."""
    from boltzgen.ensemble.correlation import with_stretches
    from boltzgen.ensemble.storage import save_ensemble
    from boltzgen.model import load_model
    from boltzgen.sample import stage as sampling

    model = load_model(this.out / "model", this.device, this.system)
    # Blocks anew, since variables may be declared after the data were made, and slower.
    data = with_stretches(this.system, this.data())
    samples, diagnostics = sampling.sample(
        this.target, model, data, this.workflow.sample, this.context(stage, report)
    )
    if not this.world.first:
        return
    with atomic_directory(this.out / "samples") as directory:
        save_ensemble(samples, this.system.mdtraj_topology, directory / "ensemble.h5")
        write_atomically(directory / "diagnostics.json", _json(diagnostics))


def analyze(this: Run, stage: Stage, report: Report) -> None:
    """Free energies, distances to the MD, and what the report shows."""
    from boltzgen.analyze import stage as analysis
    from boltzgen.ensemble.correlation import with_stretches
    from boltzgen.report.pictures import write_pictures
    from boltzgen.rundir.finished_run import FinishedRun

    diagnostics = json_object(this.out / "samples" / "diagnostics.json", "sample")
    data = with_stretches(this.system, this.data())
    reference = data.at_temperature(this.target.temperature_k)
    results = analysis.analyze(
        this.target, this.samples(), reference, diagnostics, this.workflow.analyze, this.seed(stage)
    )
    analysis.write_results(results, this.out / "results")
    write_pictures(FinishedRun(this.out, checked=False), this.out / "results")


def export(this: Run, stage: Stage, report: Report) -> None:
    """Trajectories and weights for other tools."""
    from boltzgen.export.stage import export_samples

    seed, directory = this.seed(stage), this.out / "export"
    export_samples(this.target, this.samples(), this.workflow.export, directory, seed)


def json_object(path: Path, stage: str) -> dict[str, Any]:
    """What a stage wrote as JSON; DataError where it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise DataError(path, "is damaged", f"`--force {stage}` makes it again")
    return content


def _json(value: object) -> str:
    """JSON text; NumPy and torch values become numbers and lists."""

    def plain(item: Any) -> Any:
        if hasattr(item, "tolist"):
            return item.tolist()
        if isinstance(item, Path):
            return str(item)
        raise TypeError(f"a result of type {type(item).__name__} cannot be written as JSON")

    return json.dumps(value, indent=2, default=plain)
