"""What results.json holds, as the objects that it was written from; results of earlier versions too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from boltzgen.analyze.free_energy import PMF, Surface
from boltzgen.ensemble.weighted import Array
from boltzgen.system.collective_variables import CollectiveVariable, State


@dataclass(frozen=True)
class StoredResults:
    """The content of a results file; what a run need not have is None or empty."""

    content: Mapping[str, Any]

    @property
    def system(self) -> str:
        """Name of the molecular system."""
        return str(self.content["system"])

    @property
    def temperature_k(self) -> float:
        """Temperature that was sampled [K]."""
        return float(self.content["temperature_k"])

    @property
    def diagnostics(self) -> Mapping[str, Any]:
        """What the sampler found, as the analysis was given it."""
        return dict(self.content.get("diagnostics") or {})

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The table of results, every row with its key and group."""
        return [_with_key(row) for row in self.content.get("rows") or []]

    def row(self, key: str) -> dict[str, Any] | None:
        """A row of the table by its key; None where the run has none."""
        return next((row for row in self.rows if row["key"] == key), None)

    @property
    def variables(self) -> list[CollectiveVariable]:
        """Collective variables of the system."""
        return [_variable(item) for item in self.content.get("collective_variables") or []]

    @property
    def states(self) -> list[State]:
        """States of the system."""
        return [
            State(
                item["name"], _variable(item["cv"]), tuple((float(a), float(b)) for a, b in item["intervals"])
            )
            for item in self.content.get("states") or []
        ]

    @property
    def profiles(self) -> dict[str, tuple[PMF, PMF]]:
        """Potentials of mean force by the variable's name: model and reference."""
        return self._profiles("pmf")

    @property
    def stored_profiles(self) -> dict[str, PMF]:
        """Those of the stored reference, where there is one."""
        return {name: stored_pmf(item) for name, item in (self.content.get("stored_pmf") or {}).items()}

    @property
    def kernel_profiles(self) -> dict[str, tuple[PMF, PMF]]:
        """Kernel estimates of the same; empty for runs of before they were made."""
        return self._profiles("kernel_pmf")

    @property
    def surfaces(self) -> tuple[Surface, Surface] | None:
        """Free energy over the first two torsions: model and reference."""
        pair = self.content.get("surface")
        return (_surface(pair["model"]), _surface(pair["reference"])) if pair else None

    def _profiles(self, key: str) -> dict[str, tuple[PMF, PMF]]:
        pairs = self.content.get(key) or {}
        return {
            name: (stored_pmf(pair["model"]), stored_pmf(pair["reference"])) for name, pair in pairs.items()
        }


_EARLIER = {
    "log Z": ("log_z", "thermodynamics"),
    "mean reduced energy": ("mean_reduced_energy", "thermodynamics"),
    "Delta F": ("delta_f", "thermodynamics"),
    "E-W2": ("energy_w2", "distances"),
    "T-W2": ("torsion_w2", "distances"),
    "Ramachandran JSD": ("ramachandran_jsd", "distances"),
    "interatomic distance W2": ("interatomic_w2", "distances"),
    "Kish ESS / n": ("kish_ess_fraction", "diagnostics"),
    "Pareto k-hat": ("pareto_k", "diagnostics"),
    "Pareto k-hat of the weights used": ("used_k", "diagnostics"),
    "largest weight of an ancestor": ("largest_share", "diagnostics"),
    "genealogical ESS": ("genealogical_ess", "diagnostics"),
    "J": ("jeffreys", "diagnostics"),
    "log Z by BAR - log Z": ("bar_log_z_gap", "diagnostics"),
    "paths from data lost": ("lost_data_paths", "losses"),
    "non-finite energies": ("non_finite", "losses"),
    "other isomers": ("diastereomers", "losses"),
    "diastereomers": ("diastereomers", "losses"),
    "distinct ancestors": ("n_ancestors", "cost"),
    "enantiomers reflected": ("wrong_hand", "cost"),
    "mirror images folded": ("wrong_hand", "cost"),
    "network evaluations": ("network_evaluations", "cost"),
    "target evaluations": ("target_evaluations", "cost"),
    "time on target energies": ("target_seconds", "cost"),
    "sampling time": ("seconds", "cost"),
}
"""Key and group of the quantities of version 0.1, whose rows have neither."""
_EARLIER_PREFIXES = {
    "population ": ("population/", "thermodynamics"),
    "mean ": ("observable/", "thermodynamics"),
    "effective ancestors in ": ("ancestors/", "diagnostics"),
    "ancestors in ": ("ancestors/", "diagnostics"),
}


def _with_key(row: Mapping[str, Any]) -> dict[str, Any]:
    """A stored row with its key and group, and with what rows of later versions have."""
    row = {"stored": None, "stored_error": None, **row}
    if "key" in row:
        return row
    quantity = str(row["quantity"])
    key, group = _EARLIER.get(quantity, (quantity, "diagnostics"))
    if key == "delta_f" and row["unit"] == "kJ/mol":
        key = "delta_f_kj_mol"
    for prefix, (start, of) in _EARLIER_PREFIXES.items():
        if quantity not in _EARLIER and quantity.startswith(prefix):
            key, group = start + quantity.removeprefix(prefix), of
            break
    return {"key": key, "group": group, **row}


def _variable(item: Mapping[str, Any]) -> CollectiveVariable:
    reference = tuple(tuple(map(float, position)) for position in item.get("reference") or ())
    return CollectiveVariable(item["name"], item["kind"], tuple(item["atoms"]), reference)


def stored_pmf(item: Mapping[str, Any]) -> PMF:
    """A potential of mean force as a results file holds it."""
    edges, f, df = (_numbers(item[key]) for key in ("bin_edges", "f", "df"))
    dof, effective = (None if item.get(key) is None else _numbers(item[key]) for key in ("dof", "effective"))
    return PMF(edges, f, df, dof, item.get("bandwidth"), effective)


def _surface(item: Mapping[str, Any]) -> Surface:
    x_edges, y_edges = (_numbers(item[key]) for key in ("x_edges", "y_edges"))
    f, df, dof = (np.array([_numbers(row) for row in item[key]]) for key in ("f", "df", "dof"))
    effective = item.get("effective")  # not in results of before it was counted
    return Surface(
        x_edges,
        y_edges,
        f,
        df,
        dof,
        effective=None if effective is None else np.array([_numbers(row) for row in effective]),
    )


def _numbers(values: list[float | str | None]) -> Array:
    """Numbers of a results file, where infinities are strings and NaN is None."""
    return np.array([math.nan if value is None else float(value) for value in values])
