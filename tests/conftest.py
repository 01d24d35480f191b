"""What every test starts from."""

from __future__ import annotations

import signal

import pytest


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_is_heard() -> None:
    """A shell's background job starts with Ctrl-C ignored, and would hand that on to the commands tested."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
