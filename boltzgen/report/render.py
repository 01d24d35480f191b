"""Templates to text: everything from a run is escaped, and the page may load nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from boltzgen import __version__
from boltzgen.errors import ConfigError
from boltzgen.report.inline import Ink
from boltzgen.runtime.files import write_atomically

VERDICTS = {
    "trusted": ("trusted", "✓", "No warnings. The numbers are as good as their error bars."),
    "caution": (
        "caution",
        "!",
        "Something is thin. Take the direction of the numbers, not their last digits; more particles or "
        "more training usually help.",
    ),
    "not trusted": (
        "refused",
        "✕",
        "The sample has lost something, or its weights do not hold. Do not use the numbers.",
    ),
}
"""Class of the badge, its mark and its meaning, by level."""


def verdict(results: dict[str, Any]) -> dict[str, Any]:
    """The verdict of a results file, as templates want it."""
    given = results["verdict"]
    level = str(given["level"])
    style, mark, meaning = VERDICTS.get(level, VERDICTS["caution"])
    return {
        "level": level,
        "style": style,
        "mark": mark,
        "meaning": meaning,
        "reasons": list(given.get("reasons") or []),
        "observations": list(given.get("observations") or []),
    }


def write_page(template: str, path: Path, ink: Ink, **context: Any) -> Path:
    """Render a template with the page's style and script and write it as one file."""
    environment = Environment(
        loader=PackageLoader("boltzgen.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _asset("page.js")
    text = environment.get_template(template).render(
        css=Markup(_asset("page.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        dark_colours=ink.dark_colours(),
        version=__version__,
        **context,
    )
    try:
        write_atomically(path, text)
    except OSError as error:
        raise ConfigError(path, f"cannot be written ({error.strerror})", "choose another --out") from None
    return path


def _asset(name: str) -> str:
    return (resources.files("boltzgen.report") / "templates" / name).read_text(encoding="utf-8")
