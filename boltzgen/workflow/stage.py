"""What a stage of a run is, and what every stage is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from boltzgen.config.schema import Workflow
from boltzgen.rundir.finished_run import DATA, SAMPLES
from boltzgen.rundir.manifest import Manifest
from boltzgen.runtime.context import Context
from boltzgen.runtime.processes import ALONE, Processes
from boltzgen.runtime.progress import OnProgress

if TYPE_CHECKING:
    from boltzgen.ensemble.weighted import WeightedEnsemble
    from boltzgen.system.molecular_system import MolecularSystem


@dataclass(frozen=True)
class Run:
    """What every stage is given: the settings, the built system, and where things go."""

    workflow: Workflow
    base: Path
    out: Path
    device: str
    system: MolecularSystem
    log: Callable[[str], None]
    own_data: WeightedEnsemble | None = None
    """The user's own MD, read before the stage that stores it."""
    data_remarks: tuple[str, ...] = ()
    """What was mended of it, or is suspicious."""
    processes: Processes = ALONE

    def seed(self, stage: Stage) -> int:
        """Seed of one stage, so that no two stages share random numbers."""
        words = np.random.SeedSequence([self.workflow.seed, stage.stream]).generate_state(1)
        return int(words[0]) & 0x3FFFFFFF

    def resume(self, stage: Stage) -> Path:
        """Where a stage keeps what it has finished, until the stage is recorded as done."""
        return self.out / "resume" / stage.name

    def context(self, stage: Stage, on_progress: OnProgress) -> Context:
        """What the work of a stage is given beside its input."""
        return Context(
            self.seed(stage), self.device, on_progress, self.log, self.resume(stage), self.processes
        )

    @property
    def target(self) -> MolecularSystem:
        """What is sampled: the system, at another temperature than that of its data if so asked."""
        return self.system.at_temperature(self.workflow.sample.temperature_k)

    def data(self) -> WeightedEnsemble:
        """The training ensemble, frames inside the domain alone (data of before may have others)."""
        from boltzgen.simulate.frame_checks import inside_domain

        data, left_out = inside_domain(self.system, _load(self.out / DATA))
        if left_out:
            self.log(left_out)
        return data

    def samples(self) -> WeightedEnsemble:
        """The weighted samples."""
        return _load(self.out / SAMPLES)


@dataclass(frozen=True)
class Goal:
    """How far a run goes, and which stages are done again though nothing has changed."""

    until: str = "export"
    force: tuple[str, ...] = ()


EVERYTHING = Goal()


@dataclass(frozen=True)
class Dependencies:
    """What the output of a stage may depend on: the run, its record, and digests of the user's own MD."""

    run: Run
    manifest: Manifest
    data_files: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Stage:
    """One stage of a run; `boltzgen.workflow.stages.STAGES` is the workflow.

    name
        That of its command.
    stream
        Number of its random numbers; that of no other stage, now or before.
    reads, writes
        Names of the stages whose output it reads, and its own files in the run directory.
    inputs
        What its output depends on, as name -> digest: it runs again if one of them changes, and is told by
        their names.
    work
        What it does; it may return what is to be recorded.
    records
        Names of what it may return, forgotten when it starts anew.
    starts_without
        Folder of the run directory that is removed when it starts anew, because it would be added to.
    prepare
        Reads and checks what comes from outside, before the stage is announced and anything is removed.
    shared
        Whether several processes have parts in it.
    forecast
        Its time and memory in words, as far as they are known beforehand; it is told whether there is a
        trained network.
    disk, memory
        Bytes that it writes, and that it holds at least.
    takes_less
        What makes it take less of either.
    """

    name: str
    stream: int
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    inputs: Callable[[Dependencies, Stage], dict[str, str]]
    work: Callable[[Run, Stage, OnProgress], dict[str, Any] | None]
    records: tuple[str, ...] = ()
    starts_without: str = ""
    prepare: Callable[[Run], Run] = lambda run: run
    shared: Callable[[Run], bool] = lambda run: False
    forecast: Callable[[Run, bool], str] = lambda run, trained: ""
    disk: Callable[[Run], float] = lambda run: 0.0
    memory: Callable[[Run], float] = lambda run: 0.0
    takes_less: Callable[[Workflow], str] = lambda workflow: ""


def _load(path: Path) -> WeightedEnsemble:
    from boltzgen.ensemble.storage import load_ensemble

    return load_ensemble(path)
