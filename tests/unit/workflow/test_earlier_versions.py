"""What earlier versions left: finished runs and networks are read, interrupted runs are told in a line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from boltzgen import MolecularSystemError, free_energy_difference, load_run, load_system
from boltzgen.config.load import load_workflow
from boltzgen.config.renamed import current_names
from boltzgen.model import load_model
from boltzgen.report.page import write_report
from boltzgen.report.pictures import write_pictures
from boltzgen.workflow.runner import run
from boltzgen.workflow.stage import Run
from boltzgen.workflow.stage_inputs import manifest_of
from boltzgen.workflow.stages import NAMES

STORED = Path(__file__).parents[2] / "data" / "run_of_0_1_0"
"""Of version 0.1.0 before its code was in packages: harmonic_chain --quick, 60 steps of training."""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STORED, tmp_path / "run"))


def started(directory: Path) -> list[str]:
    """What a run says that is started again from its record."""
    said: list[str] = []
    settings, base = load_workflow(str(directory / "config.yaml"))
    run(settings, base, directory, log=said.append)
    return said


@pytest.mark.usefixtures("without_pictures", "undrawn")
def test_a_finished_run_stays_finished(copy: Path) -> None:
    """Settings that there are since, or that have another name, change nothing of it."""
    said = started(copy)
    assert said == [f"{name}: skipped, nothing it depends on has changed" for name in NAMES]


def test_a_finished_run_is_read(copy: Path) -> None:
    opened = load_run(copy)
    assert len(opened.samples) == 256 and len(opened.reference) == 1000
    assert opened.results["verdict"]["level"] in ("trusted", "caution", "not trusted")
    for key, group in {
        "log_z": "thermodynamics",
        "energy_w2": "distances",
        "jeffreys": "diagnostics",
        "lost_data_paths": "losses",
        "seconds": "cost",
    }.items():
        row = opened.stored.row(key)
        assert row is not None and row["group"] == group, key
    assert "log Z" in write_report(copy).read_text(encoding="utf-8")
    assert {path.stem for path in write_pictures(opened, copy)} >= {
        "annealing",
        "reduced_energies",
        "training",
    }
    if len(opened.system.states) > 1:
        assert free_energy_difference(opened.samples, *opened.system.states[:2]).value is not None


def test_a_network_is_read(copy: Path) -> None:
    """With the energies that it had for two frames."""
    opened = load_run(copy)
    model = load_model(copy / "model", system=opened.system)
    x = torch.as_tensor(opened.samples.positions[:2])
    u, _ = model.energy_and_score(x, torch.full((2,), -3.0))
    np.testing.assert_allclose(
        u.detach().numpy(), json.loads((STORED / "energies.json").read_text()), rtol=1e-4
    )


@pytest.mark.usefixtures("without_pictures", "undrawn")
def test_what_an_interrupted_run_has_kept_is_made_again_in_a_line(copy: Path) -> None:
    """Checkpoints hold objects of modules that had other names."""
    record = json.loads((copy / "manifest.json").read_text())
    record["in_progress"] = {"stage": "sample", "inputs": record["stages"].pop("sample")["inputs"]}
    (copy / "manifest.json").write_text(json.dumps(record))
    kept = copy / "resume" / "sample" / "preparation.pt"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(OF_ANOTHER_MODULE)
    said = started(copy)
    told = [line for line in said if "preparation.pt" in line]
    assert len(told) == 1 and "\n" not in told[0] and told[0].endswith("it is made again")
    assert any(line.startswith("sample: running (resuming)") for line in said)


def _of_another_module() -> bytes:
    """A checkpoint with an object of a class that there is no more."""
    import io
    import sys
    import types

    module = types.ModuleType("boltzgen.production")
    module.Preparation = type("Preparation", (), {"__module__": "boltzgen.production"})  # type: ignore[attr-defined]
    stream = io.BytesIO()
    sys.modules["boltzgen.production"] = module
    try:
        torch.save(module.Preparation(), stream)
    finally:
        del sys.modules["boltzgen.production"]
    return stream.getvalue()


OF_ANOTHER_MODULE = _of_another_module()


def test_old_names_of_settings_work_and_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In the file, in its ``quick`` section, on the command line; of a molecule also its variables."""
    from boltzgen.config import renamed

    renamed._tell.cache_clear()
    (tmp_path / "my.yaml").write_text(
        "name: my\n"
        "system: {name: molecule, parameters: {pdb: my.pdb, cvs: {r: {kind: distance, atoms: [0, 1]}}}}\n"
        "train: {state_share: 0.1, height_weight: 0.2}\n"
        "quick: {train: {height_paths: 5}}\n"
    )
    given, _ = load_workflow(str(tmp_path / "my.yaml"), ["sample.ladder_moves=3"], quick=True)
    train = given.train
    assert (train.min_state_weight, train.level_loss_weight, train.consistency_paths) == (0.1, 0.2, 5)
    assert given.sample.level_moves == 3
    assert list(given.collective_variables) == ["r"] and "cvs" not in given.system.parameters
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 5 and all("is now called" in line and "\n" not in line for line in told)
    assert f"{tmp_path / 'my.yaml'}: train.state_share is now called train.min_state_weight" in told[0]
    for name in ("min_state_weight", "state_share"):  # the command line counts, by either name
        both, _ = load_workflow(str(tmp_path / "my.yaml"), [f"train.{name}=0.3"])
        assert both.train.min_state_weight == 0.3


def test_a_module_of_before_is_told_where_public_names_are(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text("from boltzgen.builders import from_amber\n")
    with pytest.raises(
        MolecularSystemError, match=r"my\.py, line 1\).*`from boltzgen import MolecularSystem"
    ):
        load_system("my.py", base=tmp_path)


@pytest.mark.usefixtures("without_pictures", "undrawn")
def test_the_command_closes_a_finished_run(boltzgen: Callable[..., Any], copy: Path) -> None:
    """Its table is of rows that have neither key nor group."""
    ended = boltzgen(copy, "run", copy / "config.yaml", "--out", copy)
    assert ended.returncode == 0 and "log Z" in ended.stdout and "E-W2" in ended.stdout
    assert "is now called" not in ended.stderr  # nobody is to edit a run's own record


def test_a_molecule_of_before_has_its_variables_elsewhere() -> None:
    """They are not missed in the record; what they make of a stage has a digest of its own."""
    before = {"system.name": '"molecule"', "system.parameters.pdb": '"a"', "system.parameters.cvs": "{}"}
    before |= {"train.state_share": "0.3", "states": '"digest"'}
    assert current_names(before) == {
        "system.name": '"molecule"',
        "system.parameters.pdb": '"a"',
        "train.min_state_weight": "0.3",
        "states": '"digest"',
    }
    assert "system.parameters.cvs" in current_names(before | {"system.name": '"mine"'})


def test_settings_newer_than_a_record_count_if_they_are_not_the_default(copy: Path) -> None:
    """And are recorded from then on, so that a later default cannot be taken for this one."""
    settings, base = load_workflow(str(copy / "config.yaml"), ["sample.move=hmc"])
    manifest = manifest_of(Run(settings, base, copy, "cpu", load_run(copy).system, lambda line: None))
    now = manifest.stages["sample"]["inputs"] | {"sample.move": '"hmc"'}
    assert manifest.why_run("sample", now, []) is None
    other = manifest.why_run("sample", now | {"sample.move": '"walk"'}, [])
    assert other == 'sample.move changed from not given to "walk"'
    with manifest.running("sample", now):
        pass
    assert manifest.stages["sample"]["inputs"]["sample.move"] == '"hmc"'
