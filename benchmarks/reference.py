"""A stored reference of a system, and finished runs judged against it.

    python benchmarks/reference.py make ENSEMBLE.h5 --command "how it was made" [--name alanine_dipeptide_b]
    python benchmarks/reference.py compare RUN [RUN ...] [--name alanine_dipeptide_b] [--samples 10000]
                                               [--figures DIR]

`make` takes a weighted ensemble, such as the ``data/ensemble.h5`` of `boltzgen simulate`, and keeps what
comparisons need under `benchmarks/references/`: NAME.json has free energies, populations and potentials of
mean force of all frames with their errors, and noise floors, the distances between 10,000 independent frames
and 10,000 others; NAME.npz has 10,000 frames drawn by weight, positions rounded to 0.0001 nm, and the
energies that they had before. `compare` prints Delta F, populations, E-W2 and T-W2 with their noise floors,
effective sample sizes, and in how many bins a potential of mean force is within two combined standard
errors, which ``--figures`` draws. It does not look at the MD of the runs.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from boltzgen import load_run, load_system
from boltzgen.analyze import free_energy
from boltzgen.analyze.distances import (
    Distance,
    energy_w2,
    torsion_pair,
    torsion_w2,
)
from boltzgen.analyze.stage import json_safe
from boltzgen.ensemble.storage import load_ensemble
from boltzgen.ensemble.uncertainty import Estimate, cluster_index
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.report import panels
from boltzgen.report.pictures import draw_together
from boltzgen.report.sections import Panel
from boltzgen.rundir.stored_results import stored_pmf
from boltzgen.system.molecular_system import MolecularSystem

DIRECTORY = Path(__file__).parent / "references"
N_KEPT = 10_000
RESOLUTION_NM = 1e-4
N_BOOTSTRAP = 1000
N_BINS = 36


def make(path: Path, name: str, system: MolecularSystem, command: str) -> None:
    """Write NAME.json and NAME.npz from an ensemble file."""
    ensemble = load_ensemble(path)
    furthest = np.iinfo(np.int16).max * RESOLUTION_NM
    if np.abs(ensemble.positions).max() >= furthest:
        raise SystemExit(f"{path}: an atom is further than {furthest:.2f} nm out")
    content = {
        "system": system.name,
        "temperature_k": system.temperature_k,
        "command": command,
        "n_frames": len(ensemble),
        "kish_ess": ensemble.ess,
        "n_lineages": len(cluster_index(ensemble)[1]),
        **statistics(system, ensemble),
    }
    kept = ensemble.resample(N_KEPT, seed=0)
    floors = distances(system, kept, ensemble, N_KEPT)
    content["noise_floors"] = {label: (d.noise_floor, d.n_floor) for label, d in floors.items()}
    DIRECTORY.mkdir(exist_ok=True)
    (DIRECTORY / f"{name}.json").write_text(json.dumps(json_safe(content), indent=1) + "\n")
    np.savez_compressed(
        DIRECTORY / f"{name}.npz",
        positions=np.round(kept.positions / RESOLUTION_NM).astype(np.int16),
        reduced_energies=kept.reduced_energies.astype(np.float32),
        lineages=cluster_index(kept)[0].astype(np.int32),
        islands=np.asarray(kept.islands, dtype=np.int16),
    )
    print({key: value for key, value in content.items() if key != "pmf"})


def statistics(system: MolecularSystem, ensemble: WeightedEnsemble) -> dict[str, Any]:
    """Mean energy, populations, the free-energy difference [kT] and potentials of mean force [kT]."""
    values: dict[str, Estimate] = {
        "mean reduced energy": free_energy.expectation(ensemble, ensemble.reduced_energies, N_BOOTSTRAP)
    }
    for state in system.states:
        members = state.members(ensemble.positions)
        values[f"population {state.name}"] = free_energy.state_probability(ensemble, members, N_BOOTSTRAP)
    if len(system.states) > 1:
        values["Delta F"] = free_energy.free_energy_difference(ensemble, *system.states[:2], N_BOOTSTRAP)
    profiles = {
        cv.name: asdict(free_energy.potential_of_mean_force(ensemble, cv, N_BINS, N_BOOTSTRAP))
        for cv in system.collective_variables
    }
    return {"values": {key: asdict(value) for key, value in values.items()}, "pmf": profiles}


def stored(name: str) -> tuple[dict[str, Any], WeightedEnsemble]:
    """What `make` wrote: the statistics of all frames, and the frames that were kept."""
    content = json.loads((DIRECTORY / f"{name}.json").read_text())
    with np.load(DIRECTORY / f"{name}.npz", allow_pickle=False) as arrays:
        ensemble = WeightedEnsemble(
            positions=(arrays["positions"] * RESOLUTION_NM).astype(np.float32),
            log_weights=np.zeros(len(arrays["positions"])),
            reduced_energies=arrays["reduced_energies"].astype(np.float64),
            temperature_k=content["temperature_k"],
            lineages=arrays["lineages"].astype(np.int64),
            islands=arrays["islands"].astype(np.int64),
        )
    return content, ensemble


def compare(run: Path, name: str, n_samples: int, directory: Path | None) -> None:
    """Print one run beside the reference."""
    content, reference = stored(name)
    samples, system = load_ensemble(run / "samples" / "ensemble.h5"), load_run(run).system
    if (system.name, system.temperature_k) != (content["system"], content["temperature_k"]):
        raise SystemExit(f"{run}: of {system.name} at {system.temperature_k:g} K, not {content['system']}")
    print(f"\n{run}: {len(samples)} samples\n{'':24s}{'sample':>18s}{'reference':>18s}")
    for label, value in statistics(system, samples)["values"].items():
        expected = Estimate(**content["values"][label])
        found = Estimate(**value)
        print(f"{label:24s}{shown(found):>18s}{shown(expected):>18s}  {deviation(found, expected)}")
    floors = content.get("noise_floors") or {}
    for label, distance in distances(system, samples, reference, n_samples).items():
        floor, n = floors.get(label, (distance.noise_floor, distance.n_floor))
        print(f"{label:24s}{distance.value:18.3f}{floor:18.3f}  (noise floor, {n} frames against {n})")
    diagnostics = json.loads((run / "samples" / "diagnostics.json").read_text())
    for key in ("verdict", "log_z", "log_z_error", "kish_ess_fraction", "genealogical_ess", "jeffreys"):
        value = diagnostics.get(key)
        print(f"{key:24s}{value['level'] if key == 'verdict' else value!s:>18}")
    compare_profiles(samples, content["pmf"], system, directory)


def distances(
    system: MolecularSystem, samples: WeightedEnsemble, reference: WeightedEnsemble, n_samples: int
) -> dict[str, Distance]:
    """E-W2, and T-W2 where there are two torsions."""
    found = {"E-W2 [kT]": energy_w2(samples, reference)}
    torsions = torsion_pair(system)
    if torsions is not None:
        found["T-W2 [rad]"] = torsion_w2(samples, reference, torsions, n_samples)
    return found


def compare_profiles(
    samples: WeightedEnsemble, expected: dict[str, Any], system: MolecularSystem, directory: Path | None
) -> None:
    """Potentials of mean force beside those of the reference, as a count of bins and as figures."""
    for cv in system.collective_variables:
        reference = stored_pmf(expected[cv.name])
        limits = float(reference.bin_edges[0]), float(reference.bin_edges[-1])
        found = free_energy.potential_of_mean_force(samples, cv, N_BINS, N_BOOTSTRAP, limits=limits)
        with np.errstate(invalid="ignore"):
            apart = np.abs(found.f - reference.f) / np.hypot(found.df, reference.df)
        known = np.isfinite(apart)
        print(f"PMF along {cv.name}: {(apart[known] <= 2).sum()} of {known.sum()} bins within two errors")
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            curves = panels.model_and_reference(found, reference)
            draw = partial(panels.pmf, label=panels.label_of(cv), curves=curves)
            draw_together([Panel(draw, "", "", "pmf")], directory / f"pmf_{cv.name}_reference.png")


def shown(estimate: Estimate) -> str:
    error = "?" if estimate.error is None else f"{estimate.error:.2g}"
    return f"{estimate.value:.4g} +- {error}"


def deviation(found: Estimate, expected: Estimate) -> str:
    if found.error is None or expected.error is None:
        return found.note
    return f"{(found.value - expected.value) / math.hypot(found.error, expected.error):+.1f} standard errors"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make", help="store an ensemble as a reference")
    maker.add_argument("ensemble", type=Path)
    maker.add_argument("--system", default="alanine_dipeptide")
    maker.add_argument("--parameter", nargs="*", default=[], help="of the system: hamiltonian=A-vac")
    maker.add_argument("--command", dest="made_by", required=True, help="what made the ensemble")
    comparer = commands.add_parser("compare", help="finished runs beside a stored reference")
    comparer.add_argument("runs", type=Path, nargs="+")
    comparer.add_argument("--samples", type=int, default=10_000, help="points of T-W2, at most")
    comparer.add_argument("--figures", type=Path, help="draw potentials of mean force there")
    for command in (maker, comparer):
        command.add_argument("--name", default="alanine_dipeptide_b")
    options = parser.parse_args()
    if options.command == "make":
        parameters = dict(each.split("=", 1) for each in options.parameter)
        make(options.ensemble, options.name, load_system(options.system, parameters), options.made_by)
    for run in options.runs if options.command == "compare" else []:
        compare(run, options.name, options.samples, options.figures)


if __name__ == "__main__":
    main()
