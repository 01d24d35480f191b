"""What one step of training does: losses, optimiser, moving average of the parameters."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from boltzgen.config.schema import TrainSettings
from boltzgen.diffusion.losses import LEVEL_LOSSES, Noised, dsm, level_loss, noised
from boltzgen.diffusion.noise_levels import draw_levels
from boltzgen.errors import NumericalError
from boltzgen.geometry import dof, random_rotations, zero_centroid_noise
from boltzgen.model.compiled import BatchFunction, eager_derivatives
from boltzgen.model.energy import EnergyModel
from boltzgen.runtime.processes import ALONE, Processes
from boltzgen.runtime.threads import in_parts, part_size
from boltzgen.train.batch import Batch, Drawn, Losses
from boltzgen.train.gradients import add_gradients
from boltzgen.train.optimiser import optimiser_of
from boltzgen.train.regression_target import DenoisingTarget

CHECKPOINT_FORMAT = 2
"""Raised when a training cannot go on from what earlier versions wrote."""
_RANK_STRIDE = 1_000_003
"""Between the seeds of processes."""


class EnergyTraining(L.LightningModule):
    """Losses, optimiser and exponential moving average of one training run.

    Processes of ``processes`` take equal parts of each batch, with random numbers of their own, and average
    gradients and losses; how much of the time is used, the first one tells the others.
    """

    def __init__(
        self, model: EnergyModel, settings: TrainSettings, seed: int, processes: Processes = ALONE
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # gradients are those of parts
        self.processes, self.seed, self.used = processes, seed + _RANK_STRIDE * processes.rank, 0.0
        self.model = model
        self.ema = copy.deepcopy(model).requires_grad_(False)
        self.settings = settings
        self.target: DenoisingTarget | None = None
        self.generator = torch.Generator().manual_seed(self.seed)
        self.generator_states = [self.generator.get_state()]
        self.derivatives: BatchFunction = eager_derivatives(model, d_log_sigma=self.needs_d_log_sigma)
        self.energy: BatchFunction = model.energy
        # On the CPU, where levels are drawn: a GPU would be waited for.
        self.information = copy.deepcopy(model.prior).cpu().level_information
        self.compiled, self.finished = False, False
        self.started = time.monotonic()

    @property
    def needs_d_log_sigma(self) -> bool:
        """Whether the objective asks for dU/dlog_sigma."""
        return LEVEL_LOSSES[self.settings.objective].needs_d_log_sigma

    @property
    def batch_size(self) -> int:
        """Configurations of a batch that fall to this process."""
        return self.settings.batch_size // self.processes.size

    @property
    def part_size(self) -> int:
        """Samples of a part of a batch, each of which is noised to K levels."""
        device, n_atoms = self.model.log_sigma_bounds.device, self.model.spec.n_atoms
        return part_size(self.batch_size, n_atoms, device, self.settings.levels_per_sample)

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self.started) / 60.0

    def progress(self) -> float:
        """Share of the budget that is used, 0 to 1; for all processes what the first one last said."""
        return self.used if self.processes.size > 1 else self._own_progress()

    def share_progress(self) -> None:
        """Take over what the first process has used."""
        if self.processes.size > 1:
            self.used = self.processes.from_first(self._own_progress()) or 0.0

    def _own_progress(self) -> float:
        by_step = self.global_step / self.settings.steps if self.settings.steps else 0.0
        by_time = self.minutes / self.settings.minutes if self.settings.minutes else 0.0
        return min(max(by_step, by_time), 1.0)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        settings = self.settings
        optimiser = optimiser_of(self.model.parameters(), settings)

        def factor(step: int) -> float:
            warm = min(1.0, (step + 1) / max(settings.warmup_steps, 1))
            return warm * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * self.progress())))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": schedule}

    def draw_levels(self, n: int) -> Tensor:
        """Log noise levels ``(K, n)``."""
        settings = self.settings
        return draw_levels(
            settings.level_choice,
            settings.levels_per_sample,
            n,
            self.model.log_sigma_range,
            self.information,
            self.generator,
        ).to(self.model.log_sigma_bounds.device)

    def draw(self, batch: Batch) -> Drawn:
        """Random levels, rotations and noise for a batch."""
        x0, forces = batch
        log_sigmas = self.draw_levels(len(x0))
        rotation = random_rotations(len(x0), self.generator, device=x0.device)
        noise = zero_centroid_noise((len(log_sigmas), *x0.shape), self.generator, x0.dtype, x0.device)
        return Drawn(x0 @ rotation, forces @ rotation, log_sigmas.T, noise.transpose(0, 1))

    def part_losses(self, x0: Tensor, forces: Tensor, log_sigmas: Tensor, noise: Tensor) -> Losses:
        """Losses of a part of what was drawn."""
        if x0.is_cuda:  # elsewhere its import would leave Python objects to the end of a thread of a part
            torch.compiler.cudagraph_mark_step_begin()
        batch = noised(self.derivatives, x0, log_sigmas.T, noise.transpose(0, 1), dof(x0.shape[1]))
        level_losses = level_loss(self.settings.objective, batch, self.energy)
        return Losses(dsm(batch, self.model.spec.sigma_data, self._target(batch, forces)), level_losses)

    def _target(self, batch: Noised, forces: Tensor) -> Tensor | None:
        if self.target is None:
            return None
        y, x0 = batch.y.flatten(0, 1), batch.clean.flatten(0, 1)
        forces = forces.expand(batch.y.shape).flatten(0, 1)
        return self.target(y, x0, forces, batch.log_sigmas.flatten()).view_as(batch.y)

    def losses(self, drawn: Drawn) -> Losses:
        """Losses of what was drawn, detached; by the functions that are compiled for gradients."""

        def of(*part: Tensor) -> Losses:
            return self.part_losses(*part).detach()

        return Losses.joined(list(in_parts(of, drawn, self.part_size)))

    def accumulate(self, drawn: Drawn) -> Losses:
        """Add the gradient of the mean loss of what was drawn to that of the parameters; the losses."""
        n = len(drawn.x0)

        def of(*part: Tensor) -> tuple[Tensor, Losses]:
            losses = self.part_losses(*part)
            return losses.total(self.settings.level_loss_weight).sum() / n, losses.detach()

        return Losses.joined(add_gradients(of, list(self.model.parameters()), drawn, self.part_size))

    def training_step(self, batch: Batch, _: int) -> dict[str, object]:
        """Take one step of the optimiser and of its schedule."""
        optimiser: Any = self.optimizers()
        schedule: Any = self.lr_schedulers()
        drawn = self.draw(batch)
        optimiser.zero_grad()
        losses = self.accumulate(drawn)
        self.average_and_clip(losses)
        optimiser.step()
        schedule.step()
        return {"losses": losses, "levels": drawn.log_sigmas.T}

    def average_and_clip(self, losses: Losses) -> None:
        """The mean gradient over processes, clipped; a loss or a gradient that is not finite is an error."""
        loss = losses.total(self.settings.level_loss_weight).mean()
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        self.processes.average_([*gradients, loss])
        norm = torch.nn.utils.get_total_norm(gradients)
        # Looked at together: a GPU is waited for once a step.
        loss_value, norm_value = torch.stack([loss, norm]).tolist()
        if not math.isfinite(loss_value):
            raise self._broken(f"the loss became {loss_value}")
        if not math.isfinite(norm_value):
            raise self._broken("the gradient is not finite")
        torch.nn.utils.clip_grads_with_norm_(parameters, self.settings.gradient_clip, norm)

    def _broken(self, what: str) -> NumericalError:
        return NumericalError(
            "training",
            f"{what} at step {self.global_step}",
            "try a smaller train.learning_rate or train.gradient_clip",
        )

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        """What else a training that goes on needs to take the same steps: its random numbers, its clock."""
        checkpoint["format"] = CHECKPOINT_FORMAT
        checkpoint["minutes"] = self.minutes
        checkpoint["generators"] = self.generator_states
        checkpoint["compiled"], checkpoint["finished"] = self.compiled, self.finished
        checkpoint["used"] = self.progress()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.started = time.monotonic() - 60.0 * checkpoint["minutes"]
        self.used = checkpoint["used"]
        states = checkpoint["generators"]
        if len(states) == self.processes.size:
            self.generator.set_state(states[self.processes.rank].cpu())
        else:  # other random numbers than those of the steps that are done
            self.generator.manual_seed(self.seed + checkpoint["global_step"])

    def gather_generators(self) -> None:
        """Collect the states of all processes' random numbers for a checkpoint; all have to call it."""
        self.generator_states = self.processes.gathered(self.generator.get_state())

    def average(self) -> None:
        """Let the moving average of the parameters follow a step."""
        decay = min(0.999, max(0.99, 1.0 - 1.0 / (1.0 + 0.1 * self.global_step)))
        averages = [p.detach() for p in self.ema.parameters()]
        torch._foreach_lerp_(averages, [p.detach() for p in self.model.parameters()], 1.0 - decay)

    @contextmanager
    def drawing_from(self, generator: torch.Generator) -> Iterator[None]:
        """Within, levels, rotations and noise come from ``generator``, and training's own stays as it is."""
        own, self.generator = self.generator, generator
        try:
            yield
        finally:
            self.generator = own

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the model has the averaged parameters: compiled functions are bound to the model's own."""
        parameters = [p.detach() for p in self.model.parameters()]
        own = [p.clone() for p in parameters]
        torch._foreach_copy_(parameters, [p.detach() for p in self.ema.parameters()])
        try:
            yield
        finally:
            torch._foreach_copy_(parameters, own)


class Budget(Callback):
    """Ends training when its time or steps are used; before other callbacks, which look at that."""

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: L.Trainer, module: EnergyTraining, *_: object
    ) -> None:
        module.share_progress()
        if module.progress() >= 1.0:
            trainer.should_stop = True


class Averaging(Callback):
    """Moves the average after every step, before a checkpoint is written: module hooks come too late."""

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: L.Trainer, module: EnergyTraining, *_: object
    ) -> None:
        module.average()
