"""Dynamics in processes of their own: what they leave, and that none outlives the run that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from boltzgen.config.schema import SimulateSettings
from boltzgen.runtime.context import Context
from boltzgen.simulate.stage import simulate
from boltzgen.system.registry import load_system


@pytest.mark.parametrize("platform", ["Reference", "batched"])
def test_several_runs_make_islands(platform: str, tmp_path: Path) -> None:
    settings = SimulateSettings(
        n_runs=2,
        n_temperatures=2,
        friction_per_ps=5.0,
        equilibration_ps=1.0,
        production_ps=5.0,
        frame_interval_ps=0.1,
        n_replicas=10,
    )
    told: list[tuple[float, float, str]] = []
    resume = tmp_path / "resume"
    context = Context(1, on_progress=lambda *a: told.append(a), checkpoints=resume)
    run = simulate(load_system("harmonic_dimer"), settings, context, platform)
    assert run.islands is not None and run.lineages is not None
    n_islands = 40 if platform == "batched" else 2  # replicas at both temperatures of each run, or the runs
    half = 100 if platform == "batched" else 50
    np.testing.assert_array_equal(run.islands, np.repeat(np.arange(n_islands), 2 * half // n_islands))
    assert not set(run.lineages[:half]) & set(run.lineages[half:])
    assert not np.array_equal(run.positions[:half], run.positions[half:])
    assert told and "swap acceptance" in told[-1][2]
    assert all(0 <= done <= total for done, total, _ in told)
    assert sorted(path.name for path in resume.iterdir()) == ["run_0.pt", "run_1.pt"]
    (resume / "run_1.pt").unlink()
    before = (resume / "run_0.pt").stat().st_mtime_ns
    again = simulate(load_system("harmonic_dimer"), settings, context, platform)
    np.testing.assert_array_equal(again.positions, run.positions)
    assert (resume / "run_0.pt").stat().st_mtime_ns == before


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_run(tmp_path: Path, how: signal.Signals) -> None:
    script = tmp_path / "endless.py"
    script.write_text(
        textwrap.dedent("""
        from boltzgen.config.schema import SimulateSettings
        from boltzgen.runtime.context import Context
        from boltzgen.system.registry import load_system
        from boltzgen.simulate.stage import simulate

        if __name__ == "__main__":
            settings = SimulateSettings(method="langevin", production_ps=1e6)
            tell = lambda done, total, message: print("running", flush=True)
            simulate(load_system("harmonic_dimer"), settings, Context(on_progress=tell), "Reference")
        """)
    )
    command = [sys.executable, str(script)]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if how == signal.SIGINT:  # Ctrl-C reaches every process, a kill only the one that it names
            os.killpg(process.pid, how)
        else:
            process.kill()
        assert process.wait(timeout=20) != 0
    deadline = time.monotonic() + 20
    while (left := members_of_session(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def members_of_session(session: int) -> list[int]:
    """Living processes whose session id is ``session``."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getsid(int(entry.name)) == session:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                found += [int(entry.name)] if state != "Z" else []
        except OSError:
            continue
    return found
