"""A reference with small errors: MD under a bias that makes all values of one torsion equally likely.

    python benchmarks/flat_histogram.py OUT.h5 [--ns 10] [--walkers 4] [--torsion phi]

Parallel tempering finds a rare state seldom: four runs of 6 ns at five temperatures gave populations of phi
> 0 of alanine dipeptide from 0.7 to 2.7 %. Here OpenMM's metadynamics (Barducci, Bussi and Parrinello,
2008) first learns the potential of mean force of the torsion; then walkers move under its negative, kept
fixed, as free diffusion along the torsion, and every frame is weighted by exp(+bias / kT). Walkers are the
islands of the ensemble that is written. `benchmarks/reference.py make` turns it into a stored reference.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

from boltzgen import CollectiveVariable, MolecularSystem, WeightedEnsemble, load_system
from boltzgen.platform import fastest_platform
from boltzgen.simulate import with_stretches
from boltzgen.storage import save_ensemble

HILL_KJ_MOL, HILL_WIDTH, BIAS_FACTOR, STEPS_PER_HILL = 0.5, 0.2, 12.0, 100
GRID = 120
HARMONICS = 12
TIMESTEP_PS = 0.001
FRAME_STEPS = 250
EQUILIBRATION_STEPS = 50_000


def integrator(system: MolecularSystem, seed: int) -> openmm.Integrator:
    """LangevinMiddle as in `boltzgen.simulate`."""
    made = openmm.LangevinMiddleIntegrator(system.temperature_k, 1.0, TIMESTEP_PS)
    made.setRandomNumberSeed(seed)
    return made


def potential_of_mean_force(system: MolecularSystem, cv: CollectiveVariable, ns: float) -> np.ndarray:
    """PMF [kJ/mol] on GRID - 1 angles from -pi, by well-tempered metadynamics of ``ns``."""
    torsion = openmm.CustomTorsionForce("theta")
    torsion.addTorsion(*cv.atoms)
    variable = app.BiasVariable(torsion, -np.pi, np.pi, HILL_WIDTH, periodic=True, gridWidth=GRID)
    biased = openmm.XmlSerializer.clone(system.openmm_system)
    temperature = system.temperature_k * unit.kelvin
    meta = app.Metadynamics(biased, [variable], temperature, BIAS_FACTOR, HILL_KJ_MOL, STEPS_PER_HILL)
    platform = fastest_platform(system)
    simulation = app.Simulation(system.topology, biased, integrator(system, 1), platform)
    simulation.context.setPositions(system.positions)
    simulation.context.setVelocitiesToTemperature(temperature, 1)
    meta.step(simulation, round(ns * 1000 / TIMESTEP_PS))
    free = meta.getFreeEnergy().value_in_unit(unit.kilojoule_per_mole)[:-1]  # the last angle is the first
    return np.asarray(free - free.min())


def bias_force(cv: CollectiveVariable, pmf: np.ndarray) -> openmm.Force:
    """Minus the Fourier series of the PMF as a force."""
    angles = np.linspace(-np.pi, np.pi, len(pmf), endpoint=False)
    orders = range(1, HARMONICS + 1)
    terms = [f"{-2 * np.mean(pmf * np.cos(k * angles)):.8g}*cos({k}*theta)" for k in orders]
    terms += [f"{-2 * np.mean(pmf * np.sin(k * angles)):.8g}*sin({k}*theta)" for k in orders]
    force = openmm.CustomTorsionForce(" + ".join(terms))
    force.addTorsion(*cv.atoms)
    force.setForceGroup(31)
    return force


def walk(name: str, torsion: str, pmf: np.ndarray, ns: float, seed: int) -> tuple[np.ndarray, ...]:
    """Positions [nm], energies and biases [kJ/mol] of one walker."""
    system = load_system(name)
    cv = next(cv for cv in system.collective_variables if cv.name == torsion)
    biased = openmm.XmlSerializer.clone(system.openmm_system)
    biased.addForce(bias_force(cv, pmf))
    platform = fastest_platform(system)
    context = openmm.Context(biased, moving := integrator(system, seed), platform)
    context.setPositions(system.positions)
    context.setVelocitiesToTemperature(system.temperature_k, seed)
    moving.step(EQUILIBRATION_STEPS)
    positions, energies, biases, last = [], [], [], time.monotonic()
    n_frames = round(ns * 1000 / (FRAME_STEPS * TIMESTEP_PS))
    for frame in range(n_frames):
        moving.step(FRAME_STEPS)
        state = context.getState(positions=True, energy=True, groups=set(range(31)))
        x = state.getPositions(asNumpy=True)._value
        positions.append((x - x.mean(axis=0)).astype(np.float32))
        energies.append(state.getPotentialEnergy()._value)
        biases.append(context.getState(energy=True, groups={31}).getPotentialEnergy()._value)
        if time.monotonic() - last > 60:
            last = time.monotonic()
            print(f"walker {seed}: {frame / n_frames:.0%}", flush=True)
    return np.stack(positions), np.array(energies), np.array(biases)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="ensemble file to write")
    parser.add_argument("--system", default="alanine_dipeptide")
    parser.add_argument("--torsion", default="phi", help="collective variable that is made uniform")
    parser.add_argument("--ns", type=float, default=10.0, help="of each walker")
    parser.add_argument("--walkers", type=int, default=4)
    parser.add_argument("--learn", type=float, default=2.0, help="ns of metadynamics")
    options = parser.parse_args()
    system = load_system(options.system)
    cv = next(cv for cv in system.collective_variables if cv.name == options.torsion)
    pmf = potential_of_mean_force(system, cv, options.learn)
    print("PMF [kJ/mol] on", len(pmf), "angles:", pmf.round(1).tolist(), flush=True)
    with ProcessPoolExecutor(mp_context=get_context("spawn"), max_workers=2) as pool:
        seeds = range(2, 2 + options.walkers)
        jobs = [pool.submit(walk, options.system, options.torsion, pmf, options.ns, seed) for seed in seeds]
        walks = [job.result() for job in jobs]
    positions, energies, biases = (np.concatenate(parts) for parts in zip(*walks, strict=True))
    ensemble = WeightedEnsemble(
        positions=positions,
        log_weights=biases / system.kT,
        reduced_energies=energies / system.kT,
        temperature_k=system.temperature_k,
        islands=np.repeat(np.arange(options.walkers), [len(walk[1]) for walk in walks]),
    )
    save_ensemble(with_stretches(system, ensemble), system.topology, options.out)
    print(f"{len(ensemble)} frames, Kish ESS {ensemble.ess:.0f}: {options.out}")


if __name__ == "__main__":
    main()
