"""Molecular dynamics and parallel tempering, by OpenMM and for many replicas, against closed forms."""

from __future__ import annotations

import numpy as np
import openmm
import pytest
import torch
from openmm import app

from boltzgen.analyze.free_energy import state_probability
from boltzgen.config.schema import SimulateSettings
from boltzgen.runtime.context import Context
from boltzgen.simulate.hybrid_monte_carlo import HybridMonteCarlo
from boltzgen.simulate.stage import simulate
from boltzgen.system.collective_variables import CollectiveVariable
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system
from boltzgen.systems.harmonic import mean_bond_length

STIFFNESS, LENGTH = 10000.0, 0.2
SHORT = SimulateSettings(n_runs=1, friction_per_ps=5.0, equilibration_ps=1.0, frame_interval_ps=0.1)
both_ways = pytest.mark.parametrize("platform", ["Reference", "batched"])


def dimer() -> MolecularSystem:
    return load_system("harmonic_dimer", {"stiffness": STIFFNESS, "length_nm": LENGTH})


def replicate_means(settings: SimulateSettings, n: int, platform: str) -> np.ndarray:
    system = dimer()
    runs = [simulate(system, settings, Context(seed), platform) for seed in range(n)]
    return np.array([run.expectation(system.collective_variables[0].values(run.positions)) for run in runs])


def check_mean_bond_length(means: np.ndarray, bound: float) -> None:
    """Within 3.5 replicate standard errors, and those small enough to tell <r> from r0."""
    error = means.std(ddof=1) / np.sqrt(len(means))
    exact = mean_bond_length(STIFFNESS, LENGTH)
    assert error < bound
    assert abs(means.mean() - exact) < 3.5 * error
    assert abs(means.mean() - LENGTH) > 3.5 * error  # what dropping the r^2 of the measure would give
    hotter = mean_bond_length(STIFFNESS, LENGTH, 600.0)
    assert abs(means.mean() - hotter) > 3.5 * error


@both_ways
def test_langevin_gives_the_mean_bond_length(platform: str) -> None:
    settings = SHORT.model_copy(update={"method": "langevin", "production_ps": 150.0, "n_replicas": 250})
    check_mean_bond_length(replicate_means(settings, 16, platform), bound=3e-4)


@both_ways
def test_parallel_tempering_gives_the_mean_bond_length_at_the_target(platform: str) -> None:
    schedule = {"n_temperatures": 2, "temperature_ratio": 2.0, "production_ps": 50.0, "n_replicas": 100}
    settings = SHORT.model_copy(update=schedule)
    check_mean_bond_length(replicate_means(settings, 6, platform), bound=5e-4)


@both_ways
def test_exchanges_do_not_heat_stiff_bonds(platform: str) -> None:
    """A time step of half the inverse frequency, as 1 fs is for C-H bonds; exchanges every 20 steps."""
    system = dimer()
    long = {"timestep_fs": 25.0, "friction_per_ps": 1.0, "production_ps": 4000.0, "equilibration_ps": 10.0}
    many = {"n_replicas": 100}
    schedule = {
        "n_temperatures": 2,
        "temperature_ratio": 1.25,
        "frame_interval_ps": 0.5,
        "swap_interval_ps": 0.5,
    }
    settings = SHORT.model_copy(update=long | schedule | many)
    run = simulate(system, settings, Context(1), platform)
    r = np.linspace(0.05, 0.35, 20_001)
    u = 0.5 * STIFFNESS * (r - LENGTH) ** 2 / system.kT
    exact = np.average(u, weights=r**2 * np.exp(-u))
    error = 0.5**0.5 / np.sqrt(run.ess / 2)  # energies are correlated for about 1 ps
    assert error < 0.015
    assert abs(run.expectation(run.reduced_energies) - exact) < 2.5 * error


