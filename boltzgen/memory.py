"""The allocator of the C library, told to keep what large tensors give back."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 2**30


def keep_freed_memory() -> None:
    """Let glibc reuse blocks up to a gibibyte in place of asking the kernel for fresh pages each time.

    By default every tensor above 32 MiB is mapped anew and its pages are zeroed by the kernel, which was a
    third of the time of an uncompiled network pass on a CPU. Does nothing where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST)
