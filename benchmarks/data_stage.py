"""What the data of a minute are worth: effective samples of rare states by several ways of simulating.

    python benchmarks/data_stage.py [--system ALDP-B] [--torsions phi] [--ways "flat histogram"]

For every torsion the state is that it is between 0 and 2.5 rad, and its worth ``p (1 - p) / error^2``: as
many independent frames would give this error. Errors are the spread of 16 groups of replicas. Minutes are
those of the whole stage but for compiling, which a second run does without. The ways take turns, one run of
each; nothing asserts the figures.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from target_energy import SYSTEMS

from boltzgen import MolecularSystem, WeightedEnsemble, load_system
from boltzgen.config.schema import SimulateSettings
from boltzgen.ensemble.weighted import Array
from boltzgen.potential.platforms import fastest_platform
from boltzgen.runtime.context import Context
from boltzgen.simulate.batched_replicas import BATCHED, BatchedReplicas
from boltzgen.simulate.bias import Bias, biased_variables
from boltzgen.simulate.exchange_levels import ExchangeLevels
from boltzgen.simulate.run_plan import RunPlan
from boltzgen.simulate.stage import simulate

FIVE: dict[str, object] = {"n_temperatures": 5, "temperature_ratio": 1.25}
WAYS: dict[str, dict[str, object]] = {
    "OpenMM, five temperatures": FIVE | {"frame_interval_ps": 0.1, "production_ps": 1000.0},
    "fixed temperatures, 1 fs": {"timestep_fs": 1.0, "n_replicas": 12} | FIVE,
    "fixed temperatures": {"n_replicas": 12} | FIVE,
    "measured temperatures": {},
    "flat histogram": {"method": "flat_histogram"},
    "flat histogram, all of the bias": {"method": "flat_histogram", "n_temperatures": 1},
    "flat histogram, hotter": {"method": "flat_histogram", "n_temperatures": 4},
}
N_GROUPS, HIGH = 16, 2.5


def grouped(data: WeightedEnsemble, inside: Array) -> tuple[float, float]:
    """A population and its error, from groups of replicas, or of parts of their time where they are few."""
    names, replica = np.unique(data.islands, return_inverse=True)
    group = (np.arange(len(names)) % N_GROUPS)[replica]
    if len(names) < N_GROUPS:  # of equal length, and one after the other
        group = np.arange(len(data)) * N_GROUPS // len(data)
    weights = data.weights
    part = np.bincount(group, weights * inside, minlength=N_GROUPS)
    population = part.sum()
    spread = part - population * np.bincount(group, weights, minlength=N_GROUPS)
    return float(population), float(np.sqrt(np.square(spread).sum() * N_GROUPS / (N_GROUPS - 1)))


def measure(
    system: MolecularSystem, torsions: list[str], settings: SimulateSettings, seed: int, platform: str
) -> None:
    if platform == BATCHED:
        seconds = compile_dynamics(system, settings)
        print(f"    {seconds:.0f} s to compile")
    started = time.perf_counter()
    context = Context(seed, log=lambda line: print(f"    {line}"))
    data = simulate(system, settings, context, platform)
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


def compile_dynamics(system: MolecularSystem, settings: SimulateSettings) -> float:
    """Seconds that it takes; what was compiled is read from the disk afterwards."""
    started, plan = time.perf_counter(), RunPlan.of(settings, system)
    names = biased_variables(system, settings.bias) if settings.method == "flat_histogram" else ()
    start, bias = ExchangeLevels.at(np.array([plan.hottest_k])), Bias(names) if names else None
    BatchedReplicas.at_reference(system, start, plan.n_replicas, 1, compiled=plan.compiled, bias=bias).move(
        1, plan.dt_ps, 1.0
    )
    return time.perf_counter() - started


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
        platform = fastest_platform(system).getName() if way.startswith("OpenMM") else BATCHED
        given = {"n_runs": 2, "production_ps": options.ps, "frame_interval_ps": 0.5} | WAYS[way]
        measure(system, options.torsions, SimulateSettings.model_validate(given), options.seed, platform)


if __name__ == "__main__":
    main()
