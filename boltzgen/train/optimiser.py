"""The optimiser of the network: Muon for its matrices, Adam for what is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from boltzgen.config.schema import TrainSettings

MATRIX_RATE = 1.5
"""Learning rate of matrices in units of that of the rest; steps of Muon are scaled to Adam's size."""


def optimiser_of(parameters: Iterable[nn.Parameter], settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimiser that ``train.optimiser`` names, at ``train.learning_rate``."""
    if settings.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=settings.learning_rate)
    return MuonAndAdam(list(parameters), settings.learning_rate)


def _is_matrix(parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and min(parameter.shape) > 1


class MuonAndAdam(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for matrices and Adam for vectors, as one optimiser.

    Muon replaces the momentum of a matrix by the nearest orthogonal one, here in steps of the root mean
    square of Adam's (Liu et al., arXiv 2502.16982). Both keep their own state; groups are theirs.
    """

    def __init__(self, parameters: list[nn.Parameter], rate: float) -> None:
        matrices = [p for p in parameters if _is_matrix(p)]
        others = [p for p in parameters if not _is_matrix(p)]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                matrices, lr=MATRIX_RATE * rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.Adam(others, lr=rate),
        ]
        super().__init__(parameters, {"lr": rate})
        self._share_groups()

    def _share_groups(self) -> None:
        """Let a schedule that changes the rates here change them in both."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Evaluate ``closure``, which makes the gradients, and let both take their step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """States of both."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the states of both."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()
