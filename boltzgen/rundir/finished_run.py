"""A run directory opened in Python: its system, weighted samples, MD reference and results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mdtraj
import numpy as np

from boltzgen.config.load import load_workflow
from boltzgen.config.renamed import with_new_names
from boltzgen.config.schema import Workflow
from boltzgen.ensemble.correlation import with_blocks
from boltzgen.ensemble.storage import load_ensemble, load_topology
from boltzgen.ensemble.trajectory import trajectory
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.errors import DataError, UserError
from boltzgen.rundir.manifest import check_finished
from boltzgen.rundir.stored_results import StoredResults
from boltzgen.runtime.yaml_files import YAMLError, load
from boltzgen.simulate.frame_checks import inside_domain
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import build_system

if TYPE_CHECKING:
    import MDAnalysis

SAMPLES, DATA = "samples/ensemble.h5", "data/ensemble.h5"
"""Weighted samples and training ensemble, in the run directory."""


@dataclass(frozen=True)
class FinishedRun:
    """What a run directory holds; files are read when first asked for.

    checked
        Whether to raise DataError for files of a run that was started again with other settings and did not
        finish.
    """

    path: Path
    checked: bool = True

    @property
    def name(self) -> str:
        """Name of the run directory."""
        return self.path.resolve().name

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The settings as they were used, of ``config.yaml``, by the names that they have now."""
        config = _mapping(self.path / "config.yaml")
        with_new_names(config, str(self.path), told=False)
        return config

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """What every stage was made from, of ``manifest.json``."""
        return _mapping(self.path / "manifest.json")

    @cached_property
    def system(self) -> MolecularSystem:
        """What was sampled, at the temperature it was sampled at."""
        workflow, base = self._workflow
        return build_system(workflow, base).at_temperature(workflow.sample.temperature_k)

    @cached_property
    def _workflow(self) -> tuple[Workflow, Path]:
        return load_workflow(str(self.path / "config.yaml"))

    @cached_property
    def samples(self) -> WeightedEnsemble:
        """The weighted samples."""
        self._check("sample")
        return load_ensemble(self.path / SAMPLES)

    @cached_property
    def reference(self) -> WeightedEnsemble:
        """The training ensemble, which is the MD reference, reweighted to the temperature of the samples."""
        self._check("simulate")
        data, _ = inside_domain(self.system, load_ensemble(self.path / DATA))
        data = with_blocks(self.system, data)
        return data.at_temperature(self.system.temperature_k)

    @cached_property
    def results(self) -> dict[str, Any]:
        """What ``results/results.json`` says: rows, potentials of mean force, verdict, diagnostics."""
        path = self.path / "results" / "results.json"
        if not path.is_file():
            raise DataError(path, "no such file", "`boltzgen analyze` writes it")
        self._check("analyze")
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            raise DataError(path, "is damaged", "`--force analyze` makes it again") from None

    @property
    def stored(self) -> StoredResults:
        """The same as what it stands for: variables, states, profiles, rows by key."""
        return StoredResults(self.results)

    # ---- what pages show: without building the system, and whatever of the run has been removed ---------

    @cached_property
    def samples_if_there(self) -> WeightedEnsemble | None:
        """The weighted samples; None where their file was removed."""
        return self.samples if (self.path / SAMPLES).is_file() else None

    @cached_property
    def stored_reference(self) -> WeightedEnsemble | None:
        """The MD as it was stored, at the temperature that was sampled; None where its file was removed."""
        if not (self.path / DATA).is_file():
            return None
        return load_ensemble(self.path / DATA).at_temperature(self.stored.temperature_k)

    @cached_property
    def topology(self) -> mdtraj.Topology | None:
        """Atoms and bonds, from the file of the samples; None where that was removed."""
        path = self.path / SAMPLES
        return load_topology(path) if path.is_file() else None

    # ---- frames for other libraries ---------------------------------------------------------------------

    def to_mdtraj(self, n: int | None = None, seed: int = 0) -> mdtraj.Trajectory:
        """The samples as an MDTraj trajectory [nm].

        ``n`` equally weighted frames, or by default every sample: its weights are ``run.samples.weights``.
        """
        return trajectory(self.system, self._frames(n, seed))

    def to_mdanalysis(self, n: int | None = None, seed: int = 0) -> MDAnalysis.Universe:
        """The same as an MDAnalysis universe [Angstrom]; MDAnalysis must be installed."""
        try:
            import MDAnalysis
            from MDAnalysis.coordinates.memory import MemoryReader
        except ImportError:
            raise UserError(
                "to_mdanalysis", "MDAnalysis is not installed", "pip install MDAnalysis"
            ) from None
        frames = 10.0 * self._frames(n, seed)
        return MDAnalysis.Universe(self.system.topology, frames, format=MemoryReader, order="fac")

    def _frames(self, n: int | None, seed: int) -> np.ndarray:
        samples = self.samples if n is None else self.samples.resample(n, seed)
        return samples.positions

    def _check(self, stage: str) -> None:
        if self.checked:
            check_finished(self.path, stage)


def load_run(path: str | Path) -> FinishedRun:
    """Open a run directory. Raises DataError where it is none.

    >>> from boltzgen import observable
    >>> run = load_run("runs/harmonic_dimer")
    >>> run.system.name
    'harmonic_dimer'
    >>> len(run.samples) == len(run.to_mdtraj())
    True
    >>> bond = run.system.collective_variables[0]
    >>> bool(abs(run.samples.expectation(bond.values) - 0.2) < 0.02)  # nm
    True
    >>> run.to_mdtraj(n=10).n_frames
    10
    >>> rg = observable(run, "compute_rg")  # half of a bond, 0.1012 nm on average
    >>> bool(abs(rg.value - 0.1012) < 4 * rg.error)
    True
    """
    directory = Path(path)
    if not (directory / "config.yaml").is_file():
        raise DataError(
            directory,
            "not a run directory, it has no config.yaml",
            "name the directory that --out gave, or runs/NAME",
        )
    return FinishedRun(directory)


def analysed_run(directory: Path) -> FinishedRun:
    """A run that has been analysed, whose page can be written. Raises DataError for any other directory."""
    if not (directory / "manifest.json").is_file():
        raise DataError(directory, "no run directory (it has no manifest.json)", "give one that a run made")
    path = directory / "results" / "results.json"
    finish = f"`boltzgen run {directory / 'config.yaml'} --out {directory}` finishes it"
    if not path.is_file():
        raise DataError(directory, "the run is not finished, it has no results yet", str(finish))
    run = FinishedRun(directory)
    for file in (directory / "config.yaml", directory / "manifest.json", path):
        _mapping(file)
    missing = {"system", "temperature_k", "rows", "verdict"} - set(_mapping(path))
    if missing:
        raise DataError(path, f"holds no {min(missing)}", f"remove the file, then {finish}")
    check_finished(directory, "analyze")
    return run


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
