"""Options of the commands: dataclasses whose fields are options, and commands as functions of one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from boltzgen.cli.stage_commands import Order, system_overrides

T = TypeVar("T")


def taking(options: type[T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """Decorator for a command: typer sees the fields of a dataclass, the function gets an object of it."""
    hints = get_type_hints(options, include_extras=True)
    parameters = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(options).parameters.items()
    ]

    def decorate(function: Callable[[T], None]) -> Callable[..., None]:
        def command(**given: Any) -> None:
            function(options(**given))

        command.__doc__ = function.__doc__
        command.__annotations__ = hints
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return command

    return decorate


WorkflowArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="WORKFLOW",
        help="Name of a workflow (see `boltzgen workflows`) or path of a .yaml file; optional with --system.",
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. train.steps=2000. Repeatable."),
]
SeedOption = Annotated[int | None, typer.Option(help="Seed of every random number of the run.")]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"] | None,
    typer.Option(help="Where the network runs. Default: the workflow's."),
]
OutOption = Annotated[Path | None, typer.Option(metavar="DIR", help="Run directory. Default: runs/NAME.")]
QuickOption = Annotated[
    bool, typer.Option("--quick", help="Minutes instead of hours: a try-out, not a result.")
]
SystemOption = Annotated[
    str | None,
    typer.Option(metavar="NAME|FILE.py", help="Use this system: a registered name, or a file with build()."),
]
TemperatureOption = Annotated[
    float | None,
    typer.Option(
        metavar="KELVIN",
        help="Sample at this temperature with the network of another (sample.temperature_k).",
    ),
]
DevicesOption = Annotated[
    int, typer.Option(min=1, metavar="N", help="Processes on each machine that share the work: one per GPU.")
]
NodesOption = Annotated[
    int, typer.Option(min=1, metavar="M", help="Machines, each with N processes started by srun or torchrun.")
]
ForceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--force",
        metavar="STAGE",
        help="Do this stage, and what depends on it, again from its beginning: even if nothing changed, and "
        "without what an interrupted attempt has kept. Repeatable.",
    ),
]

FramesOption = Annotated[
    int | None, typer.Option("--n", metavar="N", help="Equally weighted frames (export.n_resampled).")
]
SelectOption = Annotated[
    str | None,
    typer.Option(metavar="ATOMS", help="Atoms to write, in MDTraj's language: 'not element H'."),
]
AlignOption = Annotated[
    str | None, typer.Option(metavar="ATOMS", help="Atoms by which frames are superposed, e.g. 'backbone'.")
]
StrideOption = Annotated[
    int | None, typer.Option(metavar="N", help="Every N-th weighted sample, with its weight.")
]


@dataclass(frozen=True)
class StageOptions:
    """Options of the commands that are named after stages."""

    workflow: WorkflowArgument = None
    set_: SetOption = None
    seed: SeedOption = None
    device: DeviceOption = None
    out: OutOption = None
    quick: QuickOption = False
    system: SystemOption = None
    temperature: TemperatureOption = None
    force: ForceOption = None
    devices: DevicesOption = 1
    nodes: NodesOption = 1

    def order(self, *more: str) -> Order:
        """What is asked for; ``more`` are further settings."""
        warmth = [] if self.temperature is None else [f"sample.temperature_k={self.temperature}"]
        overrides = [*system_overrides(self.system), *(self.set_ or []), *more, *warmth]
        where = self.seed, self.device, self.out, self.quick
        return Order(self.workflow, overrides, *where, tuple(self.force or ()), self.devices, self.nodes)


@dataclass(frozen=True)
class ExportOptions(StageOptions):
    """Options of export: which frames, beside those of any stage."""

    n: FramesOption = None
    select: SelectOption = None
    align: AlignOption = None
    stride: StrideOption = None


@dataclass(frozen=True)
class NewOptions:
    """Options of new: a name, the files of a molecule, and what is asked for beside them."""

    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the molecule: NAME.yaml is written.")]
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE...",
            show_default=False,
            help="PDB or mmCIF; prmtop with rst7 or PDB; GROMACS top with gro; PSF with crd or PDB and "
            "parameter files; OpenMM System (XML) with PDB; SDF, MOL or MOL2. In any order, told apart by "
            "what they hold.",
        ),
    ] = None
    forcefield: Annotated[
        list[str] | None,
        typer.Option(metavar="XML", help="OpenMM force field of a PDB, by name or path. Repeatable."),
    ] = None
    solvent: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="hct, obc1, obc2, gbn, gbn2 or vacuum. Default: obc2."),
    ] = None
    temperature: Annotated[float, typer.Option(metavar="K", help="Temperature of the target.")] = 300.0
    smiles: Annotated[
        str | None,
        typer.Option(metavar="SMILES", help="In place of files: GAFF2, AM1-BCC charges (needs AmberTools)."),
    ] = None
    sequence: Annotated[
        str | None,
        typer.Option(metavar="SEQUENCE", help="In place of files: a peptide of L residues, ACE-ALA-ALA-NME."),
    ] = None
    ph: Annotated[
        float | None,
        typer.Option(metavar="PH", help="At which hydrogens of a PDB or a sequence are put in. Default: 7."),
    ] = None


@dataclass(frozen=True)
class CheckOptions:
    """Options of check: those of a run that it looks at, and what is timed."""

    target: Annotated[
        str | None,
        typer.Argument(
            metavar="WORKFLOW|SYSTEM",
            help="What would be run: a workflow by name or .yaml file. Or a system alone, by its registered "
            "name or the .py file with its build(). A name that is both is the workflow.",
            show_default=False,
        ),
    ] = None
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting as for run (train.steps=2000), or a parameter of the system (hamiltonian=C). "
            "Repeatable.",
        ),
    ] = None
    device: DeviceOption = None
    out: OutOption = None
    quick: QuickOption = False
    system: SystemOption = None
    timing: Annotated[
        bool,
        typer.Option("--timing", help="Time OpenMM's platforms and batched energies too: a minute or two."),
    ] = False
    seconds: Annotated[float, typer.Option(min=0.01, help="Of each evaluator, with --timing.")] = 1.0
    compiled: Annotated[
        bool, typer.Option(help="Compiled evaluators too, with --timing: up to a minute of compiling each.")
    ] = True
