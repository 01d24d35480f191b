"""Several runs on one page: verdicts, numbers side by side, and profiles on the same axes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from boltzgen.report import panels
from boltzgen.report.charts import variable_label
from boltzgen.report.inline import Chart, Ink
from boltzgen.report.render import verdict, write_page
from boltzgen.report.sections import Panel
from boltzgen.report.text import duration, flat, number, setting, with_bound
from boltzgen.rundir.finished_run import FinishedRun, analysed_run

COMPARISON_FILE = "comparison.html"
STYLES = ("-", "-.", ":")
NOT_COMPARED = {"name", "description", "quick"}


def write_comparison(directories: list[Path], path: Path) -> Path:
    """Write the page that compares the runs in ``directories``.

    Raises DataError for a directory without a finished run.
    """
    runs, ink = [analysed_run(directory) for directory in directories], Ink()
    names = labels(directories)
    context = {
        "names": names,
        "runs": [summary(run, name) for run, name in zip(runs, names, strict=True)],
        "warning": warning(runs),
        "rows": rows(runs),
        "settings": differing_settings(runs),
        "profiles": profiles(runs, names, ink),
    }
    return write_page("comparison.html.j2", path, ink, **context)


def labels(directories: list[Path]) -> list[str]:
    """A short name for every run: that of its directory, or its whole path where two share a name."""
    names = [directory.resolve().name for directory in directories]
    return [
        name if names.count(name) == 1 else str(path) for name, path in zip(names, directories, strict=True)
    ]


def summary(run: FinishedRun, name: str) -> dict[str, Any]:
    """What is said of one run at the top."""
    seconds = [stage.get("seconds") or 0.0 for stage in (run.manifest.get("stages") or {}).values()]
    return {
        "name": name,
        "system": run.stored.system,
        "temperature": f"{run.stored.temperature_k:g}",
        "n_samples": run.results.get("n_samples"),
        "time": duration(sum(seconds)),
        "seed": run.manifest.get("seed"),
        "verdict": verdict(dict(run.results)),
    }


def warning(runs: list[FinishedRun]) -> str:
    """Why the numbers of these runs may not be compared; empty where they may."""
    kinds = {(r.stored.system, r.stored.temperature_k) for r in runs}
    if len(kinds) == 1:
        stages = [(r.manifest.get("stages") or {}).get("sample", {}) for r in runs]
        same = len({stage.get("inputs", {}).get("the system") for stage in stages}) == 1
        return "" if same else "These runs share a name, but not the molecule or its force field."
    found = ", ".join(f"{system} at {kelvin:g} K" for system, kelvin in sorted(kinds))
    return f"These runs are not of one system at one temperature ({found})."


def rows(runs: list[FinishedRun]) -> list[dict[str, Any]]:
    """Every row of any run but those that only keep count, with a number for each run."""
    stored = [run.stored for run in runs]
    named = {row["key"]: row for each in stored for row in each.rows if row["group"] != "cost"}
    return [
        {"quantity": row["quantity"], "unit": row["unit"], "cells": [cell(each.row(key)) for each in stored]}
        for key, row in named.items()
    ]


def cell(row: dict[str, Any] | None) -> dict[str, str]:
    """Model and reference of one run as text; empty where the run lacks the row."""
    if row is None:
        return {"value": "", "md": ""}
    md = number(row["reference"], row["reference_error"])
    value = with_bound(row) if row["error"] is None and row.get("low") is not None else None
    return {"value": value or number(row["value"], row["error"]), "md": md}


def differing_settings(runs: list[FinishedRun]) -> list[tuple[str, list[str]]]:
    """Settings that are not the same in all runs: dotted key and the value in each."""
    configs = [
        flat({key: value for key, value in run.config.items() if key not in NOT_COMPARED}) for run in runs
    ]
    keys = dict.fromkeys(key for config in configs for key in config)
    table = [(key, [setting(config.get(key)) for config in configs]) for key in keys]
    return [(key, values) for key, values in table if len(set(values)) > 1]


def profiles(runs: list[FinishedRun], names: list[str], ink: Ink) -> list[Chart]:
    """Potentials of mean force of all runs on the same axes, with the MD reference of the first."""
    variables = dict.fromkeys(name for run in runs for name in run.stored.profiles)
    colours = [c for c in panels.cycle(len(panels.CATEGORICAL)) if c != panels.REFERENCE]
    drawn = []
    for variable in variables:
        curves: list[panels.Curve] = []
        for k, (run, name) in enumerate(zip(runs, names, strict=True)):
            pair = run.stored.profiles.get(variable)
            if pair is None:
                continue
            if not curves:
                curves.append((f"MD of {name}", pair[1], panels.REFERENCE, "--"))
            curves.append((name, pair[0], colours[k % len(colours)], STYLES[k // len(colours) % len(STYLES)]))
        known = {cv.name: cv for run in runs for cv in run.stored.variables}
        draw = partial(panels.pmf, label=variable_label(known.get(variable), variable), curves=curves)
        alt = f"Potentials of mean force along {variable} in kT of {len(curves) - 1} runs, and MD reference."
        caption = f"Along {variable}. Bands are one standard error."
        drawn.append(ink.chart(Panel(draw, alt, caption, image="")))
    return drawn
