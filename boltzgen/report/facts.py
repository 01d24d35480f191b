"""What a run's page says in words and numbers, taken from its record: tables, terms, provenance."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boltzgen.analyze.rows import GROUPS
from boltzgen.report.molecules import formula
from boltzgen.report.text import duration, file_size, interval, moment, number, setting
from boltzgen.rundir.finished_run import DATA, SAMPLES, FinishedRun
from boltzgen.rundir.manifest import file_digest

TILES = (
    ("delta_f_kj_mol", ""),
    ("log_z", "over the domain named in the table"),
    ("kish_ess_fraction", "effective share, without resampling"),
    ("jeffreys", "small where the network's levels agree"),
)
"""Keys of the rows at the top, and what is said below those that have no MD value."""
FILES = (DATA, "model/energy.safetensors", SAMPLES, "results/results.json")


def tiles(run: FinishedRun) -> list[dict[str, str]]:
    """The few numbers at the top."""
    found = []
    for key, hint in TILES:
        row = run.stored.row(key)
        if row is not None and row["value"] is not None:
            md = number(row["reference"], row["reference_error"])
            stored = number(row["stored"], row["stored_error"])
            below = f"MD {md}{stored and f', stored reference {stored}'}" if md else hint
            value = number(row["value"], row["error"])
            texts = {"value": value, "interval": interval(row), "below": below or row["note"]}
            found.append({"quantity": row["quantity"], "unit": row["unit"], **texts})
    return found


def asked(run: FinishedRun) -> list[tuple[str, str]]:
    """What was asked of the run, as terms and texts."""
    config = run.config
    system = config.get("system") or {}
    entries = [("Workflow", str(config.get("description") or config.get("name") or ""))]
    topology = run.topology
    atoms = "" if topology is None else f", {topology.n_atoms} atoms ({formula(topology)})"
    entries.append(("System", f"{run.stored.system}{atoms}"))
    parameters = dict(system.get("parameters") or {})
    entries += [(_title(key), setting(value)) for key, value in parameters.items() if key != "temperature_k"]
    entries.append(("Temperature", _temperature(run)))
    for state in run.stored.states:
        spans = " or ".join(f"[{number(a)}, {number(b)})" for a, b in state.intervals)
        entries.append((f"State {state.name}", f"{state.cv.name} in {spans} {state.cv.unit}"))
    entries.append(("Stereochemistry", "; ".join(run.stored.diagnostics.get("stereochemistry") or ())))
    if config.get("pretrained"):
        entries.append(("Network", f"{config['pretrained']}, which comes with boltzgen"))
    trajectory = (config.get("data") or {}).get("trajectory")
    if trajectory:
        entries.append(("MD", f"given: {', '.join(Path(str(name)).name for name in trajectory)}"))
    stored = run.results.get("stored_reference")
    if stored:
        cost = f"{stored['cost']['ns']:,.0f} ns of MD in {stored['cost']['minutes']:.0f} minutes"
        entries.append(
            ("Stored reference", f"{stored['name']}, {stored['made']}: {cost}, {stored['command']}")
        )
    recorded = run.manifest.get("recorded") or {}
    entries.append(("About the MD", "; ".join(recorded.get("data_remarks") or ())))
    left_out = recorded.get("frames_left_out")
    if left_out:
        entries.append(("Frames left out", f"{left_out:,} of the MD, which are other isomers"))
    return [(term, text) for term, text in entries if text]


def groups(run: FinishedRun) -> list[dict[str, Any]]:
    """The rows of the results, every one of them, in groups."""
    members: dict[str, list[dict[str, str]]] = {title: [] for title in GROUPS.values()}
    for row in run.stored.rows:
        members[GROUPS[row["group"]]].append(shown(row))
    return [{"title": title, "rows": rows} for title, rows in members.items() if rows]


def shown(row: Mapping[str, Any]) -> dict[str, str]:
    """A row as text, with the difference of model and reference in combined errors."""
    return {
        "quantity": row["quantity"],
        "unit": row["unit"],
        "note": row["note"],
        "value": number(row["value"], row["error"]),
        "interval": interval(row),
        "reference": number(row["reference"], row["reference_error"]),
        "difference": _in_errors(row["value"], row["error"], row["reference"], row["reference_error"]),
        "stored": number(row["stored"], row["stored_error"]),
        "stored_difference": _in_errors(row["value"], row["error"], row["stored"], row["stored_error"]),
    }


def _in_errors(value: object, error: object, other: object, other_error: object) -> str:
    """The difference of two numbers in combined errors; nothing where one of them or an error is missing."""
    if not (isinstance(value, float) and isinstance(other, float)):
        return ""
    if not (isinstance(error, float) and isinstance(other_error, float) and min(error, other_error) > 0):
        return ""
    return number(round((value - other) / math.hypot(error, other_error), 1) + 0.0)


def stages(run: FinishedRun) -> list[dict[str, Any]]:
    """When every stage finished, how long it took, and its share of the whole."""
    done = dict(run.manifest.get("stages") or {})
    total = sum(stage.get("seconds") or 0.0 for stage in done.values())
    in_order = sorted(done.items(), key=lambda item: str(item[1].get("finished") or ""))
    listed = [
        {
            "name": name,
            "finished": moment(str(stage.get("finished") or "")),
            "seconds": duration(stage.get("seconds")),
            "share": round(100 * (stage.get("seconds") or 0.0) / total, 1) if total else 0.0,
        }
        for name, stage in in_order
    ]
    return [*listed, {"name": "in all", "finished": "", "seconds": duration(total), "share": None}]


def reproduce(run: FinishedRun) -> dict[str, Any]:
    """Command, settings, versions, seed and hashes."""
    manifest, config = run.manifest, run.path / "config.yaml"
    name = shlex.quote(run.name)
    files = [(file, run.path / file) for file in FILES]
    versions = [(k, v or "not installed") for k, v in (manifest.get("versions") or {}).items()]
    return {
        "command": f"boltzgen run {name}/config.yaml --out {shlex.quote(run.name + '-again')}",
        "config": config.read_text(encoding="utf-8"),
        "seed": manifest.get("seed"),
        "versions": [*versions, ("Python", manifest.get("python")), ("machine", manifest.get("machine"))],
        "recorded": [item for item in (manifest.get("recorded") or {}).items() if item[0] != "data_remarks"],
        "files": [(f, file_size(p.stat().st_size), file_digest(p)) for f, p in files if p.is_file()],
        "inputs": [
            (stage, name, value)
            for stage, entry in (manifest.get("stages") or {}).items()
            for name, value in (entry.get("inputs") or {}).items()
        ],
    }


def _temperature(run: FinishedRun) -> str:
    """The temperature sampled, and that of the data where it is another."""
    asked_for = (run.config.get("sample") or {}).get("temperature_k")
    data = ((run.config.get("system") or {}).get("parameters") or {}).get("temperature_k")
    other = f" (the data are at {data:g} K)" if asked_for and data and asked_for != data else ""
    return f"{run.stored.temperature_k:g} K{other}"


def _title(key: str) -> str:
    return key.replace("_", " ").capitalize()
