"""A run directory opened in Python: its system, weighted samples, MD reference and results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from boltzgen.config import Workflow
from boltzgen.errors import DataError, UserError
from boltzgen.export import trajectory
from boltzgen.frames import inside_domain
from boltzgen.manifest import check_finished
from boltzgen.registry import build_system
from boltzgen.storage import load_ensemble
from boltzgen.stretches import with_stretches
from boltzgen.workflow_file import load_workflow

if TYPE_CHECKING:
    import MDAnalysis
    import mdtraj

    from boltzgen.ensemble import WeightedEnsemble
    from boltzgen.system import MolecularSystem


@dataclass(frozen=True)
class FinishedRun:
    """What a run directory holds; files are read when first asked for.

    Raises DataError for those of a run that was started again with other settings and did not finish.
    """

    path: Path

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
        check_finished(self.path, "sample")
        return load_ensemble(self.path / "samples" / "ensemble.h5")

    @cached_property
    def reference(self) -> WeightedEnsemble:
        """The training ensemble, which is the MD reference, reweighted to the temperature of the samples."""
        check_finished(self.path, "simulate")
        data, _ = inside_domain(self.system, load_ensemble(self.path / "data" / "ensemble.h5"))
        data = with_stretches(self.system, data)
        return data.at_temperature(self.system.temperature_k)

    @cached_property
    def results(self) -> dict[str, Any]:
        """What ``results/results.json`` says: rows, potentials of mean force, verdict, diagnostics."""
        path = self.path / "results" / "results.json"
        if not path.is_file():
            raise DataError(path, "no such file", "`boltzgen analyze` writes it")
        check_finished(self.path, "analyze")
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            raise DataError(path, "is damaged", "`--force analyze` makes it again") from None

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
