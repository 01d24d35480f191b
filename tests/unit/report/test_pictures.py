"""Figures are drawn from whatever a run has; the analysis writes strict tables and a fair verdict."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from helpers.chain import PHI, PSI, chain_ensemble, chain_system
from helpers.run_directory import SETTINGS, write_run
from matplotlib.image import imread
from rich.console import Console

from boltzgen.analyze.stage import analyze, json_safe
from boltzgen.cli.tables import closing_table, verdict_panel
from boltzgen.report import panels
from boltzgen.report.page import write_report
from boltzgen.report.pictures import draw_together, write_pictures
from boltzgen.report.sections import SECTIONS, Panel, Section, register
from boltzgen.report.text import with_error
from boltzgen.rundir.finished_run import FinishedRun


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


def run_analysis(p_model: float = 0.3, **changes) -> dict:
    samples = chain_ensemble(600, seed=1, p_positive=p_model, proposal=changes.pop("proposal", 0.5))
    reference = chain_ensemble(1500, seed=2, p_positive=0.3)
    given = {"system": chain_system(), "diagnostics": diagnostics()} | changes
    return analyze(given["system"], samples, reference, given["diagnostics"], SETTINGS, seed=0)


def by_quantity(results: dict) -> dict[str, dict]:
    return {f"{row['quantity']} {row['unit']}".strip(): row for row in results["rows"]}


def test_everything_is_written_and_drawn(tmp_path):
    run = FinishedRun(write_run(tmp_path / "run"))
    drawn = write_pictures(run, tmp_path)
    expected = {"ramachandran", "pmf_phi", "pmf_psi", "pmf_end_to_end", "reduced_energies", "annealing"}
    expected |= {"level_populations", "training", "surface", "weights"}
    assert {path.stem for path in drawn} == expected
    for path in drawn:
        image = imread(path)
        assert image.shape[0] > 300 and image[..., :3].std() > 0.02
    with (run.path / "results" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = ["quantity", "value", "error", "reference", "reference_error", "unit", "note", "low", "high"]
    columns += ["stored", "stored_error"]
    assert list(rows[0]) == ["key", "group", *columns]
    assert len(rows) == len(run.results["rows"])


def test_a_section_is_added_by_one_registration(tmp_path, without_pictures):
    """As a third party would, in page and pictures: no other file knows of it."""

    def energies_in_order(run: FinishedRun) -> list[Panel]:
        energies = run.samples_if_there.reduced_energies
        return [Panel(lambda axis: axis.plot(energies), "Energies in order.", "A trace.", image="trace")]

    register(Section("trace", "Trace of energies", energies_in_order))
    try:
        run = FinishedRun(write_run(tmp_path / "run"))
        assert tmp_path / "trace.png" in write_pictures(run, tmp_path)
        page = write_report(run.path).read_text()
    finally:
        del SECTIONS["trace"]
    assert '<h2 id="trace">Trace of energies</h2>' in page and "A trace." in page


def test_rows_hold_the_numbers():
    rows = by_quantity(run_analysis())
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
    results = run_analysis(system=system, diagnostics={})
    assert set(by_quantity(results)) == {"mean reduced energy kT", "E-W2 kT", "interatomic distance W2 nm"}
    assert results["verdict"]["level"] == "caution"
    bare = FinishedRun(write_run(tmp_path / "bare", system, found={}, trained=False))
    assert {path.name for path in write_pictures(bare, tmp_path)} == {"reduced_energies.png", "weights.png"}


def test_a_lost_state_is_named_and_not_trusted():
    results = run_analysis(p_model=1e-9, proposal=1e-9)
    assert results["verdict"]["level"] == "not trusted"
    assert any("phi_positive" in reason and "absent" in reason for reason in results["verdict"]["reasons"])
    json.loads(json.dumps(results, allow_nan=False), parse_constant=pytest.fail)
    assert by_quantity(results)["Delta F kT"]["value"] == "inf"
    Console(file=io.StringIO()).print(closing_table(results), verdict_panel(results))


def test_a_barely_carried_state_is_a_caution():
    results = run_analysis(p_model=0.02, proposal=0.02)
    assert results["verdict"]["level"] == "caution"
    assert any(
        "phi_positive" in reason and "independent samples" in reason
        for reason in results["verdict"]["reasons"]
    )


def test_disagreement_in_delta_f_is_an_observation_only():
    results = run_analysis(p_model=0.7)
    assert results["verdict"]["level"] == "trusted"
    assert "Delta F differs" in results["verdict"]["observations"][0]
    assert run_analysis()["verdict"]["observations"] == []


def test_closing_table_shows_model_reference_and_verdict():
    results = run_analysis()
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


def test_panels_tolerate_missing_inputs(tmp_path):
    assert panels.read_columns(None) == {}
    (tmp_path / "empty.csv").write_text("")
    assert panels.read_columns(tmp_path / "empty.csv") == {}
    assert panels.state_names([{"sigma": 1.0}]) == []
    tiny = chain_ensemble(3, seed=0)
    draws = (
        partial(panels.effective_sizes, levels=[{"sigma": 0.1, "ess": None}]),
        partial(panels.agreement, paths=[]),
        partial(panels.ramachandran_map, ensemble=tiny, torsions=(PHI, PSI)),
    )
    assert draw_together([Panel(draw, "", "", "a") for draw in draws], tmp_path / "a.png").is_file()
