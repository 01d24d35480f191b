"""Starts the processes of ``boltzgen ... --devices N`` on this machine and watches over them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from boltzgen.errors import ConfigError
from boltzgen.runtime.cores import usable_cores
from boltzgen.runtime.processes import LOST_CONTACT

GRACE_SECONDS = 10.0
"""What is left for the others to end by themselves, before they are killed, once one has failed."""
LOOK_EVERY_SECONDS = 0.2


def launch(devices: int, nodes: int, arguments: Sequence[str]) -> int:
    """Run ``boltzgen`` with ``arguments`` in ``devices`` processes that know of each other; its exit status.

    If one fails all end, with its status, or 1 where a signal killed it; pieces of the run that were
    finished stay. Raises ConfigError for several nodes, whose processes another launcher has to start.
    """
    if nodes > 1:
        same = " ".join(["boltzgen", *arguments])
        raise ConfigError(
            f"--nodes {nodes}",
            "one process alone cannot start those of other nodes",
            f"start it on every node, by `srun --nodes={nodes} --ntasks-per-node={devices} "
            f"{same}` or `torchrun --nnodes={nodes} --nproc-per-node={devices} -m {same}`",
        )
    port, command = _free_port(), [sys.executable, "-m", "boltzgen", *arguments]
    processes: list[subprocess.Popen[bytes]] = []
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        for rank in range(devices):
            processes.append(subprocess.Popen(command, env=_environment(rank, devices, port)))
        return _watch(processes)
    except KeyboardInterrupt:  # they have heard it too
        _end(processes, signal.SIGINT)
        return 130
    finally:
        _end(processes, signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, _: object) -> None:
    """End by an exception, so that the processes are ended too."""
    raise SystemExit(128 + number)


def _environment(rank: int, devices: int, port: int) -> dict[str, str]:
    """Names as torchrun uses them, and as many threads as fall to a process."""
    threads = str(max(1, usable_cores() // devices))
    return {"OMP_NUM_THREADS": threads} | os.environ | {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(devices),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _watch(processes: list[subprocess.Popen[bytes]]) -> int:
    """Wait for all, or for the first that fails."""
    while not any(process.poll() for process in processes):
        if all(process.returncode == 0 for process in processes):
            return 0
        time.sleep(LOOK_EVERY_SECONDS)
    time.sleep(LOOK_EVERY_SECONDS)
    failed = [(rank, status) for rank, process in enumerate(processes) if (status := process.poll())]
    return _explained(*min(failed, key=lambda found: found[1] == LOST_CONTACT))


def _explained(rank: int, status: int) -> int:
    """The exit status of all; where a process was killed, or broke down, a line that says so."""
    if status in (2, 130):  # it has said so itself
        return status
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    print(
        f"boltzgen: process {rank} {how}, the others were stopped; what was finished is kept, "
        "run the same command to go on",
        file=sys.stderr,
    )
    return status if status > 0 else 1


def _end(processes: list[subprocess.Popen[bytes]], how: signal.Signals) -> None:
    """Ask those that still run to end; kill those that do not."""
    left = [process for process in processes if process.poll() is None]
    for process in left:
        process.send_signal(how)
    deadline = time.monotonic() + GRACE_SECONDS
    for process in left:
        try:
            process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
