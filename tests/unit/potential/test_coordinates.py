"""Sums over the rows of each atom: the same by gathers, by a matrix product and one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from boltzgen.potential import coordinates
from boltzgen.potential.coordinates import Pairs, Rows

I, J = np.array([0, 0, 0, 3, 1, 0]), np.array([1, 2, 3, 1, 2, 1])  # atom 4 is in no pair, (0, 1) is twice
N_ATOMS = 5


@pytest.mark.parametrize("how", ["gathers", "matrix", "one by one"])
def test_sums_over_rows(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "one by one":
        monkeypatch.setattr(coordinates, "_LARGEST_INCIDENCE", 0)
    like = torch.empty(0, dtype=torch.float64)
    pairs = Pairs(I, J, N_ATOMS, like, fused=how == "gathers")
    ends = Rows(np.concatenate([I, J]), N_ATOMS, like, fused=how == "gathers")
    assert bool(pairs._spread.gathers) == (how == "gathers")
    assert (pairs._spread.incidence is not None) == (how == "matrix")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N_ATOMS, 3, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    along, first, second = torch.randn(3, len(I), 3, 7, generator=generator, dtype=torch.float64)
    difference, (at_i, at_j) = pairs.difference(x), ends.take(x).chunk(2)
    sums = ends.add_up(torch.cat([first, second]))
    (gradient,) = torch.autograd.grad((along * difference + first * at_i + second * at_j).sum(), x)

    expected, expected_sums = torch.zeros_like(x), torch.zeros_like(x)
    with torch.no_grad():
        for row, (i, j) in enumerate(zip(I, J, strict=True)):
            torch.testing.assert_close(difference[row], x[j] - x[i])
            expected[i] += first[row] - along[row]
            expected[j] += second[row] + along[row]
            expected_sums[i] += first[row]
            expected_sums[j] += second[row]
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(sums, expected_sums)
