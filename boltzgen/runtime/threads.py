"""Work on several cores of a CPU as independent parts, each on one core.

Threads that share one computation wait for each other after every loop of it; parts do not. A compiled part
has to be built by `boltzgen.runtime.graph_compiler.compiled_part`, or the threads take turns.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
LARGEST_PART = 32
"""Configurations that one core is given at once: what the passes of a part hold stays in its cache."""
_SQUARES_OF_A_PART = LARGEST_PART * 22**2
"""Squared numbers of atoms, added up over a part, up to which parts of small molecules are larger: as of
`LARGEST_PART` of alanine dipeptide. Smaller ones would wait for the interpreter most of the time."""


@functools.cache
def workers() -> ThreadPoolExecutor:
    """As many threads as torch uses, in which torch shares no work with other threads.

    Once two threads have shared work with others, all such work is slower for good: OpenMP then no longer
    keeps waiting threads awake.
    """
    return ThreadPoolExecutor(torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,))


def mapper(device: torch.device) -> Callable[..., Iterable[Any]]:
    """``map`` for parts: on a CPU beside each other, each in a thread of `workers`.

    Not to be called from a part itself, which would wait for the thread that it occupies.
    """
    return map if device.type == "cuda" else workers().map


def in_parts(function: Callable[..., T], rows: Sequence[Tensor], size: int) -> Iterator[T]:
    """``function`` of up to ``size`` rows of each tensor at a time, in order; on a CPU beside each other."""
    parts = zip(*(tensor.split(size) for tensor in rows), strict=True)
    return iter(mapper(rows[0].device)(lambda part: function(*part), parts))


def part_size(n: int, n_atoms: int, device: torch.device, each: int = 1) -> int:
    """Rows of a part of ``n`` rows, each noised to ``each`` levels: on a GPU all, on a CPU an even share.

    The cores take as many rounds as are needed for no part to have more than `LARGEST_PART` noised
    configurations, more of molecules below 22 atoms, or more than one row.
    """
    if device.type == "cuda":
        return n
    n, largest = max(n, 1), max(LARGEST_PART, _SQUARES_OF_A_PART // n_atoms**2)
    cores, at_most = torch.get_num_threads(), max(1, largest // each)
    rounds = math.ceil(n / (cores * at_most))
    return math.ceil(n / (cores * rounds))


def by_rows(function: Callable[..., tuple[Tensor, ...]], *rows: Tensor, at_once: int) -> tuple[Tensor, ...]:
    """``function`` of ``at_once`` rows at most, without gradients; on a CPU in parts beside each other.

    ``rows`` are configurations ``(n, n_atoms, 3)``.
    """
    n, n_atoms = rows[0].shape[:2]
    size = min(at_once, part_size(n, n_atoms, rows[0].device))
    parts = in_parts(torch.no_grad()(function), rows, size)
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))
