"""A finished run of the five-particle chain, written in a moment: every file that a report reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from helpers.chain import chain_ensemble, chain_system

from boltzgen.analyze.stage import analyze, write_results
from boltzgen.config.schema import AnalyzeSettings, SystemSettings, Workflow
from boltzgen.ensemble.storage import save_ensemble
from boltzgen.system.molecular_system import MolecularSystem

SETTINGS = AnalyzeSettings(n_bootstrap=30, n_bins=18, max_transport_samples=100)


def diagnostics() -> dict[str, Any]:
    """What a sampler says of a run without trouble."""
    sigmas = np.geomspace(2.0, 0.003, 12).tolist()
    populations = {"phi_positive": 0.3, "phi_negative": 0.7}
    return {
        "log_z": -191.9,
        "log_z_error": 0.21,
        "kish_ess_fraction": 0.12,
        "pareto_k": 0.41,
        "genealogical_ess": 310.0,
        "jeffreys": 2.5,
        "n_ancestors": 420,
        "ancestors_per_state": {"phi_positive": 44, "phi_negative": 376},
        "z_domain": "both hands of the molecule",
        "levels": [
            {"sigma": s, "ess": 0.9 - 0.03 * k, "resampled": k == 5, "acceptance": 0.8 if k > 6 else None}
            for k, s in enumerate(sigmas)
        ],
        "paths": [
            {
                "sigma": s,
                "sd_log_w": 0.1 + 0.2 * k,
                "sd_log_w_forward": 0.1 + 0.15 * k,
                "ess": 0.8,
                "jeffreys": 0.05 * k**2,
                "bar_log_z_gap": 0.02 * k,
                "populations": populations,
                "data_populations": {"phi_positive": 0.25, "phi_negative": 0.75},
            }
            for k, s in enumerate(sigmas)
        ],
        "verdict": {"level": "trusted", "reasons": ["every check passed"]},
    }


def write_metrics(path: Path) -> Path:
    """A training log with noise bands."""
    lines = ["step,minutes,dsm,level_loss,dsm_0.01nm,dsm_0.1nm,held_out_level_loss"]
    lines += [f"{s},{s / 60},{1 / (s + 1)},{2 / (s + 1)},0.5,{'' if s % 2 else 0.3},0.4" for s in range(20)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_run(
    directory: Path,
    system: MolecularSystem | None = None,
    p_model: float = 0.3,
    found: dict[str, Any] | None = None,
    trained: bool = True,
    n_samples: int = 600,
    **settings: Any,
) -> Path:
    """Write the files of a run; ``settings`` go into config.yaml, ``found`` are the diagnostics."""
    system = system or chain_system()
    samples = chain_ensemble(
        n_samples, seed=1, p_positive=p_model, proposal=0.5 if p_model > 1e-6 else p_model
    )
    reference = chain_ensemble(1500, seed=2, p_positive=0.3)
    for name in ("data", "model", "samples"):
        (directory / name).mkdir(parents=True)
    save_ensemble(
        replace(samples, log_z=-191.9), system.mdtraj_topology, directory / "samples" / "ensemble.h5"
    )
    save_ensemble(reference, system.mdtraj_topology, directory / "data" / "ensemble.h5")
    if trained:
        write_metrics(directory / "model" / "metrics.csv")
    found = diagnostics() if found is None else found
    write_results(analyze(system, samples, reference, found, SETTINGS, 0), directory / "results")
    workflow = Workflow(name="chain", system=SystemSettings(name="chain"), **settings)
    (directory / "config.yaml").write_text(
        yaml.safe_dump(workflow.model_dump(mode="json", exclude={"quick"}), sort_keys=False)
    )
    (directory / "manifest.json").write_text(json.dumps(manifest()))
    return directory


def manifest() -> dict[str, Any]:
    """The record of a run whose stages took a minute each."""
    stages = {}
    for k, name in enumerate(("simulate", "train", "sample", "analyze", "export")):
        stages[name] = {
            "inputs": {"the system": f"{k:016x}"},
            "finished": f"2026-03-01T10:0{k}:00.000000+00:00",
            "seconds": 60.0 + k,
        }
    stages["analyze"]["inputs"] = {"the samples": stages["sample"]["finished"]}
    versions = {"boltzgen-diffclf": "0.1.0", "torch": "2.13.0"}
    return {"stages": stages, "versions": versions, "python": "3.11.7", "machine": "Linux x86_64", "seed": 0}
