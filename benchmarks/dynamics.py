"""Speed of dynamics: batched replicas beside OpenMM and beside their own energies, in one run.

    python benchmarks/dynamics.py [--systems ALDP-B ALA3] [--replicas 64 512] [--seconds 4] [--biased]

Replicas are at four temperatures with exchanges, and frames are taken as in a run; steps of all of them
count. Rivals on the same cores: OpenMM's LangevinMiddle in one context on its fastest platform times the
number of cores, as if that many processes cost each other nothing, and the batched energies and forces alone,
which no dynamics on them can beat. They take turns; medians of the rounds are printed. Nothing asserts them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from target_energy import SYSTEMS

from boltzgen import MolecularSystem, load_system
from boltzgen.potential.platforms import fastest_platform, steps_per_second
from boltzgen.potential.timing import configurations_per_second
from boltzgen.simulate.batched_replicas import BatchedReplicas, batched_potential
from boltzgen.simulate.bias import Bias
from boltzgen.simulate.exchange_levels import ExchangeLevels

ROUNDS = 3
RATIO, N_TEMPERATURES = 1.25, 4
DT_PS, FRICTION_PER_PS, EXCHANGE_EVERY = 0.001, 1.0, 100


def dynamics(system: MolecularSystem, n: int, biased: bool) -> Callable[[float], float]:
    """Steps per second of all replicas over some seconds, exchanges and frames included."""
    levels = ExchangeLevels.at(system.temperature_k * RATIO ** np.arange(N_TEMPERATURES))
    bias = Bias(system.collective_variables[:2]) if biased else None
    replicas = BatchedReplicas.at_reference(system, levels, n, seed=1, compiled=True, bias=bias)
    replicas.move(EXCHANGE_EVERY, DT_PS, FRICTION_PER_PS)

    def measure(seconds: float) -> float:
        started, steps = time.perf_counter(), 0
        while time.perf_counter() < started + seconds:
            replicas.move(EXCHANGE_EVERY, DT_PS, FRICTION_PER_PS)
            replicas.exchange()
            replicas.x.float()  # a frame
            steps += n * EXCHANGE_EVERY
        assert replicas.energy.isfinite().all()
        return steps / (time.perf_counter() - started)

    return measure


def energies(system: MolecularSystem, n: int) -> Callable[[float], float]:
    """Configurations per second of compiled energies and forces."""
    potential = batched_potential(system, n, compiled=True)
    x = torch.as_tensor(system.positions).expand(n, -1, -1).contiguous()
    potential.energy_and_forces(x)
    return lambda seconds: configurations_per_second(potential.energy_and_forces, x, seconds=seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--systems", nargs="+", default=["ALDP-B", "ALA3", "ALA6"], choices=SYSTEMS)
    parser.add_argument("--replicas", nargs="+", type=int, default=[64, 512])
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--biased", action="store_true", help="along the first two collective variables")
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} cores, {ROUNDS} rounds of {options.seconds:g} s")
    print(f"{'system':8} {'atoms':>5} {'replicas':>8} {'steps/s':>9} {'OpenMM':>9} {'energies':>9}  ratios")
    for name in options.systems:
        system = load_system(*SYSTEMS[name])
        for n in options.replicas:
            ours, alone = dynamics(system, n, options.biased), energies(system, n)
            rounds = [
                (
                    ours(options.seconds),
                    steps_per_second(system) * torch.get_num_threads(),
                    alone(options.seconds),
                )
                for _ in range(ROUNDS)
            ]
            found, openmm, limit = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(
                f"{name:8} {system.n_atoms:5} {n:8} {found:9.0f} {openmm:9.0f} {limit:9.0f}  "
                f"{found / openmm:.1f} x OpenMM ({fastest_platform(system).getName()}), "
                f"{found / limit:.2f} of the energies alone",
                flush=True,
            )


if __name__ == "__main__":
    main()
