"""What every test starts from."""

from __future__ import annotations

import os
import signal

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: tests side by side share the cores
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_is_heard() -> None:
    """A shell's background job starts with Ctrl-C ignored, and would hand that on to the commands tested."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
