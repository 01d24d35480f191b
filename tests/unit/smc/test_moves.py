"""Moves are found by their names, and one more is added without touching a file of ours."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from boltzgen.config import choices
from boltzgen.config.schema import SampleSettings
from boltzgen.diffusion.process import ZeroCentroidGaussian
from boltzgen.geometry import gaussian_log_density, remove_centroid
from boltzgen.smc.adaptation import Plan, plan_schedule
from boltzgen.smc.algorithm import run_smc, start
from boltzgen.smc.base import Level, Moves, Particles
from boltzgen.smc.levels import BridgeStart, Ends
from boltzgen.smc.moves import MOVES, register

VARIANCE = 0.04


class Walk:
    """Random-walk Metropolis: as a third party would write it."""

    def acceptance(self, moves: Moves) -> float:
        return 0.3

    def __call__(
        self, level: Level, particles: Particles, generator: torch.Generator
    ) -> tuple[Particles, float]:
        noise = torch.randn(particles.x.shape, generator=generator, dtype=particles.x.dtype)
        x = remove_centroid(particles.x + level.moves.step * noise)
        energies, gradients = level.evaluate(x)
        gain = ((particles.energies - energies) * torch.tensor(level.coefficients)).sum(1)
        accepted = torch.rand(len(x), generator=generator, dtype=torch.float64).log() < gain
        keep = accepted.view(-1, 1, 1)
        moved = replace(
            particles,
            x=torch.where(keep, x, particles.x),
            energies=torch.where(accepted.view(-1, 1), energies, particles.energies),
            gradients=torch.where(keep.unsqueeze(1), gradients, particles.gradients),
        )
        return moved, float(accepted.double().mean())


def test_a_move_is_added_by_one_registration() -> None:
    """The pilot run tunes its steps to the rate that it asks for, and the levels of a run use it."""
    with pytest.raises(ValidationError, match="it should be 'hmc'"):
        SampleSettings(move="walk")
    register("walk", Walk())
    try:
        settings = SampleSettings(move="walk", level_moves=2)
        plan = Plan(12, 64, settings.level_moves, 0.5, bridge_moves=2, move=settings.move)
        gaussian, g = ZeroCentroidGaussian.isotropic(4, VARIANCE), torch.Generator().manual_seed(0)

        def energy(x: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
            total = VARIANCE + (2.0 * log_sigma).exp()
            return -gaussian_log_density(x, total), -x / total.view(-1, 1, 1)

        def target(x: Tensor) -> tuple[Tensor, Tensor]:
            return x.square().sum((1, 2)) / (2 * VARIANCE), x / VARIANCE

        bridge_start = BridgeStart(energy, 0.02, target, lambda x: (x, torch.ones(len(x)).bool()))
        schedule = plan_schedule(
            Ends(gaussian, 2.0, energy, bridge_start),
            gaussian.sample(64, 0.0, g),
            lambda sigma: gaussian.level_information(torch.as_tensor(sigma)).numpy(),
            plan,
            g,
        )
        assert {moves.kind for moves in (*schedule.noise_moves, *schedule.bridge_moves)} == {"walk"}
        levels = [*schedule.noise_levels(energy, moving=True), *schedule.bridge_levels(bridge_start)]
        population = run_smc(start(energy, gaussian, 2.0, 256, g), levels, resample_below=0.5, generator=g)
    finally:
        del MOVES["walk"]
        choices.MOVE_NAMES.remove("walk")
    rates = [record["acceptance"] for record in population.history if "acceptance" in record]
    assert rates and 0.1 < sum(rates) / len(rates) < 0.7
    assert list(MOVES) == choices.MOVE_NAMES
