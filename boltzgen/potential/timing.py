"""How many configurations an evaluator takes in a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import Tensor


def configurations_per_second(evaluate: Callable[[Tensor], object], x: Tensor, seconds: float) -> float:
    """Throughput measured over about ``seconds``, after a first call that is not counted."""
    n = min(16, len(x))
    evaluate(x[:n])
    while n < len(x) and _seconds(evaluate, x[:n]) < seconds / 8:
        n = min(2 * n, len(x))
    done, spent = 0, 0.0
    while spent < seconds:
        spent += _seconds(evaluate, x[:n])
        done += n
    return done / spent


def _seconds(evaluate: Callable[[Tensor], object], x: Tensor) -> float:
    started = time.perf_counter()
    evaluate(x)
    return time.perf_counter() - started
