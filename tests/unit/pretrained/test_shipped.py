"""Models that come with boltzgen: they fit their system, and commands use them only where asked to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from boltzgen import load_system
from boltzgen.config.schema import SystemSettings, Workflow
from boltzgen.ensemble.storage import load_ensemble
from boltzgen.errors import ConfigError
from boltzgen.model import load_model
from boltzgen.pretrained import shipped
from boltzgen.rundir.manifest import pretrained_run
from boltzgen.workflow.runner import run
from boltzgen.workflow.stage import Goal

NAME = "alanine_dipeptide_b"


def test_every_model_loads_and_knows_its_own_data(tmp_path: Path) -> None:
    """Held-out scores are better than those of its prior at every level, energies finite."""
    system = load_system("alanine_dipeptide")
    shipped.copy(NAME, data=tmp_path, model=tmp_path)
    model = load_model(tmp_path, system=system)
    data = load_ensemble(tmp_path / "ensemble.h5")
    x0 = torch.as_tensor(data.positions[data.resampled_indices(64, seed=0)])
    for sigma in (0.004, 0.02, 0.1, 0.5):
        level = torch.full((64,), sigma)
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
        y = x0 + sigma * (noise - noise.mean(1, keepdim=True))
        errors = []
        for scale in (1.0, 0.0):
            for layer in model.layers:
                layer.energy.weight.data *= scale  # type: ignore[operator, union-attr]
            u, score = model.energy_and_score(y, level.log())
            errors.append(float((y + sigma**2 * score - x0).square().mean()))
            assert bool(u.isfinite().all())
        assert errors[0] < errors[1]
        model = load_model(tmp_path, system=system)


def test_size_on_disk() -> None:
    for name in shipped.available():
        assert sum(path.stat().st_size for path in (shipped.ROOT / name).iterdir()) < 2_000_000


def test_a_model_of_another_system_or_temperature_is_refused() -> None:
    system = load_system("alanine_dipeptide")
    with pytest.raises(ConfigError, match="no model nowhere"):
        shipped.check_fits("nowhere", system.name, system.temperature_k)
    for other in (
        load_system("alanine_dipeptide", {"hamiltonian": "C"}),
        replace(system, temperature_k=310.0),
    ):
        with pytest.raises(ConfigError, match="is a model of alanine_dipeptide/B at 300 K"):
            shipped.check_fits(NAME, other.name, other.temperature_k)


@pytest.mark.parametrize(
    ("changed", "pretrained_run", "expected"),
    [
        ([], None, NAME),
        (["sample.n_particles"], True, NAME),
        ([], False, None),
        (["train.minutes"], None, None),
        (["system"], None, None),
    ],
)
def test_which_commands_use_it(changed: list[str], pretrained_run: bool | None, expected: str | None) -> None:
    assert shipped.model_for("alanine_dipeptide", changed, pretrained_run) == expected
    assert shipped.model_for("lj13", changed, pretrained_run) is None
    for own in ("alanine_dipeptide.yaml", "runs/alanine_dipeptide/config.yaml", None):
        assert shipped.model_for(own, changed, pretrained_run) is None


def test_stages_take_the_shipped_files(tmp_path: Path) -> None:
    workflow = Workflow(name="a", system=SystemSettings(name="alanine_dipeptide"), pretrained=NAME)
    lines: list[str] = []
    run(workflow, tmp_path, tmp_path / "run", Goal("train"), log=lines.append)
    assert "comes with boltzgen" in lines[0] and "comes with boltzgen" in lines[1]
    assert np.isfinite(load_ensemble(tmp_path / "run/data/ensemble.h5").reduced_energies).all()
    assert (tmp_path / "run/model/energy.safetensors").exists()
    assert pretrained_run(tmp_path / "run") is True
    lines.clear()
    run(workflow, tmp_path, tmp_path / "run", Goal("train"), log=lines.append)
    assert all("skipped" in line for line in lines)
