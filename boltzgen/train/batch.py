"""A training batch: what is drawn for it at random, and the losses it comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]
"""Configurations [nm] and reduced forces ``-du/dx`` [1/nm], both ``(n, n_atoms, 3)``."""


class Drawn(NamedTuple):
    """A batch with what is random in it, by sample.

    x0, forces
        Rotated configurations [nm] and reduced forces [1/nm], of use with a target only, ``(n, n_atoms, 3)``.
    log_sigmas, noise
        K levels ``(n, K)`` and standard normal noise ``(n, K, n_atoms, 3)``.
    """

    x0: Tensor
    forces: Tensor
    log_sigmas: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Losses:
    """Losses of one batch: ``dsm (K, n)``, and ``level_losses (n,)`` that compare levels, if any."""

    dsm: Tensor
    level_losses: Tensor | None

    def total(self, level_loss_weight: float) -> Tensor:
        """What is minimised, per sample ``(n,)``."""
        dsm = self.dsm.mean(0)
        return dsm if self.level_losses is None else dsm + level_loss_weight * self.level_losses

    def detach(self) -> Losses:
        return Losses(self.dsm.detach(), None if self.level_losses is None else self.level_losses.detach())

    @classmethod
    def joined(cls, parts: Sequence[Losses]) -> Losses:
        """Losses of a batch from those of its parts."""
        level_losses = [part.level_losses for part in parts if part.level_losses is not None]
        return cls(
            torch.cat([part.dsm for part in parts], dim=1), torch.cat(level_losses) if level_losses else None
        )
