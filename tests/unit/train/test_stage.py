"""The training stage: what it writes, gradients and steps, and a loss that breaks down."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.dimer import MODEL, dimers, settings
from pydantic import ValidationError

from boltzgen.config.choices import OBJECTIVE_NAMES
from boltzgen.diffusion.losses import LEVEL_LOSSES, LevelLoss, register
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.errors import DataError, NumericalError
from boltzgen.model import EnergyModel, load_model
from boltzgen.model.compiled import eager_derivatives
from boltzgen.runtime.context import Context
from boltzgen.runtime.processes import Processes
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system
from boltzgen.train import train
from boltzgen.train.batch import Losses
from boltzgen.train.lightning_module import EnergyTraining
from boltzgen.train.regression_target import DenoisingTarget


@pytest.fixture(scope="module")
def system() -> MolecularSystem:
    return load_system("harmonic_dimer")


@pytest.fixture(scope="module")
def data() -> WeightedEnsemble:
    return dimers(400)


def test_training_lowers_the_loss_and_leaves_a_loadable_model(
    system: MolecularSystem, data: WeightedEnsemble, tmp_path: Path
) -> None:
    messages: list[str] = []
    short = settings(80, warmup_steps=5, learning_rate=1e-2)
    train(system, data, MODEL, short, tmp_path, Context(0, on_progress=lambda *r: messages.append(r[2])))
    with (tmp_path / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in rows] == list(range(20, 81, 20))
    assert {"dsm", "level_loss", "held_out_dsm"} <= set(rows[-1])
    for prefix in ("dsm_", "held_out_dsm_", "held_out_level_loss_"):
        assert sum(name.startswith(prefix) and name.endswith("nm") for name in rows[-1]) == 7
    assert float(rows[-1]["held_out_dsm"]) < float(rows[0]["held_out_dsm"])
    assert "conf/s" in messages[-1]
    assert load_model(tmp_path).spec.n_atoms == 2
    assert json.loads((tmp_path / "training.json").read_text()) == {"steps": 80, "compile": "never"}


def test_a_broken_loss_is_one_clear_error(
    system: MolecularSystem, data: WeightedEnsemble, tmp_path: Path
) -> None:
    wild = settings(50, learning_rate=1e30, warmup_steps=0)
    with pytest.raises(NumericalError, match=r"at step \d+; try a smaller train.learning_rate"):
        train(system, data, MODEL, wild, tmp_path, Context(0))


def test_a_loss_that_breaks_down_leaves_the_best_model_so_far(
    system: MolecularSystem, data: WeightedEnsemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = EnergyTraining.part_losses

    def breaking(self: EnergyTraining, *arguments: torch.Tensor) -> Losses:
        losses = whole(self, *arguments)
        return Losses(losses.dsm * (float("nan") if self.global_step >= 45 else 1.0), losses.level_losses)

    monkeypatch.setattr(EnergyTraining, "part_losses", breaking)
    with pytest.raises(NumericalError, match=r"the loss became nan at step 45; .*energy\.safetensors"):
        train(system, data, MODEL, settings(60, warmup_steps=5), tmp_path, Context(0))
    kept = load_model(tmp_path)
    assert all(bool(parameter.isfinite().all()) for parameter in kept.parameters())


def test_a_step_that_would_break_the_parameters_is_not_taken(
    system: MolecularSystem, data: WeightedEnsemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = EnergyTraining.average_and_clip

    def broken(self: EnergyTraining, losses: Losses) -> None:
        if self.global_step == 3:
            next(self.model.parameters()).grad.fill_(float("inf"))  # type: ignore[union-attr]
        clip(self, losses)

    monkeypatch.setattr(EnergyTraining, "average_and_clip", broken)
    with pytest.raises(NumericalError, match="the gradient is not finite at step 3"):
        train(system, data, MODEL, settings(10), tmp_path, Context(0))


def test_parts_leave_nothing_to_the_end_of_their_threads(
    system: MolecularSystem, data: WeightedEnsemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects that torch keeps for CUDA graphs need an interpreter that is gone then: the process aborts."""

    def called() -> None:
        raise AssertionError("CUDA graphs on a CPU")

    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", called)
    train(system, data, MODEL, settings(1), tmp_path, Context(0))


