"""Runs that are killed at any moment of any stage finish after a restart, with the files of a whole run."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from boltzgen.config.load import load_workflow
from boltzgen.ensemble.storage import load_ensemble
from boltzgen.workflow.runner import run
from boltzgen.workflow.stages import NAMES

TINY = {
    "name": "tiny",
    "device": "cpu",
    "system": {"name": "harmonic_dimer"},
    "simulate": {"method": "langevin", "n_runs": 3, "equilibration_ps": 2, "production_ps": 60},
    "model": {"n_layers": 1, "n_channels": 4, "n_radial": 4, "hidden": 16},
    "train": {"steps": 60, "batch_size": 16, "compile": "never", "consistency_paths": 16},
    "sample": {"n_particles": 96, "n_islands": 3, "n_levels": 30, "n_pilot": 32, "n_forward": 32},
    "analyze": {"n_bootstrap": 10},
    "export": {"n_resampled": 4000, "formats": ["xtc", "pdb"]},  # long enough to be killed in
}
SCRIPT = """
from boltzgen.cli.app import main
from boltzgen.train import checkpoint

checkpoint.CHECKPOINT_STEPS = 20  # instead of 200: a training long enough for those takes half a minute
main()
"""
COMMAND = [sys.executable, "-c", SCRIPT, "run", "tiny.yaml", "--out"]
ON_THE_CLOCK = ("time on target energies", "sampling time")
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}  # sums over two have other last digits


def start(home: Path, out: str, *arguments: str) -> subprocess.Popen[str]:
    """``boltzgen run`` in the background, its standard error in ``out.log``."""
    (home / "tiny.yaml").write_text(json.dumps(TINY))
    with (home / f"{out}.log").open("w") as log:
        return subprocess.Popen(
            [*COMMAND, out, *arguments],
            cwd=home,
            env=ONE_THREAD,
            stdout=subprocess.DEVNULL,
            stderr=log,
            text=True,
            start_new_session=True,
        )


def finish(home: Path, out: str, *arguments: str) -> str:
    """The same to its end; what it said."""
    process = start(home, out, *arguments)
    code = process.wait(timeout=600)
    said = (home / f"{out}.log").read_text()
    assert code == 0 and "Traceback" not in said, said
    return said


def kill_during(
    home: Path, out: str, stage: str, seconds: float, group: bool, *arguments: str, after: Path | None = None
) -> bool:
    """Kill a run ``seconds`` after a stage began, or there is a file; whether it was still at work."""
    process = start(home, out, *arguments)
    log = home / f"{out}.log"
    deadline = time.monotonic() + 300

    def begun() -> bool:
        return after.exists() if after else f"{stage}: running" in log.read_text()

    while not begun() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(seconds)
    at_work = process.poll() is None
    if at_work:  # a kill reaches one process; a machine that goes down, all of them
        os.killpg(process.pid, signal.SIGKILL) if group else process.kill()
    process.wait(timeout=60)
    return at_work


def content(out: Path) -> dict[str, object]:
    """Everything of a run that should not depend on the clock."""
    found: dict[str, object] = {}
    for name in ("data", "samples"):
        ensemble = load_ensemble(out / name / "ensemble.h5")
        for key in ("positions", "log_weights", "reduced_energies", "lineages", "islands"):
            values = getattr(ensemble, key)
            found[f"{name} {key}"] = None if values is None else np.asarray(values).tobytes()
        found[f"{name} log_z"] = ensemble.log_z
    for path in (
        *out.glob("model/**/energy.*"),
        out / "model" / "level_consistency.json",
        *out.glob("export/**/*"),
    ):
        if path.is_file() and path.suffix != ".pdb":  # whose header tells the day
            found[str(path.relative_to(out))] = path.read_bytes()
    with (out / "model" / "metrics.csv").open(newline="") as stream:
        rows = [{**row, "minutes": 0, "configurations_per_s": 0} for row in csv.DictReader(stream)]
    found["metrics"] = rows
    results = json.loads((out / "results" / "results.json").read_text())
    found["results"] = [row for row in results["rows"] if row["quantity"] not in ON_THE_CLOCK]
    found["files"] = sorted(str(path.relative_to(out)) for path in out.rglob("*"))
    return found


def differences(a: dict[str, object], b: dict[str, object]) -> list[str]:
    return [name for name in a.keys() | b.keys() if a.get(name) != b.get(name)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a run that nobody interrupted, ``whole``."""
    home = tmp_path_factory.mktemp("kill")
    (home / "tiny.yaml").write_text(json.dumps(TINY))
    settings, base = load_workflow(str(home / "tiny.yaml"))
    run(settings, base, home / "whole", log=lambda line: None)
    return home


def check_kill(home: Path, stage: str, number: int) -> None:
    """Kill one run at a random moment of a stage, start it again, and compare what it leaves."""
    random = np.random.default_rng([NAMES.index(stage), number])
    whole, name = home / "whole", f"{stage}_{number}"
    lasts = json.loads((whole / "manifest.json").read_text())["stages"][stage]["seconds"]
    seconds = float(random.uniform(0.0, lasts))
    group, fresh = bool(random.integers(2)), stage == "simulate"
    if not fresh:
        shutil.copytree(whole, home / name)
    at_work = kill_during(home, name, stage, seconds, group, *([] if fresh else ["--force", stage]))
    said = finish(home, name)
    redone = [line.split(",")[0] for line in said.splitlines() if ": running" in line]
    print(f"{stage} {number}: killed {seconds:.2f} of {lasts:.2f} s in, at work: {at_work}; then {redone}")
    assert not differences(content(home / name), content(whole))
    shutil.rmtree(home / name)


def test_a_killed_run_ends_as_a_whole_one(home: Path) -> None:
    """Killed after its first checkpoint."""
    shutil.copytree(home / "whole", home / "again")
    checkpoint = home / "again" / "resume" / "train" / "last.ckpt"
    assert kill_during(home, "again", "train", 0.0, True, "--force", "train", after=checkpoint)
    assert checkpoint.exists() and "train: running (resuming)" in finish(home, "again")
    assert not differences(content(home / "again"), content(home / "whole"))
    shutil.rmtree(home / "again")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("stage", NAMES)
def test_kills_at_random_moments_of_every_stage(home: Path, stage: str, number: int) -> None:
    check_kill(home, stage, number)


@pytest.mark.slow
def test_the_same_settings_give_the_same_run(home: Path) -> None:
    """From the record of the run, elsewhere, in a process of its own."""
    replay = ["-c", "from boltzgen.cli.app import main; main()", "run", "whole/config.yaml", "--out", "again"]
    subprocess.run(
        [sys.executable, *replay], cwd=home, env=ONE_THREAD, check=True, capture_output=True, timeout=600
    )
    assert not differences(content(home / "again"), content(home / "whole"))
