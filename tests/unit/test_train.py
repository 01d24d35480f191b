"""The training stage: what it writes, resuming, and a loss that breaks down."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from boltzgen.config import ModelSettings, TrainSettings
from boltzgen.ensemble import WeightedEnsemble
from boltzgen.errors import DataError, NumericalError
from boltzgen.model import load_model
from boltzgen.registry import load_system
from boltzgen.system import MolecularSystem
from boltzgen.train import train
from boltzgen.train.module import EnergyTraining, Losses

MODEL = ModelSettings(n_layers=1, n_channels=4, n_radial=4, hidden=16)


@pytest.fixture(scope="module")
def system() -> MolecularSystem:
    return load_system("harmonic_dimer")


@pytest.fixture(scope="module")
def data(system: MolecularSystem) -> WeightedEnsemble:
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(400, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    proposed = rng.normal(0.2, 0.0158, size=4000)
    lengths = proposed[rng.random(4000) < (proposed / 0.3) ** 2][:400]
    bond = direction * lengths[:, None]
    positions = np.stack([-bond / 2, bond / 2], axis=1).astype(np.float32)
    return WeightedEnsemble(positions, np.zeros(400), np.zeros(400), system.temperature_k)


def settings(steps: int, **changes: object) -> TrainSettings:
    return TrainSettings(steps=steps, batch_size=32, compile="never", **changes)  # type: ignore[arg-type]


def test_training_lowers_the_loss_and_leaves_a_loadable_model(
    system: MolecularSystem, data: WeightedEnsemble, tmp_path: Path
) -> None:
    messages: list[str] = []
    short = settings(200, warmup_steps=5, learning_rate=1e-2)
    train(system, data, MODEL, short, tmp_path, seed=0, report=lambda *r: messages.append(r[2]))
    with (tmp_path / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in rows] == list(range(20, 201, 20))
    assert {"dsm", "heights", "held_out_dsm"} <= set(rows[-1])
    for prefix in ("dsm_", "held_out_dsm_", "held_out_heights_"):
        assert sum(name.startswith(prefix) and name.endswith("nm") for name in rows[-1]) == 7
    assert float(rows[-1]["held_out_dsm"]) < float(rows[0]["held_out_dsm"])
    assert "conf/s" in messages[-2]
    assert load_model(tmp_path).spec.n_atoms == 2
    curves = json.loads((tmp_path / "heights.json").read_text())
    assert 0 < curves["kish_ess_fraction"] <= 1 and len(curves["paths"]) == 101
    assert (tmp_path / "heights.png").stat().st_size > 5000
    assert not (tmp_path / "resume").exists()


def test_an_interrupted_training_goes_on_from_its_checkpoint(
    system: MolecularSystem, data: WeightedEnsemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boltzgen.train.loop.CHECKPOINT_STEPS", 20)

    class Killed(Exception):
        pass

    def kill(done: float, total: float, message: str) -> None:
        if "step 40" in message:
            raise Killed

    with pytest.raises(Killed):
        train(system, data, MODEL, settings(60), tmp_path, seed=0, report=kill)
    messages: list[str] = []
    train(system, data, MODEL, settings(60), tmp_path, seed=0, report=lambda *r: messages.append(r[2]))
    steps = [message.split()[1] for message in messages if message.startswith("step")]
    assert steps[-1] == "60"
    assert "20" not in steps


def test_a_broken_loss_is_one_clear_error(
    system: MolecularSystem, data: WeightedEnsemble, tmp_path: Path
) -> None:
    wild = settings(50, learning_rate=1e30, warmup_steps=0)
    with pytest.raises(NumericalError, match=r"at step \d+; try a smaller train.learning_rate"):
        train(system, data, MODEL, wild, tmp_path, seed=0)


def test_a_loss_that_breaks_down_leaves_the_best_model_so_far(
    system: MolecularSystem, data: WeightedEnsemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = EnergyTraining.batch_losses

    def breaking(self: EnergyTraining, *arguments: torch.Tensor) -> Losses:
        losses = whole(self, *arguments)
        return Losses(losses.dsm * (float("nan") if self.global_step >= 45 else 1.0), losses.heights)

    monkeypatch.setattr(EnergyTraining, "batch_losses", breaking)
    with pytest.raises(NumericalError, match="the loss became nan at step 45"):
        train(system, data, MODEL, settings(60, warmup_steps=5), tmp_path, seed=0)
    kept = load_model(tmp_path)
    assert all(bool(parameter.isfinite().all()) for parameter in kept.parameters())


def test_a_step_that_would_break_the_parameters_is_not_taken(
    system: MolecularSystem, data: WeightedEnsemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = EnergyTraining.on_before_optimizer_step

    def broken(self: EnergyTraining, *arguments: object) -> None:
        if self.global_step == 3:
            next(self.model.parameters()).grad.fill_(float("inf"))  # type: ignore[union-attr]
        step(self, *arguments)

    monkeypatch.setattr(EnergyTraining, "on_before_optimizer_step", broken)
    with pytest.raises(NumericalError, match="the gradient is not finite at step 3"):
        train(system, data, MODEL, settings(10), tmp_path, seed=0)


def test_training_that_makes_it_worse_returns_the_best_model(
    system: MolecularSystem, data: WeightedEnsemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decay = EnergyTraining.on_train_batch_end

    def spoil(self: EnergyTraining, *arguments: object) -> None:
        decay(self, *arguments)
        if self.global_step == 250:
            for parameter in self.ema.parameters():
                parameter.data.mul_(3.0)

    monkeypatch.setattr(EnergyTraining, "on_train_batch_end", spoil)
    best = train(system, data, MODEL, settings(260, warmup_steps=5), tmp_path, seed=0)
    last = load_model(tmp_path / "last")
    pairs = zip(last.parameters(), best.parameters(), strict=True)
    assert max(float((p.norm() / q.norm().clamp_min(1e-9)).detach()) for p, q in pairs) > 2.0


def test_data_of_another_temperature_are_refused_unless_their_forces_are_not_used(
    system: MolecularSystem, data: WeightedEnsemble, tmp_path: Path
) -> None:
    hot = replace(system, temperature_k=2.0 * system.temperature_k)
    with pytest.raises(DataError, match=r"per degree of freedom, not 1; .* at 600 K"):
        train(hot, data, MODEL, settings(10), tmp_path / "refused", seed=0)
    train(hot, data, MODEL, settings(10, denoise_to="data", height_paths=0), tmp_path / "taken", seed=0)
    assert load_model(tmp_path / "taken").spec.n_atoms == 2