@pytest.mark.parametrize("objective", list(LEVEL_LOSSES))
def test_parts_of_a_batch_add_up_to_its_gradient(
    system: MolecularSystem, data: WeightedEnsemble, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of seven samples in parts of three, three and one: every sample counts for a seventh.

    Each sample keeps its own forces, which are part of what is denoised to.
    """
    x0 = torch.as_tensor(data.positions[:7]).float()
    module, forces = of_module(system, x0, objective=objective), -100.0 * x0
    model = module.model
    module.target = DenoisingTarget(model.prior, system.atom_classes, model.log_sigma_range)
    module.target.coefficients += 0.5
    drawn, parameters = module.draw((x0, forces)), list(model.parameters())
    whole = module.part_losses(*drawn)
    expected = torch.autograd.grad(whole.total(0.1).mean(), parameters, allow_unused=True)
    monkeypatch.setattr(EnergyTraining, "part_size", 3)
    for losses in (module.losses(drawn), module.accumulate(drawn)):
        torch.testing.assert_close(losses.dsm, whole.dsm.detach())
        torch.testing.assert_close(losses.total(0.1), whole.total(0.1).detach())
    torch.testing.assert_close([p.grad for p in parameters], list(expected), rtol=1e-4, atol=1e-6)
    module.accumulate(drawn)
    twice = [gradient if gradient is None else 2.0 * gradient for gradient in expected]
    torch.testing.assert_close([p.grad for p in parameters], twice, rtol=1e-4, atol=1e-6)


def of_module(system: MolecularSystem, x0: torch.Tensor, **changes: object) -> EnergyTraining:
    return EnergyTraining(EnergyModel.from_data(system, x0, MODEL), settings(10, **changes), 0)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_the_gradient_of_a_step_is_averaged_and_at_most_as_long_as_the_clip(
    system: MolecularSystem, data: WeightedEnsemble, scale: float
) -> None:
    """Two processes, of which the other one has no gradient at all."""

    class Two(Processes):
        def average_(self, tensors: list[torch.Tensor]) -> None:
            for tensor in tensors:
                tensor.mul_(0.5)

    x0 = torch.as_tensor(data.positions[:32]).float()
    module = of_module(system, x0, gradient_clip=0.7)
    module.processes = Two()
    losses = module.accumulate(module.draw((x0, torch.zeros_like(x0))))
    parameters = [p for p in module.model.parameters() if p.grad is not None]
    before = torch.cat([scale * p.grad.flatten() for p in parameters])
    for p in parameters:
        p.grad.mul_(scale)
    module.average_and_clip(losses)
    after = torch.cat([p.grad.flatten() for p in parameters])
    length = 0.5 * float(before.norm())
    assert (length < 0.7) == (scale < 1.0)
    torch.testing.assert_close(after, 0.5 * before * min(1.0, 0.7 / length), rtol=1e-5, atol=0.0)


def test_every_step_has_the_learning_rate_of_the_schedule(
    system: MolecularSystem, data: WeightedEnsemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up in a line over five steps of warming up, times a half cosine down to a hundredth over all steps."""
    rates, clip = [], EnergyTraining.average_and_clip

    def noted(self: EnergyTraining, losses: Losses) -> None:
        rates.append(self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        clip(self, losses)

    monkeypatch.setattr(EnergyTraining, "average_and_clip", noted)
    short = settings(12, warmup_steps=5, optimiser="adam", learning_rate=3e-3)
    train(system, data, MODEL, short, tmp_path, Context(0))
    expected = [
        3e-3 * min(1.0, (n + 1) / 5) * (0.01 + 0.99 * (1.0 + math.cos(math.pi * n / 12)) / 2)
        for n in range(12)
    ]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("objective", "k"), [("dsm", 2), ("dsm+diffclf", 2), ("dsm+diffclf", 3), ("dsm+nce", 3)]
)
def test_functions_are_compiled_for_the_parts_that_training_makes(
    objective: str,
    k: int,
    system: MolecularSystem,
    data: WeightedEnsemble,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Never for fewer rows than a part of a batch has, nor for more than the largest."""
    seen: dict[str, tuple[int, set[int]]] = {}

    def standing_in(name: str) -> Callable[..., object]:
        def compile_(model: EnergyModel, x: torch.Tensor, log_sigma: torch.Tensor, **options: bool) -> object:
            seen[name] = len(x), set()
            assert len(x) == len(log_sigma)
            eager = model.energy if name == "energy" else eager_derivatives(model, **options)

            def of(x: torch.Tensor, log_sigma: torch.Tensor) -> object:
                seen[name][1].add(len(x))
                return eager(x, log_sigma)

            return of

        return compile_

    monkeypatch.setattr("boltzgen.train.stage.compile_derivatives", standing_in("derivatives"))
    monkeypatch.setattr("boltzgen.train.stage.compile_energy", standing_in("energy"))
    short = settings(3, objective=objective, levels_per_sample=k)
    train(
        system,
        data,
        MODEL,
        short.model_copy(update={"compile": "always", "batch_size": 50}),
        tmp_path,
        Context(0),
    )
    assert set(seen) == ({"derivatives"} if objective == "dsm" else {"derivatives", "energy"})
    for compiled_for, rows in seen.values():
        assert max(rows) == compiled_for


@pytest.mark.slow
def test_compiled_training_is_eager_training(
    system: MolecularSystem, data: WeightedEnsemble, tmp_path: Path
) -> None:
    """The same steps up to rounding, which twenty of them magnify little."""
    found = {}
    for compile_ in ("always", "never"):
        short = settings(20, warmup_steps=5).model_copy(update={"compile": compile_})
        train(system, data, MODEL, short, tmp_path / compile_, Context(0))
        assert json.loads((tmp_path / compile_ / "training.json").read_text())["compile"] == compile_
        with (tmp_path / compile_ / "metrics.csv").open(newline="") as stream:
            (row,) = csv.DictReader(stream)
        found[compile_] = [float(row[name]) for name in ("dsm", "level_loss", "held_out_dsm")]
    assert found["always"] == pytest.approx(found["never"], rel=1e-3)


def test_training_that_makes_it_worse_returns_the_best_model(
    system: MolecularSystem, data: WeightedEnsemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    average = EnergyTraining.average

    def spoil(self: EnergyTraining) -> None:
        average(self)
        if self.global_step == 50:
            for parameter in self.ema.parameters():
                parameter.data.mul_(3.0)

    monkeypatch.setattr(EnergyTraining, "average", spoil)
    monkeypatch.setattr("boltzgen.train.monitor.HELD_OUT_STEPS", 40)
    best = train(system, data, MODEL, settings(60, warmup_steps=5), tmp_path, Context(0)).model
    last = load_model(tmp_path / "last")
    pairs = zip(last.parameters(), best.parameters(), strict=True)
    assert max(float((p.norm() / q.norm().clamp_min(1e-9)).detach()) for p, q in pairs) > 2.0


def test_training_starts_from_another_network(
    system: MolecularSystem, data: WeightedEnsemble, tmp_path: Path
) -> None:
    """After one step of next to no length: what the other has learned, and the scales of its own data."""
    train(system, data, MODEL, settings(60, warmup_steps=5), tmp_path / "a" / "model", Context(0))
    small = settings(1, learning_rate=1e-9, start=str(tmp_path / "a"))
    wide = replace(data, positions=1.01 * data.positions)
    train(system, wide, MODEL, small.model_copy(update={"denoise_to": "data"}), tmp_path / "b", Context(1))
    a, b = load_model(tmp_path / "a" / "model"), load_model(tmp_path / "b" / "last")
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(q, p, rtol=0, atol=1e-6, msg=name)
    assert b.spec.sigma_data == pytest.approx(1.01 * a.spec.sigma_data, rel=1e-2)
    assert not torch.equal(a.prior.stiff_mean, b.prior.stiff_mean)


def test_data_of_another_temperature_are_refused_unless_their_forces_are_not_used(
    system: MolecularSystem, tmp_path: Path
) -> None:
    hot, data = replace(system, temperature_k=2.0 * system.temperature_k), dimers(5000)
    with pytest.raises(DataError, match=r"per degree of freedom, not 1; .* at 600 K"):
        train(hot, data, MODEL, settings(10), tmp_path / "refused", Context(0))
    train(hot, data, MODEL, settings(10, denoise_to="data"), tmp_path / "taken", Context(0))
    assert load_model(tmp_path / "taken").spec.n_atoms == 2


def test_a_loss_is_added_by_one_registration(system: MolecularSystem, data: WeightedEnsemble) -> None:
    """As a third party would: no other file knows of it."""
    with pytest.raises(ValidationError, match="it should be 'dsm', 'dsm\\+diffclf'"):
        settings(10, objective="dsm+mine")
    register("dsm+mine", LevelLoss(lambda batch, energy: batch.energy.square().mean(0)))
    try:
        x0 = torch.as_tensor(data.positions[:5]).float()
        module = of_module(system, x0, objective="dsm+mine")
        losses = module.part_losses(*module.draw((x0, torch.zeros_like(x0))))
    finally:
        del LEVEL_LOSSES["dsm+mine"]
        OBJECTIVE_NAMES.remove("dsm+mine")
    assert (
        losses.level_losses is not None
        and losses.level_losses.shape == (5,)
        and bool((losses.level_losses > 0).all())
    )
