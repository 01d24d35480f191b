"""MCMC moves, the bridge and OpenMM targets against closed forms, with Gaussians in place of the network."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from boltzgen import make_potential
from boltzgen.diffusion.process import ZeroCentroidGaussian
from boltzgen.geometry import dof, gaussian_log_density, remove_centroid, squared_norm, zero_centroid_noise
from boltzgen.smc import algorithm as smc
from boltzgen.smc import moves
from boltzgen.smc.adaptation import Plan, plan_schedule
from boltzgen.smc.base import Level, Moves, Particles
from boltzgen.smc.elastic_network import DenoisingError
from boltzgen.smc.levels import BridgeLevel, BridgeStart, Ends, NoiseLevel, Schedule
from boltzgen.smc.moves import MOVES
from boltzgen.system.registry import load_system
from boltzgen.systems.harmonic import chain_log_z, well_log_z

N_ATOMS = 4
WIDTHS = torch.tensor([0.5, 1.0, 1.0, 2.0]).double()
"""Standard deviation of each atom before its centroid is removed."""


def anisotropic(x: Tensor) -> tuple[Tensor, Tensor]:
    """Energy and gradient of a Gaussian whose atoms have different widths."""
    gradient = remove_centroid(x / WIDTHS.square().view(1, -1, 1))
    return 0.5 * (x * gradient).sum((1, 2)), gradient


def covariance() -> Tensor:
    """Covariance between atoms of that Gaussian on the zero-centroid space."""
    projection = torch.eye(N_ATOMS).double() - 1.0 / N_ATOMS
    return torch.linalg.pinv(projection @ torch.diag(WIDTHS**-2) @ projection, hermitian=True, rtol=1e-9)


@dataclass(frozen=True)
class Anisotropic:
    """A level whose target is that Gaussian."""

    moves: Moves
    coordinate: dict[str, float]
    coefficients: tuple[float, ...] = (1.0,)

    def enter(self, particles: Particles, generator: torch.Generator) -> tuple[Particles, Tensor]:
        return particles, torch.zeros(len(particles.x)).double()

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        energies, gradients = anisotropic(x)
        return energies.unsqueeze(1), gradients.unsqueeze(1)


def second_moments_after_moves(moves: Moves, n: int = 20_000, repeats: int = 10) -> np.ndarray:
    """Mean square of each atom over its exact value, of particles that started in equilibrium."""
    g = torch.Generator().manual_seed(0)
    values, vectors = torch.linalg.eigh(covariance())
    noise = torch.randn((n, N_ATOMS, 3), generator=g).double()
    x = torch.einsum("ak,nkd->nad", vectors, values.clamp_min(0).sqrt().view(1, -1, 1) * noise)
    level: Level = Anisotropic(moves, {"sigma": 0.0})
    energies, gradients = level.evaluate(x)
    particles = Particles(x, energies, gradients, torch.arange(n))
    for _ in range(repeats):
        particles, acceptance = MOVES["hmc"](level, particles, g)
    assert 0.1 < acceptance < 0.97
    assert float(particles.x.mean(1).abs().max()) < 1e-12
    return (particles.x.square().sum(-1).mean(0) / (3.0 * covariance().diagonal())).numpy()


SCALES = torch.tensor([[0.5], [1.0], [1.0], [1.7]]).double()


@pytest.mark.parametrize("scales", [None, SCALES], ids=["one step", "step per atom"])
@pytest.mark.parametrize("n_leapfrog, step", [(1, 0.9), (4, 0.8)], ids=["mala", "hmc"])
def test_moves_leave_the_target_invariant(n_leapfrog: int, step: float, scales: Tensor | None) -> None:
    ratio = second_moments_after_moves(Moves(1, step, n_leapfrog, scales))
    assert np.abs(ratio - 1.0).max() < 4.0 * math.sqrt(2.0 / (3 * 20_000))


def test_an_asymmetric_acceptance_ratio_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the proposal densities, MALA's are the kinetic energies."""
    monkeypatch.setattr(moves, "squared_norm", lambda x: torch.zeros(len(x)).double())
    ratio = second_moments_after_moves(Moves(1, 0.9))
    assert np.abs(ratio - 1.0).max() > 4.0 * math.sqrt(2.0 / (3 * 20_000))


def narrow(x: Tensor) -> tuple[Tensor, Tensor]:
    """A Gaussian of variance 1/4, unnormalised: Z is (pi / 2)^(dof / 2)."""
    return 2.0 * squared_norm(x), 4.0 * x


