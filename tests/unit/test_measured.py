"""What is said of the time that tests took, from a file as pytest writes it."""

from __future__ import annotations

import csv
from pathlib import Path

import measured
import pytest

RESULTS = """<testsuites><testsuite name="pytest" errors="1" failures="1" skipped="1" tests="12" time="81.4">
<testcase classname="tests.unit.test_a" name="test_long[x]" time="40.0"/>
<testcase classname="tests.unit.test_a" name="test_known" time="16.0"/>
{short}
</testsuite></testsuites>"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    short = [f'<testcase classname="tests.unit.test_b" name="test_{k}" time="{k}.0"/>' for k in range(10)]
    path = tmp_path / "results.xml"
    path.write_text(RESULTS.format(short="\n".join(short)))
    return path


def test_long_tests_without_a_reason_are_reported(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"tests/unit/test_a.py::test_known": "needed", "tests/unit/test_a.py::test_gone": "needed"}
    monkeypatch.setattr(measured, "reasons", lambda: known)
    first, *lines = measured.report(results)
    assert first == "12 tests, 101 s in all; the slowest:"
    assert lines[0].split() == ["40.0", "s", "tests/unit/test_a.py::test_long[x]"]
    assert lines[9].endswith("test_2")
    assert lines[10:] == [
        "above 15 s without a reason: tests/unit/test_a.py::test_long",
        "in long_tests.toml but nowhere else: tests/unit/test_a.py::test_gone",
    ]


def test_every_reason_is_of_a_test_that_there_is() -> None:
    for name, reason in measured.reasons().items():
        path, _, function = name.partition("::")
        assert f"def {function}(" in (Path(measured.__file__).parents[1] / path).read_text(), name
        assert len(reason) > 20


def test_the_last_run_of_a_piece_replaces_the_one_before(results: Path, tmp_path: Path) -> None:
    table = tmp_path / "runs.csv"
    table.write_text(",".join(measured.COLUMNS) + "\n")
    for piece in ("kills", "compiled", "kills"):
        assert measured.record(results, piece, table) == 2
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["piece"] for row in rows] == ["compiled", "kills"]
    assert (rows[1]["tests"], rows[1]["failed"], rows[1]["seconds"]) == ("12", "2", "81")
