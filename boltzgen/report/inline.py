"""Panels as SVG inside an HTML page: no background, the text's colour from the page, unique ids."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from boltzgen.report.panels import UNVISITED
from boltzgen.report.sections import Panel

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "boltzgen",
    "font.size": 9.5,
    "legend.fontsize": 8.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
MIN_CONTRAST = 4.5
"""Of lines against a dark ground; WCAG 2.2 asks for 3 (success criterion 1.4.11)."""
DARK_GROUND = "#1b1e24"
"""The card that figures lie on in dark mode; `page.css` has the same."""
DARK_UNVISITED = "#b4bac6"
"""Ground of a map in dark mode: pale enough for the darkest cells, without glare."""


@dataclass(frozen=True)
class Chart:
    """A figure of the page: markup, the text that stands for it, and what is said below it."""

    svg: Markup
    alt: str
    caption: str


@dataclass
class Ink:
    """Draws the charts of one page and remembers their colours, which a dark page lightens."""

    colours: set[str] = field(default_factory=set)
    count: int = 0

    def chart(self, panel: Panel) -> Chart:
        """One panel, its legend below it."""
        self.count += 1
        with rc_context(STYLE):
            figure = Figure(figsize=(4.6, panel.height), layout="constrained")
            FigureCanvasSVG(figure)
            axis = figure.subplots()
            axis.spines[["top", "right"]].set_visible(False)
            panel.draw(axis)
            if axis.get_legend_handles_labels()[0]:
                figure.legend(loc="outside lower center", ncols=2, frameon=False)
            stream = io.StringIO()
            figure.savefig(stream, format="svg", dpi=150)
        svg = _inlined(stream.getvalue(), f"f{self.count}")
        self.colours |= set(re.findall(r"var\(--x([0-9a-f]{6}),", svg))
        opening = f'<svg role="img" aria-label="{escape(panel.alt)}"'
        return Chart(Markup(svg.replace("<svg", opening, 1)), panel.alt, panel.caption)

    def dark_colours(self) -> list[tuple[str, str]]:
        """Name and value of the CSS variables that keep every colour visible on the dark ground."""
        special = {UNVISITED.lower(): DARK_UNVISITED}
        colours = [f"#{colour}" for colour in sorted(self.colours)]
        return [(f"--x{colour[1:]}", special.get(colour) or lightened(colour)) for colour in colours]


def lightened(colour: str, ground: str = DARK_GROUND) -> str:
    """``colour`` mixed with as little white as gives it `MIN_CONTRAST` against a dark ground."""
    base = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    for share in range(0, 101, 5):
        mixed = "#" + "".join(f"{round(c + (255 - c) * share / 100):02x}" for c in base)
        if contrast(mixed, ground) >= MIN_CONTRAST:
            break
    return mixed


def contrast(a: str, b: str) -> float:
    """Contrast ratio of two colours ``#rrggbb`` (WCAG 2.2)."""
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _inlined(svg: str, prefix: str) -> str:
    """A standalone SVG document as an element of an HTML page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', "", svg)
    svg = re.sub(r'(<svg[^>]*?)\swidth="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?)\sheight="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", svg)
    svg = re.sub(r"(fill|stroke): #000000", r"\1: currentColor", svg)
    svg = re.sub(r"(fill|stroke): #([0-9a-f]{6})", r"\1: var(--x\2, #\2)", svg)
    return re.sub(r">\s+<", "><", svg).strip()
