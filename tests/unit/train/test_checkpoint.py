"""A training that is killed and started again is that of one which was not, bit for bit."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.dimer import MODEL, dimers, settings
from helpers.stages import changed

from boltzgen.config.load import load_workflow
from boltzgen.ensemble.storage import save_ensemble
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.model import EnergyModel
from boltzgen.runtime.context import Context
from boltzgen.runtime.processes import Processes
from boltzgen.runtime.progress import OnProgress
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system
from boltzgen.train import train
from boltzgen.train.checkpoint import WeightedBatches
from boltzgen.train.lightning_module import EnergyTraining
from boltzgen.workflow import runner as workflow
from boltzgen.workflow.stage import Goal, Run, Stage


@pytest.fixture(scope="module")
def system() -> MolecularSystem:
    return load_system("harmonic_dimer")


@pytest.fixture(scope="module")
def data() -> WeightedEnsemble:
    return dimers(400)


class Killed(Exception):
    """Stands for a kill at some moment of training."""


def killed_at(message: str) -> OnProgress:
    def on_progress(done: float, total: float, said: str) -> None:
        if message in said:
            raise Killed

    return on_progress


def files(directory: Path) -> dict[str, bytes]:
    """What training left, without the columns of its log that depend on the clock."""
    found = {path.name: path.read_bytes() for path in directory.glob("energy.*")}
    found |= {f"last/{path.name}": path.read_bytes() for path in (directory / "last").iterdir()}
    found |= {name: (directory / name).read_bytes() for name in ("training.json",)}
    with (directory / "metrics.csv").open(newline="") as stream:
        rows = [
            {k: v for k, v in row.items() if k not in ("minutes", "configurations_per_s")}
            for row in csv.DictReader(stream)
        ]
    return found | {"metrics": json.dumps(rows).encode()}


SHORT = {"consistency_paths": 0, "warmup_steps": 5}


def finer(patch: pytest.MonkeyPatch) -> None:
    """Checkpoints, reports and blocks of batches in a training of 15 steps."""
    patch.setattr("boltzgen.train.checkpoint.CHECKPOINT_STEPS", 5)
    patch.setattr("boltzgen.train.checkpoint.BLOCK", 6)
    patch.setattr("boltzgen.train.monitor.REPORT_STEPS", 5)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    finer(monkeypatch)


@pytest.fixture(scope="module")
def whole(
    system: MolecularSystem, data: WeightedEnsemble, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """What a training leaves that nobody interrupted."""
    directory = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        finer(patch)
        train(system, data, MODEL, settings(15, **SHORT), directory, Context(3))
    return files(directory)


@pytest.fixture
def run(system: MolecularSystem, data: WeightedEnsemble, tmp_path: Path) -> Callable[..., None]:
    """A short training with checkpoints, called again to go on; what it takes is the rest of its context."""

    def short(**given: Any) -> None:
        context = Context(3, checkpoints=tmp_path / "resume", **given)
        train(system, data, MODEL, settings(15, **SHORT), tmp_path / "model", context)

    return short


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(("moment", "first"), [("calibrating", 5), ("step 10 ", 10), ("step 15 ", 15)])
def test_a_killed_training_ends_as_if_it_had_not_been_killed(
    moment: str,
    first: int,
    whole: dict[str, bytes],
    run: Callable[..., None],
    tmp_path: Path,
) -> None:
    """Bit for bit: killed before the first checkpoint, between two, after the last step."""
    with pytest.raises(Killed):
        run(on_progress=killed_at(moment))
    said: list[str] = []
    messages: list[str] = []
    run(on_progress=lambda *r: messages.append(r[2]), log=said.append)
    steps = [int(message.split()[1]) for message in messages if message.startswith("step")]
    assert steps[0] == first and said == []
    assert files(tmp_path / "model") == whole


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", None])
def test_a_damaged_checkpoint_starts_training_anew_and_says_so(
    damage: bytes | None,
    whole: dict[str, bytes],
    run: Callable[..., None],
    tmp_path: Path,
) -> None:
    with pytest.raises(Killed):
        run(on_progress=killed_at("step 10 "))
    checkpoint = tmp_path / "resume" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-2000] if damage is None else damage)
    said: list[str] = []
    run(log=said.append)
    assert len(said) == 1 and "last.ckpt: cannot be read" in said[0] and "starts anew" in said[0]
    assert files(tmp_path / "model") == whole


@pytest.mark.usefixtures("often")
def test_a_forced_training_starts_anew_and_then_is_resumed_as_ever(
    system: MolecularSystem, data: WeightedEnsemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def store(run: Run, stage: Stage, on_progress: OnProgress) -> None:
        (run.out / "data").mkdir()
        save_ensemble(data, system.mdtraj_topology, run.out / "data" / "ensemble.h5")

    @contextmanager
    def until_killed(title: str) -> Iterator[OnProgress]:
        def on_progress(done: float, total: float, said: str) -> None:
            steps.extend([int(said.split()[1])] if said.startswith("step ") else [])
            killed_at("step 10 ")(done, total, said)

        yield on_progress

    monkeypatch.setattr(workflow, "progress_bar", until_killed)
    short = [f"train.{key}={value}" for key, value in SHORT.items()]
    given, base = load_workflow("harmonic_dimer", [*short, "train.steps=15", "train.compile=never"])
    for force, first in (((), 5), (("train",), 5), ((), 10), (("train",), 5)):
        steps: list[int] = []
        stored = changed("simulate", work=store, forecast=lambda *_: "")
        with stored, pytest.raises(Killed):
            workflow.run(given, base, tmp_path / "run", Goal("train", force), log=lambda line: None)
        assert steps[0] == first and (tmp_path / "run" / "resume" / "train" / "last.ckpt").is_file()


def test_batches_are_those_of_their_number_and_the_seed() -> None:
    weights = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)

    def batches(seed: int, first: int, last: int) -> list[list[int]]:
        return list(itertools.islice(WeightedBatches(weights, 4, seed, first), last - first))

    assert batches(1, 0, 2500)[1990:] == batches(1, 1990, 2500)
    assert batches(1, 0, 5) != batches(2, 0, 5)
    assert batches(1, 0, 1000) != batches(1, 1000, 2000)
    rows = torch.tensor(batches(1, 0, 2000))
    assert float((rows == 2).double().mean()) == pytest.approx(0.75, abs=3.5 * (0.1875 / 8000) ** 0.5)
    assert not (rows == 0).any()


def test_one_of_several_processes_goes_on_with_the_learning_rate_it_had(
    system: MolecularSystem, data: WeightedEnsemble
) -> None:
    """The first step after a restart comes before the first process has told how much is used."""
    model = EnergyModel.from_data(system, torch.as_tensor(data.positions), MODEL)
    before, after = (EnergyTraining(model, settings(100), 0, Processes(size=2)) for _ in range(2))
    before.used = 0.6
    checkpoint: dict[str, object] = {"global_step": 60}
    before.on_save_checkpoint(checkpoint)
    after.on_load_checkpoint(checkpoint)
    assert after.progress() == 0.6
