"""Raising rare states in the training data."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.chain import NEGATIVE, PHI, POSITIVE, chain_ensemble, chain_positions, chain_system

from boltzgen.ensemble.state_balance import balanced, memberships, up_weighting
from boltzgen.system.collective_variables import CollectiveVariable, State


def test_a_rare_state_gets_the_share_and_keeps_its_proportions() -> None:
    data, system = chain_ensemble(2000, 0, p_positive=0.02, proposal=0.1), chain_system()
    raised = balanced(data, system, 0.3)
    inside = POSITIVE.members(data.positions)
    assert raised.weights[inside].sum() == pytest.approx(0.3)
    for rows in (inside, ~inside):
        ratio = raised.weights[rows] / data.weights[rows]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)


def test_states_with_enough_weight_stay_as_they_are() -> None:
    data, system = chain_ensemble(500, 1, p_positive=0.4), chain_system()
    for share in (0.0, 0.3):
        np.testing.assert_allclose(balanced(data, system, share).weights, data.weights, rtol=1e-12)


def test_a_state_that_was_never_visited_is_left_out() -> None:
    data, system = chain_ensemble(500, 2), chain_system()
    data = data.select(np.flatnonzero(NEGATIVE.members(data.positions)))
    np.testing.assert_allclose(balanced(data, system, 0.3).weights, data.weights, rtol=1e-12)


def test_more_states_than_shares_come_out_equal() -> None:
    data = chain_ensemble(3000, 3, p_positive=0.05)
    states = [State("a", PHI, ((-4.0, -1.4),)), State("b", PHI, ((-1.4, 0.0),)), POSITIVE]
    raised = balanced(data, replace(chain_system(), states=tuple(states)), 0.5)
    shares = [raised.weights[state.members(data.positions)].sum() for state in states]
    np.testing.assert_allclose(shares, 1 / 3, atol=1e-3)
    assert NEGATIVE.members(data.positions).sum() > POSITIVE.members(data.positions).sum()


def test_what_lies_in_no_state_stays() -> None:
    """Not raised, and not given up either, however many states want more."""
    data = chain_ensemble(4000, 5, p_positive=0.05)
    edges = np.quantile(PHI.values(data.positions), [0.0, 0.03, 0.06, 0.09, 0.12])
    states = [State(f"s{k}", PHI, ((a, b),)) for k, (a, b) in enumerate(itertools.pairwise(edges))]
    system = replace(chain_system(), states=tuple(states))
    outside = ~np.any([state.members(data.positions) for state in states], axis=0)
    before = data.weights[outside].sum()
    for share, wanted in ((0.1, before * 0.6 / (1 - 0.12)), (0.5, 0.2)):
        assert balanced(data, system, share).weights[outside].sum() == pytest.approx(wanted, rel=0.03)
    few = data.select(np.flatnonzero(~outside | (np.cumsum(outside) <= 20)))
    rows = ~np.any([state.members(few.positions) for state in states], axis=0)
    assert balanced(few, system, 0.5).weights[rows].sum() == pytest.approx(few.weights[rows].sum(), rel=0.05)


def test_weights_of_zero_stay_zero() -> None:
    data = chain_ensemble(100, 4)
    log_weights = data.log_weights.copy()
    log_weights[:10] = -np.inf
    raised = balanced(replace(data, log_weights=log_weights, log_z=1.0), chain_system(), 0.5)
    assert np.all(raised.weights[:10] == 0.0) and raised.log_z is None


def test_memberships_change_smoothly_and_leave_no_seam() -> None:
    """Two states that meet at 0, at 2 and at nothing across +-pi; what lies outside a third one."""
    phi = np.linspace(-3.14, 3.14, 2001)
    x = torch.as_tensor(chain_positions(phi, np.full(len(phi), 2.0)), dtype=torch.float64)
    inside = memberships((POSITIVE, NEGATIVE), (0.4, 0.4), x).numpy()
    np.testing.assert_allclose(inside[0] + inside[1], 1.0, atol=1e-9)
    np.testing.assert_allclose(inside[2], 0.0, atol=1e-9)
    sure = np.minimum(np.abs(phi), np.abs(phi - 2.0)) > 0.201
    np.testing.assert_array_equal(inside[0][sure], ((phi > 0) & (phi < 2))[sure])
    assert np.abs(np.diff(inside)).max() < 0.02
    alone = memberships((POSITIVE,), (0.4,), x).numpy()
    np.testing.assert_allclose(alone[1], 1.0 - alone[0])


def test_an_angle_has_no_end_where_it_can_go_no_further() -> None:
    bent = State("bent", CollectiveVariable("theta", "angle", (0, 1, 2)), ((0.0, 2.0),))
    straight = State("straight", bent.cv, ((2.0, 3.15),))
    x = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]], dtype=torch.float64)
    assert memberships((bent, straight), (0.5, 0.5), x).flatten().tolist() == [0.0, 1.0, 0.0]


def test_the_gradient_is_that_of_the_factor() -> None:
    data = chain_ensemble(200, 1, p_positive=0.1)
    near = State("near", PHI, ((-1.5, 0.0),))
    factor = up_weighting(data, replace(chain_system(), states=(POSITIVE, near)), 0.3)
    rng = np.random.default_rng(0)
    shift = 1e-6 * rng.normal(size=data.positions.shape)
    x = data.positions.astype(np.float64)
    change = factor.log_factor(x + shift) - factor.log_factor(x - shift)
    expected = 2.0 * (factor.gradient(x) * shift).sum((1, 2))
    assert np.count_nonzero(expected) > 50
    np.testing.assert_allclose(change, expected, atol=1e-9, rtol=1e-3)
    kept = up_weighting(data, chain_system(), 0.0)
    assert not kept.gradient(x).any() and not kept.log_factor(x).any()
