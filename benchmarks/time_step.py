"""Which time step of batched replicas is short enough: mean energies at several, beside a much shorter one.

    python benchmarks/time_step.py [--system ALDP-B] [--steps 0.5 2 2.5] [--replicas 256] [--minutes 10]

All start alike, take turns of 10 ps, and give every atom the mean mass. Errors are the spread of replicas.
The statistical inefficiencies [ps] of cosine and sine of every torsion say how fast what is slow moves:
times the steps in a picosecond, that is what an independent frame costs. Nothing asserts them.
"""

from __future__ import annotations

import argparse
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
    parser.add_argument("--steps", nargs="+", type=float, default=[0.5, 2.0, 2.5], help="fs")
    parser.add_argument("--replicas", type=int, default=256)
    parser.add_argument("--minutes", type=float, default=10.0, help="of all steps together")
    options = parser.parse_args()
    system = load_system(*SYSTEMS[options.system])
    level = ExchangeLevels.at(np.array([system.temperature_k]))
    torsions = [cv for cv in system.collective_variables if cv.kind == "torsion"]
    runs = {
        fs: BatchedReplicas.at_reference(system, level, options.replicas, 1, compiled=True)
        for fs in options.steps
    }

    def picosecond(fs: float) -> None:
        runs[fs].step(round(1000 / fs), fs / 1000, FRICTION_PER_PS)

    for fs in runs:
        for _ in range(EQUILIBRATION_PS):
            picosecond(fs)
    energies: dict[float, list[np.ndarray]] = {fs: [] for fs in runs}
    angles: dict[float, list[np.ndarray]] = {fs: [] for fs in runs}
    end = time.monotonic() + 60 * options.minutes
    while time.monotonic() < end:
        for fs, replicas in runs.items():
            for _ in range(TURN_PS):
                picosecond(fs)
                energies[fs].append(replicas.energy.numpy() / system.kT)
                angles[fs].append(np.array([cv.values(replicas.x.numpy()) for cv in torsions]))
    for fs in runs:
        u, theta = np.array(energies[fs]), np.array(angles[fs]).transpose(1, 2, 0)  # (t, n), (cv, n, t)
        mean = u.mean(0)
        error = mean.std(ddof=1) / len(mean) ** 0.5
        series = np.concatenate([np.cos(theta), np.sin(theta)]).reshape(2 * len(torsions), -1)
        rows = list(np.arange(series.shape[1]).reshape(options.replicas, -1))
        slow = statistical_inefficiencies(series - series.mean(1, keepdims=True), rows)
        print(f"{fs:4g} fs: {u.size / 1000:.1f} ns, mean u {u.mean():.3f} +- {error:.3f}, {slow.round(1)} ps")


if __name__ == "__main__":
    main()
