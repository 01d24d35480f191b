"""A small run through the command's own stages, opened again in Python."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest

import boltzgen.rundir.finished_run
from boltzgen import load_run
from boltzgen.config.load import load_workflow
from boltzgen.errors import DataError
from boltzgen.workflow.runner import run


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("home") / "runs" / "harmonic_dimer"
    small = ["train={steps: 60, consistency_paths: 8}", "model={n_channels: 4, n_radial: 4, hidden: 16}"]
    small += ["sample.n_levels=30"]
    settings, base = load_workflow("harmonic_dimer", small, quick=True, device="cpu")
    run(settings, base, path, log=lambda line: None)
    return path


def test_the_examples_of_its_documentation_hold(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory.parents[1])
    failed, tried = doctest.testmod(boltzgen.rundir.finished_run)
    assert tried >= 5 and failed == 0


def test_mdtraj_and_mdanalysis_get_the_same_configurations(directory: Path) -> None:
    opened = load_run(directory)
    frames = opened.to_mdtraj()
    np.testing.assert_allclose(frames.xyz, opened.samples.positions, atol=1e-6)
    universe = opened.to_mdanalysis()
    assert universe.atoms.names.tolist() == [atom.name for atom in frames.topology.atoms]
    positions = np.array([step.positions.copy() for step in universe.trajectory])
    np.testing.assert_allclose(positions, 10.0 * frames.xyz, atol=1e-5)
    assert opened.results["verdict"]["level"] in ("trusted", "caution", "not trusted")
    assert len(opened.reference) > 0


def test_a_directory_without_a_run_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a run directory"):
        load_run(tmp_path)
