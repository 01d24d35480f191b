"""Collective variables and states as they are declared in YAML, made ones of a molecular system."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import ValidationError

from boltzgen.config.base import Settings, StateSettings, VariableSettings, first_problem, in_words
from boltzgen.errors import MolecularSystemError
from boltzgen.system.collective_variables import ATOMS_PER_KIND, CollectiveVariable, State
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.selection import selected_atoms

Entry = TypeVar("Entry", bound=Settings)
Entries = Mapping[str, Any]


def with_variables(
    system: MolecularSystem,
    collective_variables: Entries | None = None,
    states: Entries | None = None,
    where: tuple[str, str] = ("collective_variables", "states"),
) -> MolecularSystem:
    """``system`` with further collective variables and states.

    collective_variables
        ``{name: {kind: torsion | angle | distance | radius_of_gyration | rmsd, atoms: ...}}``. Atoms are
        0-based indices or selections in MDTraj's language. A torsion, an angle and a distance take one
        selection for each atom, or one for all of them, in the order of the indices. An ``rmsd`` is
        measured from ``system.positions``.
    states
        ``{name: {cv: name, intervals: [[low, high], ...]}}`` in radians or nm, on these or the system's
        own variables. Two or more come before the system's own, so that Delta F is theirs.
    where
        Dotted keys of the two, for messages.

    Raises MolecularSystemError or ConfigError, one line, for what cannot be used.
    """
    given = _entries(where[0], collective_variables, VariableSettings)
    regions = _entries(where[1], states, StateSettings)
    if not given and not regions:
        return system
    made = [_variable(system, where[0], name, entry) for name, entry in given.items()]
    doubts = [_doubt(system, f"{where[0]}.{name}.atoms", entry) for name, entry in given.items()]
    variables = (*system.collective_variables, *made)
    _check_new(where[0], given, [cv.name for cv in system.collective_variables], system)
    _check_new(where[1], regions, [state.name for state in system.states], system)
    by_name = {cv.name: cv for cv in variables}
    declared = tuple(_state(where[1], name, entry, by_name) for name, entry in regions.items())
    ordered = (*declared, *system.states) if len(declared) > 1 else (*system.states, *declared)
    notices = (*system.notices, *filter(None, doubts))
    return replace(system, collective_variables=variables, states=ordered, notices=notices)


def _entries(where: str, given: Entries | None, model: type[Entry]) -> dict[str, Entry]:
    """What is given under ``where``, checked: plain mappings become settings."""
    if not isinstance(given or {}, Mapping):
        raise MolecularSystemError(where, f"{given} names nothing", "give `name: {...}` for each")
    checked = {}
    for name, entry in (given or {}).items():
        try:
            checked[str(name)] = entry if isinstance(entry, model) else model.model_validate(entry)
        except ValidationError as error:
            problem = first_problem(error)
            key = ".".join(map(str, (where, name, *problem["loc"])))
            unknown = problem["type"] == "extra_forbidden"
            known = f"known here: {', '.join(model.model_fields)}"
            said = ("unknown key", known) if unknown else in_words(problem)
            raise MolecularSystemError(key, *said) from None
    return checked


def _variable(system: MolecularSystem, where: str, name: str, entry: VariableSettings) -> CollectiveVariable:
    atoms = _atoms(system, f"{where}.{name}.atoms", entry)
    _check_indices(f"{where}.{name}.atoms", atoms, system.n_atoms)
    if entry.kind != "rmsd":
        with _at(f"{where}.{name}.atoms"):
            return CollectiveVariable(name, entry.kind, atoms)
    rows = system.positions[list(atoms)] if atoms else system.positions
    reference = tuple(tuple(row) for row in rows.round(6).tolist())  # digits that every machine agrees on
    with _at(f"{where}.{name}"):
        return CollectiveVariable(name, entry.kind, atoms, reference)


def _atoms(system: MolecularSystem, key: str, entry: VariableSettings) -> tuple[int, ...]:
    """Indices of the atoms that an entry names."""
    number = ATOMS_PER_KIND.get(entry.kind)
    found: list[int] = []
    for choice in entry.atoms:
        atoms = [choice] if isinstance(choice, int) else selected_atoms(system, key, choice).tolist()
        if number is not None and len(atoms) not in (1, number if len(entry.atoms) == 1 else 1):
            wanted = "one atom" if len(entry.atoms) > 1 else f"the {number} atoms of a {entry.kind}"
            raise MolecularSystemError(key, f"{choice!r} selects {len(atoms)} atoms", f"select {wanted}")
        found += atoms
    return tuple(found)


def _doubt(system: MolecularSystem, key: str, entry: VariableSettings) -> str:
    """What is said of a torsion or an angle whose indices name no chain of bonded atoms."""
    atoms = [index for index in entry.atoms if isinstance(index, int)]
    bonded = set(system.bonds)

    def chain(indices: list[int]) -> bool:
        return all((min(pair), max(pair)) in bonded for pair in itertools.pairwise(indices))

    several = entry.kind in ("torsion", "angle") and len(atoms) == ATOMS_PER_KIND[entry.kind]
    if not several or not bonded or max(atoms) >= system.n_atoms or chain(atoms):
        return ""
    labels, known = system.labels, list(system.topology.atoms())
    apart = next(pair for pair in itertools.pairwise(atoms) if not chain(list(pair)))
    said = f"{key}: {labels.atom(known[apart[0]])} and {labels.atom(known[apart[1]])} are not bonded"
    one_less = [index - 1 for index in atoms]
    if min(one_less) >= 0 and chain(one_less):
        return f"{said}; atoms are counted from 0, is {one_less} meant?"
    return f"{said}; is this {entry.kind} meant? atoms are counted from 0, and selections name them"


def _check_indices(key: str, atoms: tuple[int, ...], n_atoms: int) -> None:
    if atoms and not 0 <= min(atoms) <= max(atoms) < n_atoms:
        raise MolecularSystemError(
            key, f"{list(atoms)} is out of range", f"there are atoms 0 to {n_atoms - 1}, the first is 0"
        )


def _check_new(where: str, given: Mapping[str, object], own: list[str], system: MolecularSystem) -> None:
    for name in given:
        if name in own:
            raise MolecularSystemError(
                f"{where}.{name}", f"{system.name} has one of that name already", "choose another"
            )


def _state(where: str, name: str, entry: StateSettings, variables: Mapping[str, CollectiveVariable]) -> State:
    if entry.cv not in variables:
        raise MolecularSystemError(
            f"{where}.{name}.cv",
            f"{entry.cv} is no collective variable",
            f"defined: {', '.join(variables) or 'none'}",
        )
    with _at(f"{where}.{name}.intervals"):
        return State(name, variables[entry.cv], entry.intervals)


@contextmanager
def _at(key: str) -> Iterator[None]:
    """What is wrong with a variable or a state, told by its dotted key."""
    try:
        yield
    except MolecularSystemError as error:
        raise MolecularSystemError(key, error.what, error.remedy) from None
