"""How a training that was killed goes on as if nothing had happened: its batches, checkpoints and log."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import Sampler

from boltzgen.runtime.files import replaced
from boltzgen.runtime.processes import ALONE, Processes
from boltzgen.runtime.random_streams import numbered_generator
from boltzgen.train.lightning_module import CHECKPOINT_FORMAT, EnergyTraining

CHECKPOINT_FILE = "last.ckpt"
CHECKPOINT_STEPS = 200
BLOCK = 1000
"""Batches that are drawn at once."""


class WeightedBatches(Sampler[list[int]]):
    """Rows of one batch after the other, drawn by weight, without end; this process's part of each.

    Which rows batch k holds depends on the seed and k alone, so that training may start at any of them.
    """

    def __init__(
        self, weights: Tensor, batch_size: int, seed: int, first: int = 0, processes: Processes = ALONE
    ) -> None:
        self.processes = processes
        self.weights, self.batch_size, self.seed, self.first = weights, batch_size, seed, first

    def __iter__(self) -> Iterator[list[int]]:
        for block in itertools.count(self.first // BLOCK):
            generator = numbered_generator(self.seed, block)
            n = BLOCK * self.batch_size
            rows = torch.multinomial(self.weights, n, replacement=True, generator=generator)
            done = max(self.first - block * BLOCK, 0)
            yield from rows.view(BLOCK, self.batch_size)[
                done:, self.processes.rank :: self.processes.size
            ].tolist()


class SaveCheckpoints(Callback):
    """Everything that training needs to go on, written to one file every CHECKPOINT_STEPS steps."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / CHECKPOINT_FILE

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:  # type: ignore[override]
        if trainer.global_step % CHECKPOINT_STEPS == 0:
            self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        """Write the checkpoint, complete or not at all; of several processes the first one does."""
        module = trainer.lightning_module
        assert isinstance(module, EnergyTraining)
        module.gather_generators()
        if not module.processes.first:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(self.path) as partial:
            trainer.save_checkpoint(partial)


def read_checkpoint(directory: Path | None, log: Callable[[str], None]) -> dict[str, Any] | None:
    """The last checkpoint; None where there is none, or after saying that it is damaged and removing it."""
    if directory is None or not (directory / CHECKPOINT_FILE).exists():
        return None
    path = directory / CHECKPOINT_FILE
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if checkpoint.get("format") != CHECKPOINT_FORMAT:
            raise ValueError("another version of boltzgen wrote it")
    except Exception as error:  # a damaged file can break anything in there
        reason = str(error).strip().partition("\n")[0][:120]
        log(f"{path}: cannot be read ({reason or type(error).__name__}); training starts anew")
        path.unlink(missing_ok=True)
        return None
    return dict(checkpoint)


def cut_log(path: Path, step: int) -> None:
    """Keep the rows of a training log up to ``step``; those after it are about to be written again."""
    if step == 0:
        path.unlink(missing_ok=True)
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    kept = [row for row in rows if len(row) == len(header) and row[0].isdigit() and int(row[0]) <= step]
    with replaced(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *kept])
