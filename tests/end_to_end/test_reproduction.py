"""The record of a run makes the same run again: data, network and samples, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from boltzgen.config.load import load_workflow
from boltzgen.ensemble.storage import load_ensemble
from boltzgen.workflow.runner import run

SMALL = [
    "simulate={n_runs: 1, n_temperatures: 2, equilibration_ps: 1, production_ps: 10}",
    "model={n_layers: 1, n_channels: 4, n_radial: 4, hidden: 8}",
    "train={steps: 30, batch_size: 8, consistency_paths: 8}",
    "sample={n_particles: 32, n_islands: 2, n_levels: 15, n_pilot: 16, n_forward: 16}",
    "analyze={n_bootstrap: 4, n_bins: 6}",
    "export={n_resampled: 8, formats: [xtc]}",
]


def made(out: Path) -> dict[str, bytes]:
    """Data, parameters of both networks and samples, as bytes."""
    found = {path.name: path.read_bytes() for path in (out / "model").glob("energy.*")}
    found |= {f"last {path.name}": path.read_bytes() for path in (out / "model" / "last").iterdir()}
    for name in ("data", "samples"):
        ensemble = load_ensemble(out / name / "ensemble.h5")
        for key in ("positions", "log_weights", "reduced_energies"):
            found[f"{name} {key}"] = np.asarray(getattr(ensemble, key)).tobytes()
    return found


def test_the_record_makes_the_same_run_again(tmp_path: Path) -> None:
    for out, source, changes in (
        ("first", "harmonic_dimer", SMALL),
        ("again", str(tmp_path / "first" / "config.yaml"), []),
    ):
        settings, base = load_workflow(source, changes, device="cpu")
        run(settings, base, tmp_path / out, log=lambda line: None)
    first, again = made(tmp_path / "first"), made(tmp_path / "again")
    assert len(first) == 10 and first.keys() == again.keys()
    assert [name for name in first if again[name] != first[name]] == []
    manifests = [json.loads((tmp_path / out / "manifest.json").read_text()) for out in ("first", "again")]
    assert manifests[0]["recorded"] == manifests[1]["recorded"]
    assert set(manifests[0]["recorded"]) == {"train_steps", "compile", "platform"}
