"""What a run's page says in words and numbers, taken from its record: tables, terms, provenance."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from boltzgen.manifest import file_digest
from boltzgen.report.record import Record
from boltzgen.report.structures import formula
from boltzgen.report.table import BOOKKEEPING, COUNTED_LOSSES
from boltzgen.report.text import duration, interval, moment, number, setting, size

TILES = (
    ("Delta F", "kJ/mol", ""),
    ("log Z", "", "over the domain named in the table"),
    ("Kish ESS / n", "", "effective share, without resampling"),
    ("J", "nats", "small where the network's levels agree"),
)
"""Rows that stand at the top, and what is said below those that have no MD value."""
DISTANCES = {"E-W2", "T-W2", "Ramachandran JSD", "interatomic distance W2"}
FILES = ("data/ensemble.h5", "model/energy.safetensors", "samples/ensemble.h5", "results/results.json")


def tiles(record: Record) -> list[dict[str, str]]:
    """The few numbers at the top."""
    found = []
    for quantity, unit, hint in TILES:
        row = record.row(quantity, unit)
        if row is not None and row["value"] is not None:
            md = number(row["reference"], row["reference_error"])
            below = f"MD {md}" if md else hint
            value = number(row["value"], row["error"])
            texts = {"value": value, "interval": interval(row), "below": below or row["note"]}
            found.append({"quantity": quantity, "unit": unit, **texts})
    return found


def asked(record: Record) -> list[tuple[str, str]]:
    """What was asked of the run, as terms and texts."""
    config = record.config
    system = config.get("system") or {}
    entries = [("Workflow", str(config.get("description") or config.get("name") or ""))]
    topology = record.topology
    atoms = "" if topology is None else f", {topology.n_atoms} atoms ({formula(topology)})"
    entries.append(("System", f"{record.results['system']}{atoms}"))
    parameters = dict(system.get("parameters") or {})
    entries += [(_title(key), setting(value)) for key, value in parameters.items() if key != "temperature_k"]
    entries.append(("Temperature", _temperature(record)))
    for state in record.states:
        spans = " or ".join(f"[{number(a)}, {number(b)})" for a, b in state.intervals)
        entries.append((f"State {state.name}", f"{state.cv.name} in {spans} {state.cv.unit}"))
    entries.append(("Stereochemistry", "; ".join(record.diagnostics.get("stereochemistry") or ())))
    if config.get("pretrained"):
        entries.append(("Network", f"{config['pretrained']}, which comes with boltzgen"))
    trajectory = (config.get("data") or {}).get("trajectory")
    if trajectory:
        entries.append(("MD", f"given: {', '.join(Path(str(name)).name for name in trajectory)}"))
    recorded = record.manifest.get("recorded") or {}
    entries.append(("About the MD", "; ".join(recorded.get("data_remarks") or ())))
    left_out = recorded.get("frames_left_out")
    if left_out:
        entries.append(("Frames left out", f"{left_out:,} of the MD, which are other isomers"))
    return [(term, text) for term, text in entries if text]


def groups(record: Record) -> list[dict[str, Any]]:
    """The rows of the results, every one of them, in groups."""
    titles = ("Thermodynamics", "Distance to the MD reference", "Diagnostics", "Counts and cost")
    members: dict[str, list[dict[str, str]]] = {title: [] for title in titles}
    for row in record.rows:
        if row["quantity"] in BOOKKEEPING | COUNTED_LOSSES:
            title = titles[3]
        elif row["quantity"] in DISTANCES:
            title = titles[1]
        else:
            title = titles[0 if row["reference"] is not None or row["quantity"] == "log Z" else 2]
        members[title].append(shown(row))
    return [{"title": title, "rows": rows} for title, rows in members.items() if rows]


def shown(row: Mapping[str, Any]) -> dict[str, str]:
    """A row as text, with how far model and reference are apart where both have errors."""
    errors = row["error"], row["reference_error"]
    apart = ""
    if all(isinstance(e, float) and e > 0 for e in errors) and all(
        isinstance(row[key], float) for key in ("value", "reference")
    ):
        apart = number(round((row["value"] - row["reference"]) / math.hypot(*errors), 1) + 0.0)
    return {
        "quantity": row["quantity"],
        "unit": row["unit"],
        "note": row["note"],
        "value": number(row["value"], row["error"]),
        "interval": interval(row),
        "reference": number(row["reference"], row["reference_error"]),
        "apart": apart,
    }


def weights(record: Record) -> list[tuple[str, str, str]]:
    """What the weights amount to: name, number and what it means."""
    facts = []
    tail = record.diagnostics.get("weights_tail") or {}
    shapes = (
        (tail.get("k"), tail.get("error"), "of the weights used, as they descend from each ancestor"),
        (record.diagnostics.get("pareto_k"), None, "of the weights without resampling"),
    )
    for k, error, of_what in shapes:
        if isinstance(k, float):
            sense = (
                "below 0.7: well behaved" if k < 0.7 else "above 0.7: the tail is too heavy for plain means"
            )
            facts.append(("Pareto k̂", number(round(k, 2), error), f"{of_what}; {sense}"))
    if record.samples is not None:
        shares = record.samples.weights
        top = float(np.sort(shares)[-max(1, len(shares) // 100) :].sum())
        ess = record.samples.ess
        facts.append(("Kish ESS", number(round(ess)), f"of {len(shares):,d} samples, blind to ancestry"))
        facts.append(("Heaviest 1 %", f"{top:.1%}", "of all weight is theirs"))
    return facts


def stages(record: Record) -> list[dict[str, Any]]:
    """When every stage finished, how long it took, and its share of the whole."""
    done = dict(record.manifest.get("stages") or {})
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


def reproduce(record: Record) -> dict[str, Any]:
    """Command, settings, versions, seed and hashes."""
    manifest, config = record.manifest, record.directory / "config.yaml"
    name = shlex.quote(record.name)
    files = [(file, record.directory / file) for file in FILES]
    versions = [(k, v or "not installed") for k, v in (manifest.get("versions") or {}).items()]
    return {
        "command": f"boltzgen run {name}/config.yaml --out {shlex.quote(record.name + '-again')}",
        "config": config.read_text(encoding="utf-8"),
        "seed": manifest.get("seed"),
        "versions": [*versions, ("Python", manifest.get("python")), ("machine", manifest.get("machine"))],
        "recorded": [item for item in (manifest.get("recorded") or {}).items() if item[0] != "data_remarks"],
        "files": [(f, size(p.stat().st_size), file_digest(p)) for f, p in files if p.is_file()],
        "inputs": [
            (stage, name, value)
            for stage, entry in (manifest.get("stages") or {}).items()
            for name, value in (entry.get("inputs") or {}).items()
        ],
    }


def _temperature(record: Record) -> str:
    """The temperature sampled, and that of the data where it is another."""
    asked_for = (record.config.get("sample") or {}).get("temperature_k")
    data = ((record.config.get("system") or {}).get("parameters") or {}).get("temperature_k")
    other = f" (the data are at {data:g} K)" if asked_for and data and asked_for != data else ""
    return f"{record.temperature_k:g} K{other}"


def _title(key: str) -> str:
    return key.replace("_", " ").capitalize()
