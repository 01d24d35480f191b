"""report.html: everything a run has to say, on one page that loads nothing and can be sent as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from boltzgen.report import charts, facts
from boltzgen.report.inline import Ink
from boltzgen.report.molecules import structures
from boltzgen.report.render import verdict, write_page
from boltzgen.report.sections import SECTIONS
from boltzgen.report.text import changed_settings
from boltzgen.rundir.finished_run import FinishedRun, analysed_run

REPORT_FILE = "report.html"
__all__ = ["REPORT_FILE", "charts", "write_report"]  # charts register the sections


def write_report(directory: Path, path: Path | None = None) -> Path:
    """Write the page of the run in ``directory``, by default beside its other files.

    Raises DataError for a directory without a finished run.
    """
    run, ink = analysed_run(directory), Ink()
    context = {
        "run": run.name,
        "system": run.stored.system,
        "temperature": f"{run.stored.temperature_k:g}",
        "n_samples": run.results.get("n_samples"),
        "n_reference": run.results.get("n_reference"),
        "verdict": verdict(run.results),
        "tiles": facts.tiles(run),
        "asked": facts.asked(run),
        "settings": changed_settings(run.config),
        "groups": facts.groups(run),
        "stored": bool(run.results.get("stored_reference")),
        "structures": structures(run),
        "sections": _sections(run, ink),
        "stages": facts.stages(run),
        "reproduce": facts.reproduce(run),
    }
    return write_page("report.html.j2", path or directory / REPORT_FILE, ink, **context)


def _sections(run: FinishedRun, ink: Ink) -> list[dict[str, Any]]:
    """The sections that have something to show or to say."""
    found = []
    for section in SECTIONS.values():
        charts_ = [ink.chart(panel) for panel in section.panels(run)]
        text = section.intro if charts_ else section.without(run)
        if charts_ or text:
            given = {"key": section.key, "title": section.title, "text": text, "charts": charts_}
            found.append({**given, "facts": section.facts(run) if charts_ else []})
    return found
