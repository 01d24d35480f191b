"""What a stage has finished so far, kept on disk, so that a stage that was killed goes on from there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from boltzgen.errors import DataError
from boltzgen.runtime.files import replaced

Piece = TypeVar("Piece")


@dataclass(frozen=True)
class Checkpoints:
    """Finished pieces of a stage as files of one directory; without a directory nothing is kept.

    The caller of the stage removes the directory once the result is safe. Pieces are what ``torch.load``
    reads without running code: tensors, numbers, strings and containers of them, and ``classes`` of ours.
    """

    directory: Path | None = None
    classes: tuple[Any, ...] = ()

    def save(self, name: str, piece: object) -> None:
        """Keep a piece, complete or not at all; processes may keep pieces side by side."""
        if self.directory is None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        with replaced(self._path(name), f"{os.getpid()}.partial") as partial:
            torch.save(piece, partial)

    def remove(self, name: str) -> None:
        """Take a piece away that something else has replaced, if it is there."""
        if self.directory is not None:
            self._path(name).unlink(missing_ok=True)

    def load(self, name: str, log: Callable[[str], None], device: str = "cpu") -> Any | None:
        """A piece, or None where there is none; a damaged file is reported and counts as none."""
        if self.directory is None or not self._path(name).exists():
            return None
        try:
            with torch.serialization.safe_globals(list(self.classes)):
                return torch.load(self._path(name), map_location=device, weights_only=True)
        except Exception as error:  # a damaged file can break anything in there
            log(f"{self._path(name)}: cannot be read ({_first_line(error)}); it is made again")
            return None

    def in_order(self, what: str, pieces: Mapping[int, Piece], n: int) -> list[Piece]:
        """Pieces 0 to n - 1, some of them kept by other processes; DataError where one is not there."""
        if missing := set(range(n)) - set(pieces):
            listed = ", ".join(str(number + 1) for number in sorted(missing))
            raise DataError(
                self.directory or what,
                f"{what} {listed}, made by other processes, cannot be read here",
                "do all of them see that directory? The same command makes what is missing",
            )
        return [pieces[number] for number in range(n)]

    def _path(self, name: str) -> Path:
        assert self.directory is not None
        return self.directory / f"{name}.pt"


def _first_line(error: Exception) -> str:
    """What went wrong, in a few words."""
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:120]
