"""The command line: every plain mistake gets one line, exit status 2, no traceback, and writes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from boltzgen import __version__
from boltzgen.workflow import runner as workflow

Command = Callable[..., Any]


def in_a_process(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from boltzgen.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=100)


def refused(command: Command, directory: Path, *arguments: str) -> str:
    before = sorted(directory.rglob("*"))
    result = command(directory, *arguments)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("boltzgen: "), result.stderr
    assert sorted(directory.rglob("*")) == before
    return lines[0]


def test_help_and_version_are_quick_and_import_no_engine(tmp_path: Path) -> None:
    code = "import sys, boltzgen, boltzgen.cli; print([m for m in ('torch', 'openmm') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
    assert in_a_process(tmp_path, "--version").stdout.strip() == f"boltzgen {__version__}"
    assert "boltzgen run alanine_dipeptide" in in_a_process(tmp_path, "--help").stdout


def test_without_arguments_there_is_help(tmp_path: Path) -> None:
    result = in_a_process(tmp_path)
    assert "Usage: boltzgen" in result.stdout + result.stderr and "Traceback" not in result.stderr


def test_what_is_refused_ends_the_process(tmp_path: Path) -> None:
    """Before an engine greets, and after they are imported."""
    assert "did you mean harmonic_dimer?" in refused(in_a_process, tmp_path, "run", "harmonic_dimr")
    override = "system.parameters.stifness=3"
    line = refused(in_a_process, tmp_path, "run", "harmonic_dimer", "--set", override)
    assert "did you mean stiffness?" in line


def test_lists(boltzgen: Command, tmp_path: Path) -> None:
    assert "harmonic_dimer" in boltzgen(tmp_path, "workflows").stdout
    assert "alanine_dipeptide" in boltzgen(tmp_path, "systems").stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run"], "WORKFLOW: none given"),
        (["run", "harmonic_dimr"], "did you mean harmonic_dimer?"),
        (["run", "nowhere.yaml"], "nowhere.yaml: no such workflow file"),
        (["run", "--system", "lj14"], "did you mean lj13?"),
        (["run", "--system", "nowhere.py"], "nowhere.py: no such file"),
        (["run", "lj13", "--set", "train.setps=3"], "train.setps: unknown key; did you mean train.steps?"),
        (
            ["run", "harmonic_dimer", "--set", "analyze.observables=[compute_rgg]"],
            "compute_rgg: no function of a trajectory in MDTraj; did you mean compute_rg?",
        ),
        (
            ["run", "harmonic_dimer", "--set", "analyze.observables=[compute_gyration_tensor]"],
            "returns an array of float64 with shape (2, 3, 3); a number or a vector for each of 2 frames",
        ),
        (["run", "lj13", "--set", "data.trajectory=[none.dcd]"], "data.trajectory[0]: no file"),
        (["run", "harmonic_dimer", "--set", "system.parameters.temperature_k=-300"], "temperature_k"),
        (["run", "harmonic_dimer", "--set", "system.parameters.temperature_k=hot"], "system.parameters"),
        (["run", "harmonic_dimer", "--set", "system.parameters.stifness=3"], "did you mean stiffness?"),
        (["run", "lj13", "--seed", "-1"], "seed"),
        (["run", "lj13", "--seed", "one"], "invalid value for '--seed'"),
        (["run", "lj13", "--forc", "sample"], "no such option: --forc"),
        (["run", "lj13", "--force"], "option '--force' requires an argument"),
        (["run", "lj13", "--force", "smaple"], "--force smaple: no such stage"),
        (["train", "lj13", "--force", "sample"], "--force sample: this command ends with train"),
        (["run", "lj13", "lj55"], "unexpected extra argument"),
        (["rum"], "no such command 'rum'"),
        (["export", "lj13", "--n", "0"], "export.n_resampled"),
        (["export", "lj13", "--select", "elephant"], "export.select"),
        (["check"], "WORKFLOW: none given"),
        (["report"], "missing argument 'RUN...'"),
        (["train", "lj13", "--out", "file/run"], "file is a file"),
        (["run", "lj13", "--out", "full"], "is no run directory"),
    ],
)
def test_plain_mistakes(boltzgen: Command, tmp_path: Path, arguments: list[str], expected: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    assert expected in refused(boltzgen, tmp_path, *arguments)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: [\n", "mine.yaml, line"),
        ("", "mine.yaml: is empty"),
        ("name: mine\nsystem: {name: lj13}\nsimulate: {timestep_fs: 0}\n", "mine.yaml: simulate.timestep_fs"),
    ],
)
def test_bad_workflow_files(boltzgen: Command, tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    assert expected in refused(boltzgen, tmp_path, "run", "mine.yaml")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_cuda(boltzgen: Command, tmp_path: Path) -> None:
    assert "--device cpu" in refused(boltzgen, tmp_path, "run", "lj13", "--device", "cuda")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_directory(boltzgen: Command, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert "cannot write" in refused(boltzgen, tmp_path, "run", "lj13", "--out", "closed/run")


def test_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from boltzgen.cli import main

    def interrupted(*arguments: object, **options: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(workflow, "run", interrupted)
    monkeypatch.setattr(sys, "argv", ["boltzgen", "run", "lj13", "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 130
    assert capsys.readouterr().err.splitlines() == [
        "boltzgen: stopped; finished stages are kept, run the same command to continue"
    ]


def test_options_of_export_are_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from boltzgen.cli import main

    calls = []
    monkeypatch.setattr(workflow, "run", lambda *arguments, **options: calls.append(arguments))
    monkeypatch.chdir(tmp_path)
    options = ["--n", "7", "--select", "not element H", "--align", "name C", "--stride", "3"]
    monkeypatch.setattr(sys, "argv", ["boltzgen", "export", "lj13", *options])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    settings = calls.pop()[0].export
    assert (settings.n_resampled, settings.stride) == (7, 3)
    assert (settings.select, settings.align) == ("not element H", "name C")


def test_system_option_replaces_system_and_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from boltzgen.cli import main

    calls = []
    monkeypatch.setattr(workflow, "run", lambda *arguments, **options: calls.append(arguments))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").touch()
    for arguments in (["--system", "mine.py"], ["alanine_dipeptide", "--system", "mine.py"]):
        monkeypatch.setattr(sys, "argv", ["boltzgen", "sample", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 0
        settings, _, out, goal = calls.pop()
        assert settings.system.name == str(tmp_path.resolve() / "mine.py")
        assert settings.system.parameters == {}
        assert (out, goal.until, goal.force) == (Path("runs/mine"), "sample", ())
