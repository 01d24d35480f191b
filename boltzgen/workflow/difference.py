"""Free energy between two finished runs of the same atoms: other force fields, solvents or temperatures."""

from __future__ import annotations

import math
from dataclasses import replace

from boltzgen.analyze.free_energy import log_z_difference
from boltzgen.analyze.mbar import bar
from boltzgen.analyze.reweighting import ReducedEnergy
from boltzgen.ensemble.uncertainty import Estimate
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.errors import DataError, NumericalError
from boltzgen.potential import make_potential
from boltzgen.rundir.finished_run import FinishedRun


def difference(a: FinishedRun, b: FinishedRun, seed: int = 0) -> dict[str, Estimate]:
    """``-ln(Z_b / Z_a)`` of the configurations of two runs, in kT, by the name of the estimator.

    log Z of the samples
        From the two normalisers alone: nothing has to overlap.
    BAR of the samples, BAR of the MD
        Bennett's acceptance ratio (J. Comput. Phys. 22, 245, 1976). Without a value where they do not
        overlap; the note says so.

    Masses play no part: at one temperature, the momenta of the same atoms contribute nothing. Raises
    DataError for runs that are not finished, of other atoms, or sampled over other domains.
    """
    _check(a, b)
    potentials = make_potential(a.system), make_potential(b.system)
    change = log_z_difference(a.samples, b.samples)
    return {
        "log Z of the samples": replace(change, value=-change.value),
        "BAR of the samples": _bar((a.samples, b.samples), potentials, seed),
        "BAR of the MD": _bar((a.reference, b.reference), potentials, seed),
    }


def _check(a: FinishedRun, b: FinishedRun) -> None:
    elements = [[atom.element for atom in run.system.topology.atoms()] for run in (a, b)]
    if elements[0] != elements[1]:
        raise DataError(
            f"{a.path} and {b.path}",
            "are not of the same atoms in the same order",
            "give two runs of one molecule",
        )
    found = [run.results["diagnostics"] for run in (a, b)]
    keys = [diagnostics.get("z_domain_key") or diagnostics.get("z_domain") for diagnostics in found]
    if keys[0] != keys[1]:
        old = [
            str(run.path)
            for run, diagnostics in zip((a, b), found, strict=True)
            if "z_domain_key" not in diagnostics
        ]
        remedy = f"`--force sample` says of {' and '.join(old)} in full what it is over" if old else None
        words = [diagnostics.get("z_domain") for diagnostics in found]
        raise DataError(
            f"{a.path} and {b.path}",
            f"log Z of the first is over {words[0]}, that of the second over {words[1]}",
            remedy or "give runs of one isomer",
        )


def _bar(
    ensembles: tuple[WeightedEnsemble, WeightedEnsemble],
    potentials: tuple[ReducedEnergy, ReducedEnergy],
    seed: int,
) -> Estimate:
    try:
        return bar(*ensembles, *potentials, seed)
    except NumericalError:
        return Estimate(math.nan, None, "they do not overlap")
