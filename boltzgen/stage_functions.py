"""What each stage of a run does: simulate, train, sample, analyze, export."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from boltzgen import shipped
from boltzgen.config import Workflow
from boltzgen.errors import DataError
from boltzgen.files import atomic_directory, write_atomically
from boltzgen.progress import Report
from boltzgen.stages import STAGES, Stage
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
    data_remarks: tuple[str, ...] = ()
    """What was mended of it, or is suspicious."""
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
        """The training ensemble, frames inside the domain alone (data of before may have others)."""
        from boltzgen.frames import inside_domain

        data, left_out = inside_domain(self.system, _load(self.out / "data" / "ensemble.h5"))
        if left_out:
            self.say(left_out)
        return data

    def samples(self) -> WeightedEnsemble:
        """The weighted samples."""
        return _load(self.out / "samples" / "ensemble.h5")


def _simulate(this: Run, report: Report) -> dict[str, Any]:
    from boltzgen.frames import inside_domain
    from boltzgen.storage import save_ensemble

    if this.workflow.pretrained:
        shipped.copy(this.workflow.pretrained, this.system, data=this.out / "data")
        warn_of_states(this, this.data())
        return {}
    directory, ensemble = this.out / "data", this.own_data
    recorded: dict[str, Any] = {"data_remarks": list(this.data_remarks)} if this.data_remarks else {}
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
    n_made = len(ensemble)
    ensemble, line = inside_domain(this.system, ensemble)
    if line:
        this.say(line)
        recorded["frames_left_out"] = n_made - len(ensemble)
    warn_of_states(this, ensemble)
    directory.mkdir(exist_ok=True)
    save_ensemble(ensemble, this.system.topology, directory / "ensemble.h5")
    return recorded


def warn_of_states(this: Run, data: WeightedEnsemble) -> None:
    """Say which declared states the data make of no use."""
    from boltzgen.state_checks import state_warnings

    for line in state_warnings(this.system, data):
        this.say(line)


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
    from boltzgen.stretches import with_stretches

    model = load_model(this.out / "model", this.device, this.system)
    # Blocks anew, since variables may be declared after the data were made, and slower.
    data = with_stretches(this.system, this.data())
    seed, resume = this.seed("sample"), this.resume("sample")
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
    from boltzgen.stretches import with_stretches

    diagnostics = json_object(this.out / "samples" / "diagnostics.json", "sample")
    data = with_stretches(this.system, this.data())
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


STAGE_FUNCTIONS: dict[Stage, Callable[[Run, Report], dict[str, Any] | None]] = {
    "simulate": _simulate,
    "train": _train,
    "sample": _sample,
    "analyze": _analyze,
    "export": _export,
}


def json_object(path: Path, stage: Stage) -> dict[str, Any]:
    """What a stage wrote as JSON; DataError where it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise DataError(path, "is damaged", f"`--force {stage}` makes it again")
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
        raise TypeError(f"a result of type {type(item).__name__} cannot be written as JSON")

    return json.dumps(value, indent=2, default=plain)
