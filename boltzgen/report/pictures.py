"""The charts of a run as picture files, for papers and slides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from boltzgen.report import charts, panels
from boltzgen.report.sections import SECTIONS, Panel
from boltzgen.rundir.finished_run import FinishedRun
from boltzgen.runtime.files import replaced

__all__ = ["charts", "draw_together", "level_consistency", "write_pictures"]  # charts register the sections


def write_pictures(run: FinishedRun, directory: Path) -> list[Path]:
    """A PNG file for every image of every section that the run has data for."""
    drawn = [panel for section in SECTIONS.values() for panel in section.panels(run) if panel.image]
    images = groupby(sorted(drawn, key=lambda panel: panel.image), key=lambda panel: panel.image)
    return [draw_together(list(members), directory / f"{image}.png") for image, members in images]


def draw_together(drawn: Sequence[Panel], path: Path) -> Path:
    """Panels side by side in one file, the legend of each below it."""
    figure = Figure(
        figsize=(4.8 * len(drawn), max(panel.height for panel in drawn) + 0.5), layout="constrained"
    )
    FigureCanvasAgg(figure)
    for axis, panel in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        axis.spines[["top", "right"]].set_visible(False)
        panel.draw(axis)
        if panel.title:
            axis.set_title(panel.title, fontsize=10)
        if axis.get_legend_handles_labels()[0]:
            place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": 2}
            axis.legend(frameon=False, fontsize=8, **place)
    with replaced(path) as partial_file:
        figure.savefig(partial_file, dpi=150, format="png")
    return path


def level_consistency(
    paths: Sequence[Mapping[str, Any]], offsets: Sequence[Mapping[str, Any]], path: Path
) -> Path:
    """How a network's levels agree: sd(log w), J, constants against MBAR, populations."""
    draws = [partial(panels.agreement, paths=paths), partial(panels.offsets, rows=offsets)]
    draws += [partial(panels.populations, paths=paths)] if panels.state_names(paths) else []
    return draw_together([Panel(draw, "", "", path.stem) for draw in draws], path)
