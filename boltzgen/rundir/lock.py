"""One process per run directory at a time: a lock file that says who is working there."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from boltzgen.errors import BusyError

LOCK_FILE = "run.lock"


@dataclass(frozen=True)
class Holder:
    """The process that a lock file names.

    ``process_started`` [s since 1970] tells it from a later process that was given the same number.
    """

    host: str
    pid: int
    since: str
    process_started: float

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} has been at work since {self.since}"

    @property
    def alive(self) -> bool:
        """Whether it still runs; only meaningful on its own host."""
        try:
            return abs(psutil.Process(self.pid).create_time() - self.process_started) < 2.0
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:
            return True


@contextmanager
def run_lock(out: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Hold the run directory ``out``, made where there is none, against every other process.

    The operating system lets go of the lock when its process ends, however that happens. A lock file that
    a dead process of this host left behind is therefore recognised, and replaced with a line to ``log``.
    One of another host is respected, since from here nobody can tell. At the end the file is removed, and
    so is a directory that was made here and stayed empty. Raises BusyError where somebody else is at work.
    """
    made = [path for path in (out, *out.parents) if not path.exists()]
    path = out / LOCK_FILE
    descriptor = _acquire(path, log)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        for directory in made:
            with suppress(OSError):
                directory.rmdir()


def _acquire(path: Path, log: Callable[[str], None]) -> int:
    """The descriptor of the lock file, locked and filled in."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # a run that ended this moment took its empty directory with it
            continue
        except OSError as error:
            raise BusyError(path, f"cannot be opened ({error.strerror})", "check its owner") from None
        try:
            free, holder = _try_lock(descriptor), _read(descriptor)
            if os.fstat(descriptor).st_nlink == 0:  # the file of a run that ended this moment
                os.close(descriptor)
                continue
            _refuse_or_take_over(path, free, holder, log)
            _write(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def _try_lock(descriptor: int) -> bool | None:
    """Whether the lock is ours now; None on a file system that has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _refuse_or_take_over(
    path: Path, free: bool | None, holder: Holder | None, log: Callable[[str], None]
) -> None:
    """BusyError where another process holds the directory; a line where a dead one seemed to."""
    if holder is None and free is not False:
        return
    if free is False or holder is None:
        who = holder or "another process has just started"
        raise BusyError(path.parent, f"{who} in this directory", "wait for it or choose another --out")
    if holder.host != socket.gethostname():
        raise BusyError(
            path.parent,
            f"{holder} in this directory",
            f"choose another --out, or delete {path} if you know that this process is gone",
        )
    if free is None and holder.alive:
        raise BusyError(path.parent, f"{holder} in this directory", "wait for it or choose another --out")
    log(f"{path.parent}: process {holder.pid}, at work here since {holder.since}, is gone; taking its place")


def _read(descriptor: int) -> Holder | None:
    """What the lock file says; None where that is nothing, or no record of ours."""
    try:
        return Holder(**json.loads(os.pread(descriptor, 4096, 0)))
    except (ValueError, TypeError):
        return None


def _write(descriptor: int) -> None:
    own = psutil.Process()
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    holder = Holder(socket.gethostname(), own.pid, since, own.create_time())
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, (json.dumps(asdict(holder)) + "\n").encode(), 0)
