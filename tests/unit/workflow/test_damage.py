"""Files of a finished run that are cut short, emptied or overwritten: one line and exit status 2."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from boltzgen.cli import main
from boltzgen.config.load import load_workflow
from boltzgen.ensemble.storage import load_ensemble
from boltzgen.errors import DataError
from boltzgen.model import load_model
from boltzgen.workflow import runner as workflow
from boltzgen.workflow.stages import STAGES

TINY = [
    "simulate={method: langevin, n_runs: 1, equilibration_ps: 1, production_ps: 10}",
    "model={n_layers: 1, n_channels: 4, n_radial: 4, hidden: 8}",
    "train={steps: 6, batch_size: 8, compile: never, consistency_paths: 4}",
    "sample={n_particles: 16, n_islands: 1, n_levels: 4, n_pilot: 8, n_forward: 8, bridge_cess: 0.5}",
    "analyze={n_bootstrap: 4, n_bins: 6}",
    "export={n_resampled: 8, formats: [dcd], n_states: 0}",
]
OPTIONS = ["harmonic_dimer", "--device", "cpu", *(word for text in TINY for word in ("--set", text))]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("damage") / "run"
    settings, base = load_workflow("harmonic_dimer", TINY, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "_report", lambda out: None)
        patch.setattr("boltzgen.report.pictures.write_pictures", lambda run, directory: [])
        workflow.run(settings, base, out, log=lambda line: None)
    return out


@pytest.fixture(autouse=True)
def _undrawn(without_pictures: None) -> None:
    """Nothing here looks at a picture."""


def noise(content: bytes) -> bytes:
    return np.random.default_rng(0).bytes(len(content))


def overwritten(content: bytes) -> bytes:
    """A hole of zeros in the middle, as after a disk error."""
    third = len(content) // 3
    return content[:third] + bytes(third) + content[2 * third :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda content: b"",
    "halved": lambda content: content[: len(content) // 2],
    "all but the end": lambda content: content[:-3],
    "noise": noise,
    "overwritten": overwritten,
}
FILES = {
    "manifest.json": "export",
    "config.yaml": "export",
    "data/ensemble.h5": "train",
    "model/energy.safetensors": "sample",
    "model/energy.json": "sample",
    "samples/diagnostics.json": "analyze",
    "samples/ensemble.h5": "export",
    "results/results.json": "export",
}
"""Every file that a later stage reads, and a stage that does."""


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_damage_is_one_line(
    finished: Path,
    tmp_path: Path,
    name: str,
    damage: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    content = (out / name).read_bytes()
    (out / name).write_bytes(DAMAGES[damage](content))
    monkeypatch.setattr(sys, "argv", ["boltzgen", "run", *OPTIONS, "--out", str(out), "--force", FILES[name]])
    with pytest.raises(SystemExit) as caught:
        main()
    errors = capfd.readouterr().err
    lines = [line for line in errors.splitlines() if line.startswith("boltzgen: ")]
    assert "Traceback" not in errors
    if name == "config.yaml" and caught.value.code == 0:  # half of it still names the system
        assert lines == [] and damage in ("halved", "all but the end")
        return
    assert caught.value.code == 2 and len(lines) == 1, errors
    assert str(out / name) in lines[0]
    if "/" in name:
        writer = next(stage.name for stage in STAGES if name in stage.writes)
        assert f"--force {writer}`" in lines[0]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_repaired_by_what_the_line_says(
    finished: Path, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    path = out / "samples" / "diagnostics.json"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    monkeypatch.setattr(sys, "argv", ["boltzgen", "run", *OPTIONS, "--out", str(out), "--force", "sample"])
    if damage != "noise":  # one page is enough
        monkeypatch.setattr(workflow, "_report", lambda out: None)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0


def test_readers_do_not_rely_on_the_record(finished: Path, tmp_path: Path) -> None:
    """Ensembles and networks are opened without a run too."""
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    for damage in DAMAGES.values():
        for name, read in (("data/ensemble.h5", load_ensemble), ("model", load_model)):
            for path in (out / name).glob("energy.*") if name == "model" else [out / name]:
                content = path.read_bytes()
                path.write_bytes(damage(content))
                with contextlib.suppress(DataError):
                    read(out / name)
                path.write_bytes(content)
