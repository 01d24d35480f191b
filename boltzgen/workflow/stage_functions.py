"""What each stage of a run does: simulate, train, sample, analyze, export."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boltzgen.errors import DataError
from boltzgen.pretrained import shipped
from boltzgen.runtime.files import atomic_directory, write_atomically
from boltzgen.runtime.progress import OnProgress
from boltzgen.workflow.stage import Run, Stage

if TYPE_CHECKING:
    from boltzgen.ensemble.weighted import WeightedEnsemble
    from boltzgen.train import Trained


def simulate(run: Run, stage: Stage, on_progress: OnProgress) -> dict[str, Any]:
    """Make the training ensemble by MD, or store the one that is given."""
    from boltzgen.ensemble.storage import save_ensemble
    from boltzgen.simulate.frame_checks import inside_domain

    if run.workflow.pretrained:
        shipped.copy(run.workflow.pretrained, data=run.out / "data")
        warn_of_states(run, run.data())
        return {}
    directory, ensemble = run.out / "data", run.own_data
    recorded: dict[str, Any] = {"data_remarks": list(run.data_remarks)} if run.data_remarks else {}
    if ensemble is None:
        from boltzgen.simulate import stage as dynamics
        from boltzgen.simulate.engine import choose_platform

        settings = run.workflow.simulate
        platform = run.processes.from_first(choose_platform(run.system, settings, run.resume(stage)))
        recorded["platform"] = platform
        remarks: list[str] = []
        context = replace(run.context(stage, on_progress), log=lambda line: _noted(run, line, remarks))
        ensemble = dynamics.simulate(run.system, settings, context, platform)
        recorded |= {"data_remarks": remarks} if remarks else {}
    if not run.processes.first:
        return recorded
    n_made = len(ensemble)
    ensemble, line = inside_domain(run.system, ensemble)
    if line:
        run.log(line)
        recorded["frames_left_out"] = n_made - len(ensemble)
    warn_of_states(run, ensemble)
    directory.mkdir(exist_ok=True)
    save_ensemble(ensemble, run.system.mdtraj_topology, directory / "ensemble.h5")
    return recorded


def _noted(run: Run, line: str, remarks: list[str]) -> None:
    remarks.append(line)
    run.log(line)


def read_own_data(run: Run) -> Run:
    """The user's own trajectories, where there are some, with what was mended of them or is suspicious."""
    if not run.workflow.data.trajectory:
        return run
    from boltzgen.simulate.own_trajectories import load_trajectories

    remarks: list[str] = []

    def log(line: str) -> None:
        remarks.append(line.removeprefix("warning: "))
        run.log(line)

    data = load_trajectories(run.system, run.workflow.data, run.base, log)
    return replace(run, own_data=data, data_remarks=tuple(remarks))


def check_network(run: Run) -> Run:
    """DataError unless the network that is there is one of this system."""
    from boltzgen.workflow.preflight import check_model

    check_model(run.out / "model", run.system)
    return run


def warn_of_states(run: Run, data: WeightedEnsemble) -> None:
    """Say which declared states the data make of no use."""
    from boltzgen.ensemble.state_checks import state_warnings

    for line in state_warnings(run.system, data):
        run.log(line)


def train(run: Run, stage: Stage, on_progress: OnProgress) -> dict[str, Any]:
    """Train the network, or take the one that comes with boltzgen."""
    from boltzgen import train as training

    settings, directory = run.workflow, run.out / "model"
    if settings.pretrained:
        shipped.copy(settings.pretrained, model=directory)
        return {}
    context = run.context(stage, on_progress)
    try:
        trained = training.train(run.system, run.data(), settings.model, settings.train, directory, context)
    except SystemExit:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt from None
    if run.processes.first and settings.train.consistency_paths:
        on_progress(1.0, 1.0, "annealing a few paths: do the relative energies of the levels agree?")
        _show_level_consistency(run, trained, context.seed + 5)
    resolved = json.loads((directory / "training.json").read_text(encoding="utf-8"))
    return {"train_steps": resolved["steps"], "compile": resolved["compile"]}


def _show_level_consistency(run: Run, trained: Trained, seed: int) -> None:
    """``level_consistency.json`` and ``.png`` of plain paths that begin at held-out frames, and at noise."""
    from boltzgen.report.pictures import level_consistency
    from boltzgen.sample.level_consistency import write_level_consistency

    directory, n = run.out / "model", run.workflow.train.consistency_paths
    x0 = trained.held_out.drawn(n, seed)[0].to(run.device)
    curves = write_level_consistency(run.system, trained.model, x0, directory)
    level_consistency(curves["paths"], curves["offsets"], directory / "level_consistency.png")  # type: ignore[arg-type]


def sample(run: Run, stage: Stage, on_progress: OnProgress) -> None:
    """Draw weighted samples of the target."""
    from boltzgen.ensemble.correlation import with_blocks
    from boltzgen.ensemble.storage import save_ensemble
    from boltzgen.model import load_model
    from boltzgen.sample import stage as sampling

    model = load_model(run.out / "model", run.device, run.system)
    # Blocks anew, since variables may be declared after the data were made, and slower.
    data = with_blocks(run.system, run.data())
    samples, diagnostics = sampling.sample(
        run.target, model, data, run.workflow.sample, run.context(stage, on_progress)
    )
    if not run.processes.first:
        return
    with atomic_directory(run.out / "samples") as directory:
        save_ensemble(samples, run.system.mdtraj_topology, directory / "ensemble.h5")
        write_atomically(directory / "diagnostics.json", _json(diagnostics))


def analyze(run: Run, stage: Stage, on_progress: OnProgress) -> None:
    """Free energies, distances to the MD, and what the report shows."""
    from boltzgen.analyze import stage as analysis
    from boltzgen.ensemble.correlation import with_blocks
    from boltzgen.report.pictures import write_pictures
    from boltzgen.rundir.finished_run import FinishedRun

    diagnostics = json_object(run.out / "samples" / "diagnostics.json", "sample")
    data = with_blocks(run.system, run.data())
    reference = data.at_temperature(run.target.temperature_k)
    results = analysis.analyze(
        run.target, run.samples(), reference, diagnostics, run.workflow.analyze, run.seed(stage)
    )
    analysis.write_results(results, run.out / "results")
    write_pictures(FinishedRun(run.out, checked=False), run.out / "results")


def export(run: Run, stage: Stage, on_progress: OnProgress) -> None:
    """Trajectories and weights for other tools."""
    from boltzgen.export.stage import export_samples

    seed, directory = run.seed(stage), run.out / "export"
    export_samples(run.target, run.samples(), run.workflow.export, directory, seed)


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
