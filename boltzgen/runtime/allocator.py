"""The allocator of the C library, told to keep what large tensors give back."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST, _LARGEST_BEFORE = 2**30, 2**25


def keep_freed_memory() -> None:
    """Let glibc reuse blocks up to a gibibyte in place of asking the kernel for fresh pages each time.

    By default every tensor above 32 MiB is mapped anew and its pages are zeroed by the kernel, which was a
    third of the time of an uncompiled network pass on a CPU. Does nothing where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    # Older versions accept no more than 32 MiB, and a trim threshold alone would make it worse.
    if mallopt(_M_MMAP_THRESHOLD, _LARGEST) or mallopt(_M_MMAP_THRESHOLD, _LARGEST_BEFORE):
        mallopt(_M_TRIM_THRESHOLD, _LARGEST)
