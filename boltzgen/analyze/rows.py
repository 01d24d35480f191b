"""The lines of the results table: what a run found beside what the MD reference says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from boltzgen.analyze import distances, free_energy
from boltzgen.analyze.free_energy import Estimate
from boltzgen.analyze.observables import find_observable, weighted_means
from boltzgen.config.schema import AnalyzeSettings
from boltzgen.ensemble.uncertainty import effective_independent
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.smc.bounds import MARGIN, log_z_note
from boltzgen.system.collective_variables import State
from boltzgen.system.molecular_system import MolecularSystem

GROUPS = {
    "thermodynamics": "Thermodynamics",
    "distances": "Distance to the MD reference",
    "stored": "Distance to the stored reference",
    "diagnostics": "Diagnostics",
    "losses": "Counts and cost",
    "cost": "Counts and cost",
}
"""Groups of rows and their titles; losses are worth a line where there are some, the cost is for the file."""
MEAN_ENERGY, DELTA_F, DELTA_F_KJ_MOL = "mean_reduced_energy", "delta_f", "delta_f_kj_mol"
"""Keys of rows."""


@dataclass(frozen=True)
class Row:
    """One line of the results: a quantity of the model beside that of the MD reference.

    key, group
        What it is found by, whatever it is called, and one of `GROUPS`.

    ``low`` and ``high`` are the ends of the 95 % interval of the value; ``low`` alone is a bound of that
    confidence. ``stored`` is what the stored reference of the system says, where there is one.
    """

    key: str
    group: str
    quantity: str
    value: float | None
    error: float | None = None
    reference: float | None = None
    reference_error: float | None = None
    unit: str = ""
    note: str = ""
    low: float | None = None
    high: float | None = None
    stored: float | None = None
    stored_error: float | None = None


@dataclass(frozen=True)
class StateComparison:
    """Population of one state in both ensembles, and the independent samples that support it."""

    name: str
    model: Estimate
    reference: Estimate
    independent: int


def sampler_rows(
    samples: WeightedEnsemble,
    reference: WeightedEnsemble,
    diagnostics: Mapping[str, Any],
    settings: AnalyzeSettings,
    seed: int,
) -> list[Row]:
    """log Z, where it was estimated, and the mean reduced energy."""
    rows = _log_z_rows(samples, diagnostics)
    model, md = (
        free_energy.expectation(ensemble, ensemble.reduced_energies, settings.n_bootstrap, seed)
        for ensemble in (samples, reference)
    )
    return [*rows, _compared(MEAN_ENERGY, "mean reduced energy", model, md, "kT")]


def _log_z_rows(samples: WeightedEnsemble, diagnostics: Mapping[str, Any]) -> list[Row]:
    """log Z with its interval, or with the lower bound that is left of it where it has no error."""
    log_z = diagnostics.get("log_z", samples.log_z)
    if log_z is None:
        return []
    error = diagnostics.get("log_z_error", samples.log_z_error)
    low, high = Estimate(log_z, error, dof=samples.log_z_dof).interval or (None, None)
    bound = ""
    if error is None:
        low = log_z - MARGIN
        bound = diagnostics.get("log_z_note") or log_z_note(effective_independent(samples))
    note = "; ".join(filter(None, [bound, str(diagnostics.get("z_domain", ""))]))
    return [Row("log_z", "thermodynamics", "log Z", log_z, error, note=note, low=low, high=high)]


def free_energy_rows(system: MolecularSystem, delta_f: Sequence[tuple[Estimate, Estimate]]) -> list[Row]:
    """Delta F of every pair of states in kT, and of the first in kJ/mol; ``delta_f`` of sample and MD."""
    rows, names = [], delta_f_names(system)
    for (key, (a, b)), name, (model, md) in zip(delta_f_keys(system).items(), names, delta_f, strict=True):
        definition = f"-ln(P {a.name} / P {b.name})"
        noted = replace(model, note="; ".join(filter(None, [definition, model.note])))
        rows.append(_compared(key, name, noted, md, "kT"))
        if key == DELTA_F:
            plain = [replace(e, note="").in_kj_mol(system.temperature_k) for e in (model, md)]
            rows.append(_compared(DELTA_F_KJ_MOL, name, plain[0], plain[1], "kJ/mol"))
    return rows


def delta_f_keys(system: MolecularSystem) -> dict[str, tuple[State, State]]:
    """Pairs of states by the key of their row."""
    return {
        delta_f_key(a.name, b.name) if k else DELTA_F: (a, b) for k, (a, b) in enumerate(system.state_pairs)
    }


def delta_f_key(a: str, b: str) -> str:
    """Of two states by their names."""
    return f"{DELTA_F}/{a}/{b}"


def delta_f_names(system: MolecularSystem) -> list[str]:
    """What the difference of each pair of states is called: by its variable where there are several."""
    pairs = system.state_pairs
    alone = len(pairs) == 1
    return ["Delta F" if alone or a.cv != b.cv else f"Delta F {a.cv.name}" for a, b in pairs]


def state_rows(states: list[StateComparison]) -> list[Row]:
    """The population of every state."""
    return [
        _compared(population_key(state.name), f"population {state.name}", state.model, state.reference, "")
        for state in states
    ]


def population_key(state: str) -> str:
    """Of the row of a state's population."""
    return f"population/{state}"


