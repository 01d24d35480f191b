"""Training losses as functions of one noised batch: score matching, and three that compare noise levels.

Score matching alone cannot see the relative energies of separated modes. The diffusive classification loss
(DiffCLF) can; time-score matching and noise-contrastive estimation are there to compare it with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from boltzgen.config.choices import OBJECTIVE_NAMES

Energy = Callable[[Tensor, Tensor], Tensor]
"""``(x (n, ...), log_sigma (n,)) -> U (n,)``."""
EnergyAndDerivatives = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
"""``(x, log_sigma) -> (U, score = -dU/dx)``, and for time-score matching ``dU/dlog_sigma (n,)`` too."""


@dataclass(frozen=True)
class Noised:
    """Data noised to K levels each, and the model's energies there.

    clean, y
        Data and noised data, ``(K, n, ...)``: configurations [nm] or vectors of any kind.
    log_sigmas, energy
        Levels and energies, ``(K, n)``.
    score
        ``-dU/dy`` with the shape of ``y``.
    d_log_sigma
        ``dU/dlog_sigma`` ``(K, n)``, or None where the model was not asked for it.
    dof
        Dimension of the space that ``y`` lives in.
    """

    clean: Tensor
    y: Tensor
    log_sigmas: Tensor
    energy: Tensor
    score: Tensor
    d_log_sigma: Tensor | None
    dof: int


def noised(model: EnergyAndDerivatives, x0: Tensor, log_sigmas: Tensor, noise: Tensor, dof: int) -> Noised:
    """Noise data ``x0`` ``(n, ...)`` to levels ``(K, n)`` with standard normal ``noise`` ``(K, n, ...)``."""
    k, n = log_sigmas.shape
    clean = x0.expand(k, *x0.shape)
    y = clean + _like(log_sigmas.exp(), noise) * noise
    energy, score, *rest = model(y.flatten(0, 1), log_sigmas.flatten())
    d_log_sigma = rest[0].view(k, n) if rest else None
    return Noised(clean, y, log_sigmas, energy.view(k, n), score.view_as(y), d_log_sigma, dof)


def dsm(batch: Noised, sigma_data: float, target: Tensor | None = None) -> Tensor:
    """Denoising score matching ``lambda |D - x_0|^2 / dof``, ``(K, n)``; about 1 if uninformed.

    ``D = y + sigma^2 score`` and ``lambda = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2`` (Karras et
    al. 2022). ``target``, shaped like ``y``, stands for x_0 where given: anything with the same mean given y.
    """
    sigma = batch.log_sigmas.exp()
    weight = (sigma.square() + sigma_data**2) / (sigma * sigma_data).square()
    error = batch.y + _like(sigma.square(), batch.y) * batch.score
    error = error - (batch.clean if target is None else target)
    return weight * error.square().flatten(2).sum(-1) / batch.dof


def diffclf(batch: Noised, energy: Energy) -> Tensor:
    """Diffusive classification loss ``(n,)`` [nats] (OuYang et al. 2026, arXiv 2601.21025).

    ``-(1/K) sum_i log softmax_j(-U(y_i, sigma_j)) [j = i]``: of K levels, which did a point come from?
    Energies at the level of origin are those that the score was taken from; the K (K - 1) cross energies
    are first order only.
    """
    return -torch.log_softmax(_logits(batch, energy), dim=1).diagonal(dim1=0, dim2=1).mean(-1)


def nce(batch: Noised, energy: Energy) -> Tensor:
    """InfoNCE between levels ``(n,)`` [nats] (BoltzNCE, Aggarwal et al. 2025): points of one level only.

    The first level's point is classified among its own level and the K - 1 others, which contribute no
    points of their own to this loss.
    """
    k, n = batch.log_sigmas.shape
    point = batch.y[:1].expand(k - 1, *batch.y.shape[1:]).flatten(0, 1)
    others = energy(point, batch.log_sigmas[1:].flatten()).view(k - 1, n)
    logits = -torch.cat([batch.energy[:1], others])
    return -torch.log_softmax(logits, dim=0)[0]


def tsm(batch: Noised) -> Tensor:
    """Conditional time-score matching ``(K, n)`` (Yu et al. 2025), about 1 if uninformed.

    ``(-dU/dlog_sigma - (|z|^2 - dof))^2 / (2 dof)``: the target is the derivative of ``log N(y; x_0,
    sigma^2)`` by log_sigma, whose variance is the divisor.
    """
    if batch.d_log_sigma is None:
        raise ValueError("time-score matching needs a model that returns dU/dlog_sigma")
    z2 = (batch.y - batch.clean).square().flatten(2).sum(-1) / (2.0 * batch.log_sigmas).exp()
    return (batch.d_log_sigma + z2 - batch.dof).square() / (2.0 * batch.dof)


@dataclass(frozen=True)
class LevelLoss:
    """The term of an objective that compares noise levels.

    function
        Its values ``(n,)`` for a batch and the model's energy; None where there is no such term.
    needs_d_log_sigma
        Whether the batch needs ``dU/dlog_sigma``.
    cross_energies
        Energies that it asks for beside those of the batch, for each sample of K levels.
    """

    function: Callable[[Noised, Energy], Tensor | None]
    needs_d_log_sigma: bool = False
    cross_energies: Callable[[int], int] = lambda k: 0


LEVEL_LOSSES: dict[str, LevelLoss] = {}


def register(objective: str, loss: LevelLoss) -> None:
    """Let ``train.objective`` name another loss, or replace one."""
    LEVEL_LOSSES[objective] = loss
    if objective not in OBJECTIVE_NAMES:
        OBJECTIVE_NAMES.append(objective)


register("dsm", LevelLoss(lambda batch, energy: None))
register("dsm+diffclf", LevelLoss(diffclf, cross_energies=lambda k: k * (k - 1)))
register("dsm+tsm", LevelLoss(lambda batch, energy: tsm(batch).mean(0), needs_d_log_sigma=True))
register("dsm+nce", LevelLoss(nce, cross_energies=lambda k: k - 1))


def level_loss(objective: str, batch: Noised, energy: Energy) -> Tensor | None:
    """The term of an objective that compares levels, one value per sample; None for ``dsm``."""
    return LEVEL_LOSSES[objective].function(batch, energy)


def _logits(batch: Noised, energy: Energy) -> Tensor:
    """``-U(y_i, sigma_j)`` with shape ``(K, K, n)``: points by row, levels by column."""
    k, n = batch.log_sigmas.shape
    i, j = (~torch.eye(k, dtype=torch.bool, device=batch.y.device)).nonzero(as_tuple=True)
    cross = energy(batch.y[i].flatten(0, 1), batch.log_sigmas[j].flatten())
    logits = torch.diag_embed(-batch.energy.T).permute(1, 2, 0)
    return logits.index_put((i, j), -cross.view(len(i), n))


def _like(values: Tensor, x: Tensor) -> Tensor:
    """View ``(K, n)`` so that it multiplies ``x`` ``(K, n, ...)``."""
    return values.view(*values.shape, *(1,) * (x.ndim - values.ndim))
