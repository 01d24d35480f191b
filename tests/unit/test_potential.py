"""OpenMMPotential against plain contexts, and its behaviour where OpenMM gives up."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import openmm
import pytest
import torch

from boltzgen.errors import MolecularSystemError
from boltzgen.platform import fastest_platform
from boltzgen.potential import OpenMMPotential
from boltzgen.potential.openmm import check_translation_invariant, reflection_is_symmetry
from boltzgen.registry import load_system
from boltzgen.system import MolecularSystem


def distorted(system: MolecularSystem, n: int, scale: float = 0.003) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn((n, system.n_atoms, 3), generator=generator, dtype=torch.float64)
    return torch.as_tensor(system.positions) + scale * noise


@pytest.mark.parametrize("hamiltonian", ["A", "A-vac", "B", "C"])
def test_energies_and_forces_are_those_of_a_plain_context(hamiltonian: str) -> None:
    system = load_system("alanine_dipeptide", {"hamiltonian": hamiltonian})
    x = distorted(system, 3)
    context = openmm.Context(
        system.openmm_system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    energies, forces = [], []
    for frame in x.numpy():
        context.setPositions(frame)
        state = context.getState(energy=True, forces=True)
        energies.append(state.getPotentialEnergy()._value)
        forces.append(state.getForces(asNumpy=True)._value)
    exact = OpenMMPotential(system, platform="Reference")
    energy, force = exact.energy_and_forces(x)
    np.testing.assert_allclose(energy, energies, rtol=1e-12)
    np.testing.assert_allclose(force, np.array(forces), rtol=1e-10, atol=1e-9)
    fastest = OpenMMPotential(system)
    np.testing.assert_allclose(fastest(x) * system.kT, energies, atol=0.02)
    assert fastest.evaluations == 3


def test_gradient_is_that_of_the_energy() -> None:
    potential = OpenMMPotential(load_system("alanine_dipeptide"), platform="Reference")
    x = distorted(potential.system, 2).requires_grad_(True)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(potential(x).sum(), x)
    step = 2e-6
    with torch.no_grad():
        slope = (potential(x + step * direction) - potential(x - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(dim=(1, 2)), slope, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(potential.reduced_energy_and_gradient(x)[1], gradient)
    single = x.detach().float().requires_grad_(True)
    u = potential(single)
    (gradient_single,) = torch.autograd.grad(u.sum(), single)
    assert (u.dtype, gradient_single.dtype) == (torch.float64, torch.float32)


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_a_hopeless_configuration_weighs_nothing_and_spares_its_neighbours(platform: str) -> None:
    potential = OpenMMPotential(load_system("alanine_dipeptide"), platform=platform)
    x = distorted(potential.system, 4)
    x[1] = math.nan
    x[2] = 0.0
    x.requires_grad_(True)
    u = potential(x)
    (gradient,) = torch.autograd.grad(u[[0, 1, 3]].sum(), x)
    u = u.detach()
    assert math.isinf(u[1]) and math.isfinite(u[0]) and math.isfinite(u[3])
    assert not math.isfinite(u[2]) or u[2] > 1e6
    assert bool((gradient[1] == 0).all()) and bool(gradient[0].abs().max() > 0)


def test_positions_are_never_centred() -> None:
    system = load_system("harmonic_dimer")
    anchored = openmm.XmlSerializer.clone(system.openmm_system)
    tether = openmm.CustomExternalForce("100*x^2")
    tether.addParticle(0, [])
    anchored.addForce(tether)
    external = replace(system, openmm_system=anchored)
    x = torch.as_tensor(system.positions)[None]
    potential = OpenMMPotential(external)
    assert float(potential(x + 1.0)) > float(potential(x)) + 10
    with pytest.raises(MolecularSystemError, match="remove external forces"):
        check_translation_invariant(external)
    check_translation_invariant(system)


def test_reflection_is_noticed_to_be_no_symmetry() -> None:
    system = load_system("harmonic_chain", {"n": 4})
    assert reflection_is_symmetry(system)
    chiral = openmm.XmlSerializer.clone(system.openmm_system)
    torsion = openmm.PeriodicTorsionForce()
    torsion.addTorsion(0, 1, 2, 3, 1, 1.0, 5.0)
    chiral.addForce(torsion)
    assert not reflection_is_symmetry(replace(system, openmm_system=chiral))


def test_a_potential_travels_to_another_process() -> None:
    potential = OpenMMPotential(load_system("harmonic_dimer"))
    x = distorted(potential.system, 2)
    torch.testing.assert_close(pickle.loads(pickle.dumps(potential))(x), potential(x))


def test_the_fastest_platform_is_remembered() -> None:
    system = load_system("alanine_dipeptide")
    assert fastest_platform(system).getName() == fastest_platform(system).getName()
