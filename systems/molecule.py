"""Any molecule described in a workflow file alone: a PDB, a force field, collective variables and states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from boltzgen.builders import from_pdb
from boltzgen.errors import MolecularSystemError
from boltzgen.system import CollectiveVariable, MolecularSystem, State


def build(
    pdb: str,
    forcefield: str | Sequence[str] = ("amber99sbildn.xml", "amber99_obc.xml"),
    temperature_k: float = 300.0,
    cvs: Mapping[str, Mapping[str, Any]] | None = None,
    states: Mapping[str, Mapping[str, Any]] | None = None,
    nonbonded_cutoff_nm: float | None = None,
    base: Path | None = None,
) -> MolecularSystem:
    """Your own molecule from a PDB file (with hydrogens) and OpenMM force-field files.

    pdb, forcefield
        Files relative to the workflow file; force fields also by the names that OpenMM ships.
    cvs
        ``{name: {kind: torsion | angle | distance | radius_of_gyration, atoms: [0-based indices]}}``.
    states
        ``{name: {cv: name, intervals: [[low, high], ...]}}`` in radians or nm.
    """
    base = Path() if base is None else base
    files = [forcefield] if isinstance(forcefield, str) else list(forcefield)
    for key, value in (("cvs", cvs), ("states", states)):
        if not isinstance(value or {}, Mapping):
            raise MolecularSystemError(f"system.parameters.{key}: give `name: {{...}}` for each, not {value}")
    variables = {name: _variable(name, entry) for name, entry in (cvs or {}).items()}
    return from_pdb(
        base / pdb,
        [base / file if (base / file).is_file() else file for file in files],
        name=Path(pdb).stem,
        temperature_k=temperature_k,
        collective_variables=tuple(variables.values()),
        states=[_state(name, entry, variables) for name, entry in (states or {}).items()],
        nonbonded_cutoff_nm=nonbonded_cutoff_nm,
    )


def _variable(name: str, entry: Mapping[str, Any]) -> CollectiveVariable:
    where, kinds = f"system.parameters.cvs.{name}", ("torsion", "angle", "distance", "radius_of_gyration")
    _check_keys(where, entry, {"kind", "atoms"})
    if entry.get("kind") not in kinds:
        raise MolecularSystemError(f"{where}.kind: {entry.get('kind')} is none of {', '.join(kinds)}")
    atoms = entry.get("atoms", ())
    if not isinstance(atoms, Sequence) or not all(isinstance(i, int) for i in atoms):
        raise MolecularSystemError(f"{where}.atoms: give a list of 0-based atom indices, not {atoms}")
    return CollectiveVariable(name, entry["kind"], tuple(atoms))


def _state(name: str, entry: Mapping[str, Any], variables: Mapping[str, CollectiveVariable]) -> State:
    where = f"system.parameters.states.{name}"
    _check_keys(where, entry, {"cv", "intervals"})
    if entry.get("cv") not in variables:
        raise MolecularSystemError(
            f"{where}.cv: {entry.get('cv')} is no collective variable; "
            f"defined: {', '.join(variables) or 'none'}"
        )
    try:
        intervals = tuple((float(low), float(high)) for low, high in entry["intervals"])
    except (KeyError, TypeError, ValueError):
        raise MolecularSystemError(f"{where}.intervals: give a list of [low, high] pairs") from None
    return State(name, variables[entry["cv"]], intervals)


def _check_keys(where: str, entry: object, valid: set[str]) -> None:
    if not isinstance(entry, Mapping):
        raise MolecularSystemError(f"{where}: give {' and '.join(sorted(valid))}, not {entry}")
    for key in entry:
        if key not in valid:
            raise MolecularSystemError(f"{where}: unknown key {key}; valid: {', '.join(sorted(valid))}")
