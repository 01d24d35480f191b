"""Checks and measurements, one session each: ``nox -l`` lists them, ``nox -s NAME`` runs one.

Everything runs in the environment that nox is installed in (README.md makes it); nothing is installed anew.
What follows ``--`` goes to the program behind the session, as in
``nox -s tests -- tests/unit/analyze/test_pmf.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "tests"]

ROOT = Path(__file__).parent
SIDE_BY_SIDE = ("-n", "2", "--dist", "worksteal")
SLOW_PIECES = {
    "compiled": ("tests/contract", "tests/unit/train/test_stage.py"),
    "kills": ("tests/end_to_end/test_kill.py",),
    "runs": ("tests/end_to_end", "--ignore=tests/end_to_end/test_kill.py"),
    "others": (
        "tests/unit",
        "tests/statistical",
        "tests/packaging",
        "--ignore=tests/unit/train/test_stage.py",
    ),
}
"""Slow tests in pieces of half an hour at most on two cores."""


def python(session: nox.Session, *arguments: object, **options: object) -> None:
    """Python of this environment, in the root of the repository."""
    session.chdir(ROOT)
    session.run(sys.executable, *map(str, arguments), external=True, **options)


@nox.session
def tests(session: nox.Session) -> None:
    """The default tests on two cores, then the ten slowest; with arguments, those of pytest."""
    if session.posargs:
        python(session, "-m", "pytest", *session.posargs)
        return
    measured = session.cache_dir / "tests.xml"
    python(session, "-m", "pytest", *SIDE_BY_SIDE, f"--junitxml={measured}")
    python(session, "tests/measured.py", "report", measured)


@nox.session
def slow(session: nox.Session) -> None:
    """The slow tests piece by piece, or those named, up to one that fails; results: tests/slow_runs.csv."""
    for piece in session.posargs:
        if piece not in SLOW_PIECES:
            session.error(f"{piece}: no such piece; there are {', '.join(SLOW_PIECES)}")
    for piece in session.posargs or SLOW_PIECES:
        measured = session.cache_dir / f"{piece}.xml"
        options = (*SIDE_BY_SIDE, f"--junitxml={measured}", *SLOW_PIECES[piece])
        python(session, "-m", "pytest", "-m", "slow", *options, success_codes=(0, 1))
        python(session, "tests/measured.py", "record", measured, piece)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, format, and who may import whom."""
    python(session, "-m", "ruff", "check", ".")
    python(session, "-m", "ruff", "format", "--check", ".")
    python(session, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()")


@nox.session
def types(session: nox.Session) -> None:
    """Static types."""
    python(session, "-m", "mypy", "boltzgen", "systems")


@nox.session
def docs(session: nox.Session) -> None:
    """Links, examples and commands of the pages."""
    python(session, "-m", "pytest", "tests/unit/test_docs.py", *session.posargs)


@nox.session
def benchmark(session: nox.Session) -> None:
    """Whether results became worse: benchmarks/regression.py with the arguments given."""
    python(session, "benchmarks/regression.py", *session.posargs)
