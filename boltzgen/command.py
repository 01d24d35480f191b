"""What the commands named after stages do: find the workflow, share the work, run, and say how it ended."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from boltzgen.errors import ConfigError
from boltzgen.workflow_file import load_workflow

if TYPE_CHECKING:
    from boltzgen.workflow import Stage


def carry_out(
    name: str,
    workflow: str | None,
    overrides: list[str],
    seed: int | None,
    device: str | None,
    out: Path | None,
    quick: bool,
    force: list[str] | None,
    devices: int,
    nodes: int,
) -> None:
    """Carry out the stages up to the one that a command is named after, here or in several processes."""
    if workflow is None and not any(text.startswith("system=") for text in overrides):
        raise ConfigError(
            "WORKFLOW",
            "none given",
            "name one (`boltzgen workflows`), or a system with --system NAME|FILE.py",
        )
    settings, base = load_workflow(workflow, overrides, quick, seed, device)
    from boltzgen.launcher import launch
    from boltzgen.manifest import pretrained_run
    from boltzgen.shipped import model_for
    from boltzgen.workflow import STAGES, check, run
    from boltzgen.world import ALONE, LOST_CONTACT, is_lost_contact, join, launched

    directory = out or Path("runs") / settings.name
    if name in ("sample", "analyze", "export") and not (
        quick or settings.pretrained or settings.data.trajectory
    ):
        changed = [text.split("=", 1)[0] for text in overrides]
        model = model_for(workflow, changed, pretrained_run(directory))
        settings = settings.model_copy(update={"pretrained": model})
    until = next((stage for stage in STAGES if stage == name), STAGES[-1])
    stages = cast("list[Stage]", force or [])
    world = ALONE
    if devices * nodes > 1:
        if not launched():
            check(settings, base, directory, until, stages, devices * nodes)
            raise typer.Exit(launch(devices, nodes, sys.argv[1:]))
        world = join(devices, nodes)
    try:
        results = run(settings, base, directory, until, stages, world=world)
    except KeyboardInterrupt:
        line = "boltzgen: stopped; finished stages are kept, run the same command to continue"
        print(line, file=sys.stderr)
        raise typer.Exit(130) from None
    except RuntimeError as error:
        if world.size == 1 or not is_lost_contact(error):
            raise
        print(f"boltzgen: process {world.rank} has lost contact to another one", file=sys.stderr)
        raise typer.Exit(LOST_CONTACT) from None
    if world.first:
        _close(name, directory, results)


def _close(command: str, directory: Path, results: dict[str, object] | None) -> None:
    """What a finished command says: the closing table of a run, and where the files are."""
    if results is not None and command in ("run", "analyze"):
        from rich.console import Console

        from boltzgen.report.table import closing_table, verdict_panel

        console = Console()
        console.print(closing_table(results), verdict_panel(results))
    if results is None:
        print(f"done, see {directory}")
    else:
        from boltzgen.report.page import FILE_NAME

        print(f"results in {directory}, report in {directory / FILE_NAME}")
