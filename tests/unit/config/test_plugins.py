"""Packages that register something before the workflow file is read, as the command imports them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from boltzgen.config import choices, plugins
from boltzgen.smc.moves import MOVES

MINE = """
from boltzgen.smc.moves import Hmc, register

register("mine", Hmc())
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module my_moves on the path, and the entry point that an installed package would have."""
    monkeypatch.syspath_prepend(str(tmp_path))
    entries = [EntryPoint("mine", "my_moves", plugins.PLUGINS)]
    monkeypatch.setattr(plugins, "entry_points", lambda group: entries if group == plugins.PLUGINS else [])
    plugins.load_plugins.cache_clear()
    yield tmp_path / "my_moves.py"
    plugins.load_plugins.cache_clear()
    sys.modules.pop("my_moves", None)


def test_what_a_package_registers_can_be_asked_for(boltzgen: Callable[..., Any], installed: Path) -> None:
    installed.write_text(MINE)
    try:
        known = boltzgen(installed.parent, "check", "harmonic_dimer", "--set", "sample.move=mine")
    finally:
        MOVES.pop("mine", None)
        choices.MOVE_NAMES.remove("mine")
    assert known.returncode == 0 and "nothing stands in its way" in known.stdout


def test_one_that_cannot_be_imported_is_a_line(boltzgen: Callable[..., Any], installed: Path) -> None:
    installed.write_text("import nowhere_to_be_found\n")
    refused = boltzgen(installed.parent, "check", "harmonic_dimer")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "plug-in mine: my_moves cannot be imported (ModuleNotFoundError" in refused.stderr
