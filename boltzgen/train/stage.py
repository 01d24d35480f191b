"""Train the energy network: what is trained on which data, for how long, and what is written."""

from __future__ import annotations

import json
import logging
import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from boltzgen.config.policy import MOST_FRAMES
from boltzgen.config.schema import ModelSettings, TrainSettings
from boltzgen.diffusion.losses import LEVEL_LOSSES
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.errors import NumericalError
from boltzgen.model.calibration import calibrate
from boltzgen.model.compiled import compile_derivatives, compile_energy
from boltzgen.model.energy import EnergyModel, load_model
from boltzgen.pretrained.shipped import network_directory
from boltzgen.runtime.allocator import keep_freed_memory
from boltzgen.runtime.context import Context
from boltzgen.runtime.files import write_atomically
from boltzgen.runtime.progress import OnProgress
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.train.batch import Batch
from boltzgen.train.checkpoint import (
    CHECKPOINT_FILE,
    SaveCheckpoints,
    WeightedBatches,
    cut_log,
    read_checkpoint,
)
from boltzgen.train.dataset import Frames, training_frames
from boltzgen.train.lightning_module import Averaging, Budget, EnergyTraining
from boltzgen.train.monitor import Monitor
from boltzgen.train.regression_target import DenoisingTarget

COMPILE_FROM_SECONDS = 300.0
"""Compile when training is expected to take longer than this without."""
UNBOUNDED_STEPS = 10_000_000
FEW_FRAMES = 1024
"""Frames that the noise levels and the coefficients of the denoising target are fitted to."""
HELD_OUT_BATCHES = 4


@dataclass(frozen=True)
class Trained:
    """The averaged model of least held-out loss, and the frames that were held out."""

    model: EnergyModel
    held_out: Frames


