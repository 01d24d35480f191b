"""``boltzgen doctor``: what it finds here, and what it says where something is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from boltzgen.cli import doctor
from boltzgen.cli import main as command
from boltzgen.cli.doctor import Finding


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No compiling."""
    monkeypatch.setattr(doctor, "_vectors", lambda: Finding("vector instructions", "avx2"))
    monkeypatch.setattr(doctor, "_compiler", lambda: Finding("C++ compiler", "/usr/bin/g++"))


def main(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(sys, "argv", ["boltzgen", "doctor"])
    with pytest.raises(SystemExit) as caught:
        command()
    return caught.value.code


def test_this_installation_is_usable(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(monkeypatch) == 0
    table = capsys.readouterr().out.splitlines()
    for name in ("Python", "boltzgen", "torch", "openmm", "mdtraj", "e3nn", "lightning", "CUDA", "cores"):
        assert any(line.startswith(f"{name} ") for line in table), name
    assert any("Reference" in line for line in table if line.startswith("OpenMM platforms"))
    assert any("/s written" in line for line in table if line.startswith("disk here"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_hides_a_standard_module(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "enum.py").touch()
    (tmp_path / "mine.py").touch()
    (tmp_path / "json").mkdir()
    (tmp_path / "queue").mkdir()
    (tmp_path / "queue" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    assert main(monkeypatch) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("shadowed")]
    assert "wrong" in line and "enum.py" in line and "queue" in line
    assert "mine.py" not in line and "json" not in line


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "IMPORTED", ("no_such_package",))
    monkeypatch.setattr(
        doctor, "_requirements", lambda: ["numpy>=1", "no-such-thing>=2; python_version > '3'"]
    )
    findings = list(doctor._packages())
    assert not doctor.usable(findings)
    told = "\n".join(doctor.lines(findings))
    assert "ModuleNotFoundError" in told and "pip install --force-reinstall no-such-package" in told
    assert "pip install no-such-thing" in told and "numpy" not in told


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_no_compiler_is_a_note(monkeypatch: pytest.MonkeyPatch, compiler: str) -> None:
    monkeypatch.setenv("CXX", compiler)
    finding = doctor._compiler()
    assert finding.status == "note" and "g++" in finding.advice and doctor.usable([finding])


def test_the_compiler_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    finding = doctor._compiler()
    if finding.status != "ok":
        pytest.skip(finding.found)
    assert Path(finding.found).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert doctor._disk(closed).status == "note"


def test_it_starts_where_an_engine_is_missing(tmp_path: Path) -> None:
    """Which is what it is for: its own imports are of the standard library and what settings need."""
    code = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'openmm', 'e3nn', 'torch_geometric', 'mdtraj'));"
        "import boltzgen.cli.doctor"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
