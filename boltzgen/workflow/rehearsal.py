"""What a run would do, found out without doing it: its input checked as the run would, and forecasts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from boltzgen.config.schema import Workflow
from boltzgen.ensemble.state_checks import overlap_warnings, state_warnings
from boltzgen.ensemble.storage import load_ensemble
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.pretrained import shipped
from boltzgen.runtime.progress import OnProgress, silent
from boltzgen.simulate.frame_checks import inside_domain
from boltzgen.workflow.check import Check, check
from boltzgen.workflow.preflight import check_model, check_room
from boltzgen.workflow.runner import check_input
from boltzgen.workflow.stage import EVERYTHING, Dependencies, Run, Stage
from boltzgen.workflow.stage_functions import read_own_data
from boltzgen.workflow.stage_inputs import manifest_of
from boltzgen.workflow.stages import STAGES


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

    stage: str
    why: str | None
    forecast: str = ""
    memory: float = 0.0
    disk: float = 0.0


@dataclass(frozen=True)
class Rehearsal:
    """What was found: the system looked at as by `check.check`, and what each stage would do."""

    name: str
    check: Check
    stages: list[Outlook]

    @property
    def to_do(self) -> list[str]:
        """Stages that would run."""
        return [outlook.stage for outlook in self.stages if outlook.why is not None]


def rehearse(
    workflow: Workflow,
    base: Path,
    out: Path,
    log: Callable[[str], None],
    timing: Mapping[str, object] | None = None,
    on_progress: OnProgress = silent,
) -> Rehearsal:
    """Check everything that a run of ``workflow`` in ``out`` would check, and forecast what it would do.

    The user's own trajectories are read. ``log`` is told what the run would warn of; ``timing`` holds further
    arguments of `boltzgen.workflow.check.check`. Nothing is written. Raises UserError as the run would.
    """
    on_progress(0.0, 1.0, "settings, system and run directory")
    device, data_files, system = check_input(workflow, base, out, EVERYTHING, 1)
    run = Run(workflow, base, out, device, system, log)
    why = planned(run, data_files)
    on_progress(0.1, 1.0, "data")
    if why["simulate"] is not None and not workflow.pretrained:
        run = read_own_data(run)
    data = _data(run, made=why["simulate"] is None)
    for line in overlap_warnings(system) if data is None else state_warnings(system, data):
        log(line)
    pending = [k for k, stage in enumerate(STAGES) if why[stage.name] is not None]
    if pending:
        check_room(run, STAGES[pending[0] :])
    trained = why["train"] is None
    if trained and why["sample"] is not None:
        check_model(out / "model", system)
    on_progress(0.2, 1.0, "forecasts")
    stages = [_outlook(run, stage, why[stage.name], trained) for stage in STAGES]
    # Overlapping states are warned of above, as by the run.
    found = check(replace(system, states=()), on_progress=on_progress, **(timing or {}))  # type: ignore[arg-type]
    return Rehearsal(workflow.name, found, stages)


def planned(run: Run, data_files: list[str]) -> dict[str, str | None]:
    """Why each stage would run, by name; None where it would not.

    Raises DataError where a file is damaged that one of them reads and none of them makes.
    """
    manifest = manifest_of(run)
    given = Dependencies(run, manifest, tuple(data_files))
    why: dict[str, str | None] = {}
    for stage in STAGES:
        outputs = [run.out / path for path in stage.writes]
        before = [earlier for earlier in stage.reads if why[earlier] is not None]
        changed = manifest.why_run(stage.name, stage.inputs(given, stage), outputs)
        why[stage.name] = f"follows {before[-1]}" if before else changed
        for earlier in stage.reads if why[stage.name] is not None else ():
            if why[earlier] is None:
                manifest.check_outputs(earlier)
    return why


def _data(run: Run, made: bool) -> WeightedEnsemble | None:
    """What the network would be trained on, inside the domain: read as the run would, or made before."""
    if made:
        return run.data()
    data = run.own_data
    if run.workflow.pretrained:
        data = load_ensemble(shipped.ROOT / run.workflow.pretrained / "ensemble.h5")
    if data is None:
        return None
    data, line = inside_domain(run.system, data)
    if line:
        run.log(line)
    return data


def _outlook(run: Run, stage: Stage, why: str | None, trained: bool) -> Outlook:
    if why is None:
        return Outlook(stage.name, None)
    forecast = stage.forecast(run, trained) or "seconds to minutes"
    return Outlook(stage.name, why, forecast, stage.memory(run), stage.disk(run))
