"""Numbers rounded to their error, times, sizes, and settings against their defaults, as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from boltzgen.config.schema import Workflow

MINUS = "\N{MINUS SIGN}"
NOT_SETTINGS = {"name", "description", "system", "quick"}
"""Parts of a workflow that a page shows elsewhere."""


def with_bound(row: Mapping[str, Any]) -> str:
    """Value and error of a row; the lower bound of 95 % confidence where it has but that."""
    low = row.get("low")
    if row["error"] is None and row.get("high") is None and isinstance(low, float):
        return f"> {low:.2f}"
    return with_error(row["value"], row["error"])


def with_error(value: float | str | None, error: float | None) -> str:
    """``1.23 ± 0.04``: the error to two significant digits and the value to the same place."""
    if value is None:
        return "-"
    if isinstance(value, str) or not math.isfinite(value):
        return str(value)
    if error is None or not math.isfinite(error):
        return f"{value:.4g}" if isinstance(value, float) else f"{value:,d}"
    if error <= 0:
        return f"{value:.4g} ± 0"
    places = 1 - math.floor(math.log10(error))
    if places < 0:
        return f"{value:.0f} ± {error:.0f}"
    return f"{value:.{min(places, 6)}f} ± {error:.{min(places, 6)}f}"


def number(value: float | str | None, error: float | None = None) -> str:
    """`with_error`, with a true minus sign; empty where there is no number."""
    if value is None:
        return ""
    if isinstance(value, float) and error is None and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    text = with_error(value, error)
    return text.replace("inf", "∞").replace("e-", f"e{MINUS}").replace("-", MINUS)


def interval(row: Mapping[str, Any]) -> str:
    """``3.49 to 4.09`` of a row of results, rounded as its value is; empty where it has no interval.

    A row that has a lower bound alone gives ``above 3.49``.
    """
    ends = row.get("low"), row.get("high")
    if isinstance(ends[0], float) and ends[1] is None:
        return f"above {number(round(ends[0], 2))}"
    if not all(isinstance(end, float) for end in ends) or row["error"] is None:
        return ""
    low, high = (number(end, row["error"]).partition(" ±")[0] for end in ends)
    return f"{low} to {high}"


def duration(seconds: float | None) -> str:
    """``1 h 12 min``, ``3 min 05 s`` or ``4.2 s``."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def file_size(n_bytes: int) -> str:
    """``12.3 MB``."""
    if n_bytes < 1000:
        return f"{n_bytes} B"
    power = min(int(math.log10(n_bytes) // 3), 3)
    return f"{n_bytes / 1000**power:.1f} {('B', 'kB', 'MB', 'GB')[power]}"


def moment(stamp: str) -> str:
    """``2026-03-01 14:05 UTC`` of an ISO time; what cannot be read stays as it is."""
    try:
        return datetime.fromisoformat(stamp).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return stamp


def setting(value: Any) -> str:
    """A setting's value in one line."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(setting(item) for item in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {setting(item)}" for key, item in value.items()) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted key; lists and the system's parameters are values."""
    result: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            result |= {f"{key}.{inner}": item for inner, item in flat(value).items()}
        else:
            result[key] = value
    return result


def changed_settings(config: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Dotted key, value and default of every setting that is not at its default."""
    defaults: dict[str, Any] = {}
    for name, field in Workflow.model_fields.items():
        default = field.get_default(call_default_factory=True)
        defaults[name] = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
    known = flat({name: value for name, value in defaults.items() if name not in NOT_SETTINGS})
    given = flat({name: value for name, value in config.items() if name not in NOT_SETTINGS})
    return [
        (key, setting(value), setting(known.get(key)))
        for key, value in given.items()
        if key not in known or value != known[key]
    ]
