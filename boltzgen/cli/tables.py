"""What commands print: tables of results, of a system, of a run to come, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from boltzgen.ensemble.uncertainty import Estimate
from boltzgen.report.text import with_bound, with_error
from boltzgen.rundir.stored_results import StoredResults
from boltzgen.system.collective_variables import CollectiveVariable
from boltzgen.system.labels import both_names
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.workflow.check import Check
from boltzgen.workflow.rehearsal import Rehearsal

VERDICT_STYLE = {"trusted": "green", "caution": "yellow", "not trusted": "red"}


def closing_table(results: Mapping[str, Any]) -> Group:
    """Quantity, model and references of the rows of `boltzgen.analyze.stage.analyze`; notes below."""
    table = Table(
        title=escape(f"{results['system']} at {results['temperature_k']:g} K"), title_justify="left"
    )
    table.add_column("quantity", overflow="fold")
    table.add_column("model", justify="right", no_wrap=True)
    table.add_column("MD reference", justify="right", no_wrap=True)
    stored = bool(results.get("stored_reference"))
    if stored:
        table.add_column("stored reference", justify="right", no_wrap=True)
    notes: list[str] = []
    for row in StoredResults(results).rows:
        if row["group"] == "cost" or (row["group"] == "losses" and not row["value"]):
            continue
        name = row["quantity"] + (f" ({row['unit']})" if row["unit"] else "")
        if row["note"]:
            if row["note"] not in notes:
                notes.append(row["note"])
            name += f" [{notes.index(row['note']) + 1}]"
        model = with_bound(row)
        reference = with_error(row["reference"], row["reference_error"])
        more = [with_error(row["stored"], row["stored_error"])] if stored else []
        table.add_row(escape(name), model, reference, *more)
    return Group(table, *(Text(f"[{k}] {note}", style="dim") for k, note in enumerate(notes, start=1)))


def verdict_panel(results: Mapping[str, Any]) -> Panel:
    """The verdict with its reasons, and observations that do not change it."""
    verdict = results["verdict"]
    level = verdict["level"]
    lines = [Text(f"- {reason}") for reason in verdict["reasons"]]
    lines += [Text(f"- {observation}", style="dim") for observation in verdict.get("observations", [])]
    style = VERDICT_STYLE.get(level, "yellow")
    return Panel(Group(*lines), title=f"verdict: {escape(level)}", title_align="left", border_style=style)


def difference_table(a: str, b: str, found: Mapping[str, Estimate], temperatures_k: Sequence[float]) -> Group:
    """Free energy differences by estimator; in kJ/mol too where the two temperatures are one."""
    table = Table(title=escape(f"-ln(Z of {b} / Z of {a})"), title_justify="left")
    table.add_column("estimator")
    isothermal = temperatures_k[0] == temperatures_k[1]
    for unit in ("kT", "kJ/mol") if isothermal else ("kT",):
        table.add_column(unit, justify="right", no_wrap=True)
    notes = []
    for name, estimate in found.items():
        values = [estimate, estimate.in_kj_mol(temperatures_k[0])] if isothermal else [estimate]
        table.add_row(name, *(with_error(e.value, e.error) for e in values))
        notes += [Text(f"{name}: {estimate.note}", style="dim")] if estimate.note else []
    return Group(table, *notes)


def check_table(check: Check) -> Group:
    """What `boltzgen.workflow.check.check` found, as tables to read from top to bottom."""
    system = check.system
    facts = Table(title=escape(f"{system.name} at {system.temperature_k:g} K"), title_justify="left")
    facts.add_column("property")
    facts.add_column("found", overflow="fold")
    facts.add_row("atoms", f"{system.n_atoms} in {int(system.atom_classes.max()) + 1} classes")
    facts.add_row("exchangeable atoms", escape(_exchangeable(system)))
    if system.names_in_file:
        facts.add_row("names in the file", escape(_names_in_file(system)))
    for notice in system.notices:
        facts.add_row("warning", escape(notice), style="yellow")
    for cv in system.collective_variables:
        facts.add_row(escape(f"variable {cv.name}"), escape(f"{cv.kind} {_atoms_of(system, cv)}".rstrip()))
    facts.add_row("domain of Z", escape(check.domain.description))
    for entry in check.stereochemistry:
        style = "yellow" if "not L" in entry.remark else ""
        told = ", ".join(filter(None, (entry.arrangement, entry.remark)))
        facts.add_row(escape(f"{entry.name} of {entry.residue}"), escape(told), style=style)
    mirror = "leaves the energy unchanged" if check.invariance.mirror_symmetric else "changes the energy"
    facts.add_row("reflection", mirror)
    if check.stored_reference:
        facts.add_row("stored reference", escape(f"{check.stored_reference}: runs are compared with it"))
    facts.add_row("forces", escape(", ".join(check.forces)))
    for name, potential in check.potentials.items():
        facts.add_row(f"energies in {name}", escape(f"{potential.backend}: {potential.reason}"))
    if not check.throughput:
        return Group(facts)
    speed = Table(title="energies and forces, configurations per second", title_justify="left")
    speed.add_column("evaluator")
    speed.add_column("per second", justify="right")
    fastest = max(check.throughput.values())
    for name, value in check.throughput.items():
        speed.add_row(name, f"{value:,.0f}", style="bold" if value == fastest else "")
    return Group(facts, speed)


def rehearsal_table(rehearsal: Rehearsal) -> Group:
    """What a rehearsal found: the system, and what a run would do of each stage."""
    stages = Table(title=escape(f"stages of {rehearsal.name}"), title_justify="left")
    for column in ("stage", "runs because", "forecast", "memory", "disk"):
        stages.add_column(
            column, overflow="fold", justify="right" if column in ("memory", "disk") else "left"
        )
    for outlook in rehearsal.stages:
        room = [
            f"{needed / 1e6:,.0f} MB" if needed >= 1e6 else "" for needed in (outlook.memory, outlook.disk)
        ]
        why = "-" if outlook.why is None else outlook.why
        forecast = "done" if outlook.why is None else outlook.forecast
        stages.add_row(outlook.stage, escape(why), escape(forecast.removeprefix("estimate: ")), *room)
    note = Text("times are estimates; memory is the least that is needed, disk what is written", style="dim")
    return Group(check_table(rehearsal.check), stages, note)


def _exchangeable(system: MolecularSystem) -> str:
    """Classes of more than one atom, by atom index."""
    classes = system.atom_classes
    members = [[i for i in range(system.n_atoms) if classes[i] == k] for k in range(int(classes.max()) + 1)]
    groups = [group for group in members if len(group) > 1]
    return " ".join("{" + _ranges(group) + "}" for group in groups) or "none"


def _atoms_of(system: MolecularSystem, cv: CollectiveVariable) -> str:
    """Atoms of a variable by name, or their number where they are many."""
    if len(cv.atoms) > 4 or not cv.atoms:
        return f"of {len(cv.atoms) or 'all'} atoms"
    labels, atoms = system.labels, list(system.topology.atoms())
    return " - ".join(labels.atom(atoms[k]) for k in cv.atoms)


def _names_in_file(system: MolecularSystem) -> str:
    """Atoms that OpenMM calls otherwise than the file, by residue."""
    labels, told = system.labels, []
    for residue in system.topology.residues():
        atoms = [both_names(labels, a) for a in residue.atoms() if labels.name(a) != a.name]
        called = labels.residue(residue)
        if called.split()[0] != residue.name:
            told.append(f"{called} (here {residue.name})")
        told += [f"{', '.join(atoms)} of {called}"] if atoms else []
    return "; ".join(told)


def _ranges(indices: list[int]) -> str:
    """``[0, 1, 2, 5]`` as ``0-2,5``."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and index == parts[-1][-1] + 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
