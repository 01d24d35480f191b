"""A reference with small errors: MD under a bias that makes all values of one torsion equally likely.

    python benchmarks/flat_histogram.py OUT.h5 [--ns 1] [--walkers 512] [--torsion phi]
                                        [--parameter hamiltonian=A-vac]

Parallel tempering finds a rare state seldom: four runs of 6 ns at five temperatures gave populations of
phi > 0 of alanine dipeptide from 0.7 to 2.7 %. Here OpenMM's metadynamics (Barducci, Bussi and
Parrinello, 2008) first learns the potential of mean force of the torsion; then walkers move under its
negative, kept fixed, as free diffusion along the torsion, and every frame is weighted by exp(+bias /
kT). All walkers move at once, on batched energies. They are the islands of the ensemble that is written.
`benchmarks/reference.py make` turns it into a stored reference.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import torch
from openmm import app, unit
from reference import shown
from tqdm import tqdm

from boltzgen import CollectiveVariable, MolecularSystem, WeightedEnsemble, load_system
from boltzgen.analyze.free_energy import free_energy_difference
from boltzgen.ensemble.correlation import with_blocks
from boltzgen.ensemble.storage import save_ensemble
from boltzgen.potential.platforms import fastest_platform
from boltzgen.simulate.batched_replicas import BatchedReplicas, batched_potential

HILL_KJ_MOL, HILL_WIDTH, BIAS_FACTOR, STEPS_PER_HILL = 0.5, 0.2, 12.0, 100
GRID = 120
HARMONICS = 12
TIMESTEP_PS, FRICTION_PER_PS = 0.001, 1.0
FRAME_STEPS = 1_000
EQUILIBRATION_STEPS = 50_000


def integrator(system: MolecularSystem, seed: int) -> openmm.Integrator:
    """LangevinMiddle as in `boltzgen.simulate.stage`."""
    made = openmm.LangevinMiddleIntegrator(system.temperature_k, FRICTION_PER_PS, TIMESTEP_PS)
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
    return force


def walk(
    system: MolecularSystem, cv: CollectiveVariable, pmf: np.ndarray, ns: float, n_replicas: int
) -> WeightedEnsemble:
    """Weighted frames of all walkers, one walker after the other, each an island."""
    biased = openmm.XmlSerializer.clone(system.openmm_system)
    biased.addForce(bias_force(cv, pmf))
    temperatures = torch.tensor([system.temperature_k], dtype=torch.float64)
    moved = replace(system, openmm_system=biased)
    replicas = BatchedReplicas.at_reference(moved, temperatures, n_replicas, seed=1, compiled=True)
    unbiased = batched_potential(system, n_replicas, compiled=True)
    replicas.step(EQUILIBRATION_STEPS, TIMESTEP_PS, FRICTION_PER_PS)
    n_frames = round(ns * 1000 / (FRAME_STEPS * TIMESTEP_PS))
    positions = np.empty((n_replicas, n_frames, system.n_atoms, 3), dtype=np.float32)
    energies, biases = np.empty((2, n_replicas, n_frames))
    for frame in tqdm(range(n_frames), mininterval=10):
        replicas.step(FRAME_STEPS, TIMESTEP_PS, FRICTION_PER_PS)
        energy = unbiased.energy_and_forces(replicas.x)[0]
        positions[:, frame] = (replicas.x - replicas.x.mean(dim=1, keepdim=True)).numpy()
        energies[:, frame], biases[:, frame] = energy.numpy(), (replicas.energy - energy).numpy()
    if not np.isfinite(energies).all():
        raise FloatingPointError("energy is not finite")
    return WeightedEnsemble(
        positions=positions.reshape(-1, system.n_atoms, 3),
        log_weights=biases.ravel() / system.kT,
        reduced_energies=energies.ravel() / system.kT,
        temperature_k=system.temperature_k,
        islands=np.repeat(np.arange(n_replicas), n_frames),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="ensemble file to write")
    parser.add_argument("--system", default="alanine_dipeptide")
    parser.add_argument("--parameter", nargs="*", default=[], help="of the system: hamiltonian=A-vac")
    parser.add_argument("--torsion", default="phi", help="collective variable that is made uniform")
    parser.add_argument("--ns", type=float, default=1.0, help="of each walker")
    parser.add_argument("--walkers", type=int, default=512)
    parser.add_argument("--learn", type=float, default=2.0, help="ns of metadynamics")
    options = parser.parse_args()
    system = load_system(options.system, dict(each.split("=", 1) for each in options.parameter))
    cv = next(cv for cv in system.collective_variables if cv.name == options.torsion)
    pmf = potential_of_mean_force(system, cv, options.learn)
    print("PMF [kJ/mol] on", len(pmf), "angles:", pmf.round(1).tolist(), flush=True)
    ensemble = walk(system, cv, pmf, options.ns, options.walkers)
    save_ensemble(with_blocks(system, ensemble), system.mdtraj_topology, options.out)
    print(f"{len(ensemble)} frames, Kish ESS {ensemble.ess:.0f}: {options.out}")
    if len(system.states) > 1:
        print(f"Delta F {shown(free_energy_difference(ensemble, *system.states[:2]))} kT")


if __name__ == "__main__":
    main()
