"""A user's own molecule and trajectory: PDB and DCD in, weighted samples and trajectories out."""

from __future__ import annotations

from pathlib import Path

import mdtraj
import numpy as np
import pytest
import yaml
from openmm import app

from boltzgen.config.load import load_workflow
from boltzgen.config.schema import SimulateSettings
from boltzgen.runtime.context import Context
from boltzgen.simulate.stage import simulate
from boltzgen.system.registry import load_system
from boltzgen.workflow.runner import run
from boltzgen.workflow.stages import STAGES

FORCE_FIELD = ["amber99sbildn.xml", "amber99_obc.xml"]


@pytest.fixture
def workflow_file(tmp_path: Path) -> Path:
    """What a user brings: a PDB file, a DCD file, and a workflow that names them."""
    system = load_system("alanine_dipeptide")
    with (tmp_path / "my.pdb").open("w") as stream:
        app.PDBFile.writeFile(system.topology, system.positions * 10.0, stream)
    short = SimulateSettings(
        method="langevin", n_runs=1, equilibration_ps=1.0, production_ps=6.0, frame_interval_ps=0.1
    )
    data = simulate(system, short, Context(0))
    topology = mdtraj.Topology.from_openmm(system.topology)
    mdtraj.Trajectory(data.positions, topology).save_dcd(str(tmp_path / "run.dcd"))
    document = {
        "name": "mine",
        "system": {
            "name": "molecule",
            "parameters": {
                "pdb": "my.pdb",
                "forcefield": FORCE_FIELD,
            },
        },
        "collective_variables": {"phi": {"kind": "torsion", "atoms": [4, 6, 8, 14]}},
        "states": {
            "positive": {"cv": "phi", "intervals": [[0.0, 2.0]]},
            "negative": {"cv": "phi", "intervals": [[-3.1416, 0.0], [2.0, 3.1416]]},
        },
        "data": {"trajectory": ["run.dcd"], "skip_frames": 2},
        "model": {"n_layers": 1, "n_channels": 4, "n_radial": 4, "hidden": 16},
        "train": {"steps": 3, "batch_size": 8, "compile": "never", "consistency_paths": 4},
        "sample": {
            "n_particles": 16,
            "n_islands": 2,
            "n_levels": 12,
            "n_pilot": 16,
            "n_forward": 16,
            "chunk_size": 16,
            "bridge_cess": 0.3,
        },
        "analyze": {"n_bootstrap": 10},
        "export": {"n_resampled": 8},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_own_molecule_and_trajectory_run_to_the_end(workflow_file: Path, tmp_path: Path) -> None:
    workflow, base = load_workflow(str(workflow_file))
    out, said = tmp_path / "run", []
    results = run(workflow, base, out, log=said.append)
    assert results is not None
    assert {"log Z", "Delta F", "E-W2"} <= {row["quantity"] for row in results["rows"]}
    assert results["n_reference"] == 58
    lines = [line for line in said if not line.startswith("warning: the data never visit the state positive")]
    assert len(lines) == len(STAGES) == len(said) - 1
    exported = mdtraj.load(str(out / "export" / "resampled.dcd"), top=str(out / "export" / "topology.pdb"))
    assert exported.xyz.shape == (8, 22, 3)
    assert np.isfinite(exported.xyz).all()
    again: list[str] = []
    run(workflow, base, out, log=again.append)
    assert all("skipped" in line for line in again)
