"""The page of a run: complete where the run is, honest where it is not, one harmless file in any case."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from helpers.chain import PHI, chain_system
from helpers.run_directory import diagnostics, manifest, write_run
from rich.console import Console

from boltzgen.cli.tables import closing_table
from boltzgen.errors import DataError, UserError
from boltzgen.report.comparison import write_comparison
from boltzgen.report.inline import DARK_GROUND, MIN_CONTRAST, contrast, lightened
from boltzgen.report.page import write_report
from boltzgen.report.panels import CATEGORICAL
from boltzgen.report.text import changed_settings, duration, file_size, number
from boltzgen.rundir.finished_run import load_run
from boltzgen.smc.bounds import log_z_note
from boltzgen.system.collective_variables import State

ATTACK = "<script>alert(1)</script>"
VOID = {"meta", "link", "br", "img", "input", "hr", "col", "image", "path", "use", "rect", "stop"}


class Page(HTMLParser):
    """Tags, ids and text of a page; complains of tags that are not closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(self.source)
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "chain"
    return write_run(directory, description="a chain of five", sample={"n_particles": 600})


@pytest.fixture(scope="module")
def page(finished: Path) -> Page:
    path = write_report(finished)
    assert path == finished / "report.html"
    return Page(path)


def test_every_section_is_there(page: Page) -> None:
    for part in (
        "every check passed",
        "a chain of five",
        "chain at 300 K, 600 weighted samples",
        "phi in [0, 2) rad",
        "sample.n_particles",
        f"{chr(0x2212)}191.90 ± 0.21",
        f"95 %: {chr(0x2212)}192.31 to {chr(0x2212)}191.49",
        "both hands of the molecule",
        "Pareto k̂",
        "below 0.7",
        "boltzgen run chain/config.yaml --out chain-again",
        "2026-03-01 10:04 UTC",
        "5 min 10 s",
        "2.13.0",
        "C5",
    ):
        assert part in page.text, part
    assert {attributes["id"] for attributes in page.all("h2")} == {
        *("verdict", "asked", "numbers", "surfaces", "states", "weights", "schedule", "training", "time"),
        "reproduce",
    }
    # four maps, three profiles, energies and weights, three along the schedule, two of training
    assert len([a for a in page.all("svg") if a.get("role") == "img"]) == 4 + 3 + 2 + 3 + 2


def test_every_row_of_the_results_is_shown(page: Page, finished: Path) -> None:
    results = json.loads((finished / "results" / "results.json").read_text())
    for row in results["rows"]:
        assert row["quantity"] in page.text and row["note"] in page.text


def test_the_verdict_comes_before_everything_else(page: Page) -> None:
    headings = [attributes["id"] for attributes in page.all("h2")]
    assert headings[0] == "verdict"
    assert page.text.index("trusted") < page.text.index("Delta F") < page.text.index("What was asked")


def test_the_page_loads_nothing(page: Page) -> None:
    assert not re.search(r"https?://|//\w+\.\w+/|@import|url\((?!#)", page.source)
    for _, attributes in page.tags:
        for name in ("src", "href", "data", "action", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), value
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy
    assert len(page.source) < 2_000_000


