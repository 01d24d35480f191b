"""Means of what MDTraj or the user computes, from Python and from a workflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from helpers.chain import END_TO_END, chain_ensemble, chain_system
from helpers.run_directory import SETTINGS, diagnostics

from boltzgen import observable
from boltzgen.analyze.free_energy import expectation
from boltzgen.analyze.observables import check_observables, find_observable
from boltzgen.analyze.stage import analyze, write_results
from boltzgen.config.load import load_workflow
from boltzgen.errors import ConfigError, DataError

SYSTEM = chain_system()
SAMPLE = chain_ensemble(400, seed=1, p_positive=0.2, proposal=0.5)


def test_a_function_of_mdtraj_by_its_name():
    found = observable(SAMPLE, "compute_rg", SYSTEM)
    frames = mdtraj.Trajectory(SAMPLE.positions, mdtraj.Topology.from_openmm(SYSTEM.topology))
    assert found == expectation(SAMPLE, mdtraj.compute_rg(frames))
    assert found.error is not None and found.interval[0] < found.value < found.interval[1]


def test_vectors_and_functions_of_ones_own():
    vector = observable(SAMPLE, "principal_moments", SYSTEM)
    assert len(vector) == 3 and vector[0].value < vector[1].value < vector[2].value

    def end_to_end(frames: mdtraj.Trajectory) -> np.ndarray:
        return mdtraj.compute_distances(frames, [[0, 4]])

    by_cv = expectation(SAMPLE, END_TO_END.values(SAMPLE.positions))
    assert observable(SAMPLE, end_to_end, SYSTEM).value == pytest.approx(by_cv.value, rel=1e-5)
    inside = observable(SAMPLE, lambda frames: end_to_end(frames)[:, 0] < 0.4, SYSTEM)
    assert 0 < inside.value < 1
    with_pairs = observable(SAMPLE, lambda f: (end_to_end(f), np.array([[0, 4]])), SYSTEM)
    assert with_pairs.value == pytest.approx(by_cv.value, rel=1e-5)


def test_rows_without_weight_may_have_no_value():
    lost = SAMPLE.log_weights.copy()
    lost[0] = -np.inf

    def broken_first(frames: mdtraj.Trajectory) -> np.ndarray:
        return np.where(np.arange(len(frames)) == 0, np.nan, 1.0)

    assert observable(replace(SAMPLE, log_weights=lost), broken_first, SYSTEM).value == pytest.approx(1.0)
    with pytest.raises(DataError, match="not finite in frame 0"):
        observable(SAMPLE, broken_first, SYSTEM)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("compute_rgg", "did you mean compute_rg?"),
        ("xyzzy", "no function of a trajectory in MDTraj"),
        ("load", "no function of a trajectory in MDTraj"),
        ("compute_distances", "takes more than a trajectory"),
        ("compute_phi", "cosine and sine"),
    ],
)
def test_a_name_that_cannot_be_used(name, words):
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")) as error:
        observable(SAMPLE, name, SYSTEM)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda frames: 3.0, "returns a single number; a number or a vector for each of 400 frames"),
        (lambda frames: frames.xyz, r"with shape \(400, 5, 3\)"),
        (lambda frames: [1, 2], "returns a list of 2"),
        (lambda frames: None, "returns nothing;"),
        (lambda frames: np.zeros((400, 0)), r"shape \(400, 0\)"),
        (lambda frames: np.array(["helix"] * 400), "<U5"),
        (lambda frames: 1 / 0, r"the function fails \(ZeroDivisionError: division by zero\); mend it"),
    ],
)
def test_a_function_that_gives_something_else(function, words):
    with pytest.raises(DataError, match=words):
        observable(SAMPLE, function, SYSTEM)


def test_an_ensemble_alone_knows_no_atoms():
    with pytest.raises(DataError, match="give its system"):
        observable(SAMPLE, "compute_rg")


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text("def height(frames):\n    return frames.xyz[:, :, 2].max(axis=1)\n\nnumber = 3\n")
    return path


def test_functions_of_a_file(own_file, tmp_path):
    assert find_observable(f"{own_file}:height").__name__ == "height"
    assert find_observable("mine.py:height", tmp_path).__name__ == "height"
    for name, words in (
        (f"{own_file}:heigt", "did you mean height"),
        (f"{own_file}:number", "defines no function number"),
        (f"{tmp_path}/none.py:height", "no file"),
    ):
        with pytest.raises(ConfigError, match=words):
            find_observable(name)
    own_file.write_text("import nothing_like_it\n")
    with pytest.raises(ConfigError, match=r"cannot be imported .*ModuleNotFoundError"):
        find_observable(f"{own_file}:height")


def test_they_are_checked_at_the_reference_configuration(own_file):
    check_observables(("compute_rg", f"{own_file}:height"), SYSTEM)
    own_file.write_text("def height(frames):\n    return 1.0\n")
    with pytest.raises(
        DataError, match=r"analyze.observables: observable .*:height: returns a single number"
    ):
        check_observables((f"{own_file}:height",), SYSTEM)


def test_their_means_are_in_the_results(tmp_path, own_file):
    names = ("compute_rg", "principal_moments", f"{own_file}:height")
    settings = SETTINGS.model_copy(update={"observables": names})
    reference = chain_ensemble(500, seed=2)
    results = analyze(SYSTEM, SAMPLE, reference, diagnostics(), settings, 0)
    rows = {row["quantity"]: row for row in results["rows"]}
    assert {f"mean principal_moments[{k}]" for k in range(3)} < set(rows) > {"mean mine.py:height"}
    row = rows["mean compute_rg"]
    assert row["low"] < row["value"] < row["high"] and row["reference_error"] > 0
    write_results(results, tmp_path / "results")
    assert "mean compute_rg," in (tmp_path / "results" / "results.csv").read_text()


def test_a_workflow_names_files_from_its_own_directory(tmp_path, own_file):
    path = tmp_path / "w.yaml"
    path.write_text(
        "name: w\nsystem: {name: harmonic_dimer}\nanalyze: {observables: [compute_rg, mine.py:height]}\n"
    )
    workflow, _ = load_workflow(str(path))
    assert workflow.analyze.observables == ("compute_rg", f"{own_file}:height")
