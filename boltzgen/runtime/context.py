"""What every long piece of work is given beside its own input: one value in place of six arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from boltzgen.runtime.processes import ALONE, Processes
from boltzgen.runtime.progress import OnProgress, silent

Log = Callable[[str], None]
"""Called with a line that the user should read."""


def unheard(line: str) -> None:
    """A Log that nobody reads."""


@dataclass(frozen=True)
class Context:
    """Random numbers, device, whom to tell, where to keep what is finished, and who shares the work.

    seed
        Fixes every random number.
    device
        ``cpu`` or ``cuda``.
    on_progress
        Told how far the work has come.
    log
        Told, line by line, what the user should know.
    checkpoints
        Directory of what is finished, from which the same call goes on after a kill; for the caller to
        remove once the result is safe. None keeps nothing.
    processes
        Those that share the work, and meet in ``checkpoints``.
    """

    seed: int = 0
    device: str = "cpu"
    on_progress: OnProgress = silent
    log: Log = unheard
    checkpoints: Path | None = None
    processes: Processes = ALONE