def test_markup_says_what_things_are(page: Page) -> None:
    assert page.all("html")[0]["lang"] == "en" and len(page.all("h1")) == 1
    for attributes in page.all("svg") + page.all("canvas"):
        assert attributes["role"] == "img" and len(attributes["aria-label"] or "") > 20
    assert all(attributes.get("scope") for attributes in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    anchors = {(attributes["href"] or "")[1:] for attributes in page.all("a") + page.all("use")}
    assert anchors <= set(ids)


def test_structures_are_of_each_state(page: Page) -> None:
    found = re.search(r'<script type="application/json" id="structures">(.*?)</script>', page.source, re.S)
    assert found is not None
    data = json.loads(found[1])
    assert [state["name"] for state in data["states"]] == ["phi_positive", "phi_negative"]
    assert data["elements"] == ["C"] * 5 and data["bonds"] == [[0, 1], [1, 2], [2, 3], [3, 4]]
    assert len(data["states"][0]["x"]) == 5
    assert data["states"][0]["share"] == pytest.approx(0.3, abs=0.06)
    for x in (state["x"] for state in data["states"]):  # a bond is 1.5 Angstrom
        assert sum((a - b) ** 2 for a, b in zip(x[0], x[1], strict=True)) == pytest.approx(2.25, abs=0.02)


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    states = (State(ATTACK, PHI, ((0.0, 2.0),)), State("a $x^{ & $ b", PHI, ((-3.2, 0.0),)))
    variable = replace(PHI, name=ATTACK)
    system = replace(chain_system(), name=ATTACK, collective_variables=(variable,), states=states)
    found = diagnostics() | {"z_domain": ATTACK, "verdict": {"level": "caution", "reasons": [ATTACK]}}
    found["ancestors_per_state"] = {ATTACK: 100}
    for row in found["paths"]:
        row["populations"] = row["data_populations"] = {ATTACK: 0.5, "a $x^{ & $ b": 0.5}
    run = write_run(tmp_path / "<b>run", system, found=found, description=ATTACK)
    config = run / "config.yaml"
    config.write_text(config.read_text() + f"extra: {ATTACK}\n")
    record = manifest() | {"machine": ATTACK, "versions": {ATTACK: ATTACK}}
    (run / "manifest.json").write_text(json.dumps(record))
    for path in (write_report(run), write_comparison([run, run], tmp_path / "comparison.html")):
        page = Page(path)
        assert "<script>alert" not in page.source and "<b>run" not in page.source
        assert len(page.all("script")) <= 2 and ATTACK in page.text


def test_a_bare_run_has_a_page(tmp_path: Path) -> None:
    system = replace(chain_system(elements=False), collective_variables=(), states=())
    run = write_run(tmp_path / "bare", system, found={}, trained=False, pretrained="a_model")
    page = Page(write_report(run))
    assert "caution" in page.text and "a_model, which comes with boltzgen" in page.text
    assert "nothing was trained" in page.text and "X5" in page.text
    headings = {attributes["id"] for attributes in page.all("h2")}
    assert not headings & {"surfaces", "schedule"} and "states" in headings


def test_a_run_whose_ensembles_were_removed_has_a_page(finished: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "thin")
    for path in ("samples/ensemble.h5", "data/ensemble.h5", "model/metrics.csv"):
        (run / path).unlink()
    page = Page(write_report(run))
    assert "every check passed" in page.text and "There is no training log" in page.text
    assert "surfaces" in {attributes["id"] for attributes in page.all("h2")}
    assert page.all("canvas") == []


def test_a_lost_state_is_told_and_not_drawn(tmp_path: Path, without_pictures: None) -> None:
    run = write_run(tmp_path / "lost", p_model=1e-9)
    page = Page(write_report(run))
    assert "not trusted" in page.text and "absent from the sample" in page.text and "∞" in page.text
    assert len(page.all("canvas")) == 1 and "Without any sample: phi_positive." in page.text


@pytest.mark.parametrize("k", [None, "missing"])
def test_without_pareto_k(tmp_path: Path, k: str | None, without_pictures: None) -> None:
    found = diagnostics() | {"pareto_k": None}
    if k == "missing":
        del found["pareto_k"]
    assert "k̂" not in Page(write_report(write_run(tmp_path / "run", found=found))).text


def test_comparison(finished: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "chain", p_model=0.6, seed=4, sample={"n_particles": 300})
    path = write_comparison([finished, other], tmp_path / "comparison.html")
    page = Page(path)
    assert str(finished) in page.text and str(other) in page.text  # two runs of one name
    assert "sample.n_particles" in page.text and "Compare with care" not in page.text
    assert len(page.all("article")) == 2 and len([a for a in page.all("svg") if a.get("role")]) == 3
    record = manifest()
    record["stages"]["sample"]["inputs"]["the system"] = "another force field"
    (other / "manifest.json").write_text(json.dumps(record))
    assert "not the molecule or its force field" in Page(write_comparison([finished, other], path)).text
    warm = replace(chain_system(), temperature_k=400.0)
    third = write_run(tmp_path / "warm", warm)
    assert "chain at 400 K" in Page(write_comparison([finished, third], path)).text


def test_what_is_no_finished_run_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run directory"):
        write_report(tmp_path / "nowhere")
    run = write_run(tmp_path / "run")
    record = manifest()
    record["stages"]["sample"]["finished"] = "2026-03-02T00:00:00+00:00"
    (run / "manifest.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="older than its settings: the stage analyze"):
        write_report(run)
    with pytest.raises(DataError, match="stage analyze did not finish"):
        print(load_run(run).results)
    assert len(load_run(run).samples) == 600
    record["stages"]["sample"]["inputs"]["the model"] = record["stages"].pop("train")["finished"]
    (run / "manifest.json").write_text(json.dumps(record))  # a training with other settings was killed
    with pytest.raises(DataError, match="stage train did not finish"):
        print(load_run(run).samples)
    assert len(load_run(finished).samples) == 600
    (run / "results" / "results.json").write_text("{")
    with pytest.raises(DataError, match="unreadable"):
        write_report(run)
    (run / "results" / "results.json").unlink()
    with pytest.raises(DataError, match="not finished"):
        write_comparison([finished, run], tmp_path / "comparison.html")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(finished, tmp_path / "nowhere" / "page.html")


def test_the_command(boltzgen: Callable[..., Any], finished: Path, tmp_path: Path) -> None:
    written = boltzgen(tmp_path, "report", finished)
    assert written.returncode == 0 and written.stdout.strip() == str(finished / "report.html")
    both = boltzgen(tmp_path, "report", finished, finished, "--out", "both.html")
    assert both.stdout.strip() == "both.html"
    assert (tmp_path / "both.html").is_file()
    refused = boltzgen(tmp_path, "report", "nowhere")
    assert (
        refused.returncode == 2 and refused.stderr.count("\n") == 1 and "no run directory" in refused.stderr
    )


def test_numbers_as_text() -> None:
    assert number(-191.934, 2.13) == "\N{MINUS SIGN}191.9 ± 2.1"
    assert (number(None), number("-inf"), number(310.0)) == ("", "\N{MINUS SIGN}∞", "310")
    assert (duration(4.23), duration(185), duration(4325)) == ("4.2 s", "3 min 05 s", "1 h 12 min")
    assert (file_size(999), file_size(12_345_678)) == ("999 B", "12.3 MB")


def test_log_z_without_an_error_is_shown_as_a_bound(tmp_path: Path, without_pictures: None) -> None:
    found = diagnostics() | {"log_z_error": None, "log_z_note": log_z_note(4.2), "lost_data_paths": 0.02}
    run = write_run(tmp_path / "bound", found=found)
    results = json.loads((run / "results" / "results.json").read_text())
    row = next(row for row in results["rows"] if row["quantity"] == "log Z")
    assert row["error"] is None and row["high"] is None
    assert row["low"] == pytest.approx(-191.9 - 3.0, abs=0.01)
    assert "on 4 effective ancestors" in row["note"] and "log Z >= estimate - t" in row["note"]
    text = Page(write_report(run)).text
    assert "log Z >= estimate - t" in text and f"above {number(-194.9)}" in text
    console = Console(width=200, file=io.StringIO())
    console.print(closing_table(results))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "> -194.90" in shown and "paths from data lost" in shown


def test_settings_against_defaults(finished: Path) -> None:
    config = {"name": "x", "train": {"minutes": 20, "steps": None, "batch_size": 7}, "seed": 1, "new": True}
    changed = changed_settings(config)
    assert changed == [("train.batch_size", "7", "128"), ("seed", "1", "0"), ("new", "yes", "not set")]


def test_colours_stay_visible_in_the_dark() -> None:
    assert lightened("#56b4e9") == "#56b4e9"
    for colour in (*CATEGORICAL, "#440154"):
        assert contrast(lightened(colour.lower()), DARK_GROUND) >= MIN_CONTRAST
