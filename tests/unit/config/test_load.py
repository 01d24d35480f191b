"""Workflow files: what they mean, and the one line said about each mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from boltzgen.config.load import available_workflows, load_workflow
from boltzgen.config.schema import Workflow
from boltzgen.errors import ConfigError
from boltzgen.runtime.yaml_files import dump, load

MINIMAL = "name: mine\nsystem: {name: lj13}\n"


def write(directory: Path, text: str) -> str:
    path = directory / "mine.yaml"
    path.write_text(text)
    return str(path)


def message(*arguments: object, **options: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_workflow(*arguments, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", sorted(available_workflows()))
@pytest.mark.parametrize("quick", [False, True])
def test_packaged_workflows_are_valid(name: str, quick: bool) -> None:
    workflow, _ = load_workflow(name, quick=quick)
    assert workflow.name == name
    assert workflow.description == available_workflows()[name]
    assert workflow.train.steps or workflow.train.minutes


def test_quick_changes_only_what_it_names() -> None:
    full, quick = load_workflow("alanine_dipeptide")[0], load_workflow("alanine_dipeptide", quick=True)[0]
    assert quick.train.steps == 300
    assert quick.sample.n_particles < full.sample.n_particles
    assert quick.model == full.model and quick.system == full.system


def test_overrides_win_over_quick_and_are_yaml() -> None:
    overrides = ["train.steps=7", "system.parameters.hamiltonian=A", "export.formats=[pdb]"]
    workflow, _ = load_workflow("alanine_dipeptide", overrides, quick=True, seed=5, device="cpu")
    assert workflow.train.steps == 7
    assert workflow.system.parameters["hamiltonian"] == "A"
    assert workflow.export.formats == ("pdb",)
    assert (workflow.seed, workflow.device) == (5, "cpu")


def test_paths_become_absolute(tmp_path: Path) -> None:
    (tmp_path / "a.pdb").touch()
    text = "name: mine\nsystem: {name: molecule, parameters: {pdb: a.pdb, forcefield: [x.xml]}}\n"
    text += "train: {start: other}\ndata: {trajectory: [t.dcd]}\n"
    workflow, base = load_workflow(write(tmp_path, text))
    assert base == tmp_path.resolve()
    assert workflow.system.parameters == {"pdb": str(tmp_path.resolve() / "a.pdb"), "forcefield": ["x.xml"]}
    assert workflow.data.trajectory == (str(tmp_path.resolve() / "t.dcd"),)
    assert workflow.train.start == str(tmp_path.resolve() / "other")
    shipped = load_workflow(None, ["name=x", "system.name=harmonic_dimer", "train.start=alanine_dipeptide_b"])
    assert shipped[0].train.start == "alanine_dipeptide_b"


def test_training_always_ends(tmp_path: Path) -> None:
    workflow, _ = load_workflow(write(tmp_path, MINIMAL + "train: {batch_size: 8}\n"))
    assert workflow.train.minutes == Workflow.model_fields["train"].default.minutes


def test_a_saved_config_replays_the_recorded_steps(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(MINIMAL + "train: {minutes: 20}\n")
    (tmp_path / "manifest.json").write_text(json.dumps({"recorded": {"train_steps": 1234}}))
    train = load_workflow(str(path))[0].train
    assert (train.steps, train.minutes) == (1234, None)


def test_unknown_workflow() -> None:
    assert "did you mean harmonic_dimer? there are " in message("harmonic_dimr")


def test_missing_file() -> None:
    assert "nowhere.yaml: no such workflow file" in message("nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: [", "mine.yaml, line 1: a bracket that opens here is not closed"),
        ("a: b: c", "mine.yaml, line 1: there is a second colon; put the value in quotes"),
        ("", "mine.yaml: is empty"),
        ("# only a comment\n", "mine.yaml: is empty"),
        ("- a\n", "is a list"),
        ("name: mine\n", "mine.yaml: system: missing"),
        (MINIMAL + "train: {setps: 3}", "mine.yaml: train.setps: unknown key; did you mean train.steps?"),
        (MINIMAL + "trian: {steps: 3}", "trian: unknown key; did you mean train?"),
        (MINIMAL + "steps: 3", "steps: unknown key; did you mean train.steps?"),
        (MINIMAL + "train: {steps: many}", "mine.yaml: train.steps: "),
        (
            MINIMAL + "train: {objective: dms}",
            "train.objective: is 'dms'; it should be 'dsm', 'dsm+diffclf', 'dsm+tsm' or 'dsm+nce'",
        ),
        (MINIMAL + "simulate: {timestep_fs: -1}", "simulate.timestep_fs: is -1; it should be greater than 0"),
        (MINIMAL + "simulate: {timestep_fs: .inf}", "simulate.timestep_fs: "),
        ("name: ../x\nsystem: {name: lj13}\n", "mine.yaml: name: "),
        ("name: mine\nsystem: lj13\n", "mine.yaml: system: "),
    ],
)
def test_bad_files(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in message(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train:\n\tsteps: 3\n", "line 4: starts with a tab; indent with spaces"),
        ("train:\n\u00a0steps: 3\n", "line 4: a key starts with a space that is not a plain one"),
        ("train:\n  steps:300\n  minutes: 3\n", "line 4: no space after the colon of `steps:300`"),
        ("train: {steps:300}\n", "line 3: there is no space after the colon of `steps:300`"),
        ("train:\n  steps 300\n  minutes: 3\n", "line 4: `steps 300` is no `key: value` line"),
        ("train\nseed: 3\n", "line 3: `train` is no `key: value` line"),
        ("train:\n  steps: 3\n    minutes: 3\n", "line 5: is indented unlike the lines before it"),
        ("train:\n  steps: 3\n  - a\n", "line 5: a list item (`- `) stands among"),
        ("data:\n  trajectory:\n  - a\n  b: c\n", "mine.yaml: data.b: unknown key"),
        ("data: {trajectory: [a.dcd, b.dcd}\n", "line 3: the bracket [ that opens here is not closed"),
        ("train: {steps: 3\nseed: 3\n", "line 3: the bracket { that opens here is not closed"),
        ("train: {steps: 3}}\n", "line 3: a bracket is closed that was not opened"),
        ("description: @x\n", "line 3: a value starts with @, which YAML keeps for itself; put it in quotes"),
        ("description: *x\n", "line 3: a value starts with *, & or !"),
        ("description: 'x\n", "line 3: the quote that opens here is not closed"),
        ("description: 'x' y\n", "line 3: more text follows a value in quotes"),
        ('description: "C:\\data"\n', "line 3: a backslash in double quotes"),
        ("---\nname: b\n", "line 3: a second document starts (---)"),
        ("description: a\0b\n", "line 3: holds a control character"),
        ("seed: 1\nseed: 2\n", "line 4: seed is given twice; take one of the two out"),
        ("? [a, b]\n: 3\n", "line 3: a key is in brackets, where a word belongs"),
        (f"seed: {'9' * 5000}\n", "line 3: a number has too many digits"),
        ("description: " + "[" * 3000, "brackets are nested too deeply"),
        ("seed: yes\n", "seed: is 'yes'; it should be a valid integer"),
        ("seed: true\n", "seed: is true; a number or a word is wanted"),
        ("description: 3\n", "description: is 3; it should be text, in quotes where it looks like a number"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line_and_cause(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in message(write(tmp_path, MINIMAL + text))


def test_only_true_and_false_are_switches_and_keys_are_words(tmp_path: Path) -> None:
    text = MINIMAL.replace(
        "lj13", "lj13, parameters: {a: on, b: 1e-3, c: 010, d: 1:30, e: 2001-01-01, f: ~, 7: 1}"
    )
    text += "description: off\ncollective_variables:\n  no: &r {kind: rmsd}\n  1: {<<: *r, atoms: 3}\n"
    text += "states: {y: {cv: no, intervals: [[0.1, .inf]]}}\n"
    workflow, _ = load_workflow(write(tmp_path, text), ["name=no"])
    expected = {"a": "on", "b": 0.001, "c": 10, "d": "1:30", "e": "2001-01-01", "f": None, "7": 1}
    assert workflow.system.parameters == expected
    assert (workflow.name, workflow.description) == ("no", "off")
    assert list(workflow.collective_variables) == ["no", "1"] and workflow.states["y"].cv == "no"


@pytest.mark.parametrize(
    "value",
    [
        *[
            "no",
            "y",
            "1e-3",
            "1.",
            ".5",
            "010",
            "0o7",
            "0x1f",
            "1:30",
            "1_0",
            "2001-01-01",
            "~",
            "",
            "<<",
            "=",
        ],
        *[1e-5, 1e22, 10**30, 0.1, True, None, float("inf"), [], {"no": {"1": "a: b"}}],
    ],
)
def test_what_is_written_is_read_back(value: object) -> None:
    document = {"given": value, str(value): [value]}
    assert load(dump(document)) == document
    assert load(yaml.safe_dump({"given": value})) == {"given": value} or value in (
        "1e-3",
        "0o7",
    )  # records of before


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_from_windows(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes((MINIMAL + "description: 3 \u00c5\n").replace("\n", "\r\n").encode(encoding))
    assert load_workflow(str(path))[0].description == "3 \u00c5"
    path.write_bytes((MINIMAL + "description: 3 \u00c5\n").encode("latin-1"))
    assert "mine.yaml, line 3: cannot be read as UTF-8 text" in message(str(path))


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    assert "cannot be read as UTF-8" in message(str(path))


def test_bad_quick_section(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "quick: {train: {setps: 3}}")
    assert "train.setps: unknown key; did you mean train.steps?" in message(path, quick=True)
    assert "quick" in message(write(tmp_path, MINIMAL + "quick: 3"), quick=True)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.steps", "is not of the form key=value"),
        ("=3", "is not of the form key=value"),
        ("train.steps=[", "--set train.steps: [: a bracket that opens here is not closed"),
        ("train.setps=3", "command line: train.setps: unknown key; did you mean train.steps?"),
        ("name.x=3", "name is a single value"),
        ("train=3", "command line: train: "),
    ],
)
def test_bad_overrides(override: str, expected: str) -> None:
    assert expected in message("lj13", [override])
