"""Files and directories that appear complete or not at all, and the nearest directory that is there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: Path, tag: str = "partial") -> Iterator[Path]:
    """Yield the name of a hidden sibling file that takes the place of ``path`` when the block ends well.

    If this process is killed, ``path`` is the earlier file or the new one, never a part of it. The sibling
    keeps the suffix of ``path``; ``tag`` tells apart those of processes that may write at once.
    """
    partial = path.with_name(f".{path.stem}.{tag}{path.suffix}")
    try:
        yield partial
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file that appears complete or not at all."""
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield an empty sibling directory that takes the place of ``path`` when the block ends without error.

    An earlier ``path`` is replaced as a whole and stays untouched if the block raises. What a killed run
    left behind is removed by the next one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (path.with_name(f".{path.name}.{suffix}") for suffix in ("partial", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.rename(old)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def nearest_existing(path: Path) -> Path:
    """``path`` itself, or the nearest of the directories above it that exists."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def size(n_bytes: float) -> str:
    """``n_bytes`` in words."""
    if n_bytes >= 1e12:
        return f"{n_bytes / 1e12:.1f} TB"
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{max(n_bytes / 1e6, 1):.0f} MB"
