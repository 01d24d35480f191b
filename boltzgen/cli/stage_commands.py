"""What the commands named after stages do: find the workflow, share the work, run, and say how it ended."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from boltzgen.config.load import available_workflows, load_workflow, naming_the_file
from boltzgen.config.schema import Workflow
from boltzgen.errors import ConfigError


@dataclass(frozen=True)
class Order:
    """What a command was asked to do: arguments and options, as of ``boltzgen run``.

    overrides
        Settings that options change, as ``KEY=VALUE``.
    out
        The run directory; ``runs/NAME`` by default.
    devices, nodes
        Processes on each machine, and machines.
    """

    workflow: str | None
    overrides: list[str]
    seed: int | None = None
    device: str | None = None
    out: Path | None = None
    quick: bool = False
    force: tuple[str, ...] = ()
    devices: int = 1
    nodes: int = 1


def carry_out(name: str, order: Order) -> None:
    """Carry out the stages up to the one that a command is named after, here or in several processes."""
    workflow, overrides = order.workflow, order.overrides
    _check_given(workflow, overrides)
    settings, base = load_workflow(workflow, overrides, order.quick, order.seed, order.device)
    from boltzgen.cli.launcher import launch
    from boltzgen.pretrained.shipped import model_for
    from boltzgen.rundir.manifest import pretrained_run
    from boltzgen.runtime.processes import ALONE, LOST_CONTACT, is_lost_contact, join, launched
    from boltzgen.workflow.runner import check_input, run
    from boltzgen.workflow.stage import Goal
    from boltzgen.workflow.stages import NAMES

    directory = order.out or Path("runs") / settings.name
    if name in ("sample", "analyze", "export") and not (
        order.quick or settings.pretrained or settings.data.trajectory
    ):
        changed = [text.split("=", 1)[0] for text in overrides]
        model = model_for(workflow, changed, pretrained_run(directory))
        settings = settings.model_copy(update={"pretrained": model})
    goal, processes = Goal(name if name in NAMES else NAMES[-1], order.force), ALONE
    devices, nodes = order.devices, order.nodes
    if devices * nodes > 1:
        if not launched():
            with naming_the_file(workflow, overrides):
                check_input(settings, base, directory, goal, devices * nodes)
            raise typer.Exit(launch(devices, nodes, sys.argv[1:]))
        processes = join(devices, nodes)
    try:
        with naming_the_file(workflow, overrides):
            results = run(settings, base, directory, goal, processes=processes)
    except KeyboardInterrupt:
        line = "boltzgen: stopped; finished stages are kept, run the same command to continue"
        print(line, file=sys.stderr)
        raise typer.Exit(130) from None
    except RuntimeError as error:
        if processes.size == 1 or not is_lost_contact(error):
            raise
        print(f"boltzgen: process {processes.rank} has lost contact to another one", file=sys.stderr)
        raise typer.Exit(LOST_CONTACT) from None
    if processes.first:
        _close(name, directory, results)


def _check_given(workflow: str | None, overrides: list[str]) -> None:
    """ConfigError for a command without a workflow or a system."""
    if workflow is None and not any(text.startswith("system=") for text in overrides):
        raise ConfigError(
            "WORKFLOW",
            "none given",
            "name one (`boltzgen workflows`), or a system with --system NAME|FILE.py",
        )


def system_overrides(system: str | None) -> list[str]:
    """``--system`` as settings: it replaces the workflow's system with its parameters, and the run's name."""
    if system is None:
        return []
    is_file = system.endswith(".py")
    name = str(Path(system).resolve()) if is_file else system
    title = Path(system).stem if is_file else system
    return [f"system={json.dumps({'name': name})}", f"name={json.dumps(title)}"]


# ---- boltzgen check ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """What ``boltzgen check`` was given: arguments and options as of ``boltzgen run``."""

    workflow: str | None
    system: str | None
    assignments: tuple[str, ...]
    quick: bool
    device: str | None
    out: Path | None

    @property
    def settings(self) -> list[str]:
        """Of ``--set``; a single word that is no section of a workflow is a parameter of the system."""
        keys = [text.partition("=")[0].strip() for text in self.assignments]
        return [
            text if "." in key or not key or key in Workflow.model_fields else f"system.parameters.{text}"
            for key, text in zip(keys, self.assignments, strict=True)
        ]

    @property
    def command(self) -> str:
        """The command of the run."""
        options = {"--system": self.system, "--device": self.device, "--out": self.out}
        words = [self.workflow] if self.workflow else []
        words += [word for name, value in options.items() if value is not None for word in (name, str(value))]
        words += [word for text in self.settings for word in ("--set", text)]
        return shlex.join(["boltzgen", "run", *words, *(["--quick"] if self.quick else [])])


def names_workflow(target: str) -> bool:
    """Whether ``boltzgen check`` was given a workflow: a file, a run directory, or one that comes along."""
    path = Path(target)
    return (
        path.suffix in (".yaml", ".yml")
        or (path / "config.yaml").is_file()
        or target in available_workflows()
    )


def look_at_system(system: str, parameters: Sequence[str], timing: Mapping[str, Any]) -> None:
    """Print what is found of a system alone."""
    given = [f"system.parameters.{assignment}" for assignment in parameters]
    settings, base = load_workflow(None, system_overrides(system) + given)
    from rich.console import Console

    from boltzgen.cli.tables import check_table
    from boltzgen.runtime.progress import progress_bar
    from boltzgen.system.registry import build_system
    from boltzgen.workflow.check import check

    molecule = build_system(settings, base)
    with progress_bar(f"checking {molecule.name}") as on_progress:
        found = check(molecule, on_progress=on_progress, **timing)
    Console().print(check_table(found))
    print(f"checked: the system {molecule.name}, nothing stands in its way")
    whole = ["boltzgen", "check", "--system", system, *(word for text in given for word in ("--set", text))]
    print(f"next: `{shlex.join(whole)}` looks at a whole run of it")


def look_at_workflow(asked: Asked, timing: Mapping[str, Any]) -> None:
    """Print what a run would do, after every check of it, and the command that does it."""
    overrides = system_overrides(asked.system) + asked.settings
    _check_given(asked.workflow, overrides)
    settings, base = load_workflow(asked.workflow, overrides, asked.quick, device=asked.device)
    from rich.console import Console

    from boltzgen.cli.tables import rehearsal_table
    from boltzgen.runtime.progress import progress_bar
    from boltzgen.workflow.rehearsal import rehearse

    directory = asked.out or Path("runs") / settings.name
    named = naming_the_file(asked.workflow, overrides)
    with named, progress_bar(f"checking {settings.name}") as on_progress:
        found = rehearse(settings, base, directory, _to_stderr, timing, on_progress)
    Console().print(rehearsal_table(found))
    name = f"checked: the workflow {asked.workflow or settings.name}"
    if found.to_do:
        print(f"{name}, nothing stands in its way")
        print(f"next: `{asked.command}` does {', '.join(found.to_do)} in {directory}")
    else:
        print(f"{name}; every stage is done, see {directory}")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _close(command: str, directory: Path, results: dict[str, object] | None) -> None:
    """What a finished command says: the closing table of a run, and where the files are."""
    if results is not None and command in ("run", "analyze"):
        from rich.console import Console

        from boltzgen.cli.tables import closing_table, verdict_panel

        console = Console()
        console.print(closing_table(results), verdict_panel(results))
    if results is None:
        print(f"done, see {directory}")
    else:
        from boltzgen.report.page import REPORT_FILE

        print(f"results in {directory}, report in {directory / REPORT_FILE}")
