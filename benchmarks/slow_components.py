"""The slowest combinations of torsions, by short unbiased trajectories that start from weighted frames.

Time-lagged independent components (Perez-Hernandez et al., J. Chem. Phys. 139, 015102, 2013), of cosines
and sines; a trajectory counts with the weight of the frame that it starts from. The dynamics are those of
hybrid Monte Carlo with equal masses: what is slow there is slow in the molecule, in other units of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh

from boltzgen import CollectiveVariable, MolecularSystem, WeightedEnsemble
from boltzgen.analyze.distances import torsion_values
from boltzgen.ensemble.weighted import Array
from boltzgen.potential.batched import BatchedEvaluator
from boltzgen.references.reference import features
from boltzgen.simulate.batched_replicas import batched_potential
from boltzgen.simulate.hybrid_monte_carlo import HybridMonteCarlo, number_of_parts
from boltzgen.simulate.run_plan import STRETCH_PS
from boltzgen.simulate.sampling_masses import sampling_masses

N_TRAJECTORIES, LENGTH_PS, LAG_PS = 256, 40.0, 10.0
STEP_PS, FRICTION = 0.002, 1.0
RIDGE = 1e-6


def slow_components(
    system: MolecularSystem, data: WeightedEnsemble, torsions: Sequence[CollectiveVariable]
) -> dict[str, Any]:
    """Mean of the features ``(2 d,)`` and two vectors ``(2 d, 2)`` that give components of variance one."""
    start = data.select(np.random.default_rng(0).choice(len(data), N_TRAJECTORIES, replace=False))
    series = np.stack([features(torsion_values(each, torsions)) for each in trajectories(system, start)])
    lag = round(LAG_PS / STRETCH_PS)
    early, late = series[:-lag], series[lag:]  # (time, trajectory, 2 d)
    weights = start.weights[:, None] / len(early)
    mean = 0.5 * (weights * (early + late)).sum((0, 1))
    x, y = ((np.sqrt(0.5 * weights) * (each - mean)).reshape(-1, series.shape[-1]) for each in (early, late))
    at_once, lagged = x.T @ x + y.T @ y, x.T @ y + y.T @ x
    values, vectors = eigh(lagged, at_once + RIDGE * np.eye(len(at_once)))
    return {"lag_ps": LAG_PS, "eigenvalues": values[:-3:-1], "mean": mean, "vectors": vectors[:, :-3:-1]}


def trajectories(system: MolecularSystem, start: WeightedEnsemble) -> list[WeightedEnsemble]:
    """Configurations of all trajectories at each time, the weights those of the start."""
    evaluator = batched_potential(system, len(start), compiled=False).evaluator
    assert isinstance(evaluator, BatchedEvaluator)
    dynamics = HybridMonteCarlo(evaluator, sampling_masses(system), compiled=True)
    x = torch.as_tensor(start.positions, dtype=torch.float64).permute(1, 2, 0)
    columns = x.chunk(number_of_parts(len(start)), -1)
    kT = torch.full((columns[0].shape[-1],), float(system.kT), dtype=torch.float64)
    parts = [
        dynamics.started(each.contiguous(), kT, torch.Generator().manual_seed(k))
        for k, each in enumerate(columns)
    ]
    found = [start]
    for _ in range(round(LENGTH_PS / STRETCH_PS)):
        dynamics.propose(parts, round(STRETCH_PS / STEP_PS), STEP_PS, FRICTION)
        moved: Array = torch.cat([part.x for part in parts], -1).permute(2, 0, 1).numpy()
        found.append(replace(start, positions=moved.astype(np.float32)))
    return found
