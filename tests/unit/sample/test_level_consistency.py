"""Level consistency: an energy that is exact passes, one whose levels disagree does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from boltzgen import load_system
from boltzgen.config.schema import ModelSettings
from boltzgen.geometry import zero_centroid_noise
from boltzgen.model.energy import EnergyModel
from boltzgen.report.pictures import level_consistency
from boltzgen.sample.level_consistency import consistency_curves, level_offsets, write_level_consistency
from boltzgen.system.collective_variables import CollectiveVariable, State
from boltzgen.system.molecular_system import MolecularSystem


@pytest.fixture(scope="module")
def system() -> MolecularSystem:
    base = load_system("harmonic_chain", {"n": 4})
    size = CollectiveVariable("r03", "distance", (0, 3))
    states = (State("near", size, ((0.0, 0.3),)), State("far", size, ((0.3, 50.0),)))
    return MolecularSystem(
        base.name, base.topology, base.openmm_system, base.positions, base.temperature_k,
        collective_variables=(size,), states=states,
    )  # fmt: skip


def gaussian_data(n: int) -> torch.Tensor:
    return 0.2 * zero_centroid_noise((n, 4, 3), torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model(system: MolecularSystem) -> EnergyModel:
    """Its prior alone, which is exact for Gaussian data."""
    small = ModelSettings(prior="none", n_channels=2, hidden=8)
    return EnergyModel.from_data(system, gaussian_data(50_000), small)


def curves_of(model: EnergyModel, system: MolecularSystem, slope: float) -> dict[str, object]:
    """Curves of an energy whose score is ``slope`` times what it should be."""

    def network(x: torch.Tensor, log_sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        u, score = model.energy_and_score(x, log_sigma)
        return u, slope * score

    return consistency_curves(system, model, network, gaussian_data(500), n_levels=120)


def test_exact_energies_agree_at_every_level(
    model: EnergyModel, system: MolecularSystem, tmp_path: Path
) -> None:
    curves = curves_of(model, system, 1.0)
    rows = curves["paths"]
    assert isinstance(rows, list)
    assert max(row["sd_log_w"] for row in rows) < 0.6
    assert abs(float(np.mean([row["jeffreys"] for row in rows]))) < 0.3
    for row in rows[1:]:
        share, exact = row["populations"]["near"], row["data_populations"]["near"]
        assert abs(share - exact) < 3.5 * (2 * max(exact * (1 - exact), 2e-3) / 300) ** 0.5
    offsets = level_offsets(model, gaussian_data(50))
    assert level_consistency(rows, offsets, tmp_path / "level_consistency.png").stat().st_size > 10_000


def test_scores_that_do_not_fit_the_energies_are_seen(model: EnergyModel, system: MolecularSystem) -> None:
    curves = curves_of(model, system, 0.7)
    assert float(curves["jeffreys"]) > 3.0  # type: ignore[arg-type]
    assert max(row["sd_log_w"] for row in curves["paths"]) > 1.0  # type: ignore[attr-defined]


@pytest.mark.parametrize("slope", [0.0, 0.4])
def test_offsets_are_the_constants_that_were_added(model: EnergyModel, slope: float) -> None:
    """Energies that are exact but for a constant of each level, here linear in log sigma."""
    high = model.log_sigma_range[1]

    class Shifted:
        spec, prior, log_sigma_range = model.spec, model.prior, model.log_sigma_range

        @staticmethod
        def energy(x: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
            return model.energy(x, log_sigma) + slope * (high - log_sigma)

    rows = level_offsets(Shifted, gaussian_data(400))  # type: ignore[arg-type]
    assert rows[0]["offset"] == 0.0
    for row in rows[1:]:
        exact = slope * (high - np.log(row["sigma"]))
        assert 0.0 < row["error"] < 0.25
        assert abs(row["offset"] - exact) < 4.0 * row["error"]


def test_what_the_training_stage_writes_of_them(
    model: EnergyModel, system: MolecularSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boltzgen.sample.level_consistency.CONSISTENCY_LEVELS", 10)
    curves = write_level_consistency(system, model, gaussian_data(20), tmp_path)
    stored = json.loads((tmp_path / "level_consistency.json").read_text())
    assert stored == json.loads(json.dumps(curves))
    assert len(stored["paths"]) == 11 and 0 < stored["kish_ess_fraction"] <= 1 and stored["offsets"]
