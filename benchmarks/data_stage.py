"""What the data of a minute are worth: effective samples of rare states by several ways of simulating.

    python benchmarks/data_stage.py [--system ALDP-B] [--torsions phi] [--ways "flat histogram"]

For every torsion the state is that it is between 0 and 2.5 rad, and its worth ``p (1 - p) / error^2``: as
many independent frames would give this error. Errors are the spread of 16 groups of replicas. Minutes are
those of the whole stage, compiling included. The ways take turns, one run of each; nothing asserts the
figures.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from target_energy import SYSTEMS

from boltzgen import MolecularSystem, WeightedEnsemble, load_system
from boltzgen.config.schema import SimulateSettings
from boltzgen.ensemble.weighted import Array
from boltzgen.runtime.context import Context
from boltzgen.simulate.stage import simulate

WAYS: dict[str, dict[str, object]] = {
    "fixed temperatures, 1 fs": {"timestep_fs": 1.0, "n_temperatures": 5, "n_replicas": 12},
    "fixed temperatures": {"n_temperatures": 5, "n_replicas": 12},
    "measured temperatures": {},
    "flat histogram": {"method": "flat_histogram"},
    "flat histogram, all of the bias": {"method": "flat_histogram", "n_temperatures": 1},
    "flat histogram, hotter": {"method": "flat_histogram", "n_temperatures": 4},
}
N_GROUPS, HIGH = 16, 2.5


def grouped(data: WeightedEnsemble, inside: Array) -> tuple[float, float]:
    """A population and its error, from groups of replicas."""
    names, replica = np.unique(data.islands, return_inverse=True)
    group = (np.arange(len(names)) % N_GROUPS)[replica]
    weights = data.weights
    part = np.bincount(group, weights * inside, minlength=N_GROUPS)
    population = part.sum()
    spread = part - population * np.bincount(group, weights, minlength=N_GROUPS)
    return float(population), float(np.sqrt(np.square(spread).sum() * N_GROUPS / (N_GROUPS - 1)))


def measure(system: MolecularSystem, torsions: list[str], settings: SimulateSettings, seed: int) -> None:
    started = time.perf_counter()
    data = simulate(system, settings, Context(seed, log=lambda line: print(f"    {line}")), "batched")
    minutes = (time.perf_counter() - started) / 60
    print(f"    {minutes:.1f} min, {len(data)} frames, Kish ESS {data.ess:.0f}")
    for cv in system.collective_variables:
        if cv.name in torsions:
            values = cv.values(data.positions)
            population, error = grouped(data, ((values > 0.0) & (values < HIGH)).astype(np.float64))
            worth = population * (1 - population) / max(error, 1e-12) ** 2
            print(
                f"    {cv.name}: {population:.4f} +- {error:.4f}, {worth / minutes:.0f} a minute", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--system", default="ALDP-B", choices=SYSTEMS)
    parser.add_argument("--torsions", nargs="+", default=["phi", "phi1", "phi2", "phi3"])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--ps", type=float, default=2000.0, help="production of a run at each level")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    system = load_system(*SYSTEMS[options.system])
    for way in options.ways:
        print(way)
        given = {"n_runs": 2, "production_ps": options.ps, "frame_interval_ps": 0.5} | WAYS[way]
        measure(system, options.torsions, SimulateSettings.model_validate(given), options.seed)


if __name__ == "__main__":
    main()
