"""Muon for matrices and Adam for the rest: sizes of steps, and going on from a saved state."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from boltzgen.train.optimiser import MATRIX_RATE, MuonAndAdam

RATE = 0.01


def parameters() -> list[nn.Parameter]:
    g = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=g)) for shape in ((8, 20), (7,), (1, 5), (2, 3, 4))]


def step(optimiser: MuonAndAdam, seed: int) -> list[Tensor]:
    """What one step of random gradients changes."""
    values = [p for group in optimiser.param_groups for p in group["params"]]
    before = [p.detach().clone() for p in values]
    g = torch.Generator().manual_seed(seed)
    for p in values:
        p.grad = torch.randn(p.shape, generator=g)
    optimiser.step()
    return [p.detach() - old for p, old in zip(values, before, strict=True)]


def test_a_matrix_moves_by_a_nearly_orthogonal_matrix_and_the_rest_by_its_signs() -> None:
    optimiser = MuonAndAdam(parameters(), RATE)
    matrix, *others = step(optimiser, 1)
    sizes = torch.linalg.svdvals(matrix) / (0.2 * math.sqrt(20) * MATRIX_RATE * RATE)
    assert matrix.shape == (8, 20) and 0.5 < float(sizes.min()) <= float(sizes.max()) < 1.5
    assert [tuple(change.shape) for change in others] == [(7,), (1, 5), (2, 3, 4)]
    for change in others:  # the first step of Adam
        assert change.abs() == pytest.approx(torch.full(change.shape, RATE), rel=1e-4)


def test_a_saved_state_goes_on_with_its_rates() -> None:
    one = MuonAndAdam(parameters(), RATE)
    step(one, 1)
    for group in one.param_groups:
        group["lr"] *= 0.1
    two = MuonAndAdam([nn.Parameter(p.detach().clone()) for g in one.param_groups for p in g["params"]], RATE)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for a, b in zip(step(one, 2), step(two, 2), strict=True):
        assert torch.equal(a, b)
    for group in two.param_groups:  # as a schedule does
        group["lr"] = 0.0
    assert all(not change.any() for change in step(two, 3))
