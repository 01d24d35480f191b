"""95 % intervals of MD averages cover the truth where what is slow is small beside what is fast."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from boltzgen.analyze.free_energy import Estimate, expectation, free_energy_difference
from boltzgen.ensemble.correlation import with_blocks
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.system.collective_variables import CollectiveVariable, State
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system

Array = NDArray[np.float64]
REPLICATES = 400
FAST, SLOW = 0.5, 5.0
"""Relaxation times of the components, in frames."""
N_FRAMES = 2800
"""Seventy blocks of eight relaxation times, which are four statistical inefficiencies."""
VARIABLE, HIDDEN = CollectiveVariable("r", "distance", (0, 1)), CollectiveVariable("s", "distance", (0, 2))
OFFSET, UNIT = 3.0, 0.1
"""Of a distance [nm] that stands for a series: it is never negative."""


def relaxing(rng: np.random.Generator, time: float) -> Array:
    """Autoregressive series of unit variance ``(N_FRAMES,)``, forgotten over ``time`` frames."""
    decay = math.exp(-1.0 / time)
    noise = rng.normal(size=N_FRAMES)
    noise[1:] *= math.sqrt(1 - decay**2)
    return lfilter([1.0], [1.0, -decay], noise)


def jumping(rng: np.random.Generator, p: float) -> Array:
    """A two-state process 0, 1 of the same shape that is 1 with probability ``p`` and relaxes over `SLOW`."""
    renewed = rng.random(N_FRAMES) < 1 - math.exp(-1.0 / SLOW)
    renewed[0] = True
    drawn = (rng.random(N_FRAMES) < p).astype(float)
    last = np.maximum.accumulate(np.where(renewed, np.arange(N_FRAMES), 0))
    return drawn[last]


def trajectory(system: MolecularSystem, r: Array, s: Array, log_weights: Array) -> WeightedEnsemble:
    """A run whose two distances are the given series, in blocks as a simulation has them."""
    x = np.zeros((r.size, system.n_atoms, 3), dtype=np.float32)
    x[:, 1, 0], x[:, 2, 1] = OFFSET + UNIT * r, OFFSET + UNIT * s
    zero = np.zeros(r.size)
    return with_blocks(system, WeightedEnsemble(x, log_weights + zero, zero, 300.0))


def chain(*variables: CollectiveVariable, states: tuple[State, ...] = ()) -> MolecularSystem:
    return replace(load_system("harmonic_chain"), collective_variables=variables, states=states)


def two_states(cv: CollectiveVariable, boundary: float) -> tuple[State, State]:
    at = OFFSET + UNIT * boundary
    return State("above", cv, ((at, math.inf),)), State("below", cv, ((0.0, at),))


@dataclass(frozen=True)
class Case:
    """An estimate from one MD sample, and its truth."""

    estimate: Callable[[np.random.Generator], Estimate]
    truth: float


def _of_a_state(rng: np.random.Generator) -> Estimate:
    """Delta F of states of a variable that is not reported; in the one that is they hardly differ."""
    states, slow = two_states(HIDDEN, 0.5), jumping(rng, 0.3)
    r = relaxing(rng, FAST) + 0.4 * slow
    return free_energy_difference(trajectory(chain(VARIABLE, states=states), r, slow, np.zeros(1)), *states)


def _of_overlapping_states(rng: np.random.Generator) -> Estimate:
    """Delta F between halves of a variable whose centre jumps by a small part of its fast fluctuations."""
    states, slow = two_states(VARIABLE, 0.0), jumping(rng, 0.5) - 0.5
    r = relaxing(rng, FAST) + 0.8 * slow
    return free_energy_difference(trajectory(chain(VARIABLE, states=states), r, slow, np.zeros(1)), *states)


def _of_biased_md(rng: np.random.Generator) -> Estimate:
    """A mean under weights that vary slowly; the variable that is reported has nothing to do with either."""
    bias = relaxing(rng, SLOW)
    values = relaxing(rng, FAST) + 0.3 * bias
    return expectation(trajectory(chain(VARIABLE), relaxing(rng, FAST), values, 0.7 * bias), values)


def _of_an_observable(rng: np.random.Generator) -> Estimate:
    """A mean that no variable or state of the system has to do with."""
    slow = relaxing(rng, SLOW)
    return expectation(trajectory(chain(VARIABLE), relaxing(rng, FAST), slow, np.zeros(1)), slow)


CASES = {
    "states of another variable": Case(_of_a_state, math.log(0.7 / 0.3)),
    "overlapping states": Case(_of_overlapping_states, 0.0),
    "biased MD": Case(_of_biased_md, 0.3 * 0.7),
    "observable": Case(_of_an_observable, 0.0),
}


@pytest.mark.parametrize("name", CASES)
def test_averages_with_a_small_slow_component_are_covered(name: str) -> None:
    rng, case = np.random.default_rng(7), CASES[name]
    found = [case.estimate(rng) for _ in range(REPLICATES)]
    intervals = [e.interval for e in found]
    assert all(interval is not None for interval in intervals)
    covered = np.mean([low < case.truth < high for low, high in intervals])
    error = np.median([e.error for e in found]) / np.std([e.value for e in found])
    print(f"\n{name}: {covered:.3f}, error / spread {error:.2f}, dof {np.median([e.dof for e in found]):.0f}")
    assert 0.93 <= covered <= 0.97