def observable_rows(
    system: MolecularSystem,
    samples: WeightedEnsemble,
    reference: WeightedEnsemble,
    settings: AnalyzeSettings,
    seed: int,
) -> list[Row]:
    """Means of the observables that were asked for, one line for each component of a vector."""
    rows = []
    for name in settings.observables:
        function, short = find_observable(name), name.rpartition("/")[2]
        model, md = (
            weighted_means(ensemble, system, name, function, settings.n_bootstrap, seed)
            for ensemble in (samples, reference)
        )
        labels = [short] if len(model) == 1 else [f"{short}[{k}]" for k in range(len(model))]
        rows += [
            _compared(f"observable/{label}", f"mean {label}", m, r, "")
            for label, m, r in zip(labels, model, md, strict=True)
        ]
    return rows


def _compared(key: str, quantity: str, model: Estimate, reference: Estimate, unit: str) -> Row:
    notes = [model.note, reference.note and f"MD: {reference.note}"]
    note = "; ".join(filter(None, notes))
    low, high = model.interval or (None, None)
    return Row(
        key,
        "thermodynamics",
        quantity,
        model.value,
        model.error,
        reference.value,
        reference.error,
        unit,
        note,
        low,
        high,
    )


def distance_rows(
    system: MolecularSystem,
    samples: WeightedEnsemble,
    reference: WeightedEnsemble,
    settings: AnalyzeSettings,
    seed: int,
) -> list[Row]:
    """Distances between the sample and the reference, beside their noise floors."""
    n, bins = settings.max_transport_samples, settings.n_bins
    found = [
        ("energy_w2", "E-W2", distances.energy_w2(samples, reference, seed), "kT"),
        (
            "interatomic_w2",
            "interatomic distance W2",
            distances.interatomic_w2(samples, reference, n, seed),
            "nm",
        ),
    ]
    pair, torsions = distances.torsion_pair(system), distances.torsions_of(system)
    if pair is not None:
        jsd = distances.ramachandran_jsd(samples, reference, pair, bins, seed)
        found += [
            ("torsion_w2", "T-W2", distances.torsion_w2(samples, reference, torsions, n, seed), "rad"),
            ("ramachandran_jsd", "Ramachandran JSD", jsd, "nats"),
        ]
    joint = {"torsion_w2": f"over {len(torsions)} torsions jointly; "}
    return [
        Row(
            key,
            "distances",
            name,
            d.value,
            None,
            d.noise_floor,
            None,
            unit,
            f"{joint.get(key, '')}{d.n_samples} samples; MD: noise floor, {d.n_floor} frames against "
            f"{d.n_floor} others; they are {d.n_blocks} decorrelated blocks in all",
        )
        for key, name, d, unit in found
    ]


_OF_SAMPLER = (
    (
        "kish_ess_fraction",
        "Kish ESS / n",
        "",
        "unclipped, annealing without resampling, at sigma_min",
        "diagnostics",
    ),
    ("pareto_k", "Pareto k-hat", "", "of the same weights; below 0.7 they are well behaved", "diagnostics"),
    (
        "used_k",
        "Pareto k-hat of the weights used",
        "",
        "of what descends from each ancestor, at the target",
        "diagnostics",
    ),
    ("largest_share", "largest weight of an ancestor", "", "of all", "diagnostics"),
    ("genealogical_ess", "genealogical ESS", "", "effective samples by surviving ancestors", "diagnostics"),
    ("jeffreys", "J", "nats", "forward minus reverse mean log weight at sigma_min", "diagnostics"),
    (
        "bar_log_z_gap",
        "log Z by BAR - log Z",
        "",
        "of paths in both directions, at sigma_min",
        "diagnostics",
    ),
    ("lost_data_paths", "paths from data lost", "", "share that is left out of J", "losses"),
    ("n_ancestors", "distinct ancestors", "", "", "cost"),
    ("non_finite", "non-finite energies", "", "weight zero", "losses"),
    ("wrong_hand", "enantiomers reflected", "", "", "cost"),
    ("diastereomers", "other isomers", "", "outside the domain of Z: weight zero", "losses"),
    ("network_evaluations", "network evaluations", "", "", "cost"),
    ("target_evaluations", "target evaluations", "", "", "cost"),
    ("target_seconds", "time on target energies", "s", "", "cost"),
    ("seconds", "sampling time", "s", "", "cost"),
)
"""Key among the diagnostics, quantity, unit, note, group."""


def diagnostic_rows(diagnostics: Mapping[str, Any]) -> list[Row]:
    """What the sampler said of itself."""
    tail = diagnostics.get("weights_tail") or {}
    errors = {"used_k": tail.get("error")}
    errors |= {key: diagnostics.get(f"{key}_error") for key in ("jeffreys", "bar_log_z_gap")}
    found = {**diagnostics, "used_k": tail.get("k")}
    rows = [
        Row(key, group, quantity, found[key], errors.get(key), unit=unit, note=note)
        for key, quantity, unit, note, group in _OF_SAMPLER
        if found.get(key) is not None
    ]
    per_state = diagnostics.get("ancestors_per_state") or {}
    return rows + [
        Row(f"ancestors/{state}", "diagnostics", f"effective ancestors in {state}", n)
        for state, n in per_state.items()
    ]
