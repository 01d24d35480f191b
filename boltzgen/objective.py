"""Training losses: denoising score matching and the diffusive classification loss, on shared energies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from boltzgen.diffusion import EnergyAndScore, denoise, perturb
from boltzgen.geometry import dof, squared_norm

LevelInformation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Losses:
    """Per-sample losses of one batch at K noise levels per sample.

    dsm
        Weighted denoising error with shape ``(K, n)``; about 1 for an uninformed denoiser.
    classification
        Cross entropy [nat] of naming the level a point was noised to, ``(n,)``; None if not asked for.
    """

    dsm: Tensor
    classification: Tensor | None


def dsm_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """``lambda = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2`` [1/nm^2] (Karras et al. 2022)."""
    return (sigma.square() + sigma_data**2) / (sigma * sigma_data).square()


def losses(
    energy_and_score: EnergyAndScore,
    energy: Callable[[Tensor, Tensor], Tensor] | None,
    x0: Tensor,
    log_sigmas: Tensor,
    sigma_data: float,
    generator: torch.Generator,
) -> Losses:
    """DSM and, if ``energy`` is given, DiffCLF losses of data ``x0`` ``(n, n_atoms, 3)`` [nm].

    ``log_sigmas`` has shape ``(K, n)``. Each sample is noised to its K levels; energies at the level of
    origin are those that the score was taken from, and DiffCLF (OuYang et al. 2026, arXiv 2601.21025)
    adds the K (K - 1) cross energies, first order only:

        L_clf = -(1/K) sum_i log softmax_j(-U(y_i, sigma_j)) [j = i]
    """
    k, n = log_sigmas.shape
    flat = log_sigmas.flatten()
    clean = x0.repeat(k, 1, 1)
    y = perturb(clean, flat.exp(), generator)
    u, score = energy_and_score(y, flat)
    error = squared_norm(denoise(y, flat.exp(), score) - clean) / dof(x0.shape[1])
    dsm = (dsm_weight(flat.exp(), sigma_data) * error).view(k, n)
    if energy is None:
        return Losses(dsm, None)
    i, j = (~torch.eye(k, dtype=torch.bool, device=x0.device)).nonzero(as_tuple=True)
    cross = energy(y.view(k, n, *x0.shape[1:])[i].flatten(0, 1), log_sigmas[j].flatten())
    logits = torch.zeros((k, k, n), dtype=u.dtype, device=u.device)
    logits = logits.index_put((i, j), -cross.view(len(i), n))
    diagonal = torch.arange(k, device=x0.device)
    logits = logits.index_put((diagonal, diagonal), -u.view(k, n))
    classification = -torch.log_softmax(logits, dim=1)[diagonal, diagonal].mean(0)
    return Losses(dsm, classification)


def draw_level_pairs(
    n: int,
    log_sigma_range: tuple[float, float],
    information: LevelInformation,
    generator: torch.Generator,
    divergence: tuple[float, float] = (0.05, 10.0),
    widest: float = 1.5,
) -> Tensor:
    """Log levels ``(2, n)``: the first log-uniform, the second at a KL drawn log-uniformly from a range.

    With ``KL = F(sigma) (d log sigma)^2`` the two marginals overlap and still differ, so that both
    classification errors and gradients are finite; the gap is at most ``widest`` in log sigma.
    """
    low, high = log_sigma_range
    # Stratified over the range: lower variance of the loss than independent draws.
    uniform = (torch.randperm(n, generator=generator) + torch.rand(n, generator=generator)) / n
    first = low + (high - low) * uniform
    log_kl = torch.log(torch.tensor(divergence))
    kl = torch.exp(log_kl[0] + (log_kl[1] - log_kl[0]) * torch.rand(n, generator=generator))
    gap = (kl / information(first.exp()).clamp_min(1e-6)).sqrt().clamp_max(widest)
    sign = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    second = first + sign * gap
    second = torch.where((second < low) | (second > high), first - sign * gap, second)
    return torch.stack([first, second.clamp(low, high)])
