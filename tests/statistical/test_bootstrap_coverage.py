"""The 95 % interval of Delta F covers the truth 95 % of the time on clustered, weighted samples."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from boltzgen.ensemble import WeightedEnsemble
from boltzgen.free_energy import Estimate, free_energy_difference
from boltzgen.system import CollectiveVariable, State

P_RIGHT, PROPOSAL, N_CLUSTERS, MEAN_SIZE, REPLICATES = 0.2, 0.5, 250, 6, 200
DISTANCE = CollectiveVariable("r", "distance", (0, 1))
RIGHT, LEFT = State("right", DISTANCE, ((1.0, 2.0),)), State("left", DISTANCE, ((0.0, 1.0),))
TRUTH = math.log((1 - P_RIGHT) / P_RIGHT)


def clustered_sample(rng: np.random.Generator) -> WeightedEnsemble:
    """Families of random size; a family mostly shares its state; weights undo the proposal, with noise."""
    family = np.repeat(np.arange(N_CLUSTERS), 1 + rng.poisson(MEAN_SIZE - 1, N_CLUSTERS))
    parent = rng.random(N_CLUSTERS) < PROPOSAL
    own = rng.random(len(family)) < PROPOSAL
    right = np.where(rng.random(len(family)) < 0.9, parent[family], own)
    x = np.zeros((len(family), 2, 3), dtype=np.float32)
    x[:, 1, 0] = np.where(right, 1.5, 0.5)
    noise = 0.5 * rng.normal(size=N_CLUSTERS)[family]
    log_weights = noise + np.log(np.where(right, P_RIGHT / PROPOSAL, (1 - P_RIGHT) / (1 - PROPOSAL)))
    return WeightedEnsemble(x, log_weights, np.zeros(len(family)), 300.0, lineages=family)


def estimates(by_row: bool) -> list[Estimate]:
    rng = np.random.default_rng(20240)
    found = []
    for k in range(REPLICATES):
        sample = clustered_sample(rng)
        if by_row:
            sample = replace(sample, lineages=None)
        found.append(free_energy_difference(sample, RIGHT, LEFT, n_bootstrap=200, seed=k))
    return found


def coverage(found: list[Estimate]) -> float:
    return float(np.mean([abs(e.value - TRUTH) < 1.96 * e.error for e in found if e.error is not None]))


def test_interval_covers_and_the_error_is_the_replicate_spread():
    found = estimates(by_row=False)
    errors = np.array([e.error for e in found], dtype=float)
    values = np.array([e.value for e in found])
    assert np.isfinite(errors).all() and errors.max() < 0.3
    assert 0.90 <= coverage(found) <= 0.985
    assert abs(errors.mean() / values.std(ddof=1) - 1) < 0.15
    assert abs(values.mean() - TRUTH) < 3.5 * values.std(ddof=1) / math.sqrt(REPLICATES) + 0.01


def test_bootstrapping_rows_instead_of_families_would_fail():
    assert coverage(estimates(by_row=True)) < 0.85
