"""What the MD alone says, before any network: populations, free energies and potentials of mean force.

A biased simulation often is all that is asked for: its frames carry their weights, and so do its errors.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from boltzgen.analyze import free_energy
from boltzgen.analyze.free_energy import PMF, Estimate
from boltzgen.analyze.known_systems import reference_of
from boltzgen.analyze.rows import MEAN_ENERGY, delta_f_keys, population_key
from boltzgen.analyze.stored_reference import stored_values
from boltzgen.config.schema import AnalyzeSettings
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.runtime.files import replaced
from boltzgen.system.molecular_system import MolecularSystem

TABLE = "md.csv"


def md_estimates(
    system: MolecularSystem, data: WeightedEnsemble, settings: AnalyzeSettings
) -> Iterator[tuple[str, str, str, Estimate]]:
    """Keys, names, units and values: mean reduced energy, populations, Delta F of pairs of states."""
    n = settings.n_bootstrap
    yield MEAN_ENERGY, "mean reduced energy", "kT", free_energy.expectation(data, data.reduced_energies, n)
    for state in system.states:
        found = free_energy.state_probability(data, state.members(data.positions), n)
        yield population_key(state.name), f"population {state.name}", "", found
    for key, (a, b) in delta_f_keys(system).items():
        found = free_energy.free_energy_difference(data, a, b, n)
        yield key, f"Delta F, -ln(P {a.name} / P {b.name})", "kT", found


def md_profiles(
    system: MolecularSystem, data: WeightedEnsemble, settings: AnalyzeSettings
) -> Iterator[tuple[str, PMF]]:
    """The potential of mean force along each collective variable, by its name."""
    for cv in system.collective_variables:
        yield cv.name, free_energy.potential_of_mean_force(data, cv, settings.n_bins, settings.n_bootstrap)


def write_md_results(
    system: MolecularSystem, data: WeightedEnsemble, settings: AnalyzeSettings, directory: Path
) -> list[str]:
    """``md.csv`` and ``md_pmf_NAME.csv`` in a directory, and lines that say what is in the first.

    Values stand beside those of the stored reference of the system, where there is one.
    """
    reference = reference_of(system)
    stored = stored_values(reference, system) if reference else {}
    rows = list(md_estimates(system, data, settings))
    with replaced(directory / TABLE, "partial") as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["quantity", "value", "error", "unit", "note", "stored", "stored_error"])
        for key, name, unit, found in rows:
            beside = stored.get(key)
            more = ["", ""] if beside is None else [beside.value, _or_nothing(beside.error)]
            writer.writerow([name, found.value, _or_nothing(found.error), unit, found.note, *more])
    for name, profile in md_profiles(system, data, settings):
        centres = 0.5 * (profile.bin_edges[1:] + profile.bin_edges[:-1])
        columns = np.column_stack([centres, profile.f, profile.df])
        with replaced(directory / f"md_pmf_{name}.csv", "partial") as partial:
            np.savetxt(partial, columns, "%.6g", ",", header="centre,f_kT,error_kT", comments="")
    return [
        f"MD: {name} {_shown(found, unit)}"
        + (f"; stored reference {_shown(stored[key], unit)}" if key in stored else "")
        for key, name, unit, found in rows
    ]


def _or_nothing(error: float | None) -> float | str:
    return "" if error is None else error


def _shown(found: Estimate, unit: str) -> str:
    error = "" if found.error is None else f" +- {found.error:.2g}"
    note = f" ({found.note})" if found.note else ""
    return f"{found.value:.4g}{error}{unit and f' {unit}'}{note}"
