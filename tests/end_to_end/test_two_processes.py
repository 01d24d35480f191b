"""Two processes at work on one run: the same ensemble as one gives, and nothing lost when one is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from boltzgen import load_run
from boltzgen.config.load import load_workflow
from boltzgen.ensemble.storage import load_ensemble
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.systems import harmonic
from boltzgen.workflow.runner import run
from boltzgen.workflow.stage import Goal

WORKFLOW = """
name: tiny
device: cpu
system: {name: harmonic_dimer}
simulate: {method: langevin, n_runs: 2, equilibration_ps: 5, production_ps: 100, frame_interval_ps: 0.05}
model: {n_layers: 1, n_channels: 4, n_radial: 4, hidden: 16}
train: {steps: 100, batch_size: 64, compile: never, minutes: null, consistency_paths: 0}
sample: {n_particles: 512, n_islands: 2, n_levels: 40, n_pilot: 64, n_forward: 64}
export: {formats: [xtc], n_resampled: 16}
"""


def start(directory: Path, *options: str, command: str = "run") -> subprocess.Popen[str]:
    workflow = directory.parent / "tiny.yaml"
    workflow.write_text(WORKFLOW)
    return subprocess.Popen(
        [sys.executable, "-m", "boltzgen", command, str(workflow), "--out", str(directory), *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str], expected: int = 0) -> str:
    """What it said on standard error."""
    _, said = process.communicate(timeout=600)
    assert process.returncode == expected, said
    assert "Traceback" not in said
    return said


def same(a: WeightedEnsemble, b: WeightedEnsemble) -> bool:
    return np.array_equal(a.positions, b.positions) and np.array_equal(a.log_weights, b.log_weights)


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two") / "run"
    finished(start(out, "--devices", "2"))
    return out


def test_two_processes_give_the_ensemble_that_one_gives(of_two: Path, tmp_path: Path) -> None:
    """The same MD and, given the network, the same samples, which give the closed form."""
    one = tmp_path / "run"
    settings, base = load_workflow(str(of_two.parent / "tiny.yaml"))
    run(settings, base, one, Goal("simulate"), log=lambda line: None)
    assert same(*(load_ensemble(out / "data" / "ensemble.h5") for out in (of_two, one)))
    again = tmp_path / "again"
    shutil.copytree(of_two, again)
    said = finished(start(again, "--force", "sample", command="sample"))
    assert "train: skipped" in said and "sample: running" in said
    assert same(*(load_ensemble(out / "samples" / "ensemble.h5") for out in (of_two, again)))
    check_log_z(of_two)


def check_log_z(out: Path) -> None:
    samples, exact = load_run(out).samples, harmonic.dimer_log_z(10000.0, 0.2)
    assert samples.log_z is not None and samples.log_z_error is not None
    assert samples.log_z_error < 0.1
    assert abs(samples.log_z - exact) < 3.5 * samples.log_z_error


@pytest.mark.slow
def test_losses_of_two_processes_are_those_of_one(of_two: Path, tmp_path: Path) -> None:
    """And a training of its own gives the same log Z."""
    one = tmp_path / "run"
    finished(start(one))
    check_log_z(one)
    last = []
    for out in (of_two, one):
        header, *rows = (out / "model" / "metrics.csv").read_text().splitlines()
        assert len(rows) == 5
        values = dict(zip(header.split(","), map(float, rows[-1].split(",")), strict=True))
        last.append((values["held_out_dsm"], values["held_out_level_loss"]))
    # 256 held-out configurations in either; the losses of untrained networks are about 1 and 0.69.
    assert last[0] == pytest.approx(last[1], abs=0.08)


@pytest.mark.slow
def test_a_killed_process_ends_the_run_which_can_go_on(of_two: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(of_two, out)
    process = start(out, "--devices", "2", "--set", "train.steps=100000")
    second = rank_one(process, out / "model" / "metrics.csv")
    killed = time.monotonic()
    second.send_signal(signal.SIGKILL)
    said = finished(process, expected=1)
    assert time.monotonic() - killed < 30
    assert "process 1 was killed by SIGKILL" in said and "run the same command" in said
    assert "train: running" in finished(start(out, "--devices", "2"))


def rank_one(process: subprocess.Popen[str], log: Path) -> psutil.Process:
    """The second of its processes, once training has written to its log."""
    deadline = time.monotonic() + 300
    before = log.stat().st_mtime
    while time.monotonic() < deadline:
        if log.exists() and log.stat().st_mtime > before:
            children = psutil.Process(process.pid).children()
            return next(child for child in children if child.environ().get("RANK") == "1")
        time.sleep(0.1)
    raise AssertionError("training has not begun")


def test_numbers_of_processes_that_cannot_be(tmp_path: Path) -> None:
    cases = {
        ("--devices", "3"): "train.batch_size: 64 cannot be shared by 3 processes",
        (
            "--devices",
            "2",
            "--nodes",
            "2",
        ): "--nodes 2: one process alone cannot start those of other nodes; start it on every node",
    }
    for options, message in cases.items():
        assert message in finished(start(tmp_path / "run", *options), expected=2)
        assert not (tmp_path / "run").exists()
