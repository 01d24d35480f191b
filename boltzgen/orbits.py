"""Averages over what a symmetry of the molecular graph makes alike."""

from __future__ import annotations

import torch
from torch import Tensor


def averaged_over(keys: Tensor, values: Tensor) -> Tensor:
    """Replace every value by the mean of those with the same key; any shape."""
    flat = keys.flatten()
    sums = values.new_zeros(int(flat.max()) + 1).index_add_(0, flat, values.flatten())
    return (sums / torch.bincount(flat).clamp_min(1))[flat].view_as(values)
