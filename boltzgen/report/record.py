"""What a finished run left in its directory, read back; nothing is computed and no network is loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np

from boltzgen.ensemble import Array, WeightedEnsemble
from boltzgen.errors import DataError
from boltzgen.free_energy import PMF, Surface
from boltzgen.manifest import check_finished
from boltzgen.storage import load_ensemble
from boltzgen.system import CollectiveVariable, State
from boltzgen.yaml_files import YAMLError, load


@dataclass(frozen=True)
class Record:
    """One run directory. What a run need not have (samples kept, variables, states) is None or empty.

    config, manifest, results
        The contents of ``config.yaml``, ``manifest.json`` and ``results/results.json``.
    """

    directory: Path
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    results: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the run directory."""
        return self.directory.resolve().name

    @property
    def temperature_k(self) -> float:
        """Temperature that was sampled [K]."""
        return float(self.results["temperature_k"])

    @property
    def diagnostics(self) -> Mapping[str, Any]:
        """What the sampler found, as the analysis was given it."""
        return dict(self.results.get("diagnostics") or {})

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The table of results."""
        return list(self.results.get("rows") or [])

    def row(self, quantity: str, unit: str = "") -> dict[str, Any] | None:
        """A row of the table by its quantity and unit."""
        return next((r for r in self.rows if r["quantity"] == quantity and r["unit"] == unit), None)

    @cached_property
    def samples(self) -> WeightedEnsemble | None:
        """The weighted samples."""
        path = self.directory / "samples" / "ensemble.h5"
        return load_ensemble(path) if path.is_file() else None

    @cached_property
    def reference(self) -> WeightedEnsemble | None:
        """The MD, at the temperature that was sampled."""
        path = self.directory / "data" / "ensemble.h5"
        return load_ensemble(path).at_temperature(self.temperature_k) if path.is_file() else None

    @cached_property
    def topology(self) -> mdtraj.Topology | None:
        """Atoms and bonds, from the file of the samples."""
        path = self.directory / "samples" / "ensemble.h5"
        if not path.is_file():
            return None
        with mdtraj.formats.HDF5TrajectoryFile(str(path), "r") as file:
            return file.topology

    @property
    def variables(self) -> list[CollectiveVariable]:
        """Collective variables of the system."""
        return [_variable(item) for item in self.results.get("collective_variables") or []]

    @property
    def states(self) -> list[State]:
        """States of the system."""
        return [
            State(
                item["name"], _variable(item["cv"]), tuple((float(a), float(b)) for a, b in item["intervals"])
            )
            for item in self.results.get("states") or []
        ]

    @property
    def profiles(self) -> dict[str, tuple[PMF, PMF]]:
        """Potentials of mean force by the variable's name: model and reference."""
        return self._profiles("pmf")

    @property
    def kernel_profiles(self) -> dict[str, tuple[PMF, PMF]]:
        """Kernel estimates of the same; empty for runs of before they were made."""
        return self._profiles("kernel_pmf")

    @property
    def surfaces(self) -> tuple[Surface, Surface] | None:
        """Free energy over the first two torsions: model and reference."""
        pair = self.results.get("surface")
        return (_surface(pair["model"]), _surface(pair["reference"])) if pair else None

    def _profiles(self, key: str) -> dict[str, tuple[PMF, PMF]]:
        pairs = self.results.get(key) or {}
        return {
            name: (stored_pmf(pair["model"]), stored_pmf(pair["reference"])) for name, pair in pairs.items()
        }


def read_run(directory: Path) -> Record:
    """The record of a run that has been analysed. Raises DataError for any other directory."""
    if not (directory / "manifest.json").is_file():
        raise DataError(directory, "no run directory (it has no manifest.json)", "give one that a run made")
    results = directory / "results" / "results.json"
    finish = f"`boltzgen run {directory / 'config.yaml'} --out {directory}` finishes it"
    if not results.is_file():
        raise DataError(directory, "the run is not finished, it has no results yet", str(finish))
    record = Record(
        directory,
        config=_mapping(directory / "config.yaml"),
        manifest=_mapping(directory / "manifest.json"),
        results=_mapping(results),
    )
    missing = {"system", "temperature_k", "rows", "verdict"} - set(record.results)
    if missing:
        raise DataError(results, f"holds no {min(missing)}", f"remove the file, then {finish}")
    check_finished(directory, "analyze")
    return record


def _mapping(path: Path) -> dict[str, Any]:
    """The content of a JSON or YAML file, which has to be a mapping."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else load(text)
    except (OSError, ValueError, YAMLError):
        content = None
    if not isinstance(content, dict):
        raise DataError(path, "missing or unreadable", "the run directory is damaged, run it again")
    return content


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
