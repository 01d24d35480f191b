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


def with_new_names(document: dict[str, Any], source: str, wins: bool = False, told: bool = True) -> None:
    """Give the settings of a document, in place, the names that they have now; if ``told`` a line says so.

    Where a setting is there under both names the new one counts, or where it ``wins`` the old one.
    """
    for old, new in _renamed(document).items():
        found, value = _taken(document, old.split("."))
        if found:
            if told:
                _tell(source, old, new)
            _put(document, new.split("."), value, wins)


def current_names(inputs: Mapping[str, str]) -> dict[str, str]:
    """What a stage was made from, as recorded (name -> text), by the names that settings have now."""
    gone = OF_A_MOLECULE if inputs.get("system.name") == '"molecule"' else {}
    return {RENAMED.get(name, name): text for name, text in inputs.items() if name not in gone}


def _renamed(document: Mapping[str, Any]) -> dict[str, str]:
    system = document.get("system")
    of_a_molecule = isinstance(system, dict) and system.get("name") == "molecule"
    return RENAMED | (OF_A_MOLECULE if of_a_molecule else {})


def _taken(document: Any, keys: list[str]) -> tuple[bool, Any]:
    """Whether there is a value under these keys, and the value, which is no more there."""
    for key in keys[:-1]:
        document = document.get(key) if isinstance(document, dict) else None
    if not isinstance(document, dict) or keys[-1] not in document:
        return False, None
    return True, document.pop(keys[-1])


def _put(document: dict[str, Any], keys: list[str], value: Any, wins: bool) -> None:
    """A value under these keys; mappings are joined."""
    for key in keys[:-1]:
        document = document.setdefault(key, {})
    there = document.get(keys[-1])
    if isinstance(there, dict) and isinstance(value, dict):
        document[keys[-1]] = there | value if wins else value | there
    elif wins:
        document[keys[-1]] = value
    else:
        document.setdefault(keys[-1], value)


@functools.cache
def _tell(source: str, old: str, new: str) -> None:
    """Once of each."""
    _LOG.warning("%s: %s is now called %s; the old name works in this version only", source, old, new)
