"""The allocator keeps what large tensors give back."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from boltzgen.runtime.allocator import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def a_pass():
    for size in (12_000_000, 16_000_000, 20_000_000):
        torch.ones(size)
for _ in range(5):
    a_pass()
before = faults()
for _ in range(5):
    a_pass()
print(faults() - before)
"""
PAGES = 5 * 4 * 48_000_000 // 4096


def faults(how: str) -> int:
    """Page faults of five passes that each make tensors of 48, 64 and 80 MB."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_large_tensors_reuse_freed_memory() -> None:
    assert faults("keep") < 0.05 * PAGES
    assert faults("leave") > 0.5 * PAGES
