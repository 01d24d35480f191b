"""Whether this process was started by a launcher, among others; what our launcher leaves when it is ended."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil
import pytest

from boltzgen.runtime.processes import launched

SRUN = {"SLURM_PROCID": "0", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2"}
TORCHRUN = {
    "RANK": "0",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29400",
}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        (SRUN, True),
        (SRUN | {"SLURM_NTASKS": "1"}, False),  # a shell by `srun --pty`
        ({k: v for k, v in SRUN.items() if k != "SLURM_STEP_ID"}, False),  # the script given to sbatch
        (TORCHRUN, True),
        (TORCHRUN | SRUN | {"SLURM_NTASKS": "1"}, True),
    ],
)
def test_launched(environment: dict[str, str], expected: bool) -> None:
    assert launched(environment) is expected


LAUNCH = """
import subprocess
from boltzgen.cli import launcher

start, watch = subprocess.Popen, launcher._watch

def watched(processes):
    print(*(process.pid for process in processes), flush=True)
    return watch(processes)

launcher.subprocess.Popen = lambda command, env: start(["sleep", "60"])
launcher._watch = watched
launcher.launch(2, 1, [])
"""


def test_a_launcher_that_is_ended_ends_its_processes() -> None:
    """A batch system, or `timeout`, may tell the launcher only."""
    with subprocess.Popen([sys.executable, "-c", LAUNCH], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        started = [int(pid) for pid in process.stdout.readline().split()]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert len(started) == 2 and not any(psutil.pid_exists(pid) for pid in started)
