"""One process per run directory: who is refused, what is taken over, and what is left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from boltzgen.errors import BusyError
from boltzgen.rundir.lock import LOCK_FILE, run_lock

HOLD = """
import sys
from pathlib import Path
from boltzgen.rundir.lock import run_lock

with run_lock(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(out: Path) -> subprocess.Popen[str]:
    """Another process that holds ``out`` until its input ends."""
    command = [sys.executable, "-c", textwrap.dedent(HOLD), str(out)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline().strip() == "held"
    return process


def lock(out: Path) -> list[str]:
    """Take the lock for a moment; what was said."""
    said: list[str] = []
    with run_lock(out, said.append):
        assert json.loads((out / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert not (out / LOCK_FILE).exists()
    return said


def test_a_second_process_is_refused_and_told_who_is_there(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    process = hold(out)
    try:
        with pytest.raises(BusyError) as caught:
            lock(out)
        message = str(caught.value)
        assert f"process {process.pid} on {socket.gethostname()} has been at work since 20" in message
        assert "choose another --out" in message and "\n" not in message
        assert lock(tmp_path / "runs" / "b") == []
    finally:
        process.communicate("")
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []
    assert lock(out) == []


def test_a_killed_process_is_taken_over_with_a_line(tmp_path: Path) -> None:
    process = hold(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / LOCK_FILE).exists()
    (line,) = lock(tmp_path)
    assert f"process {process.pid}, at work here since 20" in line and "is gone" in line


def record(**changes: object) -> str:
    values = {"host": socket.gethostname(), "pid": os.getpid(), "since": "yesterday", "process_started": 0.0}
    return json.dumps(values | changes)


def test_a_reused_process_number_does_not_count(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text(record())
    assert len(lock(tmp_path)) == 1


def test_another_host_is_respected(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text(record(host="node7", pid=12))
    with pytest.raises(BusyError, match=r"process 12 on node7 .* since yesterday .* delete .*run\.lock if"):
        lock(tmp_path)
    assert (tmp_path / LOCK_FILE).exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_file_that_nobody_holds_is_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK_FILE).write_text(text)
    assert lock(tmp_path) == []


def test_without_locks_of_the_file_system_the_process_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    from boltzgen.rundir import lock as module

    monkeypatch.setattr(module, "_try_lock", lambda descriptor: None)
    alive = psutil.Process().create_time()
    (tmp_path / LOCK_FILE).write_text(record(process_started=alive))
    with pytest.raises(BusyError, match="wait for it"):
        lock(tmp_path)
    (tmp_path / LOCK_FILE).write_text(record(process_started=alive - 100.0))
    assert len(lock(tmp_path)) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("x")])
def test_errors_and_ctrl_c_release_it(tmp_path: Path, error: BaseException) -> None:
    out = tmp_path / "runs" / "a"
    with pytest.raises(type(error)), run_lock(out, print):
        raise error
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(type(error)), run_lock(out, print):
        (out / "config.yaml").touch()
        raise error
    assert [path.name for path in out.iterdir()] == ["config.yaml"]
