"""What a run's report shows as charts: one list, which its page and its picture files both go through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.axes import Axes

from boltzgen.rundir.finished_run import FinishedRun


@dataclass(frozen=True)
class Panel:
    """One chart.

    draw
        Draws it on given axes.
    alt, caption
        The text that stands for it, and what is said below it.
    image
        Picture file that it is a part of, without suffix; panels of one image stand side by side.
        One without an image is on the page alone.
    title
        Above it in the picture.
    height
        Of the chart [inches].
    """

    draw: Callable[[Axes], object]
    alt: str
    caption: str
    image: str
    title: str = ""
    height: float = 3.5


Fact = tuple[str, str, str]
"""Name, value, and what it means."""


@dataclass(frozen=True)
class Section:
    """A part of the report.

    key, title
        Anchor and heading.
    panels
        Its charts; a chart that a run has no data for is left out.
    intro
        A sentence above them.
    facts
        Numbers below them.
    without
        What is said where a run has none of the charts; where that is nothing the section is left out.
    """

    key: str
    title: str
    panels: Callable[[FinishedRun], list[Panel]]
    intro: str = ""
    facts: Callable[[FinishedRun], list[Fact]] = lambda run: []
    without: Callable[[FinishedRun], str] = lambda run: ""


SECTIONS: dict[str, Section] = {}
"""By key, in the order of the page."""


def register(section: Section) -> None:
    """Let every report have another section, or replace one."""
    SECTIONS[section.key] = section
