"""Settings that have another name than in the version before: the old one works in this version."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import Any

RENAMED = {
    "train.state_share": "train.min_state_weight",
    "train.height_weight": "train.level_loss_weight",
    "train.height_paths": "train.consistency_paths",
    "sample.ladder_moves": "sample.level_moves",
    "simulate.n_walkers": "simulate.n_replicas",
}
"""Dotted keys of version 0.1.0, and what they are called now."""
OF_A_MOLECULE = {
    "system.parameters.cvs": "collective_variables",
    "system.parameters.states": "states",
}
"""The same of the system ``molecule``, whose variables and states are those of the workflow."""
_LOG = logging.getLogger(__name__)


def with_new_names(document: dict[str, Any], source: str, told: bool = True) -> None:
    """Give the settings of a document, in place, the names that they have now; if ``told`` a line says so."""
    for old, new in RENAMED.items():
        _move(document, old, new, source if told else "")


def with_variables_on_top(document: dict[str, Any], source: str, told: bool = True) -> None:
    """The same for the variables and states of a molecule, once it is known that the system is one."""
    system = document.get("system")
    if isinstance(system, dict) and system.get("name") == "molecule":
        for old, new in OF_A_MOLECULE.items():
            _move(document, old, new, source if told else "")


def current_name(key: str) -> str:
    """The name that a setting given on the command line has now."""
    return RENAMED.get(key, key)


def told_name(key: str) -> str:
    """The same, and a line says so where it is another."""
    if key in RENAMED:
        _tell("command line", key, RENAMED[key])
    return current_name(key)


def current_names(inputs: Mapping[str, str]) -> dict[str, str]:
    """What a stage was made from, as recorded (name -> text), by the names that settings have now."""
    gone = OF_A_MOLECULE if inputs.get("system.name") == '"molecule"' else {}
    return {RENAMED.get(name, name): text for name, text in inputs.items() if name not in gone}


def _move(document: dict[str, Any], old: str, new: str, source: str) -> None:
    """What stands under an old name to the new one, where it counts if it is there as well."""
    *path, last = old.split(".")
    section: Any = document
    for key in path:
        section = section.get(key) if isinstance(section, dict) else None
    if not isinstance(section, dict) or last not in section:
        return
    if source:
        _tell(source, old, new)
    value, place = section.pop(last), document
    *path, last = new.split(".")
    for key in path:
        place = place.setdefault(key, {})
    there = place.get(last)
    if isinstance(there, dict) and isinstance(value, dict):
        place[last] = there | {name: entry for name, entry in value.items() if name not in there}
    else:
        place.setdefault(last, value)


@functools.cache
def _tell(source: str, old: str, new: str) -> None:
    """Once of each."""
    _LOG.warning("%s: %s is now called %s; the old name works in this version only", source, old, new)
