"""The ``boltzgen`` command: options and help texts; the work is in `boltzgen.workflow.runner`."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from boltzgen import __version__
from boltzgen.cli.options import CheckOptions, ExportOptions, NewOptions, StageOptions, taking
from boltzgen.cli.stage_commands import (
    Asked,
    carry_out,
    look_at_system,
    look_at_workflow,
    names_workflow,
)
from boltzgen.config.load import available_workflows
from boltzgen.errors import UserError

HELP = """Boltzmann generator for molecules: an OpenMM system in, weighted samples and free energies out.

A run has five stages: simulate (MD), train (an energy network), sample (annealing from noise to the
OpenMM target), analyze (free energies and a verdict) and export (trajectories for MD tools). Each is
done once and kept in the run directory; after a change only what depends on it is done again.

Examples:

  boltzgen new butane butane.prmtop butane.rst7 a workflow file for your molecule

  boltzgen check my.yaml                        what would go wrong, and how long it takes

  boltzgen run alanine_dipeptide --quick        a look at everything, in minutes

  boltzgen run alanine_dipeptide                the real thing

  boltzgen run my.yaml --set train.minutes=60   your workflow, one setting changed

  boltzgen run --system my_molecule.py          your system, default settings

  boltzgen sample alanine_dipeptide             at once, with a network that comes with boltzgen

  boltzgen train my.yaml --device cuda          stages up to training only

  boltzgen report runs/a runs/b                 one page that compares finished runs
"""

app = typer.Typer(
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

COMMANDS = {
    "run": "Run every stage, simulation to export; write the report and print the closing table.",
    "simulate": "Make the training ensemble by MD, or read the trajectories named in the workflow.",
    "train": "Train the energy network, after the stages before it.",
    "sample": "Draw weighted samples of the OpenMM target, after the stages before it.",
    "analyze": "Compute free energies and distances to MD, write the report, after the stages before it.",
}


def _add_stage_command(name: str, help_text: str) -> None:
    """Register one of COMMANDS; they share their options."""

    @app.command(name, help=help_text)
    @taking(StageOptions)
    def command(options: StageOptions) -> None:
        carry_out(name, options.order())


for _name, _help in COMMANDS.items():
    _add_stage_command(_name, _help)


@app.command("export")
@taking(ExportOptions)
def export(options: ExportOptions) -> None:
    """Write trajectories and weights for MD tools, after the stages before it."""
    given = {
        "n_resampled": options.n,
        "select": options.select,
        "align": options.align,
        "stride": options.stride,
    }
    asked = [f"export.{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    carry_out("export", options.order(*asked))


@app.command("report")
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run directories.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where it goes. Default: RUN/report.html, or comparison.html for several.",
        ),
    ] = None,
) -> None:
    """Write the page of a run again, or one page that compares several runs."""
    from boltzgen.report.comparison import COMPARISON_FILE, write_comparison
    from boltzgen.report.page import write_report

    print(
        write_report(runs[0], out) if len(runs) == 1 else write_comparison(runs, out or Path(COMPARISON_FILE))
    )


@app.command("difference")
def difference_of_runs(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="Run directory.", show_default=False)],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Run directory.", show_default=False)],
    seed: Annotated[int, typer.Option(min=0, help="Of the rows that BAR starts from.")] = 0,
) -> None:
    """Free energy of RUN_B relative to RUN_A: the same atoms in another force field, solvent or heat bath.

    With the vacuum as RUN_A and the solvent as RUN_B it is the free energy of solvation.
    """
    from rich.console import Console

    from boltzgen.cli.tables import difference_table
    from boltzgen.rundir.finished_run import load_run
    from boltzgen.workflow.difference import difference

    a, b = load_run(run_a), load_run(run_b)
    temperatures = a.system.temperature_k, b.system.temperature_k
    Console().print(difference_table(str(run_a), str(run_b), difference(a, b, seed), temperatures))


@app.command("systems")
def list_systems() -> None:
    """List the registered molecular systems."""
    from boltzgen.system.registry import available_systems

    _print_table(available_systems())


@app.command("workflows")
def list_workflows() -> None:
    """List the workflows that come with boltzgen."""
    _print_table(available_workflows())


@app.command("new")
@taking(NewOptions)
def new(options: NewOptions) -> None:
    """Write a workflow file, NAME.yaml, for a molecule from the files that describe it.

    The molecule is built as a run would build it, so that what is wrong with the files is said now. Its
    rotatable bonds become collective variables. What was chosen is printed, a line each.
    """
    from boltzgen.workflow.molecule_files import Wanted
    from boltzgen.workflow.new import write_workflow

    wanted = Wanted(
        tuple(options.forcefield or ()),
        options.solvent,
        options.temperature,
        options.ph,
        options.smiles,
        options.sequence,
    )
    path, said = write_workflow(options.name, options.files or [], wanted)
    print("\n".join([*said, f"{path} written; next: boltzgen check {path}"]))


@app.command("schema")
def schema() -> None:
    """Print the JSON schema of workflow files, by which editors complete and check them."""
    from boltzgen.config.schema import Workflow

    print(json.dumps(Workflow.model_json_schema(), indent=2))


@app.command("check")
@taking(CheckOptions)
def check_before(options: CheckOptions) -> None:
    """Find out in seconds what a run would stumble over: all is checked, nothing is started or written.

    Settings, force field, own trajectories, states, selections, disk and memory are looked at as `run` does,
    with its messages and its exit status, 2 where it would be refused. Printed are the domain of Z and
    isomers, agreement with OpenMM and symmetries, and of each stage whether it would run, why and how long.
    """
    target, system, set_ = options.target, options.system, tuple(options.set_ or ())
    times = {"seconds": options.seconds if options.timing else None, "compiled": options.compiled}
    asked = Asked(target, system, set_, options.quick, options.device, options.out)
    if target is None or system is not None or names_workflow(target):
        look_at_workflow(asked, times)
    else:
        look_at_system(target, asked.assignments, times)


@app.command("doctor")
def examine_machine() -> None:
    """Look at this installation and machine: what is there, what is missing, and what to do about it."""
    from boltzgen.cli.doctor import examine, lines, usable

    findings = examine(Path.cwd())
    print("\n".join(lines(findings)))
    if not usable(findings):
        raise typer.Exit(1)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"boltzgen {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the command itself."""


def _print_table(rows: dict[str, str]) -> None:
    width = max((len(name) for name in rows), default=0)
    for name, description in rows.items():
        print(f"{name:<{width}}  {description}".rstrip())


def main() -> None:
    """Entry point of the ``boltzgen`` command.

    Exit status 0 for success, 2 for an error that the user can put right (one line on standard error),
    130 after Ctrl-C.
    """
    try:
        code = app(prog_name="boltzgen", standalone_mode=False)
    except UserError as error:
        print(f"boltzgen: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except typer.Abort:
        sys.exit(130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        line = f"boltzgen: the disk is full ({error}); finished stages are kept, make room and run it again"
        print(line, file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        sys.exit(_refuse(error))
    sys.exit(code if isinstance(code, int) else 0)


def _refuse(error: Any) -> int:
    """One line for what typer does not understand, whichever version of it; its exit status."""
    if type(error).__name__ == "NoArgsIsHelpError":  # `boltzgen` alone
        error.show()
        return int(error.exit_code)
    said = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "boltzgen"
    print(f"boltzgen: {said[:1].lower()}{said[1:]}; `{path} --help` lists what there is", file=sys.stderr)
    return int(error.exit_code)
