"""What a run of the tests took: the slowest of the default ones, and the last run of the slow ones.

    python tests/measured.py report RESULTS.xml           after a run of the default tests
    python tests/measured.py record RESULTS.xml PIECE     after one of a piece of the slow tests

RESULTS.xml is what ``pytest --junitxml`` writes. `report` prints the ten slowest tests and compares those
above LONG_SECONDS with tests/long_tests.toml, where each stands with its reason. It never fails: machines
differ by a factor of two. `record` puts one row into tests/slow_runs.csv in place of the piece's last one,
and fails where a test did.
"""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
LONG_SECONDS = 15.0
N_SLOWEST = 10
COLUMNS = ("piece", "date", "commit", "tests", "failed", "skipped", "seconds", "machine")


def seconds_of_tests(results: Path) -> dict[str, float]:
    """Seconds of each test with its fixtures, by a name that pytest takes."""
    found: dict[str, float] = {}
    for case in ElementTree.parse(results).iter("testcase"):
        path = case.get("classname", "").replace(".", "/") + ".py"
        found[f"{path}::{case.get('name')}"] = float(case.get("time", 0.0))
    return found


def reasons(path: Path = HERE / "long_tests.toml") -> dict[str, str]:
    """Why each long test is a default one, by the name of its function."""
    return {str(name): str(reason) for name, reason in tomllib.loads(path.read_text())["reasons"].items()}


def report(results: Path) -> list[str]:
    """Lines about the slowest tests, those long without a reason, and reasons of tests that are gone."""
    seconds, known = seconds_of_tests(results), reasons()
    slowest = sorted(seconds, key=seconds.__getitem__, reverse=True)
    lines = [f"{len(seconds)} tests, {sum(seconds.values()):.0f} s in all; the slowest:"]
    lines += [f"{seconds[name]:7.1f} s  {name}" for name in slowest[:N_SLOWEST]]
    there = {name.partition("[")[0] for name in seconds}
    long = {name.partition("[")[0] for name in slowest if seconds[name] > LONG_SECONDS}
    lines += [f"above {LONG_SECONDS:g} s without a reason: {name}" for name in sorted(long - known.keys())]
    lines += [f"in long_tests.toml but nowhere else: {name}" for name in sorted(known.keys() - there)]
    return lines


def record(results: Path, piece: str, table: Path = HERE / "slow_runs.csv") -> int:
    """Write the row of a piece; how many of its tests failed."""
    (suite,) = ElementTree.parse(results).iter("testsuite")
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    row = {
        "piece": piece,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": _commit(table),
        "tests": suite.get("tests", ""),
        "failed": str(failed),
        "skipped": suite.get("skipped", ""),
        "seconds": f"{float(suite.get('time', 0.0)):.0f}",
        "machine": _machine(),
    }
    with table.open(newline="") as stream:
        rows = {each["piece"]: each for each in csv.DictReader(stream)} | {piece: row}
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[name] for name in sorted(rows))
    print(row)
    return failed


def _machine() -> str:
    """Number of cores and what they can."""
    import torch

    return f"{os.cpu_count()} x {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def _commit(table: Path) -> str:
    """The commit at hand, and whether more than the table of results was changed since."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--", ":/", f":!{table.name}")
    return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")


def main() -> None:
    command, results, *rest = sys.argv[1:]
    if command == "record":
        sys.exit(min(record(Path(results), *rest), 1))
    print("\n".join(report(Path(results))))


if __name__ == "__main__":
    main()
