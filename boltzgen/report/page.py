"""report.html: everything a run has to say, on one page that loads nothing and can be sent as it is."""

from __future__ import annotations

from pathlib import Path

from boltzgen.report import charts, facts
from boltzgen.report.inline import Ink
from boltzgen.report.record import read_run
from boltzgen.report.render import verdict, write_page
from boltzgen.report.structures import structures
from boltzgen.report.text import changed_settings

FILE_NAME = "report.html"


def write_report(directory: Path, path: Path | None = None) -> Path:
    """Write the page of the run in ``directory``, by default beside its other files.

    Raises DataError for a directory without a finished run.
    """
    record, ink = read_run(directory), Ink()
    context = {
        "run": record.name,
        "system": record.results["system"],
        "temperature": f"{record.temperature_k:g}",
        "n_samples": record.results.get("n_samples"),
        "n_reference": record.results.get("n_reference"),
        "verdict": verdict(dict(record.results)),
        "tiles": facts.tiles(record),
        "asked": facts.asked(record),
        "settings": changed_settings(record.config),
        "groups": facts.groups(record),
        "maps": charts.maps(record, ink),
        "profiles": charts.profiles(record, ink),
        "energies": charts.energies(record, ink),
        "weights": facts.weights(record),
        "ladder": charts.ladder(record, ink),
        "training": charts.training(record, ink),
        "pretrained": record.config.get("pretrained"),
        "structures": structures(record),
        "stages": facts.stages(record),
        "reproduce": facts.reproduce(record),
    }
    return write_page("report.html.j2", path or directory / FILE_NAME, ink, **context)
