"""The analysis stage: free energies, distances to the MD reference, figures and the verdict of one run."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from boltzgen import free_energy, metrics
from boltzgen.config import AnalyzeSettings
from boltzgen.ensemble import MIN_CARRIERS, WeightedEnsemble
from boltzgen.files import atomic_directory
from boltzgen.free_energy import PMF, Estimate
from boltzgen.report import figures
from boltzgen.system import MolecularSystem

LEVELS = ("trusted", "caution", "not trusted")
"""Verdicts from best to worst."""


@dataclass(frozen=True)
class Row:
    """One line of the results: a quantity of the model beside that of the MD reference."""

    quantity: str
    value: float | None
    error: float | None = None
    reference: float | None = None
    reference_error: float | None = None
    unit: str = ""
    note: str = ""


@dataclass(frozen=True)
class StateComparison:
    """Population of one state in both ensembles, and the lineages that carry it in the sample."""

    name: str
    model: Estimate
    reference: Estimate
    carriers: int


def analyze(
    system: MolecularSystem,
    samples: WeightedEnsemble,
    reference: WeightedEnsemble,
    diagnostics: Mapping[str, Any],
    settings: AnalyzeSettings,
    directory: Path,
    seed: int,
    metrics_csv: Path | None = None,
) -> dict[str, Any]:
    """Compare a sample with MD; write results.json, results.csv and PNG figures; return the first.

    ``diagnostics`` comes from the sampler; keys it lacks are left out. ``directory`` appears complete or
    not at all. In the returned dictionary numbers that JSON cannot hold are the strings "inf" and "-inf",
    or None for NaN. Raises NumericalError if every weight is zero.
    """
    states = _compare_states(system, samples, reference, settings, seed)
    delta_f = _delta_f(system, samples, reference, settings, seed)
    rows = [
        *_sampler_rows(samples, reference, diagnostics, settings, seed),
        *_free_energy_rows(system, delta_f),
        *_state_rows(states),
        *_distance_rows(system, samples, reference, settings, seed),
        *_diagnostic_rows(diagnostics),
    ]
    profiles = _profiles(system, samples, reference, settings, seed)
    with atomic_directory(directory) as partial:
        drawn = _draw(system, samples, reference, diagnostics, profiles, partial, metrics_csv)
        results = {
            "system": system.name,
            "temperature_k": system.temperature_k,
            "n_samples": len(samples),
            "n_reference": len(reference),
            "collective_variables": [asdict(cv) for cv in system.collective_variables],
            "states": [asdict(state) for state in system.states],
            "rows": [asdict(row) for row in rows],
            "pmf": {name: {"model": asdict(m), "reference": asdict(r)} for name, (m, r) in profiles.items()},
            "verdict": judge(diagnostics.get("verdict"), states, delta_f),
            "diagnostics": dict(diagnostics),
            "figures": [path.name for path in drawn],
        }
        strict: dict[str, Any] = json_safe(results)
        (partial / "results.json").write_text(json.dumps(strict, indent=1, allow_nan=False) + "\n")
        _write_csv(rows, partial / "results.csv")
    return strict


def judge(
    verdict: Mapping[str, Any] | None,
    states: list[StateComparison],
    delta_f: tuple[Estimate, Estimate] | None,
) -> dict[str, Any]:
    """The sampler's verdict, lowered for states that MD visits and the sample lost or barely carries.

    A disagreement in Delta F is an observation and does not change the level: the MD may be the one
    that is wrong.
    """
    verdict = verdict or {"level": "caution", "reasons": ["the sampler gave no verdict"]}
    level, reasons, observations = verdict["level"], list(verdict.get("reasons", ())), []
    for state in states:
        if not state.reference.value > 0 or state.carriers >= MIN_CARRIERS:
            continue
        if any(f"state {state.name} " in reason for reason in reasons):
            continue  # the sampler has said so already
        lost = state.carriers == 0
        level = max(level, "not trusted" if lost else "caution", key=LEVELS.index)
        share = f"the state {state.name} (population {state.reference.value:.3g} in the MD reference)"
        reasons.append(
            f"{share} is absent from the sample"
            if lost
            else f"{share} is carried by {state.carriers} lineages of the sample, fewer than {MIN_CARRIERS}"
        )
    if delta_f is not None:
        observations = _disagreement(*delta_f)
    return {"level": level, "reasons": reasons, "observations": observations}


def json_safe(value: Any) -> Any:
    """The same nested value with strict-JSON leaves: infinities as strings, NaN as None, arrays as lists."""
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return json_safe(value.tolist())
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    if isinstance(value, np.generic):
        return json_safe(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _compare_states(
    system: MolecularSystem,
    samples: WeightedEnsemble,
    reference: WeightedEnsemble,
    settings: AnalyzeSettings,
    seed: int,
) -> list[StateComparison]:
    compared = []
    for state in system.states:
        inside = [state.members(ensemble.positions) for ensemble in (samples, reference)]
        model, md = (
            free_energy.state_probability(ensemble, members, settings.n_bootstrap, seed)
            for ensemble, members in zip((samples, reference), inside, strict=True)
        )
        compared.append(StateComparison(state.name, model, md, free_energy.n_carriers(samples, inside[0])))
    return compared


def _delta_f(
    system: MolecularSystem,
    samples: WeightedEnsemble,
    reference: WeightedEnsemble,
    settings: AnalyzeSettings,
    seed: int,
) -> tuple[Estimate, Estimate] | None:
    """Delta F between the first two states, of the sample and of the reference."""
    if len(system.states) < 2:
        return None
    model, md = (
        free_energy.free_energy_difference(
            ensemble, system.states[0], system.states[1], settings.n_bootstrap, seed
        )
        for ensemble in (samples, reference)
    )
    return model, md


def _disagreement(model: Estimate, reference: Estimate) -> list[str]:
    if model.error is None or reference.error is None:
        return []
    gap, tolerance = model.value - reference.value, 2 * math.hypot(model.error, reference.error)
    if abs(gap) <= tolerance:
        return []
    return [
        f"Delta F differs from the MD reference by {gap:+.2f} kT, more than two combined standard errors "
        f"({tolerance:.2f} kT)"
    ]


def _sampler_rows(
    samples: WeightedEnsemble,
    reference: WeightedEnsemble,
    diagnostics: Mapping[str, Any],
    settings: AnalyzeSettings,
    seed: int,
) -> list[Row]:
    log_z = diagnostics.get("log_z", samples.log_z)
    rows = []
    if log_z is not None:
        error = diagnostics.get("log_z_error", samples.log_z_error)
        rows.append(Row("log Z", log_z, error, note=str(diagnostics.get("z_domain", ""))))
    model, md = (
        free_energy.expectation(ensemble, ensemble.reduced_energies, settings.n_bootstrap, seed)
        for ensemble in (samples, reference)
    )
    return [*rows, _compared("mean reduced energy", model, md, "kT")]


def _free_energy_rows(system: MolecularSystem, delta_f: tuple[Estimate, Estimate] | None) -> list[Row]:
    if delta_f is None:
        return []
    a, b = (state.name for state in system.states[:2])
    definition = f"-ln(P {a} / P {b})"
    model, md = delta_f
    model = replace(model, note="; ".join(filter(None, [definition, model.note])))
    plain = [Estimate(e.value, e.error).in_kj_mol(system.temperature_k) for e in delta_f]
    return [
        _compared("Delta F", model, md, "kT"),
        _compared("Delta F", plain[0], plain[1], "kJ/mol"),
    ]


def _state_rows(states: list[StateComparison]) -> list[Row]:
    return [_compared(f"population {state.name}", state.model, state.reference, "") for state in states]


def _compared(quantity: str, model: Estimate, reference: Estimate, unit: str) -> Row:
    notes = [model.note, reference.note and f"MD: {reference.note}"]
    note = "; ".join(filter(None, notes))
    return Row(quantity, model.value, model.error, reference.value, reference.error, unit, note)


def _distance_rows(
    system: MolecularSystem,
    samples: WeightedEnsemble,
    reference: WeightedEnsemble,
    settings: AnalyzeSettings,
    seed: int,
) -> list[Row]:
    distances = [("E-W2", metrics.energy_w2(samples, reference, seed), "kT")]
    torsions = metrics.torsion_pair(system)
    if torsions is not None:
        n, bins = settings.max_transport_samples, settings.n_bins
        distances += [
            ("T-W2", metrics.torsion_w2(samples, reference, torsions, n, seed), "rad"),
            ("Ramachandran JSD", metrics.ramachandran_jsd(samples, reference, torsions, bins, seed), "nats"),
        ]
    return [
        Row(
            name,
            d.value,
            None,
            d.noise_floor,
            None,
            unit,
            f"{d.n_samples} samples; MD: noise floor",
        )
        for name, d, unit in distances
    ]


def _diagnostic_rows(diagnostics: Mapping[str, Any]) -> list[Row]:
    known = (
        ("kish_ess_fraction", "Kish ESS / n", "", "unclipped, annealing without resampling, at sigma_min"),
        ("pareto_k", "Pareto k-hat", "", "of the same weights; below 0.7 they are well behaved"),
        ("genealogical_ess", "genealogical ESS", "", "effective samples by surviving ancestors"),
        ("jeffreys", "J", "nats", "forward minus reverse mean log weight at sigma_min"),
        ("bar_log_z_gap", "log Z by BAR - log Z", "", "between forward and reverse paths"),
        ("n_ancestors", "distinct ancestors", "", ""),
        ("non_finite", "non-finite energies", "", "weight zero"),
        ("wrong_hand", "mirror images folded", "", ""),
        ("diastereomers", "diastereomers", "", ""),
        ("network_evaluations", "network evaluations", "", ""),
        ("target_evaluations", "target evaluations", "", ""),
        ("target_seconds", "time on target energies", "s", ""),
        ("seconds", "sampling time", "s", ""),
    )
    rows = [
        Row(label, diagnostics[key], unit=unit, note=note)
        for key, label, unit, note in known
        if diagnostics.get(key) is not None
    ]
    per_state = diagnostics.get("ancestors_per_state") or {}
    return rows + [Row(f"ancestors in {state}", n) for state, n in per_state.items()]


def _profiles(
    system: MolecularSystem,
    samples: WeightedEnsemble,
    reference: WeightedEnsemble,
    settings: AnalyzeSettings,
    seed: int,
) -> dict[str, tuple[PMF, PMF]]:
    """PMFs of model and reference along every collective variable, on the bins of the reference."""
    profiles = {}
    for cv in system.collective_variables:
        md = free_energy.potential_of_mean_force(reference, cv, settings.n_bins, settings.n_bootstrap, seed)
        limits = float(md.bin_edges[0]), float(md.bin_edges[-1])
        model = free_energy.potential_of_mean_force(
            samples, cv, settings.n_bins, settings.n_bootstrap, seed, limits
        )
        profiles[cv.name] = (model, md)
    return profiles


def _draw(
    system: MolecularSystem,
    samples: WeightedEnsemble,
    reference: WeightedEnsemble,
    diagnostics: Mapping[str, Any],
    profiles: Mapping[str, tuple[PMF, PMF]],
    directory: Path,
    metrics_csv: Path | None,
) -> list[Path]:
    """Every figure that the run has data for, in the order a reader wants them."""
    drawn: list[Path | None] = []
    torsions = metrics.torsion_pair(system)
    if torsions is not None:
        drawn.append(figures.ramachandran(samples, reference, torsions, directory / "ramachandran.png"))
    for cv in system.collective_variables:
        name = "".join(c if c.isalnum() else "_" for c in cv.name)
        drawn.append(figures.pmf(cv, *profiles[cv.name], directory / f"pmf_{name}.png"))
    drawn.append(figures.reduced_energies(samples, reference, directory / "reduced_energies.png"))
    levels, paths = diagnostics.get("levels") or [], diagnostics.get("paths") or []
    if levels or paths:
        drawn.append(figures.annealing(levels, paths, directory / "annealing.png"))
    drawn.append(figures.level_populations(paths, directory / "level_populations.png"))
    drawn.append(figures.training(metrics_csv, directory / "training.png"))
    return [path for path in drawn if path is not None]


def _write_csv(rows: list[Row], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(Row.__dataclass_fields__))
        writer.writeheader()
        writer.writerows({k: "" if v is None else v for k, v in asdict(row).items()} for row in rows)
