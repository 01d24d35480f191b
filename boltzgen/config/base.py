"""What every section of a workflow file is, and how collective variables and states are written in one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from boltzgen.config.choices import CVKind

_PLAINLY = {
    "value error, ": "",
    "a valid string": "text, in quotes where it looks like a number",
    "a valid tuple": "a list in brackets",
    "a valid dictionary": "`key: value` lines or {key: value}",
    "tuple should": "list should",
    " after validation": "",
    ", unable to parse string as a number": "",
    ", unable to parse string as an integer": "",
}
"""What pydantic calls things, and what somebody who writes YAML calls them."""


class Settings(BaseModel):
    """Common behaviour: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switches(cls, value: object) -> object:
        """Nothing is switched on or off, so that ``steps: true`` is not one step."""
        if isinstance(value, bool):
            raise ValueError("a number or a word is wanted")
        return value


class VariableSettings(Settings):
    """A collective variable: radians for torsions and angles, nm for the others."""

    kind: CVKind = Field(
        description="rmsd: smallest distance to the reference configuration over rotations and translations"
    )
    atoms: tuple[int | str, ...] = Field(
        (),
        description="0-based indices, or selections in MDTraj's language; default: all atoms, where the kind "
        "takes any number",
    )

    @field_validator("atoms", mode="before")
    @classmethod
    def _in_a_list(cls, value: object) -> tuple[int | str, ...]:
        """A single index or selection is a list of one."""
        entries = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(entry, int | str) and not isinstance(entry, bool) for entry in entries):
            raise ValueError("give 0-based indices, or selections in MDTraj's language")
        return tuple(entries)


class StateSettings(Settings):
    """A region of one collective variable; ``.inf`` where it has no end."""

    model_config = ConfigDict(allow_inf_nan=True)

    cv: str = Field(description="name of a collective variable, declared here or by the system")
    intervals: tuple[tuple[float, float], ...] = Field(description="[low, high) pairs in radians or nm")


def first_problem(error: ValidationError) -> Mapping[str, Any]:
    """One problem of several; a key that is unknown comes first, because others may be missing for it."""
    problems = error.errors(include_url=False)
    return min(problems, key=lambda problem: problem["type"] != "extra_forbidden")


def in_words(problem: Mapping[str, Any]) -> tuple[str, str]:
    """What is wrong with a value and what should stand there, from one problem of a pydantic error."""
    if problem["type"] == "missing":
        return "missing", "give it"
    wanted = problem["msg"][0].lower() + problem["msg"][1:]
    for technical, plain in _PLAINLY.items():
        wanted = wanted.replace(technical, plain)
    value = problem["input"]
    wanted = wanted.partition(" or instance of")[0].replace("input should be", "it should be")
    if value is None or isinstance(value, bool):
        return f"is {'empty' if value is None else str(value).lower()}", wanted
    return f"is {value!r}" if isinstance(value, str | int | float) else "cannot be used", wanted
