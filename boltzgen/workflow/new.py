"""A workflow file for the files of a molecule: what `boltzgen new` writes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import yaml

from boltzgen.config.load import load_workflow
from boltzgen.config.plugins import load_plugins
from boltzgen.errors import ConfigError, MolecularSystemError, UserError
from boltzgen.potential.cohesion import check_cohesion
from boltzgen.potential.symmetries import check_translation_invariant
from boltzgen.system.builders.file_kinds import SYSTEM
from boltzgen.system.builders.solvents import VACUUM, solvent_named
from boltzgen.system.builders.structures import READERS, kind_of_file
from boltzgen.system.registry import build_system
from boltzgen.system.torsions import FoundTorsion, found_torsions
from boltzgen.system.variables import with_variables
from boltzgen.workflow.molecule_files import SOLVENT, WANTED, Wanted, files_of_molecule, write_new

_STATES_OF_PHI = {"positive": "0.0, 3.1416", "negative": "-3.1416, 0.0"}
_STATES = {"gauche": "-2.0, 2.0", "trans": "2.0, 4.2832"}
"""Examples of states [rad]; an interval may go past pi."""
PROTEIN = "amber14-all.xml"
"""The force field of a structure where none is asked for: ff14SB and others of Amber."""


def write_workflow(name: str, given: Sequence[Path], wanted: Wanted = WANTED) -> tuple[Path, list[str]]:
    """Write ``NAME.yaml`` in the current directory; its path and what was chosen and found, a line each.

    The molecule is built first, as a run would build it. Raises UserError for files that cannot be used and
    those that are there already.
    """
    path = Path(f"{name}.yaml")
    if Path(name).name != name:
        raise ConfigError(name, "is no name", "give one without a folder; NAME.yaml is written here")
    load_plugins()
    made: list[Path] = []
    try:
        write_new(path, "", made)
        files, added = files_of_molecule(name, given, wanted, made)
        parameters, said = _parameters(files, wanted)
        path.write_text(_text(name, parameters, []), encoding="utf-8")
        system = build_system(*load_workflow(str(path)))
        check_translation_invariant(system)
        check_cohesion(system)
        torsions = found_torsions(system)
        path.write_text(_text(name, parameters, torsions), encoding="utf-8")
        workflow, _ = load_workflow(str(path))
        with_variables(system, workflow.collective_variables, workflow.states)
    except BaseException as error:
        for file in made:
            file.unlink(missing_ok=True)
        if isinstance(error, UserError) and len(made) > 1 and Path(error.where).name == made[1].name:
            raise MolecularSystemError(
                f"{_described(given, wanted)}, completed", error.what, error.remedy
            ) from error
        raise
    charge = "" if system.net_charge is None else f", net charge {round(system.net_charge, 2) + 0.0:g}"
    told = f"; torsions found: {', '.join(t.name for t in torsions)}" if torsions else ""
    return path, [*added, *said, *system.notices, f"{system.n_atoms} atoms{charge}{told}"]


def _described(given: Sequence[Path], wanted: Wanted) -> str:
    """What was given, for messages about what was made of it."""
    return str(given[0]) if given else "--smiles" if wanted.smiles is not None else "--sequence"


def _parameters(files: Sequence[Path], wanted: Wanted) -> tuple[dict[str, object], list[str]]:
    """Parameters of the system ``molecule``, and what was chosen."""
    kinds = [kind_of_file(path) for path in files]
    parameters: dict[str, object] = {"files": [Path(os.path.relpath(p)).as_posix() for p in files]}
    said: list[str] = []
    solvent = solvent_named("--solvent", wanted.solvent or SOLVENT)
    chosen = f"{solvent or VACUUM}{'' if wanted.solvent else ', as none was asked for (--solvent)'}"
    if SYSTEM in kinds:
        for option, given in (("--forcefield", wanted.forcefield), ("--solvent", wanted.solvent)):
            if given:
                raise ConfigError(option, "an OpenMM System has one of its own", "leave it out")
    elif all(kind in READERS for kind in kinds):
        fields = _force_fields(wanted, solvent)
        parameters["forcefield"] = fields
        none = "" if len(fields) > 1 else "; no solvent was asked for (--solvent)"
        said.append(f"force field: {', '.join(fields)}{none}")
    else:
        if wanted.forcefield:
            raise ConfigError("--forcefield", "the files bring their parameters", "leave it out")
        parameters["implicit_solvent"] = solvent or VACUUM
        said.append(f"implicit solvent: {chosen}")
    parameters["temperature_k"] = wanted.temperature_k
    return parameters, said


def _force_fields(wanted: Wanted, solvent: str | None) -> list[str]:
    """OpenMM's files, that of the solvent among them unless force fields are given without one."""
    fields = list(wanted.forcefield or (PROTEIN,))
    if solvent and (wanted.solvent or not wanted.forcefield):
        fields.append(f"implicit/{solvent.lower()}.xml")
    return fields


_BIASED = [
    "# The training ensemble: replicas under none to all of a bias that makes every value of each torsion",
    "# above equally likely. `bias: [a, b]` names fewer; parallel_tempering needs none, and takes longer.",
    "simulate: {method: flat_histogram, production_ps: 4000}",
    "",
]


def _text(name: str, parameters: dict[str, object], torsions: Sequence[FoundTorsion]) -> str:
    """The workflow file, with its comments."""
    rows = [f"    {key}: {_flow(value)}" for key, value in parameters.items()]
    variables = [f"  {t.name}: {{kind: torsion, atoms: {list(t.atoms)}}}" for t in torsions]
    first = torsions[0].name if torsions else "phi"
    quickly = "" if torsions else "n_temperatures: 3, "
    states = _STATES_OF_PHI if first.startswith("phi") else _STATES
    return "\n".join(
        [
            "# yaml-language-server: $schema=boltzgen.schema.json",
            "# (`boltzgen schema > boltzgen.schema.json` makes it, for editors to complete and check by)",
            "#",
            f"#   boltzgen check {name}.yaml          what a run would stumble over, and how long it takes",
            f"#   boltzgen run {name}.yaml --quick    every stage in minutes; not a result",
            f"#   boltzgen run {name}.yaml",
            f"name: {name}",
            "system:",
            "  name: molecule",
            "  parameters:",
            *rows,
            "",
            "# What is reported: torsion, angle, distance, radius_of_gyration, rmsd. Atoms count from 0.",
            *(["collective_variables:", *variables] if variables else ["# collective_variables:"]),
            "",
            "# Regions of one variable. The first two give Delta F; rare ones are given weight in training.",
            "# states:",
            *(f"#   {state}: {{cv: {first}, intervals: [[{region}]]}}" for state, region in states.items()),
            "",
            *(_BIASED if torsions else []),
            "# MD of your own in place of the built-in simulation:",
            "# data: {trajectory: [md.dcd]}",
            "",
            "train: {minutes: 30}    # more for larger molecules",
            "",
            "# `--quick`: minutes, to see every stage work. Do not read the free energies.",
            "quick:",
            f"  simulate: {{n_runs: 2, {quickly}equilibration_ps: 2, production_ps: 50}}",
            "  train: {steps: 300, minutes: 5, batch_size: 32, compile: never}",
            "  sample: {n_particles: 128, n_islands: 2, n_levels: 60, bridge_cess: 0.9, bridge_moves: 2, "
            "n_pilot: 64, n_forward: 64}",
            "  analyze: {n_bootstrap: 50}",
            "  export: {n_resampled: 100}",
            "",
        ]
    )


def _flow(value: object) -> str:
    """A value of a parameter as YAML."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=math.inf)
    return text.removesuffix("...\n").strip()