def two_wells(barrier: float = 20.0) -> MolecularSystem:
    """Two particles whose distance has two wells, 0.2 and 0.4 nm, the wider one weighed by r^2."""
    system, topology = openmm.System(), app.Topology()
    residue = topology.addResidue("AR", topology.addChain())
    for _ in range(2):
        system.addParticle(10.0)
        topology.addAtom("Ar", app.Element.getBySymbol("Ar"), residue)
    bond = openmm.CustomBondForce("barrier*(((r-0.3)/0.1)^2-1)^2")
    bond.addGlobalParameter("barrier", barrier)
    bond.addBond(0, 1, [])
    system.addForce(bond)
    distance = CollectiveVariable("distance", "distance", (0, 1))
    positions = np.array([[0.0, 0.0, 0.0], [0.2, 0.0, 0.0]])
    return MolecularSystem("two_wells", topology, system, positions, 300.0, (distance,))


def test_exchange_crosses_a_barrier_and_weighs_both_wells() -> None:
    """8 kT high: a replica alone does not cross in this time; population within 3.5 errors over seeds."""
    system = two_wells()
    schedule = {"n_runs": 1, "n_temperatures": 5, "temperature_ratio": 1.6, "n_replicas": 50}
    settings = SHORT.model_copy(
        update=schedule | {"timestep_fs": 5.0, "equilibration_ps": 40.0, "production_ps": 1000.0}
    )
    r = np.linspace(0.05, 0.6, 20_001)
    weight = r**2 * np.exp(-20.0 * (((r - 0.3) / 0.1) ** 2 - 1) ** 2 / system.kT)
    exact = weight[r > 0.3].sum() / weight.sum()
    found = []
    for seed in range(6):
        run = simulate(system, settings, Context(seed), "batched")
        found.append(
            run.expectation((system.collective_variables[0].values(run.positions) > 0.3).astype(float))
        )
    error = np.std(found, ddof=1) / len(found) ** 0.5
    assert error < 0.02
    assert abs(np.mean(found) - exact) < 3.5 * error
    assert abs(np.mean(found) - 0.5) > 3.5 * error  # what dropping the r^2 of the measure would give


def test_steps_too_long_for_their_bond_leave_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """One stretch in thirty is rejected. Without the Metropolis rule the mean energy is a tenth too high."""
    system = two_wells(barrier=5.0)
    r = np.linspace(0.02, 0.8, 40_001)
    u = 5.0 * (((r - 0.3) / 0.1) ** 2 - 1) ** 2 / system.kT
    exact = np.average(u, weights=r**2 * np.exp(-u))
    schedule = {"method": "langevin", "timestep_fs": 25.0, "n_replicas": 200, "production_ps": 20_000.0}
    settings = SHORT.model_copy(update=schedule | {"equilibration_ps": 10.0, "frame_interval_ps": 0.5})

    def deviation() -> float:
        run = simulate(system, settings, Context(1), "batched")
        by_replica = run.reduced_energies.reshape(200, -1).mean(1)
        return float((by_replica.mean() - exact) / (by_replica.std(ddof=1) / 200**0.5))

    assert abs(deviation()) < 3.5
    monkeypatch.setattr(HybridMonteCarlo, "_total", lambda self, part: torch.zeros_like(part.energy))
    assert deviation() > 7


@pytest.mark.parametrize("levels", [None, 1])
def test_a_flat_histogram_crosses_the_barrier_and_its_weights_undo_it(levels: int | None) -> None:
    """With all of the bias for all replicas, or with levels from none to all of it."""
    system = two_wells()
    schedule = {"n_runs": 1, "method": "flat_histogram", "bias": ("distance",), "n_temperatures": levels}
    schedule |= {"n_replicas": 96 if levels is None else 256, "timestep_fs": 10.0, "frame_interval_ps": 0.25}
    settings = SHORT.model_copy(update=schedule | {"equilibration_ps": 15.0, "production_ps": 2500.0})
    run = simulate(system, settings, Context(1), "batched")
    r = np.linspace(0.05, 0.6, 20_001)
    weight = r**2 * np.exp(-20.0 * (((r - 0.3) / 0.1) ** 2 - 1) ** 2 / system.kT)
    exact = weight[r > 0.3].sum() / weight.sum()
    far = system.collective_variables[0].values(run.positions) > 0.3
    found = state_probability(run, far)
    assert found.error is not None and found.error < 0.02
    assert abs(found.value - exact) < 3.5 * found.error
    assert abs(found.value - 0.5) > 3.5 * found.error  # what dropping the r^2 of the measure would give
    if levels == 1:
        assert abs(far.mean() - exact) > 3.5 * found.error  # what frames are worth without their weights
