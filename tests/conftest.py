"""What every test starts from, and what tests of all kinds share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

# Before torch is imported: tests side by side share the cores, and sums over two threads differ in their last
# digits from those of the commands that tests start on one.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_is_heard() -> None:
    """A shell's background job starts with Ctrl-C ignored, and would hand that on to the commands tested."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run without picture files, which take longer than all that is in them."""
    monkeypatch.setattr("boltzgen.report.pictures.write_pictures", lambda run, directory: [])


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages too without figures, where only their words are looked at."""

    from markupsafe import Markup

    from boltzgen.report.inline import Chart
    from boltzgen.report.sections import Panel

    def chart(self: object, panel: Panel) -> Chart:
        return Chart(Markup(""), panel.alt, panel.caption)

    monkeypatch.setattr("boltzgen.report.inline.Ink.chart", chart)


@dataclass(frozen=True)
class Ended:
    """How a command ended, named as in `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def boltzgen(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """The command without a process of its own, which takes seconds to import what this one has."""
    from boltzgen.cli import main

    def command(directory: Path, *arguments: object) -> Ended:
        monkeypatch.chdir(directory)
        monkeypatch.setattr(sys, "argv", ["boltzgen", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capfd.readouterr()
        return Ended(int(ended.value.code or 0), printed.out, printed.err)

    return command
