"""Dynamics of many replicas: velocity Verlet, equipartition, exchanges that change no distribution."""

from __future__ import annotations

import itertools

import numpy as np
import openmm
import pytest
import torch

from boltzgen.simulate import hybrid_monte_carlo
from boltzgen.simulate.batched_replicas import BatchedReplicas
from boltzgen.simulate.exchange_levels import ExchangeLevels
from boltzgen.simulate.hybrid_monte_carlo import number_of_parts
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system

DT = 0.001


def replicas(system: MolecularSystem, n: int, *kelvin: float, compiled: bool = False) -> BatchedReplicas:
    levels = ExchangeLevels.at(np.array(kelvin or (300.0,)))
    return BatchedReplicas.at_reference(system, levels, n * len(levels), seed=1, compiled=compiled)


@pytest.mark.parametrize("name", ["harmonic_dimer", "alanine_dipeptide"])
def test_steps_are_those_of_velocity_verlet_by_openmm(name: str) -> None:
    """The same start, so that a kick or a drift of another length shows after a few steps."""
    system = load_system(name)
    moved = replicas(system, 2)
    for atom, mass in enumerate(moved.dynamics.masses.tolist()):
        system.openmm_system.setParticleMass(atom, mass)
    context = openmm.Context(
        system.openmm_system, velocity_verlet(DT), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(moved.x[1].numpy())
    context.setVelocities(moved.parts[0].v[..., 1].numpy())
    accepted = moved.dynamics.propose(moved.parts, 50, DT, 0.0)
    context.getIntegrator().step(50)
    state = context.getState(positions=True, velocities=True, energy=True)
    expected = state.getPositions(asNumpy=True)._value
    assert accepted[1] and np.abs(expected - system.positions).max() > 0.005
    assert np.abs(moved.x[1].numpy() - expected).max() < 2e-5
    velocities = state.getVelocities(asNumpy=True)._value
    assert np.abs(moved.parts[0].v[..., 1].numpy() - velocities).max() < 1e-3 * np.abs(velocities).max()
    assert float(moved.energy[1]) == pytest.approx(state.getPotentialEnergy()._value, abs=0.01)


def velocity_verlet(dt: float) -> openmm.CustomIntegrator:
    integrator = openmm.CustomIntegrator(dt)
    integrator.addComputePerDof("v", "v + 0.5 * dt * f / m")
    integrator.addComputePerDof("x", "x + dt * v")
    integrator.addComputePerDof("v", "v + 0.5 * dt * f / m")
    return integrator


def test_a_stretch_taken_back_ends_where_it_began() -> None:
    """To reverse velocities reverses time, which the Metropolis rule rests on."""
    moved = replicas(load_system("alanine_dipeptide"), 4)
    part, start = moved.parts[0], moved.x
    for _ in range(2):
        moved.dynamics._leap(part, moved.dynamics._eager, 20, DT)
        part.v = -part.v
        farthest = float((moved.x - start).abs().max())
        assert farthest < 1e-5 or farthest > 1e-2  # back, or on the way
    assert farthest < 1e-5


def test_energies_are_conserved_the_better_the_shorter_the_steps() -> None:
    """Of second order: errors of the total energy fall by 16 in the square from one step to its half."""
    squares = []
    for dt in (2 * DT, DT):
        moved = replicas(load_system("alanine_dipeptide"), 64)
        for _ in range(5):
            moved.move(round(0.1 / dt), dt, 5.0)
        part, errors = moved.parts[0], []
        for _ in range(10):
            before = moved.dynamics._total(part)
            moved.dynamics._leap(part, moved.dynamics._eager, round(0.1 / dt), dt)
            errors.append(moved.dynamics._total(part) - before)
        squares.append(float(torch.stack(errors).square().mean()))
    assert squares[0] < 0.5 and 8 < squares[0] / squares[1] < 32


def test_what_is_rejected_stays_and_turns_back() -> None:
    """At a step that is too long for it, nothing moves; velocities are reversed, and no energy changes."""
    moved = replicas(load_system("harmonic_dimer"), 100)
    moved.move(50, DT, 20.0)
    part = moved.parts[0]
    before = {name: getattr(part, name).clone() for name in ("x", "v", "acceleration", "energy")}
    accepted = moved.dynamics.propose(moved.parts, 5, 2.0, 0.0)
    assert not accepted.any()
    assert torch.equal(part.x, before["x"]) and torch.equal(part.v, -before["v"])
    assert torch.equal(part.energy, before["energy"])
    assert torch.equal(part.acceleration, before["acceleration"])


def test_both_energies_are_those_of_the_temperature() -> None:
    """A harmonic bond: 1/2 kT of stretch, and 1/2 kT for each velocity."""
    system = load_system("harmonic_dimer")
    moved = replicas(system, 512)
    for _ in range(40):
        moved.move(50, DT, 20.0)
    stretch, kinetic = [], []
    for _ in range(60):
        moved.move(50, DT, 20.0)
        moved.move(50, DT, 20.0)
        stretch.append(float(moved.energy.mean()) / system.kT)
        v = moved.parts[0].v
        kinetic.append(float((moved.dynamics.masses[:, None, None] * v.square()).mean()) / system.kT)
    for found, expected in ((stretch, 0.5), (kinetic, 1.0)):
        error = np.std(found) / np.sqrt(len(found) / 4)  # blocks of four hold what is correlated
        assert error < 0.01 and abs(np.mean(found) - expected) < 4 * error, (np.mean(found), error)


def test_exchanges_change_no_distribution() -> None:
    """Replicas in equilibrium exchange many times without moving: mean energies stay where they are."""
    system = load_system("harmonic_dimer")
    moved = replicas(system, 2000, 300.0, 450.0, 675.0)
    for _ in range(30):
        moved.move(100, DT, 20.0)
    before = moved.energy
    mean = before.view(2000, 3).mean(0)
    for _ in range(20):
        moved.exchange()
    assert (
        torch.equal(moved.energy, before) and (moved.level.sum(1) == 3).all()
    )  # replicas stay in their rows
    after = moved.by_level(before)
    assert 0.3 < moved.n_accepted / moved.n_proposed < 0.95
    error = after.std(0) / 2000**0.5
    assert ((after.mean(0) - mean).abs() < 4 * 2**0.5 * error).all()
    assert (mean[1:] - mean[:-1] > 10 * error[1:]).all()  # what an exchange at will would even out


def test_velocities_are_those_of_the_new_temperature() -> None:
    moved = replicas(load_system("harmonic_dimer"), 4000, 300.0, 900.0)
    moved.exchange()
    part = moved.parts[0]
    masses = moved.dynamics.masses[:, None, None]
    spread = moved.by_level((masses * part.v.square() / part.kT).mean((0, 1))).mean(0)
    assert (spread - 1.0).abs().max() < 4 * (2.0 / (6 * 4000)) ** 0.5
    assert torch.equal(moved.by_level(part.kT), moved.levels.kT.expand(4000, 2))
    assert (moved.level == torch.tensor([1, 0])).all()  # all energies are alike


def test_round_trips_are_counted_from_the_lowest_temperature_to_it() -> None:
    """Three replicas of equal energy exchange always, so that they go round in a fixed order."""
    moved = replicas(load_system("harmonic_dimer"), 1, 300.0, 400.0, 500.0)
    moved.count_anew()
    levels = []
    for _ in range(12):
        moved.exchange()
        levels.append(moved.level[0].tolist())
    assert moved.n_accepted == moved.n_proposed == 12
    trips = 0
    for replica in range(3):
        been, ends = [row[replica] for row in levels], [0]
        ends = [level for level in been if level in (0, 2)]
        trips += sum(a == 2 and b == 0 for a, b in itertools.pairwise(ends))
    assert moved.round_trips == trips > 3


def test_a_state_is_all_that_the_next_steps_depend_on() -> None:
    one, other = (replicas(load_system("alanine_dipeptide"), 2, 300.0, 400.0) for _ in range(2))
    one.move(5, DT, 1.0)
    one.exchange()
    other.restore(one.state())
    for moved in (one, other):
        moved.move(5, DT, 1.0)
        moved.exchange()
    assert torch.equal(one.x, other.x) and torch.equal(one.level, other.level)


def test_temperatures_are_changed_with_the_velocities() -> None:
    moved = replicas(load_system("harmonic_dimer"), 4, 900.0)
    before = moved.parts[0].v.clone()
    moved.set_levels(ExchangeLevels.at(np.array([300.0, 600.0, 900.0])))
    ratio = (moved.parts[0].v / before)[0, 0].square()
    assert moved.n_sets == 1
    assert torch.allclose(ratio, torch.tensor([1 / 3, 2 / 3, 1.0, 1 / 3], dtype=torch.float64))


def test_the_number_of_parts_is_that_of_the_replicas() -> None:
    """Not of the cores, whose number would decide which random numbers a replica gets."""
    assert [number_of_parts(n) for n in (1, 10, 16, 40, 64, 512)] == [1, 1, 2, 2, 2, 16]
    moved = replicas(load_system("harmonic_dimer"), 11, 300.0, 400.0, 500.0, compiled=True)
    assert moved.x.shape == (33, 2, 3) and [part.x.shape[-1] for part in moved.parts] == [17, 17]
    assert moved.parts[1].kT[-1] == moved.parts[0].kT[0]  # one too many


def test_compiled_steps_are_eager_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    system = load_system("harmonic_dimer")
    one, other = (replicas(system, 20, compiled=True) for _ in range(2))
    monkeypatch.setattr(hybrid_monte_carlo, "_compiled", lambda fused, eager, example: eager)
    other.move(20, DT, 5.0)
    monkeypatch.undo()
    one.move(20, DT, 5.0)
    assert one.dynamics._step is not one.dynamics._eager
    assert (one.x - other.x).abs().max() < 1e-5 and (one.energy - other.energy).abs().max() < 1e-3
