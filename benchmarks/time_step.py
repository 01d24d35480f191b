"""Dynamics at several time steps: how often stretches are accepted, and how soon torsions forget.

    python benchmarks/time_step.py [--system ALDP-B] [--steps 1 2 2.5] [--stretches 0.1 0.5] [--minutes 10]

All start alike, take turns of 10 ps, and give every atom the mean mass. Errors of mean energies are the
spread of replicas. The statistical inefficiencies [ps] of cosine and sine of every torsion say how fast what
is slow moves: times the steps in a picosecond, that is what an independent frame costs. Nothing asserts them.
"""

from __future__ import annotations

import argparse
import itertools
import time

import numpy as np
from target_energy import SYSTEMS

from boltzgen import load_system
from boltzgen.ensemble.correlation import statistical_inefficiencies
from boltzgen.simulate.batched_replicas import BatchedReplicas
from boltzgen.simulate.exchange_levels import ExchangeLevels

FRICTION_PER_PS, EQUILIBRATION_PS, TURN_PS = 1.0, 20, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--system", default="ALDP-B", choices=SYSTEMS)
    parser.add_argument("--steps", nargs="+", type=float, default=[1.0, 2.0, 2.5], help="fs")
    parser.add_argument("--stretches", nargs="+", type=float, default=[0.1, 0.5], help="ps")
    parser.add_argument("--replicas", type=int, default=256)
    parser.add_argument("--minutes", type=float, default=10.0, help="of all together")
    options = parser.parse_args()
    system = load_system(*SYSTEMS[options.system])
    level = ExchangeLevels.at(np.array([system.temperature_k]))
    torsions = [cv for cv in system.collective_variables if cv.kind == "torsion"]
    arms = list(itertools.product(options.steps, options.stretches))
    runs = {
        arm: BatchedReplicas.at_reference(system, level, options.replicas, 1, compiled=True) for arm in arms
    }

    def picosecond(fs: float, stretch: float) -> None:
        for _ in range(round(1 / stretch)):
            runs[fs, stretch].move(round(1000 * stretch / fs), fs / 1000, FRICTION_PER_PS)

    for arm in arms:
        for _ in range(EQUILIBRATION_PS):
            picosecond(*arm)
    energies: dict[tuple[float, float], list[np.ndarray]] = {arm: [] for arm in arms}
    angles: dict[tuple[float, float], list[np.ndarray]] = {arm: [] for arm in arms}
    end = time.monotonic() + 60 * options.minutes
    while time.monotonic() < end:
        for arm, replicas in runs.items():
            for _ in range(TURN_PS):
                picosecond(*arm)
                energies[arm].append(replicas.energy.numpy() / system.kT)
                angles[arm].append(np.array([cv.values(replicas.x.numpy()) for cv in torsions]))
    for arm in arms:
        u, theta = np.array(energies[arm]), np.array(angles[arm]).transpose(1, 2, 0)  # (t, n), (cv, n, t)
        mean = u.mean(0)
        error = mean.std(ddof=1) / len(mean) ** 0.5
        series = np.concatenate([np.cos(theta), np.sin(theta)]).reshape(2 * len(torsions), -1)
        rows = list(np.arange(series.shape[1]).reshape(options.replicas, -1))
        slow = statistical_inefficiencies(series - series.mean(1, keepdims=True), rows)
        print(
            f"{arm[0]:4g} fs, {arm[1]:g} ps: {runs[arm].share_moved:.3f} accepted, {u.size / 1000:.1f} ns, "
            f"mean u {u.mean():.3f} +- {error:.3f}, {slow.round(1)} ps"
        )


if __name__ == "__main__":
    main()
