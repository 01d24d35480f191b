"""What training sees of an ensemble: frames by weight, rare states on both sides, forces that fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.dimer import LENGTH, WIDTH, dimers

from boltzgen.config.schema import TrainSettings
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.errors import DataError
from boltzgen.system.collective_variables import CollectiveVariable, State
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system
from boltzgen.train.dataset import Frames, training_frames

DISTANCE = CollectiveVariable("r", "distance", (0, 1))


def in_blocks(n: int) -> WeightedEnsemble:
    """Exact samples of a bond, ten frames to a lineage."""
    return replace(dimers(n), lineages=np.arange(n) // 10)


def dimer(*states: State) -> MolecularSystem:
    return replace(load_system("harmonic_dimer"), states=states)


def test_frames_are_drawn_by_weight() -> None:
    n = 200
    weights = torch.arange(n).double() * (torch.arange(n) >= 100)
    positions = torch.arange(n).float().view(-1, 1, 1).expand(n, 2, 3)
    drawn, _ = Frames(positions, positions, weights / weights.sum()).drawn(2000, seed=1)
    counts = torch.bincount(drawn[:, 0, 0].long(), minlength=n)
    torch.testing.assert_close(counts.double(), 2000 * weights / weights.sum(), rtol=0, atol=1.0)
    half = counts[:100].sum() + (drawn[:1000, 0, 0] < 150).sum()
    assert 300 < int(half) < 500  # in random order: about 0.42 of a thousand


def test_equal_weights_give_every_frame_once() -> None:
    frames = Frames(torch.arange(50.0).view(-1, 1, 1), torch.zeros(50, 1, 1), torch.full((50,), 0.02))
    assert sorted(frames.drawn(50, seed=0)[0].flatten().tolist()) == list(range(50))


@pytest.mark.parametrize("seed", range(20))
def test_a_state_seen_once_is_trained_on(seed: int) -> None:
    data = in_blocks(300)
    lengths = DISTANCE.values(data.positions)
    lineages = np.where(lengths > np.quantile(lengths, 0.97), 1000, data.lineages)
    state = State("long", DISTANCE, ((float(np.quantile(lengths, 0.97)), 1.0),))
    frames, _ = training_frames(
        dimer(state), replace(data, lineages=lineages), TrainSettings(steps=1), seed, "cpu"
    )
    inside = state.members(frames.positions.numpy())
    assert float(frames.weights[torch.as_tensor(inside)].sum()) == pytest.approx(0.3)


def test_frames_without_weight_are_not_held_out_alone() -> None:
    data = in_blocks(100)
    log_weights = np.where(data.lineages < 5, -np.inf, 0.0)  # type: ignore[operator]
    for seed in range(20):
        for part in training_frames(
            dimer(), replace(data, log_weights=log_weights), TrainSettings(steps=1), seed, "cpu"
        ):
            assert float(part.weights.sum()) == pytest.approx(1.0)


def test_raised_states_do_not_look_like_another_force_field() -> None:
    """The virial is that of the data as given: raising a tail of the distances would change it."""
    data = in_blocks(3000)
    tail = State("long", DISTANCE, ((LENGTH + 2.5 * WIDTH, 1.0),))
    training_frames(dimer(tail), data, TrainSettings(steps=1), 0, "cpu")
    stretched = replace(data, positions=data.positions * 1.1)
    with pytest.raises(DataError, match="of this force field"):
        training_frames(dimer(tail), stretched, TrainSettings(steps=1), 0, "cpu")
