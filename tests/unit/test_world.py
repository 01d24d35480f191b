"""Whether this process was started by a launcher, among others."""

from __future__ import annotations

import pytest

from boltzgen.world import launched

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
