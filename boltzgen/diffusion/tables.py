"""Tables over log sigma: one value per noise level, linear in between."""

from __future__ import annotations

from torch import Tensor


def between_levels(table: Tensor, log_sigma: Tensor, bounds: Tensor) -> Tensor:
    """Values ``(n, ...)`` at ``log_sigma`` ``(n,)`` of a table equally spaced between two bounds ``(2,)``.

    ``table`` is ``(entries, ...)``. Beyond the bounds the value at the nearer one.
    """
    low, high = bounds
    last = len(table) - 1
    position = ((log_sigma - low) / (high - low)).clamp(0.0, 1.0) * last
    left = position.detach().floor().clamp_max(last - 1).long()
    fraction = (position - left).view(-1, *(1,) * (table.ndim - 1))
    return (1.0 - fraction) * table[left] + fraction * table[left + 1]
