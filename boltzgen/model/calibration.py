"""Constants of the prior that noised data fix: strength of the force field, energies of levels."""

from __future__ import annotations

import contextlib
import io
import logging

import torch
from torch import Tensor

from boltzgen.diffusion.process import perturb
from boltzgen.model.energy import N_TABULATED_LEVELS, EnergyModel, derivatives
from boltzgen.model.force_field import N_STRENGTHS

STRENGTH_SMOOTHING = 2.0
"""Width of the Gaussian that smooths the strengths, in entries of their table: where one level's strength
jitters, so do its energies, by as much times the force field's spread of several kT."""


def calibrate(model: EnergyModel, x0: Tensor, generator: torch.Generator) -> None:
    """Fit what the prior takes from noised data ``x0`` ``(n, n_atoms, 3)`` [nm]."""
    if model.prior.force_field is not None:
        fit_strengths(model, x0, generator)
    calibrate_levels(model, x0, generator)


def fit_strengths(model: EnergyModel, x0: Tensor, generator: torch.Generator) -> None:
    """Strength of the force field at each level: the one of least denoising error, within 0 and 1.

    The score is linear in it, ``s_0 + strength s_1``, so ordinary least squares against the noise, and then
    a moving average over neighbouring levels.
    """
    force_field = model.prior.force_field
    assert force_field is not None
    log_sigmas = torch.linspace(*model.log_sigma_range, N_STRENGTHS)
    fitted = torch.zeros(N_STRENGTHS)
    for k, log_sigma in enumerate(log_sigmas):
        y = _noised(x0, log_sigma, generator)
        scores = []
        for strength in (0.0, 1.0):
            force_field.strengths.fill_(strength)
            scores.append(derivatives(lambda x, s: model.prior(x, s.exp()), y, log_sigma.expand(len(y)))[1])
        own, added = scores[0].detach(), (scores[1] - scores[0]).detach()
        missing = (x0 - y) / (2.0 * log_sigma).exp() - own
        fitted[k] = (added * missing).sum() / added.square().sum()
    entries = torch.arange(N_STRENGTHS)
    near = torch.exp(-0.5 * ((entries - entries.unsqueeze(1)) / STRENGTH_SMOOTHING).square())
    force_field.strengths.copy_((near @ fitted / near.sum(1)).clamp(0.0, 1.0))


def calibrate_levels(model: EnergyModel, x0: Tensor, generator: torch.Generator) -> None:
    """Fill the model's level table by BAR between neighbouring levels of noised data ``(n, n_atoms, 3)``.

    Level free energies that solve BAR's equation (Bennett 1976) are those that minimise the two-level
    classification loss at fixed energies, so training starts from the best constants for its prior.
    """
    low, high = model.log_sigma_range
    log_sigmas = torch.linspace(low, high, N_TABULATED_LEVELS)
    table = torch.zeros(N_TABULATED_LEVELS, dtype=torch.float64)
    model.level_table.zero_()
    upper = _noised(x0, log_sigmas[-1], generator)
    for k in range(N_TABULATED_LEVELS - 2, -1, -1):
        lower = _noised(x0, log_sigmas[k], generator)
        up = _difference(model, lower, log_sigmas[k + 1], log_sigmas[k])
        down = _difference(model, upper, log_sigmas[k], log_sigmas[k + 1])
        # bar returns F_{k+1} - F_k; a normalised energy is U - F up to a common constant.
        table[k] = table[k + 1] + _bar(up, down)
        upper = lower
    model.level_table.copy_(table)


def _noised(x0: Tensor, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
    return perturb(x0, log_sigma.exp().expand(len(x0)), generator)


def _difference(model: EnergyModel, x: Tensor, log_a: Tensor, log_b: Tensor) -> Tensor:
    """``U(x, a) - U(x, b)`` of the model without its table, float64."""
    with torch.no_grad():
        a, b = (model.prior(x, level.exp().expand(len(x))).double() for level in (log_a, log_b))
    return a - b


def _bar(forward: Tensor, reverse: Tensor) -> float:
    """Free-energy difference in kT from work values in both directions (pymbar)."""
    logging.getLogger("pymbar").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        from pymbar.other_estimators import bar

    return float(bar(forward.numpy(), reverse.numpy(), compute_uncertainty=False)["Delta_f"])
