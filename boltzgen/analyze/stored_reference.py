"""A run beside the stored reference of its system, where one comes with boltzgen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import ot

from boltzgen.analyze.distances import (
    torsion_values,
    torus_w2,
    transport_w2,
    wasserstein_2,
    with_finite_energy,
)
from boltzgen.analyze.rows import (
    DELTA_F,
    DELTA_F_KJ_MOL,
    MEAN_ENERGY,
    Row,
    delta_f_key,
    delta_f_keys,
    population_key,
)
from boltzgen.ensemble.uncertainty import SURE, Estimate
from boltzgen.ensemble.weighted import Array, WeightedEnsemble
from boltzgen.references.reference import Reference
from boltzgen.system.collective_variables import CollectiveVariable, State
from boltzgen.system.molecular_system import MolecularSystem

SAME_ANGLE = 1e-3
"""Ends of intervals [rad] that agree so well are the same."""
DISTANCES = {"energy_w2": ("E-W2", "kT"), "torsion_w2": ("T-W2", "rad"), "tica_w2": ("TICA-W2", "")}
"""Names and units by the keys of noise floors."""


def stored_values(reference: Reference, system: MolecularSystem) -> dict[str, Estimate]:
    """What a reference says of the rows of results, by their keys; states are known by what they are.

    Errors that are but lower bounds are left out.
    """
    known = {key: _estimate(value) for key, value in reference.content["values"].items()}
    theirs = {state.name: _counterpart(state, reference.content["states"]) for state in system.states}
    wanted = {population_key(ours): population_key(name) for ours, name in theirs.items()}
    for key, (a, b) in delta_f_keys(system).items():
        wanted[key] = delta_f_key(theirs[a.name], theirs[b.name])
    found = {key: known[name] for key, name in wanted.items() if name in known}
    if DELTA_F in found:
        found[DELTA_F_KJ_MOL] = found[DELTA_F].in_kj_mol(system.temperature_k)
    return found | {MEAN_ENERGY: known[MEAN_ENERGY]}


def _estimate(value: Mapping[str, Any]) -> Estimate:
    found = Estimate(**{**value, "dof": float(value.get("dof", "inf"))})
    return replace(found, error=None) if found.note else found


def stored_profiles(reference: Reference, system: MolecularSystem) -> dict[str, Mapping[str, Any]]:
    """Potentials of mean force of the reference, by the names of the system's variables."""
    theirs = {tuple(each["atoms"]): each["name"] for each in reference.content["torsions"]}
    return {
        cv.name: reference.content["pmf"][theirs[cv.atoms]]
        for cv in system.collective_variables
        if cv.kind == "torsion" and theirs.get(cv.atoms) in reference.content["pmf"]
    }


def about(reference: Reference) -> dict[str, Any]:
    """What results say of a reference."""
    told = ("system", "temperature_k", "command", "made", "n_frames", "n_blocks", "cost")
    return {"name": reference.name, **{key: reference.content[key] for key in told}}


def _counterpart(state: State, stored: Iterable[Mapping[str, Any]]) -> str:
    """The name of the same region in the reference, or nothing."""
    for other in stored:
        ends = np.array(state.intervals).ravel(), np.array(other["intervals"]).ravel()
        atoms = tuple(other["atoms"])
        same = state.cv.kind == "torsion" and state.cv.atoms in (atoms, atoms[::-1])
        if same and len(ends[0]) == len(ends[1]) and np.abs(ends[0] - ends[1]).max() < SAME_ANGLE:
            return str(other["name"])
    return ""


def beside_stored(rows: Sequence[Row], stored: Mapping[str, Estimate]) -> list[Row]:
    """Rows with what the reference says."""
    return [
        replace(row, stored=found.value, stored_error=found.error) if (found := stored.get(row.key)) else row
        for row in rows
    ]


def disagreements(rows: Iterable[Row]) -> list[str]:
    """Quantities of the sample that are surely not those of the reference, a sentence each."""
    lines = []
    for row in rows:
        if row.value is None or row.error is None or row.stored is None or row.stored_error is None:
            continue
        combined = math.hypot(row.error, row.stored_error)
        if row.key != DELTA_F_KJ_MOL and abs(row.value - row.stored) > SURE * combined:
            lines.append(
                f"{row.quantity} is {row.value:.4g}, and {row.stored:.4g} in the stored reference: "
                f"{abs(row.value - row.stored) / combined:.1f} combined standard errors apart"
            )
    return lines


def stored_distance_rows(
    reference: Reference, samples: WeightedEnsemble, md: WeightedEnsemble, most: int, seed: int
) -> list[Row]:
    """Distances of sample and MD to the reference beside its noise floors; torsions of at most ``most``."""
    rows = []
    for key, (name, unit) in DISTANCES.items():
        floor, n = reference.floor(key, len(samples) if key == "energy_w2" else most)
        values = [distance_to(reference, key, ensemble, n, seed) for ensemble in (samples, md)]
        note = (
            f"MD: distance of its frames to the stored reference; stored: noise floor, {n} against {n} frames"
        )
        quantity = f"{name}, stored reference"
        row = Row(f"stored/{key}", "stored", quantity, values[0], None, values[1], unit=unit, note=note)
        rows.append(replace(row, stored=floor))
    return rows


def distance_to(reference: Reference, key: str, ensemble: WeightedEnsemble, n: int, seed: int) -> float:
    """One of `DISTANCES`: of energies from all rows, of torsions from ``n`` frames drawn by weight."""
    ensemble = with_finite_energy(ensemble)
    if key == "energy_w2":
        equal = np.full(len(reference.reduced_energies), 1.0 / len(reference.reduced_energies))
        return wasserstein_2(ensemble.reduced_energies, ensemble.weights, reference.reduced_energies, equal)
    ours = torsion_values(ensemble.resample(n, seed), compared_torsions(reference))
    return torsion_distance(reference, key, ours, reference.torsions[:n])


def compared_torsions(reference: Reference) -> list[CollectiveVariable]:
    """Those that T-W2 and TICA-W2 compare."""
    compared = reference.content["torsions"][: reference.content["n_compared"]]
    return [CollectiveVariable(each["name"], "torsion", tuple(each["atoms"])) for each in compared]


def torsion_distance(reference: Reference, key: str, a: Array, b: Array) -> float:
    """T-W2 or TICA-W2 between torsions ``(n, n_compared)`` and ``(m, n_compared)`` [rad]."""
    return (
        torus_w2(a, b) if key == "torsion_w2" else transport_w2(ot.dist(reference.slow(a), reference.slow(b)))
    )
