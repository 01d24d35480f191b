"""Train the energy network: Lightning loop, EMA, time or step budget, losses per noise band on disk."""

from __future__ import annotations

import copy
import csv
import json
import logging
import math
import shutil
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from boltzgen.config import ModelSettings, TrainSettings
from boltzgen.ensemble import WeightedEnsemble
from boltzgen.errors import NumericalError
from boltzgen.geometry import dof, mean_free_noise, random_rotations
from boltzgen.heights import height_curves
from boltzgen.levels import draw_levels
from boltzgen.model.calibration import calibrate
from boltzgen.model.compiled import (
    BatchFunction,
    compile_derivatives,
    compile_energy,
    eager_derivatives,
    in_chunks,
)
from boltzgen.model.energy import EnergyModel
from boltzgen.objective import dsm, height_loss, noised
from boltzgen.progress import Report, silent
from boltzgen.report.figures import heights
from boltzgen.system import MolecularSystem

N_BANDS = 7
"""Noise bands, equal in log sigma, that losses are reported for."""
COMPILE_FROM_SECONDS = 300.0
"""Compile when training is expected to take longer than this without."""
CHECKPOINT_STEPS = 200
HEIGHT_LEVELS = 100
"""Noise levels of the paths that show whether heights agree."""
UNBOUNDED_STEPS = 10_000_000


@dataclass(frozen=True)
class Losses:
    """Losses of one batch: ``dsm (K, n)``, and ``heights (n,)`` of the term that compares levels, if any."""

    dsm: Tensor
    heights: Tensor | None


class EnergyTraining(L.LightningModule):
    """Losses, optimiser and exponential moving average of one training run."""

    def __init__(self, model: EnergyModel, settings: TrainSettings, seed: int) -> None:
        super().__init__()
        self.model = model
        self.ema = copy.deepcopy(model).requires_grad_(False)
        self.settings = settings
        self.generator = torch.Generator().manual_seed(seed)
        self.derivatives: BatchFunction = eager_derivatives(model, slope=self.needs_slope)
        self.energy: BatchFunction = model.energy
        self.started = time.monotonic()

    @property
    def needs_slope(self) -> bool:
        """Whether the objective asks for dU/dlog_sigma."""
        return self.settings.objective == "dsm+tsm"

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self.started) / 60.0

    def progress(self) -> float:
        """Share of the budget that is used, 0 to 1."""
        by_step = self.global_step / self.settings.steps if self.settings.steps else 0.0
        by_time = self.minutes / self.settings.minutes if self.settings.minutes else 0.0
        return min(max(by_step, by_time), 1.0)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimiser = torch.optim.Adam(self.model.parameters(), lr=self.settings.learning_rate)

        def factor(step: int) -> float:
            warm = min(1.0, (step + 1) / max(self.settings.warmup_steps, 1))
            return warm * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * self.progress())))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def draw_levels(self, n: int) -> Tensor:
        """Log noise levels ``(K, n)``."""
        prior, settings = self.model.prior, self.settings
        device: torch.device = prior.variances.device
        return draw_levels(
            settings.level_choice,
            settings.levels_per_sample,
            n,
            self.model.log_sigma_range,
            lambda sigma: prior.level_information(sigma.to(device)).cpu(),
            self.generator,
        ).to(device)

    def batch_losses(self, x0: Tensor, log_sigmas: Tensor) -> Losses:
        """Losses of a batch [nm] ``(n, n_atoms, 3)``, randomly rotated, at levels ``(K, n)``."""
        x0 = x0 @ random_rotations(len(x0), self.generator, device=x0.device)
        noise = mean_free_noise((len(log_sigmas), *x0.shape), self.generator, x0.dtype, x0.device)
        batch = noised(self.derivatives, x0, log_sigmas, noise, dof(x0.shape[1]))
        heights = height_loss(self.settings.objective, batch, self.energy)
        return Losses(dsm(batch, self.model.spec.sigma_data), heights)

    def training_step(self, batch: list[Tensor], _: int) -> dict[str, object]:
        levels = self.draw_levels(len(batch[0]))
        result = self.batch_losses(batch[0], levels)
        loss = result.dsm.mean()
        if result.heights is not None:
            loss = loss + self.settings.height_weight * result.heights.mean()
        if not torch.isfinite(loss):
            raise NumericalError(
                f"training: the loss became {float(loss)} at step {self.global_step}; "
                "try a smaller train.learning_rate or train.gradient_clip"
            )
        return {"loss": loss, "losses": result, "levels": levels}

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        checkpoint["minutes"] = self.minutes

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.started = time.monotonic() - 60.0 * checkpoint["minutes"]

    def on_train_batch_end(self, *_: object) -> None:
        decay = min(0.999, max(0.99, 1.0 - 1.0 / (1.0 + 0.1 * self.global_step)))
        averages = [p.detach() for p in self.ema.parameters()]
        torch._foreach_lerp_(averages, [p.detach() for p in self.model.parameters()], 1.0 - decay)


