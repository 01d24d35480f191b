"""Figures are drawn from whatever a run has; the analysis writes strict tables and a fair verdict."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.chain import PHI, PSI, chain_ensemble, chain_system
from helpers.run_directory import SETTINGS, write_metrics
from matplotlib.image import imread
from rich.console import Console

from boltzgen.analysis import analyze, json_safe
from boltzgen.report import figures
from boltzgen.report.table import closing_table, verdict_panel, with_error


def diagnostics() -> dict:
    sigmas = np.geomspace(2.0, 0.003, 12).tolist()
    populations = {"phi_positive": 0.3, "phi_negative": 0.7}
    return {
        "log_z": -191.9,
        "log_z_error": 0.21,
        "kish_ess_fraction": 0.12,
        "genealogical_ess": 310.0,
        "jeffreys": 2.5,
        "n_ancestors": 420,
        "ancestors_per_state": {"phi_positive": 44, "phi_negative": 376},
        "z_domain": "both hands of the molecule",
        "levels": [
            {"sigma": s, "ess": 0.9 - 0.03 * k, "resampled": k == 5, "acceptance": None}
            for k, s in enumerate(sigmas)
        ],
        "paths": [
            {
                "sigma": s,
                "sd_log_w": 0.1 + 0.2 * k,
                "ess": 0.8,
                "jeffreys": 0.05 * k**2,
                "populations": populations,
                "data_populations": {"phi_positive": 0.25, "phi_negative": 0.75},
            }
            for k, s in enumerate(sigmas)
        ],
        "verdict": {"level": "trusted", "reasons": ["every check passed"]},
    }


def run_analysis(tmp_path: Path, p_model: float = 0.3, **changes) -> dict:
    samples = chain_ensemble(600, seed=1, p_positive=p_model, proposal=changes.pop("proposal", 0.5))
    reference = chain_ensemble(1500, seed=2, p_positive=0.3)
    arguments = {
        "diagnostics": diagnostics(),
        "metrics_csv": write_metrics(tmp_path / "metrics.csv"),
    } | changes
    return analyze(
        arguments.pop("system", chain_system()),
        samples,
        reference,
        settings=SETTINGS,
        directory=tmp_path / "results",
        seed=0,
        **arguments,
    )


def by_quantity(results: dict) -> dict[str, dict]:
    return {f"{row['quantity']} {row['unit']}".strip(): row for row in results["rows"]}


def test_everything_is_written_and_drawn(tmp_path):
    results = run_analysis(tmp_path)
    directory = tmp_path / "results"
    expected = {"ramachandran", "pmf_phi", "pmf_psi", "pmf_end_to_end", "reduced_energies", "annealing"}
    expected |= {"level_populations", "training", "surface"}
    assert {Path(name).stem for name in results["figures"]} == expected
    for name in results["figures"]:
        image = imread(directory / name)
        assert image.shape[0] > 300 and image[..., :3].std() > 0.02
    assert json.loads((directory / "results.json").read_text()) == results
    with (directory / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = ["quantity", "value", "error", "reference", "reference_error", "unit", "note", "low", "high"]
    assert list(rows[0]) == columns
    assert len(rows) == len(results["rows"])


def test_rows_hold_the_numbers(undrawn, tmp_path):
    rows = by_quantity(run_analysis(tmp_path))
    delta_f = rows["Delta F kT"]
    assert abs(delta_f["value"] - math.log(0.7 / 0.3)) < 4 * delta_f["error"]
    in_kj = rows["Delta F kJ/mol"]
    assert in_kj["value"] == pytest.approx(2.494339 * delta_f["value"], rel=1e-5)
    assert "-ln(P phi_positive / P phi_negative)" in delta_f["note"]
    assert rows["log Z"]["value"] == -191.9 and rows["log Z"]["note"] == "both hands of the molecule"
    assert rows["E-W2 kT"]["value"] < 3 * rows["E-W2 kT"]["reference"]
    assert rows["effective ancestors in phi_positive"]["value"] == 44
    assert rows["population phi_positive"]["reference"] == pytest.approx(0.3, abs=0.05)


def test_a_bare_run_still_has_results(tmp_path):
    system = replace(chain_system(), collective_variables=(), states=())
    results = run_analysis(tmp_path, system=system, diagnostics={}, metrics_csv=tmp_path / "absent.csv")
    assert results["figures"] == ["reduced_energies.png"]
    assert set(by_quantity(results)) == {"mean reduced energy kT", "E-W2 kT", "interatomic distance W2 nm"}
    assert results["verdict"]["level"] == "caution"


def test_a_lost_state_is_named_and_not_trusted(undrawn, tmp_path):
    results = run_analysis(tmp_path, p_model=1e-9, proposal=1e-9)
    assert results["verdict"]["level"] == "not trusted"
    assert any("phi_positive" in reason and "absent" in reason for reason in results["verdict"]["reasons"])
    json.loads((tmp_path / "results" / "results.json").read_text(), parse_constant=pytest.fail)
    assert by_quantity(results)["Delta F kT"]["value"] == "inf"
    Console(file=io.StringIO()).print(closing_table(results), verdict_panel(results))


def test_a_barely_carried_state_is_a_caution(undrawn, tmp_path):
    results = run_analysis(tmp_path, p_model=0.02, proposal=0.02)
    assert results["verdict"]["level"] == "caution"
    assert any("phi_positive" in reason and "lineages" in reason for reason in results["verdict"]["reasons"])


def test_disagreement_in_delta_f_is_an_observation_only(undrawn, tmp_path):
    results = run_analysis(tmp_path, p_model=0.7)
    assert results["verdict"]["level"] == "trusted"
    assert "Delta F differs" in results["verdict"]["observations"][0]
    assert run_analysis(tmp_path)["verdict"]["observations"] == []


def test_closing_table_shows_model_reference_and_verdict(undrawn, tmp_path):
    results = run_analysis(tmp_path)
    stream = io.StringIO()
    console = Console(file=stream, width=140)
    console.print(closing_table(results), verdict_panel(results))
    text = stream.getvalue()
    for part in ("-191.90 ± 0.21", "MD reference", "kJ/mol", "verdict: trusted", "every check passed"):
        assert part in text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.23456, 0.0412, "1.235 ± 0.041"),
        (-191.934, 2.13, "-191.9 ± 2.1"),
        (1234.5, 120.0, "1234 ± 120"),
        (0.3, None, "0.3"),
        (12345, None, "12,345"),
        (None, None, "-"),
        ("inf", None, "inf"),
    ],
)
def test_errors_keep_two_digits(value, error, text):
    assert with_error(value, error) == text


def test_json_safe_has_no_literals_that_json_lacks():
    value = {"a": np.array([1.0, np.nan, np.inf]), "b": (np.float64(-np.inf), np.int64(3)), 1: None}
    assert json_safe(value) == {"a": [1.0, None, "inf"], "b": ["-inf", 3], "1": None}


def test_figures_tolerate_missing_inputs(tmp_path):
    assert figures.training(None, tmp_path / "t.png") is None
    (tmp_path / "empty.csv").write_text("")
    assert figures.training(tmp_path / "empty.csv", tmp_path / "t.png") is None
    assert figures.level_populations([{"sigma": 1.0}], tmp_path / "p.png") is None
    assert figures.annealing([{"sigma": 0.1, "ess": None}], [], tmp_path / "a.png").is_file()
    tiny = chain_ensemble(3, seed=0)
    assert figures.ramachandran(tiny, tiny, (PHI, PSI), tmp_path / "r.png").is_file()
