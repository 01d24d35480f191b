"""The benchmarks' own measures where the answer is known, and the rival's symmetries."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import mdtraj
import numpy as np
import pytest
import torch
from torch import Tensor

from boltzgen import load_system, make_potential
from boltzgen.config.load import load_workflow
from boltzgen.config.schema import ModelSettings
from boltzgen.geometry import mirror, random_rotations, zero_centroid_noise
from boltzgen.model.energy import EnergyModel
from boltzgen.system.registry import build_system


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module(request.param)


class Exact:
    """The exact energies of a mixture in place of a network, with ``error (x, log_sigma)`` added."""

    def __init__(self, target: object, error: float = 0.0) -> None:
        self.target, self.error = target, error

    def __call__(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        return self.target.energy(x, log_sigma) + self.error * log_sigma  # type: ignore[attr-defined]

    def derivatives(self, x: Tensor, log_sigma: Tensor, slope: bool, train: bool) -> tuple[Tensor, ...]:
        return self(x, log_sigma), self.target.score(x, log_sigma)  # type: ignore[attr-defined]


@pytest.mark.parametrize("benchmark", ["mixtures"], indirect=True)
@pytest.mark.parametrize("name", ["two", "forty-8"])
def test_exact_energies_of_a_mixture_are_found_to_be_exact(benchmark: ModuleType, name: str) -> None:
    target = benchmark.make_target(name)
    x = (3.0 * torch.randn((50, target.dof), generator=torch.Generator().manual_seed(0))).requires_grad_()
    log_sigma = torch.linspace(*target.log_sigma_range, 50)
    (gradient,) = torch.autograd.grad(target.energy(x, log_sigma).sum(), x)
    torch.testing.assert_close(-gradient, target.score(x.detach(), log_sigma), rtol=1e-4, atol=1e-3)
    found = benchmark.measure(target, Exact(target), seed=0)
    assert abs(found["clf"]) < 1e-4 and -0.1 < found["clf*"] <= 1e-4  # refitted: to these very points
    assert found["Fisher"] < 1e-8 and found["ESS"] > 0.999 and found["weights"] < 0.02 and found["MMD"] < 0.1


@pytest.mark.parametrize("benchmark", ["mixtures"], indirect=True)
def test_a_constant_of_each_level_costs_classification_until_it_is_refitted(benchmark: ModuleType) -> None:
    target = benchmark.make_target("two")
    found = benchmark.classification(target, Exact(target, error=2.0), torch.Generator().manual_seed(1))
    assert found["clf"] > 0.1 and found["clf*"] < 0.01


@pytest.mark.parametrize("benchmark", ["mixtures"], indirect=True)
@pytest.mark.parametrize("objective", ["dsm", "dsm+diffclf", "dsm+tsm", "dsm+nce"])
def test_every_objective_trains_on_a_mixture(benchmark: ModuleType, objective: str) -> None:
    target = benchmark.make_target("two")
    settings = [benchmark.Settings(steps, 64, 2, "kl", 5e-3, 4.0) for steps in (1, 150)]
    before, after = (
        benchmark.densities(
            target, benchmark.train(target, objective, 0, s), torch.Generator().manual_seed(2)
        )
        for s in settings
    )
    assert after["Fisher"] < 0.8 * before["Fisher"]


@pytest.mark.parametrize("benchmark", ["egnn"], indirect=True)
def test_the_rival_has_the_symmetries_of_a_molecule(benchmark: ModuleType) -> None:
    system, g = load_system("alanine_dipeptide"), torch.Generator().manual_seed(3)
    reference = torch.as_tensor(system.positions).float()
    x = reference + 0.02 * zero_centroid_noise((8, system.n_atoms, 3), g)
    ours = EnergyModel.from_data(system, x, ModelSettings(prior="none"))
    torch.manual_seed(0)
    rival = benchmark.EGNNEnergy(system, ours).double()
    x, log_sigma = x.double(), torch.linspace(*ours.log_sigma_range, 8).double()
    energy, score = rival.energy_and_score(x, log_sigma)
    first, second = next(
        (i, j)
        for i, j in ((i, j) for i in range(system.n_atoms) for j in range(i))
        if system.atom_classes[i] == system.atom_classes[j] and system.topological_distances[i, j] == 2
    )
    swapped = x.clone()
    swapped[:, [first, second]] = x[:, [second, first]]
    moved = x @ random_rotations(8, g, torch.float64) + 0.3
    for other in (moved, mirror(x), swapped):
        torch.testing.assert_close(rival.energy(other, log_sigma), energy, rtol=1e-9, atol=1e-9)
    direction, step = zero_centroid_noise(x.shape, g, torch.float64), 1e-6
    ends = [rival.energy(x + s * step * direction, log_sigma) for s in (1.0, -1.0)]
    slope = (ends[0] - ends[1]) / (2 * step)
    expected = -(score * direction).sum((1, 2))
    torch.testing.assert_close(slope, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("benchmark", ["regression"], indirect=True)
def test_results_of_equals_are_rarely_marked_and_worse_ones_are(benchmark: ModuleType) -> None:
    """Losses with a spread of 1 % between seeds, three stored seeds of three molecules, three now."""
    rng, marked = np.random.default_rng(0), {1.0: 0, 1.1: 0}

    def seeds(size: float) -> dict[str, object]:
        return {"loss": benchmark.Sample(tuple(size * (1 + 0.01 * rng.normal(size=3))))}

    for shift in marked:
        for _ in range(1000):
            stored = {name: seeds(size) for name, size in (("a", 1.0), ("b", 30.0), ("c", 0.1))}
            marked[shift] += "!" in benchmark.table({"a": seeds(shift)}, stored)[-1]
    assert marked[1.0] <= 6 and marked[1.1] > 800


@pytest.mark.parametrize("benchmark", ["regression"], indirect=True)
def test_a_stated_error_counts_where_seeds_differ_by_less(benchmark: ModuleType) -> None:
    before, now = benchmark.Sample((-193.50, -193.52, -193.51), 0.08), benchmark.Sample((-193.60,), 0.08)
    spread = benchmark.spread_of("log Z", "a", {"a": {"log Z": before}})
    assert spread == (1.0, 2)
    apart, chance = benchmark.difference(now, before, *spread)
    assert apart == pytest.approx(-0.09 / (0.08 * (1 + 1 / 3) ** 0.5)) and chance > 0.3
    assert benchmark.difference(before, before, *spread) == (0.0, 1.0)
    wide = {"a": {"log Z": benchmark.Sample((-193.3, -193.5, -193.7), 0.05)}}
    assert benchmark.spread_of("log Z", "a", wide) == (pytest.approx(4.0), 2)
    many = {"a": {"log Z": benchmark.Sample((1.0, 1.1, 0.9, 1.0, 1.1, 0.9))}}
    assert benchmark.spread_of("log Z", "a", many, {"b": wide["a"]})[1] == 5
    assert np.isnan(benchmark.spread_of("log Z", "b", wide, {"b": {"log Z": now}})[0])


@pytest.mark.parametrize("benchmark", ["regression"], indirect=True)
def test_frames_of_the_protocol_are_of_its_molecules(benchmark: ModuleType, tmp_path: Path) -> None:
    for case in benchmark.SEEDS:
        workflow, base = load_workflow(str(benchmark.CASES / f"{case}.yaml"))
        system, path = build_system(workflow, base), benchmark.data_file(case, tmp_path)
        positions = mdtraj.load(str(path)).xyz
        assert positions.shape[1:] == (system.n_atoms, 3) and len(positions) >= 5000
        energies = make_potential(system)(torch.from_numpy(positions[::500]))
        assert float(energies.max() - energies.min()) < 100.0