class Monitor(Callback):
    """Progress line, metrics file, held-out losses, and the end of the time budget."""

    def __init__(self, path: Path, held_out: Tensor, report: Report, every: int = 20) -> None:
        self.path, self.held_out, self.report, self.every = path, held_out, report, every
        self.bands: list[tuple[Tensor, Tensor]] = []
        self.heights: list[float] = []
        self.last = (0, time.monotonic())
        self.held_out_row: dict[str, float] = {}

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: L.Trainer, module: EnergyTraining, outputs: dict[str, object], *_: object
    ) -> None:
        result, levels = outputs["losses"], outputs["levels"]
        assert isinstance(result, Losses) and isinstance(levels, Tensor)
        self.bands.append(band_sums(result.dsm, levels, module.model.log_sigma_range))
        if result.heights is not None:
            self.heights.append(float(result.heights.mean().detach()))
        if module.progress() >= 1.0:
            trainer.should_stop = True
        last = trainer.should_stop or trainer.global_step == module.settings.steps
        if trainer.global_step % self.every == 0 or last:
            if last or not self.held_out_row or trainer.global_step % (10 * self.every) == 0:
                self.held_out_row = held_out_losses(module, self.held_out)
            self._write(trainer.global_step, module)

    def _write(self, step: int, module: EnergyTraining) -> None:
        sums, counts = (torch.stack(t).sum(0) for t in zip(*self.bands, strict=True))
        per_band = (sums / counts.clamp_min(1.0)).tolist()
        heights = sum(self.heights) / max(len(self.heights), 1)
        now = time.monotonic()
        speed = (step - self.last[0]) * module.settings.batch_size / (now - self.last[1])
        row = {"step": step, "minutes": round(module.minutes, 3), "dsm": float(sums.sum() / counts.sum())}
        row |= {"heights": heights} | band_columns(module.model, per_band)
        row |= {"configurations_per_s": speed} | self.held_out_row
        append_row(self.path, row)
        bands = " ".join(f"{v:.2f}" for v in per_band)
        message = f"step {step}  DSM low to high noise [{bands}]  heights {heights:.3f}  {speed:.0f} conf/s"
        self.report(module.progress(), 1.0, message)
        self.bands, self.heights, self.last = [], [], (step, now)


def band_columns(model: EnergyModel, values: list[float]) -> dict[str, float]:
    """Values of the noise bands by column name, which tells the middle of the band: ``dsm_0.0123nm``."""
    low, high = model.log_sigma_range
    middles = [low + (k + 0.5) * (high - low) / N_BANDS for k in range(N_BANDS)]
    return {f"dsm_{math.exp(m):.2g}nm": v for m, v in zip(middles, values, strict=True)}