def standard(x: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
    """The standard normal as the network's energy at any level."""
    return -gaussian_log_density(x, x.new_ones(())), -x


def bridge_replicates(n: int = 40) -> tuple[float, float]:
    """Deviation of Z over its exact value from one, in standard errors, and that error."""
    bridge_start = BridgeStart(standard, 1.0, narrow, lambda x: (x, torch.ones(len(x)).bool()))
    values = [k / 6 for k in range(7)]
    levels: list[Level] = [
        BridgeLevel(bridge_start, a, b, Moves(2, 0.7)) for a, b in itertools.pairwise(values)
    ]
    g, z = torch.Generator().manual_seed(1), []
    for _ in range(n):
        x = zero_centroid_noise((256, N_ATOMS, 3), g, torch.float64)
        energies, gradients = bridge_start.evaluate(x)
        particles = Particles(x, energies, gradients, torch.arange(256))
        population = smc.Population(particles, torch.zeros(256).double())
        smc.run_smc(population, levels, resample_below=0.7, generator=g)
        z.append(math.exp(population.log_z - 0.5 * dof(N_ATOMS) * math.log(math.pi / 2)))
    error = float(np.std(z, ddof=1)) / n**0.5
    return (float(np.mean(z)) - 1.0) / error, error


def test_the_bridge_is_exact() -> None:
    deviation, error = bridge_replicates()
    assert error < 0.05 and abs(deviation) < 3.5


def test_a_bridge_weight_after_the_move_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    enter = BridgeLevel.enter

    def late(self: BridgeLevel, particles: Particles, generator: torch.Generator) -> tuple[Particles, Tensor]:
        for _ in range(self.moves.n):
            particles, _ = MOVES["hmc"](self, particles, generator)
        return enter(self, particles, generator)

    monkeypatch.setattr(BridgeLevel, "enter", late)
    assert abs(bridge_replicates()[0]) > 3.5


@pytest.mark.parametrize("n_leapfrog", [1, 4], ids=["mala", "hmc"])
@pytest.mark.parametrize(
    "name, exact",
    [("harmonic_well", well_log_z(4, 250.0)), ("harmonic_chain", chain_log_z(4, 10_000.0, 0.2))],
)
def test_openmm_systems_have_their_partition_function(name: str, exact: float, n_leapfrog: int) -> None:
    """A Gaussian of the right size stands for the network; the bridge carries it to the force field."""
    system, g = load_system(name), torch.Generator().manual_seed(2)
    size = float(np.square(system.positions - system.positions.mean(0)).sum() / system.dof)
    variance = 250.0**-1 * system.kT if name == "harmonic_well" else size
    gaussian = ZeroCentroidGaussian.isotropic(4, variance)

    def energy(x: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
        total = variance + (2.0 * log_sigma).exp()
        return -gaussian_log_density(x, total), -x / total.view(-1, 1, 1)

    potential = make_potential(system)
    bridge_start = BridgeStart(
        energy, 0.05, potential.reduced_energy_and_gradient, lambda x: (x, torch.ones(len(x)).bool())
    )
    plan = Plan(
        n_levels=20, n_pilot=256, level_moves=0, move_below=0.0, bridge_moves=3, n_leapfrog=n_leapfrog
    )
    x0 = gaussian.sample(256, 0.0, g)
    information = lambda s: gaussian.level_information(torch.as_tensor(s)).numpy()  # noqa: E731
    schedule = plan_schedule(Ends(gaussian, 2.0, energy, bridge_start), x0, information, plan, g)
    z = []
    for _ in range(16):
        population = smc.start(energy, gaussian, 2.0, 512, g)
        levels = [*schedule.noise_levels(energy), *schedule.bridge_levels(bridge_start)]
        z.append(math.exp(smc.run_smc(population, levels, resample_below=0.5, generator=g).log_z - exact))
    error = float(np.std(z, ddof=1)) / 4.0
    assert error < 0.06
    assert abs(np.mean(z) - 1.0) < 3.5 * error


@pytest.mark.parametrize("n_atoms", [2, 8, 44], ids=["3-D", "21-D", "129-D"])
@pytest.mark.parametrize("resample_below", [0.0, 0.5], ids=["ais", "smc"])
def test_mixtures_in_any_dimension(n_atoms: int, resample_below: float) -> None:
    """Two far modes of weights 0.2 and 0.8 with their exact energies."""
    g = torch.Generator().manual_seed(3)
    centre = zero_centroid_noise((1, n_atoms, 3), g, torch.float64)
    centre = centre * (3.0 / squared_norm(centre).sqrt())
    variance, shares = 0.05, torch.tensor([0.2, 0.8]).double()

    def model(x: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
        total = variance + (2.0 * log_sigma).exp()
        offsets = torch.stack([x - centre, x + centre])
        logs = torch.stack([gaussian_log_density(o, total) for o in offsets]) + shares.log().unsqueeze(1)
        pull = (torch.softmax(logs, 0).view(2, -1, 1, 1) * offsets).sum(0)
        return -torch.logsumexp(logs, 0), -pull / total.view(-1, 1, 1)

    sigmas = np.geomspace(10.0, 0.02, 81)
    spread = 0.05 + 4 * 0.2 * 0.8 * 9.0 / dof(n_atoms)
    gaussian = ZeroCentroidGaussian.isotropic(n_atoms, spread)
    errors = tuple(DenoisingError(float(variance * s**2 / (variance + s**2))) for s in sigmas)
    levels: list[NoiseLevel] = Schedule(tuple(sigmas), errors).noise_levels(model)
    z, share = [], []
    for _ in range(16):
        population = smc.start(model, gaussian, 10.0, 256, g)
        smc.run_smc(population, levels, resample_below=resample_below, generator=g)
        x, weights = population.particles.x, torch.softmax(population.log_weights, 0)
        z.append(math.exp(population.log_z))
        share.append(float(weights[squared_norm(x - centre) < squared_norm(x + centre)].sum()))
    for values, exact in ((z, 1.0), (share, 0.2)):
        error = float(np.std(values, ddof=1)) / 4.0
        assert error < 0.03
        assert abs(np.mean(values) - exact) < 3.5 * error
