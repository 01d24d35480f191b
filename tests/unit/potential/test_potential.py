"""Potentials of both backends: agreement, autograd, hopeless configurations, falling back."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from typing import Literal

import numpy as np
import openmm
import pytest
import torch

from boltzgen.errors import MolecularSystemError, UserError
from boltzgen.potential import agreement, make_potential, potential_of_openmm
from boltzgen.potential.batched import BatchedEvaluator
from boltzgen.potential.platforms import fastest_platform
from boltzgen.potential.symmetries import check_translation_invariant, reflection_is_symmetry
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system

Backend = Literal["openmm", "batched"]


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
    exact = make_potential(system, backend="openmm", platform="Reference")
    energy, force = exact.energy_and_forces(x)
    np.testing.assert_allclose(energy, energies, rtol=1e-12)
    np.testing.assert_allclose(force, np.array(forces), rtol=1e-10, atol=1e-9)
    fastest = make_potential(system, backend="openmm")
    np.testing.assert_allclose(fastest(x) * system.kT, energies, atol=0.02)
    assert fastest.evaluations == 3


@pytest.mark.parametrize("backend", ["openmm", "batched"])
def test_gradient_is_that_of_the_energy(backend: Backend) -> None:
    system = load_system("alanine_dipeptide")
    potential = make_potential(system, backend=backend, platform="Reference")
    x = distorted(system, 2).requires_grad_(True)
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


@pytest.mark.parametrize(
    ("backend", "platform"), [("openmm", "Reference"), ("openmm", "CPU"), ("batched", None)]
)
def test_a_hopeless_configuration_weighs_nothing_and_spares_its_neighbours(
    backend: Backend, platform: str | None
) -> None:
    system = load_system("alanine_dipeptide")
    potential = make_potential(system, backend=backend, platform=platform)
    x = distorted(system, 4)
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
    for backend in ("openmm", "batched"):
        potential = make_potential(external, backend=backend)
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


@pytest.mark.parametrize("backend", ["openmm", "batched"])
def test_a_potential_travels_to_another_process(backend: Backend) -> None:
    system = load_system("harmonic_dimer")
    potential = make_potential(system, backend=backend)
    x = distorted(system, 2)
    torch.testing.assert_close(pickle.loads(pickle.dumps(potential))(x), potential(x))


def test_the_fastest_platform_is_remembered() -> None:
    system = load_system("alanine_dipeptide")
    assert fastest_platform(system).getName() == fastest_platform(system).getName()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_overlaps_straight_angles_and_flat_torsions_never_give_nan(dtype: torch.dtype) -> None:
    system = load_system("alanine_dipeptide")
    potential = make_potential(system, dtype=dtype, backend="batched")
    x = torch.as_tensor(system.positions).repeat(5, 1, 1)
    x[0, 3] = x[0, 9]
    x[1] = 0.0
    x[2] = torch.arange(system.n_atoms)[:, None] * torch.tensor([0.1, 0.0, 0.0])
    x[3, :, 2] = 0.0
    x[4] = 1e30
    energy, forces = potential.energy_and_forces(x)
    assert energy.dtype == forces.dtype == dtype
    assert float(energy[0]) == torch.inf
    assert not bool(energy.isnan().any()) and not bool((energy == -torch.inf).any())
    assert bool(forces.isfinite().all())
    assert bool(energy[[2, 3]].isfinite().all()) and bool((forces[[2, 3]] != 0).any())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_and_chunked_evaluation_is_the_eager_one(dtype: torch.dtype) -> None:
    system = load_system("lj13")
    eager = make_potential(system, dtype=dtype, compiled=False)
    compiled = make_potential(system, dtype=dtype, compiled=True)
    x = distorted(system, 2500, scale=0.05)
    x[7] = math.nan
    energy, forces = compiled.energy_and_forces(x)
    (program,) = compiled.evaluator._programs.values()  # type: ignore[union-attr]
    assert program._kernel is not None
    assert program.chunk < len(x)
    expected_energy, expected_forces = eager.energy_and_forces(x)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(energy, expected_energy, rtol=tolerance, atol=tolerance)
    scale = float(expected_forces.abs().max())
    torch.testing.assert_close(forces, expected_forces, rtol=tolerance, atol=tolerance * scale)
    few, _ = compiled.energy_and_forces(x[:3])
    torch.testing.assert_close(few, expected_energy[:3], rtol=tolerance, atol=tolerance)


def test_long_eager_evaluation_is_compiled_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boltzgen.potential.program.COMPILE_AFTER_SECONDS", 1e-6)
    system = load_system("harmonic_dimer")
    potential = make_potential(system)
    (program,) = potential.evaluator._programs.values()  # type: ignore[union-attr]
    x = distorted(system, 5)
    before, after = potential(x), potential(x)
    assert program._kernel is not None
    torch.testing.assert_close(after, before)


def test_second_derivatives_of_batched_energies() -> None:
    system = load_system("harmonic_chain", {"n": 4})
    potential = make_potential(system)
    x = distorted(system, 1, scale=0.02)
    assert torch.autograd.gradgradcheck(potential, x.requires_grad_(True), eps=1e-5, atol=1e-2, rtol=1e-4)
    by_openmm = make_potential(system, backend="openmm")
    (gradient,) = torch.autograd.grad(by_openmm(x).sum(), x)
    with pytest.raises(RuntimeError, match="second derivatives"):
        torch.autograd.grad(by_openmm(x).sum(), x, create_graph=True)
    assert gradient.shape == x.shape


def test_a_deviation_beyond_the_bound_falls_back_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    system = load_system("alanine_dipeptide")
    wrong = lambda self, x: tuple(value * 1.00001 for value in right(self, x))  # noqa: E731
    right = BatchedEvaluator.energy_and_forces
    monkeypatch.setattr(BatchedEvaluator, "energy_and_forces", wrong)
    potential = make_potential(system)
    assert potential.backend == "openmm" and "deviate" in potential.reason
    assert "deviate" in caplog.text
    with pytest.raises(UserError, match="deviate"):
        make_potential(system, backend="batched")


def test_a_bare_system_needs_a_temperature_but_no_positions() -> None:
    system = load_system("alanine_dipeptide")
    bare = system.openmm_system
    with pytest.raises(UserError, match="temperature"):
        make_potential(bare)
    potential = potential_of_openmm(bare, system.temperature_k)
    assert potential.backend == "batched"
    x = distorted(system, 3)
    torch.testing.assert_close(potential(x), make_potential(system)(x))
    hot = make_potential(system.at_temperature(2 * system.temperature_k))
    torch.testing.assert_close(2 * hot(x), potential(x))
    assert bool(torch.isfinite(torch.from_numpy(agreement.embedding(bare, 300.0))).all())


@pytest.mark.parametrize("options", [{"dtype": torch.float16}, {"backend": "fast"}])
def test_wrong_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match="; use"):
        make_potential(load_system("harmonic_dimer"), **options)  # type: ignore[arg-type]
