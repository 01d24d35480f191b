"""How long work reports on itself: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnProgress = Callable[[float, float, str], None]
"""Called as ``on_progress(done, total, message)``; ``done`` and ``total`` share any unit."""

SECONDS_BETWEEN_LINES = 30.0


def silent(done: float, total: float, message: str) -> None:
    """One that says nothing."""


@contextmanager
def progress_bar(title: str) -> Iterator[OnProgress]:
    """Yield an OnProgress drawn on standard error: a bar on a terminal, else a line every half minute."""
    if sys.stderr.isatty():
        with _bar(title) as on_progress:
            yield on_progress
    else:
        yield _lines(title)


@contextmanager
def _bar(title: str) -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[message]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(escape(title), total=None, message="")

        def on_progress(done: float, total: float, message: str) -> None:
            progress.update(task, completed=done, total=total, message=escape(message))

        yield on_progress


def _lines(title: str) -> OnProgress:
    start = last = time.monotonic()
    first: tuple[float, float] | None = None  # when the first report came, and how much was done then

    def on_progress(done: float, total: float, message: str) -> None:
        nonlocal last, first
        now = time.monotonic()
        fraction = min(max(done / total, 0.0), 1.0) if total > 0 else 0.0
        first = first or (now, fraction)
        if now - last < SECONDS_BETWEEN_LINES:
            return
        last = now
        gained = fraction - first[1]
        left = f", about {clock((now - first[0]) * (1 - fraction) / gained)} left" if gained > 0 else ""
        line = f"{title}: {fraction:4.0%}, {clock(now - start)} elapsed{left}  {message}"
        print(line.rstrip(), file=sys.stderr, flush=True)

    return on_progress


def clock(seconds: float) -> str:
    """``m:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