def band_sums(dsm: Tensor, log_sigmas: Tensor, log_range: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Sum and count of DSM losses in each of N_BANDS noise bands, low noise first."""
    low, high = log_range
    index = ((log_sigmas - low) / (high - low) * N_BANDS).long().clamp(0, N_BANDS - 1).flatten().cpu()
    zeros = torch.zeros(N_BANDS)
    values = dsm.detach().flatten().float().cpu()
    return zeros.index_add(0, index, values), zeros.index_add(0, index, torch.ones_like(values))


def held_out_losses(module: EnergyTraining, held_out: Tensor) -> dict[str, float]:
    """Mean losses on one batch of held-out data at levels and noise that are the same every time."""
    generator, module.generator = module.generator, torch.Generator().manual_seed(20_261)
    levels = module.draw_levels(len(held_out))
    result = module.batch_losses(held_out, levels)
    module.generator = generator
    row = {"held_out_dsm": float(result.dsm.mean().detach())}
    if result.heights is not None:
        row["held_out_heights"] = float(result.heights.mean().detach())
    return row


def append_row(path: Path, row: dict[str, float]) -> None:
    """Append to a CSV file, writing the header first if the file is new."""
    new = not path.exists()
    with path.open("a", newline="") as handle:
        writer = csv.DictWriter(handle, list(row), extrasaction="ignore")
        if new:
            writer.writeheader()
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def train(
    system: MolecularSystem,
    data: WeightedEnsemble,
    model_settings: ModelSettings,
    settings: TrainSettings,
    directory: Path,
    seed: int,
    device: str = "cpu",
    report: Report = silent,
) -> EnergyModel:
    """Fit U_theta to an ensemble and save the averaged model in ``directory``.

    Bounded by ``settings.steps`` or ``settings.minutes`` (compilation included), whichever comes first.
    Writes ``energy.safetensors``, ``energy.json``, ``metrics.csv``, and ``heights.json`` with its picture
    (`boltzgen.heights`); a training that was stopped goes on
    from ``resume/last.ckpt``. Raises NumericalError on a NaN loss.
    """
    directory.mkdir(parents=True, exist_ok=True)
    last = directory / "resume" / "last.ckpt"
    if not last.exists():
        (directory / "metrics.csv").unlink(missing_ok=True)
    L.seed_everything(seed, verbose=False)
    positions, weights, held_out = _split(data, settings, seed)
    choice = torch.multinomial(
        weights, min(len(positions), 20_000), generator=torch.Generator().manual_seed(seed)
    )
    model = _new_model(system, positions[choice], model_settings)
    report(0.0, 1.0, "calibrating the noise levels of the prior")
    calibrate(model, positions[choice[:1024]], torch.Generator().manual_seed(seed + 1))
    model.to(device)
    module = EnergyTraining(model, settings, seed + 2).to(device)
    held_out = held_out.to(device)
    _maybe_compile(module, held_out, report)
    module.started = module.started if settings.minutes else time.monotonic()
    monitor = Monitor(directory / "metrics.csv", held_out, report)
    checkpoint = ModelCheckpoint(
        last.parent, save_last=True, every_n_train_steps=CHECKPOINT_STEPS, save_top_k=0
    )
    trainer = _trainer(settings, device, directory, [monitor, checkpoint])
    draws = WeightedRandomSampler(
        weights.tolist(), 1000 * settings.batch_size, generator=torch.Generator().manual_seed(seed)
    )
    loader = DataLoader(TensorDataset(positions), settings.batch_size, sampler=draws)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer.fit(module, loader, ckpt_path=last if last.exists() else None, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    if settings.height_paths:
        report(1.0, 1.0, "annealing a few paths: do the heights of the levels agree?")
        _show_heights(system, module.ema.eval(), held_out[: settings.height_paths], directory)
    module.ema.cpu().save(directory)
    shutil.rmtree(last.parent, ignore_errors=True)
    return module.ema.to(device).eval()


def _show_heights(system: MolecularSystem, model: EnergyModel, x0: Tensor, directory: Path) -> None:
    """``heights.json`` and ``heights.png``: sd(log w), J and state populations of plain paths."""
    network = in_chunks(model.energy_and_score, len(x0))
    curves = height_curves(system, model, network, x0, n_levels=HEIGHT_LEVELS)
    (directory / "heights.json").write_text(json.dumps(curves, indent=1) + "\n")
    heights(curves["paths"], directory / "heights.png")  # type: ignore[arg-type]


def _split(data: WeightedEnsemble, settings: TrainSettings, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Training positions and weights, and one batch of held-out positions (whole lineages held out)."""
    generator = torch.Generator().manual_seed(seed)
    x, weights = torch.as_tensor(data.positions), torch.as_tensor(data.weights)
    lineages = torch.arange(len(x)) if data.lineages is None else torch.as_tensor(data.lineages)
    names, groups = lineages.unique(return_inverse=True)
    held = torch.rand(len(names), generator=generator)[groups] < settings.held_out_fraction
    if held.all() or not held.any():
        held = torch.arange(len(x)) % max(int(1 / settings.held_out_fraction), 2) == 0
    rows = torch.multinomial(weights[held], settings.batch_size, replacement=True, generator=generator)
    return x[~held], weights[~held], x[held][rows]


def _new_model(system: MolecularSystem, positions: Tensor, settings: ModelSettings) -> EnergyModel:
    return EnergyModel.from_data(
        system,
        positions,
        sigma_min=settings.sigma_min_nm,
        sigma_max=settings.sigma_max_nm,
        prior=settings.prior,
        n_layers=settings.n_layers,
        n_channels=settings.n_channels,
        n_radial=settings.n_radial,
        l_max=settings.l_max,
        hidden=settings.hidden,
    )


def _trainer(settings: TrainSettings, device: str, directory: Path, callbacks: list[Callback]) -> L.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return L.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        max_steps=settings.steps or UNBOUNDED_STEPS,
        max_epochs=-1,
        gradient_clip_val=settings.gradient_clip,
        callbacks=callbacks,
        default_root_dir=directory,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _maybe_compile(module: EnergyTraining, example: Tensor, report: Report) -> None:
    """Replace the eager functions by compiled ones where the budget is long enough to win the time back."""
    settings = module.settings
    levels = module.draw_levels(len(example))
    started = time.monotonic()
    module.batch_losses(example, levels).dsm.mean().backward()
    module.model.zero_grad()
    eager_seconds = time.monotonic() - started
    by_steps = 2.0 * eager_seconds * settings.steps if settings.steps else math.inf
    expected = min(by_steps, settings.minutes * 60.0 if settings.minutes else math.inf)
    if settings.compile == "never" or (settings.compile == "auto" and expected < COMPILE_FROM_SECONDS):
        return
    report(0.0, 1.0, "compiling the network (a minute or two)")
    k = len(levels)
    y, flat = example.repeat(k, 1, 1), levels.flatten()
    module.derivatives = compile_derivatives(module.model, y, flat, slope=module.needs_slope)
    crossed = {"dsm+diffclf": k * (k - 1), "dsm+nce": k - 1}.get(settings.objective, 0)
    if crossed:
        rows = torch.arange(crossed * len(example)) % len(flat)
        module.energy = compile_energy(module.model, y[rows], flat[rows])
