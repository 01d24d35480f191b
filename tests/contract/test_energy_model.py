"""What every energy network must satisfy: symmetries, derivatives, normalisation, storage."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from openmm import app

from boltzgen.config.choices import OBJECTIVE_NAMES
from boltzgen.config.schema import ModelSettings
from boltzgen.diffusion.losses import dsm, level_loss, noised
from boltzgen.diffusion.noise_levels import draw_levels
from boltzgen.diffusion.process import perturb
from boltzgen.errors import DataError
from boltzgen.geometry import remove_centroid, zero_centroid_noise
from boltzgen.model.compiled import (
    COMPILATION_FAILED,
    BatchFunction,
    compile_derivatives,
    compile_energy,
    eager_derivatives,
    in_chunks,
)
from boltzgen.model.energy import EnergyModel, load_model
from boltzgen.pretrained.shipped import network_directory
from boltzgen.runtime.threads import workers
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system
from boltzgen.testing.energies import automorphisms, check_energy

SIGMAS = (0.004, 0.05, 0.4, 1.5)
"""Noise levels [nm] from bond width to far beyond the molecule."""


def butane() -> MolecularSystem:
    """C4H10 as a graph: hydrogens on the two ends share a class, yet must not be swapped singly."""
    topology = app.Topology()
    residue = topology.addResidue("BUT", topology.addChain())
    carbons = [topology.addAtom(f"C{k}", app.element.carbon, residue) for k in range(4)]
    for a, b in itertools.pairwise(carbons):
        topology.addBond(a, b)
    for carbon, n in zip(carbons, (3, 2, 2, 3), strict=True):
        for k in range(n):
            hydrogen = topology.addAtom(f"H{carbon.name}{k}", app.element.hydrogen, residue)
            topology.addBond(carbon, hydrogen)
    system = openmm.System()
    for atom in topology.atoms():
        system.addParticle(atom.element.mass)
    rng = np.random.default_rng(0)
    positions = np.array([[0.13 * k, 0.05 * (k % 2), 0.0] for k in range(4)])
    hydrogens = [positions[k] + 0.11 * _unit(rng) for k, n in enumerate((3, 2, 2, 3)) for _ in range(n)]
    positions = np.concatenate([positions, hydrogens])
    return MolecularSystem("butane", topology, system, positions - positions.mean(0), 300.0)


def _unit(rng: np.random.Generator) -> np.ndarray:
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)


@pytest.fixture(scope="module")
def system() -> MolecularSystem:
    return butane()


@pytest.fixture(scope="module")
def model(system: MolecularSystem) -> EnergyModel:
    """An untrained model whose zero-initialised outputs are shaken, so that the network matters."""
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    data = torch.as_tensor(system.positions).float() + 0.01 * zero_centroid_noise((200, 14, 3), g)
    small = ModelSettings(n_channels=4, n_radial=4, hidden=16)
    model = EnergyModel.from_data(system, remove_centroid(data), small)
    for layer in model.layers:
        torch.nn.init.normal_(layer.energy.weight)
    torch.nn.init.normal_(model.level.weight)
    return model.double()


@pytest.fixture
def x(system: MolecularSystem) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    clean = torch.as_tensor(system.positions).repeat(len(SIGMAS), 1, 1)
    return perturb(clean, torch.tensor(SIGMAS).double(), g)


@pytest.fixture
def log_sigma() -> torch.Tensor:
    return torch.tensor(SIGMAS).double().log()


def test_energy_keeps_the_contract(model: EnergyModel, system: MolecularSystem) -> None:
    check_energy(model, system)


def test_the_network_of_the_package_keeps_the_contract() -> None:
    peptide = load_system("alanine_dipeptide")
    check_energy(load_model(network_directory("alanine_dipeptide_b"), system=peptide), peptide)


def test_identical_atoms_without_bonds_keep_the_contract() -> None:
    torch.manual_seed(0)
    cluster, g = load_system("lj13"), torch.Generator().manual_seed(0)
    x = torch.as_tensor(cluster.positions).float() + 0.1 * zero_centroid_noise((200, 13, 3), g)
    model = EnergyModel.from_data(cluster, x, ModelSettings(prior="none", l_max=3, n_channels=8, hidden=16))
    for layer in model.layers:
        torch.nn.init.normal_(layer.energy.weight)
    check_energy(model, cluster)


@pytest.mark.slow
def test_compiled_energy_and_score_are_the_eager_ones(model: EnergyModel, system: MolecularSystem) -> None:
    assert check_energy(model, system, compiled=True).compiled is not None


class Broken(EnergyModel):
    """An energy with one fault."""

    fault: str

    def energy(self, x: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
        u = super().energy(x, log_sigma)
        scaled = x / log_sigma.exp().view(-1, 1, 1)
        volume = torch.linalg.det(scaled[:, 1:4] - scaled[:, :1])
        spread = (scaled - scaled.mean(1, keepdim=True)).square().sum((1, 2))
        faults = {
            "rotation": lambda: 1e-3 * (scaled[:, 0] - scaled[:, 1])[:, 0],
            "reflection": lambda: 1e-3 * volume,
            "translation": lambda: 1e-3 * scaled.mean(1).square().sum(-1),
            "automorphism": lambda: 1e-3 * (scaled[:, 4] - scaled[:, 0]).square().sum(-1),
            "batching": lambda: 1e-3 * len(x),
            "gradient": lambda: 1e-2 * spread.detach(),
            "roughness": lambda: 1e-6 * (300 * spread).cos(),
            "float32": lambda: (1e7 + 1e-3 * spread) - 1e7,
        }
        return u + faults[self.fault]()


@pytest.mark.parametrize(
    "fault",
    ["rotation", "reflection", "translation", "automorphism", "batching", "gradient", "roughness", "float32"],
)
def test_a_fault_is_named(model: EnergyModel, system: MolecularSystem, fault: str) -> None:
    broken = Broken(model.spec)
    broken.load_state_dict(model.state_dict())
    broken.fault = fault
    with pytest.raises(AssertionError, match=f"butane: {fault} error"):
        check_energy(broken, system)


def test_atoms_of_one_class_that_no_symmetry_exchanges_are_told_apart(
    model: EnergyModel, system: MolecularSystem, x: torch.Tensor, log_sigma: torch.Tensor
) -> None:
    assert system.atom_classes[4] == system.atom_classes[13]
    difference = (model.energy(_swapped(x, 4, 13), log_sigma) - model.energy(x, log_sigma)).abs().detach()
    assert float(difference[:2].min()) > 0.1


def test_symmetries_of_butane(system: MolecularSystem) -> None:
    orders = automorphisms(system)
    assert list(range(14)) in orders
    assert {order[4] for order in orders} == set(range(4, 7)) | set(range(11, 14))
    for order in orders:
        mapped = {tuple(sorted((order[i], order[j]))) for i, j in system.graph.edges}
        assert mapped == {tuple(sorted(edge)) for edge in system.graph.edges}


def _swapped(x: torch.Tensor, i: int, j: int) -> torch.Tensor:
    order = list(range(x.shape[1]))
    order[i], order[j] = j, i
    return x[:, order]


def test_normalised_gaussian_at_sigma_max(model: EnergyModel, x: torch.Tensor) -> None:
    top = torch.full((len(x),), model.spec.sigma_max).double()
    expected = model.prior.gaussian.energy(x, top)
    torch.testing.assert_close(model.energy(x, top.log()), expected, rtol=1e-5, atol=1e-4)


def test_saved_model_is_the_same_model(
    model: EnergyModel, x: torch.Tensor, log_sigma: torch.Tensor, tmp_path: Path
) -> None:
    model.save(tmp_path)
    loaded = load_model(tmp_path).double()
    torch.testing.assert_close(loaded.energy(x, log_sigma), model.energy(x, log_sigma), rtol=1e-5, atol=1e-4)
    with pytest.raises(DataError):
        load_model(tmp_path / "nowhere")


@pytest.mark.parametrize("size", [1, 3, 8])
def test_chunks_are_the_whole(
    model: EnergyModel, x: torch.Tensor, log_sigma: torch.Tensor, size: int
) -> None:
    """Energies and scores, also where the last chunk is not full, and without gradients."""
    for run in (map, workers().map):
        values = in_chunks(model.energy_and_score, size, run)(x, log_sigma)
        for ours, expected in zip(values, model.energy_and_score(x, log_sigma), strict=True):
            assert not ours.requires_grad
            torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVE_NAMES)
def test_compiled_equals_eager_on_fresh_inputs(model: EnergyModel, objective: str) -> None:
    """Parameter gradients of the losses."""
    single = EnergyModel(model.spec)
    single.load_state_dict(model.state_dict())
    g = torch.Generator().manual_seed(4)
    x0 = 0.1 * zero_centroid_noise((8, 14, 3), g)
    levels = draw_levels("kl", 2, 8, single.log_sigma_range, single.prior.level_information, g)
    y, flat = x0.repeat(2, 1, 1) + 0.05 * zero_centroid_noise((16, 14, 3), g), levels.flatten()
    slope = objective == "dsm+tsm"
    crossed = 8 if objective == "dsm+nce" else 16
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=COMPILATION_FAILED)
        # Of more rows than there are: the gradient has to leave out what they are filled up with.
        more = torch.arange(20) % 16
        fast = compile_derivatives(single, y[more], flat[more], d_log_sigma=slope)
        fast_energy = compile_energy(single, y[:crossed], flat[:crossed])
    noise = zero_centroid_noise((2, 8, 14, 3), g)

    def gradient(derivatives: BatchFunction, energy: BatchFunction) -> torch.Tensor:
        single.zero_grad()
        batch = noised(derivatives, x0, levels, noise, 39)
        level_losses = level_loss(objective, batch, energy)
        loss = dsm(batch, single.spec.sigma_data).mean()
        (loss if level_losses is None else loss + level_losses.mean()).backward()
        # A parameter that an objective does not see has no gradient, or one of zero where compiled.
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in single.parameters()]
        return torch.cat([g.flatten() for g in gradients])

    expected = gradient(eager_derivatives(single, d_log_sigma=slope), single.energy)
    scale = float(expected.abs().max())
    (ours,) = workers().map(gradient, [fast], [fast_energy])
    torch.testing.assert_close(ours, expected, rtol=1e-2, atol=1e-3 * scale)


@pytest.mark.gpu
def test_gpu_agrees_with_cpu(model: EnergyModel, x: torch.Tensor, log_sigma: torch.Tensor) -> None:
    single = EnergyModel(model.spec)
    single.load_state_dict(model.state_dict())
    u, score = single.energy_and_score(x.float(), log_sigma.float())
    on_gpu = single.cuda()
    u_gpu, score_gpu = on_gpu.energy_and_score(x.float().cuda(), log_sigma.float().cuda())
    torch.testing.assert_close(u_gpu.cpu(), u, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(score_gpu.cpu(), score, rtol=1e-3, atol=1e-3 * float(score.abs().max()))


def test_features_do_not_explode_with_the_number_of_atoms() -> None:
    """Products of three sums over 54 neighbours, twice in a row, against the same of 12."""

    def size(name: str) -> float:
        cluster = load_system(name)
        reference = torch.as_tensor(cluster.positions).float()
        generator = torch.Generator().manual_seed(0)
        x = remove_centroid(reference + 0.1 * torch.randn(64, *reference.shape, generator=generator))
        torch.manual_seed(0)
        model = EnergyModel.from_data(cluster, x, ModelSettings(prior="none"))
        seen: list[torch.Tensor] = []
        model.layers[1].invariants.register_forward_hook(lambda _, __, output: seen.append(output.detach()))
        model.energy(x[:8], torch.full((8,), -1.0))
        return float(seen[0].square().mean().sqrt())

    assert size("lj55") < 30.0 * size("lj13")
