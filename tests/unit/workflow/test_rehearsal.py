"""``boltzgen check``: what a run would stumble over, in its own words, and what it would do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mdtraj
import pytest
from helpers.dimer import dimers
from helpers.stages import none_started

from boltzgen.cli.stage_commands import Asked, names_workflow
from boltzgen.system.registry import load_system

Command = Callable[..., Any]
LONG = "states.long={cv: bond, intervals: [[0.2, .inf]]}"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal in which no cell of a table is folded."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def never() -> Iterator[None]:
    with none_started():
        yield


def checked(command: Command, directory: Path, *arguments: str) -> Any:
    before = sorted(directory.rglob("*"))
    ended = command(directory, "check", *arguments)
    assert sorted(directory.rglob("*")) == before
    return ended


def write_dynamics(path: Path, n: int = 100) -> None:
    topology = mdtraj.Topology.from_openmm(load_system("harmonic_dimer").topology)
    mdtraj.Trajectory(dimers(n).positions, topology).save(str(path))


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize(
    "settings",
    [
        ["train.setps=3"],
        ["sample.n_islands=8", "sample.n_particles=4"],
        ["system.parameters.stifness=3"],
        ["data.trajectory=[none.dcd]"],
        ["data.trajectory=[few.dcd]"],
        ["data.trajectory=[text.dcd]"],
        ["export.select=name =="],
        ["analyze.observables=[compute_rgg]"],
        ["train.start=nowhere"],
        ["simulate.production_ps=1e13"],
        ["states.long={cv: bond, intervals: [[0, 3.5]]}"],
        ["states.long={cv: bound, intervals: [[0, 3.5]]}"],
    ],
)
def test_what_is_wrong_is_said_as_by_the_run(boltzgen: Command, tmp_path: Path, settings: list[str]) -> None:
    write_dynamics(tmp_path / "few.dcd", 5)
    (tmp_path / "text.dcd").write_text("no trajectory")
    arguments = ["harmonic_dimer", *(word for text in settings for word in ("--set", text))]
    ended, of_run = checked(boltzgen, tmp_path, *arguments), boltzgen(tmp_path, "run", *arguments)
    assert (ended.returncode, ended.stderr) == (2, of_run.stderr)
    assert ended.stderr.startswith("boltzgen: ") and len(ended.stderr.splitlines()) == 1


@pytest.mark.usefixtures("never")
def test_a_workflow_is_looked_at_as_a_whole(boltzgen: Command, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("name: mine\nsystem: {name: harmonic_dimer}\ntrain: {steps: 7}\n")
    said = checked(
        boltzgen, tmp_path, "my.yaml", "--set", "stiffness=9000", "--set", "sample.n_levels=50"
    ).stdout
    for expected in (
        "domain of Z",
        "stages of mine",
        "MD steps, about",
        "ends after 7 steps",
        "network evaluations",
        "checked: the workflow my.yaml, nothing stands in its way",
        "next: `boltzgen run my.yaml --set system.parameters.stiffness=9000 --set sample.n_levels=50` does "
        "simulate, train, sample, analyze, export in runs/mine",
    ):
        assert expected in " ".join(said.split()), said
    assert "per second" not in said


@pytest.mark.usefixtures("never")
def test_trajectories_are_read_and_their_warnings_said(boltzgen: Command, tmp_path: Path) -> None:
    write_dynamics(tmp_path / "md.dcd")
    settings = ["data.trajectory=[md.dcd]", "states.all={cv: bond, intervals: [[0.01, 0.29]]}"]
    arguments = [word for text in settings for word in ("--set", text)]
    ended = checked(boltzgen, tmp_path, "--system", "harmonic_dimer", *arguments)
    (line,) = (line for line in ended.stderr.splitlines() if line.startswith("warning: "))
    assert "every frame of the data is in the state all" in line
    assert "100 frames of your own" in ended.stdout
    assert "next: `boltzgen run --system harmonic_dimer --set" in ended.stdout


@pytest.mark.usefixtures("never")
def test_a_system_alone(boltzgen: Command, tmp_path: Path) -> None:
    said = checked(boltzgen, tmp_path, "harmonic_well", "--set", "n=3").stdout
    assert "checked: the system harmonic_well/3" in said and "stages" not in said and "per second" not in said
    timed = checked(
        boltzgen, tmp_path, "harmonic_well", "--timing", "--seconds", "0.01", "--no-compiled"
    ).stdout
    assert "OpenMM Reference" in timed and "batched float32, eager" in timed


def test_states_that_overlap_are_warned_of_before_there_are_data(boltzgen: Command, tmp_path: Path) -> None:
    short = "states.short={cv: bond, intervals: [[0, 0.21]]}"
    ended = checked(boltzgen, tmp_path, "harmonic_dimer", "--set", LONG, "--set", short)
    assert ended.returncode == 0 and "warning: the states long and short of Delta F overlap" in ended.stderr


def test_what_was_done_is_not_to_be_done_again(boltzgen: Command, tmp_path: Path) -> None:
    """Data are there, and are looked at for states that came later; training would follow."""
    write_dynamics(tmp_path / "md.dcd")
    own = ["harmonic_dimer", "--set", "data.trajectory=[md.dcd]"]
    assert boltzgen(tmp_path, "simulate", *own).returncode == 0
    ended = checked(boltzgen, tmp_path, *own, "--set", "states.far={cv: bond, intervals: [[0.28, .inf]]}")
    assert "does train, sample, analyze, export in runs/harmonic_dimer" in ended.stdout
    assert " ".join(ended.stdout.replace("│", "").split()).count("simulate - done") == 1
    assert "the data never visit the state far" in ended.stderr


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is both a workflow and a system is the workflow."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.yaml").touch()
    names = ("lj13", "mine.yaml", "old", "harmonic_well", "mine.py", "nowhere")
    assert [names_workflow(name) for name in names] == [True, True, True, False, False, False]
    asked = Asked("lj13", None, ("n=3", "seed=4", "train.steps=5"), True, None, Path("a b"))
    assert asked.settings == ["system.parameters.n=3", "seed=4", "train.steps=5"]
    assert asked.command.startswith("boltzgen run lj13 --out 'a b' --set system.parameters.n=3")
    assert asked.command.endswith("--quick")