def train(
    system: MolecularSystem,
    data: WeightedEnsemble,
    model_settings: ModelSettings,
    settings: TrainSettings,
    directory: Path,
    context: Context,
) -> Trained:
    """Fit U_theta to an ensemble.

    Bounded by ``settings.steps`` or ``settings.minutes`` (compilation included), whichever comes first.
    ``directory`` always holds the best model so far (``energy.safetensors``, ``energy.json``), and
    ``metrics.csv``; in the end also ``last/``, the averaged model as training left it, and ``training.json``,
    what depended on the clock. After a kill the same call goes on from the last checkpoint of ``context``,
    with the same steps as if it had not been killed. Raises NumericalError where a loss or gradient is not
    finite; parameters stay what they were. Raises DataError where the data are not of the system at its
    temperature, as far as their forces tell. Processes share each batch; the first one writes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    seed, processes, on_progress, resume = (
        context.seed,
        context.processes,
        context.on_progress,
        context.checkpoints,
    )
    before = read_checkpoint(resume, context.log)
    first = before["global_step"] if before else 0
    if processes.first:
        cut_log(directory / "metrics.csv", first)
    L.seed_everything(seed, verbose=False)
    frames, held_out = training_frames(system, data, settings, seed, context.device)
    on_progress(0.0, 1.0, "calibrating the noise levels of the prior")
    module = _new_module(system, frames, model_settings, settings, context)
    if before and before["finished"]:
        module.load_state_dict(before["state_dict"])
        module.compiled, steps = before["compiled"], first
    else:
        x0, forces = held_out.drawn(HELD_OUT_BATCHES * settings.batch_size, seed + 4)
        judging = x0.to(context.device), forces.to(context.device)
        _compile_if_worth_it(module, judging, before, on_progress)
        module.started = module.started if settings.minutes else time.monotonic()
        # Whole batches are gathered at once: frame by frame takes longer than a step on a GPU.
        batches = WeightedBatches(frames.weights, settings.batch_size, seed, first, processes)
        loader = DataLoader(TensorDataset(frames.positions, frames.forces), batch_size=None, sampler=batches)
        steps = _fit(module, loader, Monitor(directory, judging, on_progress), directory, resume, before)
    if processes.first:
        _finish(module, directory, steps)
    processes.barrier()
    return Trained(load_model(directory, context.device, system), held_out)


def _new_module(
    system: MolecularSystem,
    frames: Frames,
    model_settings: ModelSettings,
    settings: TrainSettings,
    context: Context,
) -> EnergyTraining:
    """A network with scales, prior and, where it starts from another one, parameters; what it denoises to."""
    seed, device = context.seed, context.device
    some, forces = frames.drawn(min(len(frames.positions), MOST_FRAMES), seed)
    model = EnergyModel.from_data(system, some, model_settings, min_state_weight=settings.min_state_weight)
    if settings.start is not None:
        model.take_over(load_model(network_directory(settings.start), system=system))
    few, forces = some[:FEW_FRAMES], forces[:FEW_FRAMES]
    calibrate(model, few, torch.Generator().manual_seed(seed + 1))
    model.to(device)
    module = EnergyTraining(model, settings, seed + 2, context.processes).to(device)
    if settings.denoise_to == "forces":
        module.target = DenoisingTarget(model.prior, system.atom_classes, model.log_sigma_range)
        module.target.fit(few.to(device), forces.to(device), torch.Generator().manual_seed(seed + 3))
    return module


def _finish(module: EnergyTraining, directory: Path, steps: int) -> None:
    """Write the model as training left it, and what depended on the clock."""
    module.ema.save(directory / "last")
    resolved = {"steps": steps, "compile": "always" if module.compiled else "never"}
    write_atomically(directory / "training.json", json.dumps(resolved) + "\n")


def _fit(
    module: EnergyTraining,
    loader: DataLoader[tuple[Tensor, ...]],
    monitor: Monitor,
    directory: Path,
    resume: Path | None,
    before: dict[str, Any] | None,
) -> int:
    """Take the steps that are left after the checkpoint ``before``; the number of all steps."""
    checkpoints = [SaveCheckpoints(resume)] if resume else []
    monitors = [monitor] if module.processes.first else []
    trainer = _trainer(module, directory, [Budget(), *monitors, Averaging(), *checkpoints])
    start = resume / CHECKPOINT_FILE if resume and before else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        try:
            trainer.fit(module, loader, ckpt_path=start, weights_only=True)
        except NumericalError as error:
            best = directory / "energy.safetensors"
            kept = f"; the best network so far is {best}" if best.exists() else ""
            raise NumericalError(error.where, error.what, error.remedy + kept) from error
    if trainer.interrupted:
        raise KeyboardInterrupt
    module.finished = True
    for checkpoint in checkpoints:
        checkpoint.save(trainer)
    return int(trainer.global_step)


def _trainer(module: EnergyTraining, directory: Path, callbacks: list[Callback]) -> L.Trainer:
    settings = module.settings
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return L.Trainer(
        accelerator="gpu" if module.model.log_sigma_bounds.is_cuda else "cpu",
        devices=[module.processes.local_rank] if module.model.log_sigma_bounds.is_cuda else 1,
        plugins=[LightningEnvironment()],  # as if alone: what processes share is in the module
        max_steps=settings.steps or UNBOUNDED_STEPS,
        max_epochs=-1,
        callbacks=callbacks,
        default_root_dir=directory,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _compile_if_worth_it(
    module: EnergyTraining, held_out: Batch, before: dict[str, Any] | None, on_progress: OnProgress
) -> None:
    """Compile if asked for, or if the budget is long enough to win the time back; as ``before``, if any."""
    if before:
        worth = bool(before["compiled"])
    elif module.settings.compile == "auto":
        worth = _expected_seconds(module, held_out) >= COMPILE_FROM_SECONDS
    else:
        worth = module.settings.compile == "always"
    module.compiled = bool(module.processes.from_first(worth))
    if module.compiled:
        on_progress(0.0, 1.0, "compiling the network: minutes the first time, then seconds")
        _compile(module, held_out)


def _compile(module: EnergyTraining, held_out: Batch) -> None:
    """Replace the eager functions of the module by compiled ones."""
    settings = module.settings
    example = held_out[0][: module.part_size]
    with module.drawing_from(torch.Generator().manual_seed(0)):
        levels = module.draw_levels(len(example))
    k = len(levels)
    y, flat = example.repeat(k, 1, 1), levels.flatten()
    module.derivatives = compile_derivatives(module.model, y, flat, d_log_sigma=module.needs_d_log_sigma)
    crossed = LEVEL_LOSSES[settings.objective].cross_energies(k)
    if crossed:
        rows = torch.arange(crossed * len(example)) % len(flat)
        module.energy = compile_energy(module.model, y[rows], flat[rows])


def _expected_seconds(module: EnergyTraining, held_out: Batch) -> float:
    """How long training takes at most without compilation; steps are timed where they are the limit."""
    settings = module.settings
    by_time = settings.minutes * 60.0 if settings.minutes else math.inf
    if not settings.steps:
        return by_time
    x0, forces = (values[: module.batch_size] for values in held_out)
    started = time.monotonic()
    with module.drawing_from(torch.Generator().manual_seed(0)):
        module.accumulate(module.draw((x0, forces)))
    module.model.zero_grad()
    return min(by_time, (time.monotonic() - started) * settings.steps)
