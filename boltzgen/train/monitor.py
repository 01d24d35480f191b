"""What one watches while training: losses per noise band, held-out losses, the best model so far."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from boltzgen.model.energy import EnergyModel
from boltzgen.runtime.progress import OnProgress
from boltzgen.train.batch import Batch, Losses
from boltzgen.train.lightning_module import EnergyTraining

N_BANDS = 7
"""Noise bands, equal in log sigma, that losses are reported for."""
REPORT_STEPS = 20
HELD_OUT_STEPS = 200

Sums = tuple[Tensor, Tensor]
"""Sum and number of losses in each noise band."""


class Monitor(Callback):
    """Progress line, metrics file, held-out losses, the best model so far.

    Held-out losses are those of the averaged parameters; the ones with the lowest sum of both losses are
    saved in ``directory`` whenever they are found.
    """

    def __init__(self, directory: Path, held_out: Batch, on_progress: OnProgress) -> None:
        self.directory, self.held_out, self.on_progress = directory, held_out, on_progress
        self.bands: list[Sums] = []
        self.level_losses: list[Tensor] = []
        self.last = (0, time.monotonic())
        self.held_out_row: dict[str, float] = {}
        self.best_loss = math.inf

    def state_dict(self) -> dict[str, Any]:
        return {"best_loss": self.best_loss, "held_out_row": self.held_out_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_loss, self.held_out_row = state_dict["best_loss"], state_dict["held_out_row"]

    def on_train_start(self, trainer: L.Trainer, *_: object) -> None:  # type: ignore[override]
        self.last = (trainer.global_step, time.monotonic())

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: L.Trainer, module: EnergyTraining, outputs: dict[str, object], *_: object
    ) -> None:
        result, levels = outputs["losses"], outputs["levels"]
        assert isinstance(result, Losses) and isinstance(levels, Tensor)
        self.bands.append(band_sums(result.dsm, levels, module.model.log_sigma_range))
        if result.level_losses is not None:
            self.level_losses.append(result.level_losses.mean())
        step = trainer.global_step
        last = trainer.should_stop or step == module.settings.steps
        if step % REPORT_STEPS == 0 or last:
            if last or not self.held_out_row or step % HELD_OUT_STEPS == 0:
                self._hold_out(module)
            self._write(step, module)

    def _hold_out(self, module: EnergyTraining) -> None:
        with module.averaged():
            self.held_out_row = held_out_losses(module, self.held_out)
        loss = self.held_out_row["held_out_dsm"]
        loss += module.settings.level_loss_weight * self.held_out_row.get("held_out_level_loss", 0.0)
        if loss < self.best_loss:
            self.best_loss = loss
            module.ema.save(self.directory)

    def _write(self, step: int, module: EnergyTraining) -> None:
        sums, counts = _added_up(self.bands)
        per_band = (sums / counts.clamp_min(1.0)).tolist()
        level_losses = float(torch.stack(self.level_losses).mean()) if self.level_losses else 0.0
        now = time.monotonic()
        speed = (step - self.last[0]) * module.settings.batch_size / (now - self.last[1])
        row = {"step": step, "minutes": round(module.minutes, 3), "dsm": float(sums.sum() / counts.sum())}
        row |= {"level_loss": level_losses} | _columns("dsm", module.model, (sums, counts))
        row |= {"configurations_per_s": speed} | self.held_out_row
        append_row(self.directory / "metrics.csv", row)
        bands = " ".join(f"{v:.2f}" for v in per_band)
        message = (
            f"step {step}  DSM low to high noise [{bands}]  level loss {level_losses:.3f}  {speed:.0f} conf/s"
        )
        self.on_progress(module.progress(), 1.0, message)
        self.bands, self.level_losses, self.last = [], [], (step, now)


def held_out_losses(module: EnergyTraining, held_out: Batch) -> dict[str, float]:
    """Mean losses on held-out data, in all and per noise band, at the same levels and noise every time."""
    with module.drawing_from(torch.Generator().manual_seed(20_261)):
        drawn = module.draw(held_out)
    losses, log_range = module.losses(drawn), module.model.log_sigma_range
    bands = {"held_out_dsm": band_sums(losses.dsm, drawn.log_sigmas.T, log_range)}
    if losses.level_losses is not None:
        bands["held_out_level_loss"] = band_sums(losses.level_losses, drawn.log_sigmas.mean(1), log_range)
    row: dict[str, float] = {}
    for name, (sums, counts) in bands.items():
        row |= {name: float(sums.sum() / counts.sum())} | _columns(name, module.model, (sums, counts))
    return row


def band_sums(losses: Tensor, log_sigmas: Tensor, log_range: tuple[float, float]) -> Sums:
    """Sum and count of losses in each of N_BANDS noise bands, low noise first."""
    low, high = log_range
    index = ((log_sigmas - low) / (high - low) * N_BANDS).long().clamp(0, N_BANDS - 1).flatten()
    values = losses.flatten().float()
    zeros = values.new_zeros(N_BANDS)
    return zeros.index_add(0, index, values), zeros.index_add(0, index, torch.ones_like(values))


def _added_up(parts: list[Sums]) -> Sums:
    sums, counts = zip(*parts, strict=True)
    return torch.stack(sums).sum(0), torch.stack(counts).sum(0)


def _columns(name: str, model: EnergyModel, bands: Sums) -> dict[str, float]:
    """Mean losses of the noise bands by column, which tells the middle of the band: ``dsm_0.0123nm``."""
    low, high = model.log_sigma_range
    middles = [low + (k + 0.5) * (high - low) / N_BANDS for k in range(N_BANDS)]
    means = (bands[0] / bands[1]).tolist()
    return {f"{name}_{math.exp(m):.2g}nm": v for m, v in zip(middles, means, strict=True)}


def append_row(path: Path, row: dict[str, float]) -> None:
    """Append to a CSV file, writing the header first if the file is new."""
    new = not path.exists()
    with path.open("a", newline="") as handle:
        writer = csv.DictWriter(handle, list(row), extrasaction="ignore")
        if new:
            writer.writeheader()
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
