"""The analysis stage: free energies, distances to the MD reference and the verdict of one run."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from boltzgen.analyze import distances, free_energy
from boltzgen.analyze.free_energy import PMF, Estimate, Surface
from boltzgen.analyze.known_systems import reference_of
from boltzgen.analyze.rows import (
    Row,
    StateComparison,
    delta_f_names,
    diagnostic_rows,
    distance_rows,
    free_energy_rows,
    observable_rows,
    sampler_rows,
    state_rows,
)
from boltzgen.analyze.stored_reference import (
    about,
    beside_stored,
    disagreements,
    stored_distance_rows,
    stored_profiles,
    stored_values,
)
from boltzgen.config.schema import AnalyzeSettings
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.runtime.files import atomic_directory
from boltzgen.smc.bounds import MIN_INDEPENDENT
from boltzgen.system.molecular_system import MolecularSystem

KERNEL_BINS = 144
"""At whose centres kernel estimates are given."""
VERDICT_LEVELS = ("trusted", "caution", "not trusted")
"""Verdicts from best to worst."""


def analyze(
    system: MolecularSystem,
    samples: WeightedEnsemble,
    reference: WeightedEnsemble,
    diagnostics: Mapping[str, Any],
    settings: AnalyzeSettings,
    seed: int,
) -> dict[str, Any]:
    """Compare a sample with MD: rows, profiles, surfaces and the verdict.

    ``diagnostics`` comes from the sampler; keys it lacks are left out. In the returned dictionary numbers
    that JSON cannot hold are the strings "inf" and "-inf", or None for NaN. Raises NumericalError if every
    weight is zero.
    """
    states = _compare_states(system, samples, reference, settings, seed)
    delta_f = _delta_f(system, samples, reference, settings, seed)
    stored = reference_of(system)
    rows = [
        *sampler_rows(samples, reference, diagnostics, settings, seed),
        *free_energy_rows(system, delta_f),
        *state_rows(states),
        *observable_rows(system, samples, reference, settings, seed),
        *distance_rows(system, samples, reference, settings, seed),
        *diagnostic_rows(diagnostics),
    ]
    named = list(zip(delta_f_names(system), delta_f, strict=True))
    verdict = closing_verdict(diagnostics.get("verdict"), states, named)
    if stored is not None:
        most = settings.max_transport_samples
        rows = beside_stored(rows, stored_values(stored, system))
        rows += stored_distance_rows(stored, samples, reference, most, seed)
        verdict = _lowered(verdict, disagreements(rows))
    profiles = _profiles(system, samples, reference, settings, seed)
    smooth = _kernel_profiles(system, samples, reference, profiles, settings, seed)
    surfaces = _surfaces(system, samples, reference, settings, seed)
    results = {
        "system": system.name,
        "temperature_k": system.temperature_k,
        "n_samples": len(samples),
        "n_reference": len(reference),
        "collective_variables": [asdict(cv) for cv in system.collective_variables],
        "states": [asdict(state) for state in system.states],
        "stored_reference": stored and about(stored),
        "rows": [asdict(row) for row in rows],
        "pmf": {name: _pair(pair) for name, pair in profiles.items()},
        "stored_pmf": stored_profiles(stored, system) if stored else {},
        "kernel_pmf": {name: _pair(pair) for name, pair in smooth.items()},
        "surface": surfaces and {"variables": _torsion_names(system), **_pair(surfaces)},
        "verdict": verdict,
        "diagnostics": dict(diagnostics),
    }
    strict: dict[str, Any] = json_safe(results)
    return strict


def write_results(results: Mapping[str, Any], directory: Path) -> None:
    """results.json and results.csv, into a directory that appears complete or not at all."""
    with atomic_directory(directory) as partial:
        (partial / "results.json").write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
        with (partial / "results.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(Row.__dataclass_fields__))
            writer.writeheader()
            writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in results["rows"])


def closing_verdict(
    verdict: Mapping[str, Any] | None,
    states: list[StateComparison],
    delta_f: Sequence[tuple[str, tuple[Estimate, Estimate]]],
) -> dict[str, Any]:
    """The sampler's verdict, lowered for states that MD visits and the sample has lost or barely has.

    A disagreement in Delta F is an observation and does not change the level: the MD may be the one
    that is wrong.
    """
    verdict = verdict or {"level": "caution", "reasons": ["the sampler gave no verdict"]}
    level, reasons = verdict["level"], list(verdict.get("reasons", ()))
    for state in states:
        if not state.reference.value > 0 or state.independent >= MIN_INDEPENDENT:
            continue
        if any(f"state {state.name} " in reason for reason in reasons):
            continue  # the sampler has said so already
        lost = state.independent == 0
        level = max(level, "not trusted" if lost else "caution", key=VERDICT_LEVELS.index)
        share = f"the state {state.name} (population {state.reference.value:.3g} in the MD reference)"
        reasons.append(
            f"{share} is absent from the sample"
            if lost
            else f"{share} is supported by {state.independent} independent samples, fewer than "
            f"{MIN_INDEPENDENT}"
        )
    observations = [line for name, pair in delta_f for line in _disagreement(name, *pair)]
    return {"level": level, "reasons": reasons, "observations": observations}


def _lowered(verdict: dict[str, Any], reasons: list[str]) -> dict[str, Any]:
    """A verdict with further reasons for caution."""
    level = max(verdict["level"], "caution", key=VERDICT_LEVELS.index) if reasons else verdict["level"]
    return {**verdict, "level": level, "reasons": [*verdict["reasons"], *reasons]}


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
        compared.append(StateComparison(state.name, model, md, free_energy.n_independent(samples, inside[0])))
    return compared


def _delta_f(
    system: MolecularSystem,
    samples: WeightedEnsemble,
    reference: WeightedEnsemble,
    settings: AnalyzeSettings,
    seed: int,
) -> list[tuple[Estimate, Estimate]]:
    """Delta F of every pair of states, of the sample and of the reference."""
    found = []
    for a, b in system.state_pairs:
        model, md = (
            free_energy.free_energy_difference(ensemble, a, b, settings.n_bootstrap, seed)
            for ensemble in (samples, reference)
        )
        found.append((model, md))
    return found


def _disagreement(name: str, model: Estimate, reference: Estimate) -> list[str]:
    if model.error is None or reference.error is None:
        return []
    gap, tolerance = model.value - reference.value, 2 * math.hypot(model.error, reference.error)
    if abs(gap) <= tolerance:
        return []
    return [
        f"{name} differs from the MD reference by {gap:+.2f} kT, more than two combined standard errors "
        f"({tolerance:.2f} kT)"
    ]


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


def _kernel_profiles(
    system: MolecularSystem,
    samples: WeightedEnsemble,
    reference: WeightedEnsemble,
    profiles: Mapping[str, tuple[PMF, PMF]],
    settings: AnalyzeSettings,
    seed: int,
) -> dict[str, tuple[PMF, PMF]]:
    """Kernel estimates of the same profiles on the same range, model and reference."""
    smooth = {}
    for cv in system.collective_variables:
        edges = profiles[cv.name][1].bin_edges
        bins = np.linspace(edges[0], edges[-1], KERNEL_BINS + 1)
        model, md = (
            free_energy.kernel_pmf(ensemble, cv, bins, n_bootstrap=settings.n_bootstrap, seed=seed)
            for ensemble in (samples, reference)
        )
        smooth[cv.name] = (model, md)
    return smooth


def _surfaces(
    system: MolecularSystem,
    samples: WeightedEnsemble,
    reference: WeightedEnsemble,
    settings: AnalyzeSettings,
    seed: int,
) -> tuple[Surface, Surface] | None:
    """Free energy over the first two torsions, of model and reference; None where there are not two."""
    torsions = distances.torsion_pair(system)
    if torsions is None:
        return None
    model, md = (
        free_energy.free_energy_surface(ensemble, torsions, settings.n_bins, settings.n_bootstrap, seed)
        for ensemble in (samples, reference)
    )
    return model, md


def _torsion_names(system: MolecularSystem) -> list[str]:
    return [cv.name for cv in distances.torsion_pair(system) or ()]


def _pair(pair: tuple[PMF, PMF] | tuple[Surface, Surface]) -> dict[str, Any]:
    return {"model": asdict(pair[0]), "reference": asdict(pair[1])}
