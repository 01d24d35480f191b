"""What a run would do, found out without doing it: its input checked as the run would, and forecasts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from boltzgen import estimate, shipped
from boltzgen.check import Check, check
from boltzgen.config import Workflow
from boltzgen.ensemble import WeightedEnsemble
from boltzgen.frames import inside_domain
from boltzgen.manifest import Manifest
from boltzgen.preflight import check_model, check_room
from boltzgen.progress import Report, silent
from boltzgen.stage_functions import Run
from boltzgen.stages import OUTPUTS, READS, STAGES, Stage, inputs_of
from boltzgen.state_checks import overlap_warnings, state_warnings
from boltzgen.storage import load_ensemble
from boltzgen.trajectories import load_trajectories
from boltzgen.workflow import check as check_input


@dataclass(frozen=True)
class Outlook:
    """One stage of a run to come.

    why
        Why it would run, in a few words; None where what is there is still valid.
    forecast
        Its length, as far as that is known beforehand; empty where nothing is.
    memory, disk
        Bytes that it holds at least, and that it writes, roughly; 0 where they are few.
    """

    stage: Stage
    why: str | None
    forecast: str = ""
    memory: float = 0.0
    disk: float = 0.0


@dataclass(frozen=True)
class Rehearsal:
    """What was found: the system looked at as by `boltzgen.check.check`, and what each stage would do."""

    name: str
    check: Check
    stages: list[Outlook]

    @property
    def to_do(self) -> list[Stage]:
        """Stages that would run."""
        return [outlook.stage for outlook in self.stages if outlook.why is not None]


def rehearse(
    workflow: Workflow,
    base: Path,
    out: Path,
    say: Callable[[str], None],
    timing: Mapping[str, object] | None = None,
    report: Report = silent,
) -> Rehearsal:
    """Check everything that a run of ``workflow`` in ``out`` would check, and forecast what it would do.

    The user's own trajectories are read. ``say`` is told what the run would warn of; ``timing`` holds further
    arguments of `boltzgen.check.check`. Nothing is written. Raises UserError as the run would.
    """
    report(0.0, 1.0, "settings, system and run directory")
    device, data_files, system = check_input(workflow, base, out, "export", (), 1)
    this = Run(workflow, base, out, device, system, say)
    why = planned(this, data_files)
    report(0.1, 1.0, "data")
    data = _data(this, read=why["simulate"] is not None)
    for line in overlap_warnings(system) if data is None else state_warnings(system, data):
        say(line)
    pending = [stage for stage in STAGES if why[stage] is not None]
    if pending:
        check_room(workflow, system, out, device, STAGES[STAGES.index(pending[0]) :])
    if why["train"] is None and why["sample"] is not None:
        check_model(out / "model", system)
    report(0.2, 1.0, "forecasts")
    disk = estimate.disk_bytes(system.n_atoms, workflow)
    memory = estimate.memory_bytes(system.n_atoms, workflow, device)
    stages = [
        Outlook(
            stage, why[stage], _forecast(this, stage, why, data), memory.get(stage, 0), disk.get(stage, 0)
        )
        if why[stage] is not None
        else Outlook(stage, None)
        for stage in STAGES
    ]
    # Overlapping states are warned of above, as by the run.
    found = check(replace(system, states=()), report=report, **(timing or {}))  # type: ignore[arg-type]
    return Rehearsal(workflow.name, found, stages)


def planned(this: Run, data_files: list[str]) -> dict[Stage, str | None]:
    """Why each stage would run, None where it would not.

    Raises DataError where a file is damaged that one of them reads and none of them makes.
    """
    manifest = Manifest(this.out, this.workflow.model_dump(mode="json", exclude={"quick"}))
    why: dict[Stage, str | None] = {}
    for stage in STAGES:
        inputs = inputs_of(stage, this.workflow, this.system, manifest, data_files)
        outputs = [this.out / path for path in OUTPUTS[stage]]
        before = [earlier for earlier in READS[stage] if why[earlier] is not None]
        why[stage] = f"follows {before[-1]}" if before else manifest.why_run(stage, inputs, outputs)
        for earlier in READS[stage] if why[stage] is not None else ():
            if why[earlier] is None:
                manifest.check_outputs(earlier)
    return why


def _data(this: Run, read: bool) -> WeightedEnsemble | None:
    """What the network would be trained on, inside the domain: read as the run would, or made before."""
    if not read:
        return this.data()
    if this.workflow.pretrained:
        data = load_ensemble(shipped.ROOT / this.workflow.pretrained / "ensemble.h5")
    elif this.workflow.data.trajectory:
        data = load_trajectories(this.system, this.workflow.data, this.base, this.say)
    else:
        return None
    data, line = inside_domain(this.system, data)
    if line:
        this.say(line)
    return data


def _forecast(this: Run, stage: Stage, why: Mapping[Stage, str | None], data: WeightedEnsemble | None) -> str:
    """How long a stage takes, in words."""
    workflow = this.workflow
    if workflow.pretrained and stage in ("simulate", "train"):
        return f"taken from the model {workflow.pretrained}"
    if stage == "simulate":
        read = f"{0 if data is None else len(data)} frames of your own"
        return read if workflow.data.trajectory else estimate.of_simulation(this.system, workflow.simulate)
    if stage == "train":
        return estimate.of_training(workflow.train)
    if stage != "sample":
        return "seconds to minutes"
    model = this.out / "model" if why["train"] is None else None
    if workflow.pretrained:
        model = shipped.ROOT / workflow.pretrained
    if model is not None:
        return estimate.of_sampling(this.system, model, workflow.sample, this.device)
    return estimate.of_sampling_untrained(this.system, workflow.model, workflow.sample, this.device)
