"""Stored references of systems: how they are made of simulations, and what they cost.

    python benchmarks/reference.py make RUN [RUN ...] --name al4 [--system al4] [--positions]
    python benchmarks/reference.py agree RUN RUN [--system al4]
    python benchmarks/reference.py table

RUN is a directory that `boltzgen simulate` made of a workflow file in `benchmarks/references/`; several are
joined, reweighted to the temperature of the system where they have another. `make` keeps
under `boltzgen/references/` what comparisons need: NAME.json has free energies, populations and potentials
of mean force of all frames with their errors, and noise floors, the distances between independent frames;
NAME.npz energies and torsions of 20,000 frames drawn by weight. ``--positions`` also keeps as many positions
of these as fit in 4 MB, in `benchmarks/references/NAME.npz`. `agree` compares two simulations of one system.
`table` prints all references. `boltzgen` compares every run with the reference of its system by itself.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import chi2
from slow_components import slow_components

from boltzgen import CollectiveVariable, MolecularSystem, WeightedEnsemble, load_run, load_system
from boltzgen.analyze.distances import halves, torsion_values, torsions_of, wasserstein_2
from boltzgen.analyze.of_dynamics import md_estimates, md_profiles
from boltzgen.analyze.rows import DELTA_F, MEAN_ENERGY, delta_f_key, delta_f_keys
from boltzgen.analyze.stage import json_safe
from boltzgen.analyze.stored_reference import DISTANCES, compared_torsions, torsion_distance
from boltzgen.config.schema import AnalyzeSettings
from boltzgen.ensemble.correlation import with_blocks
from boltzgen.ensemble.storage import load_ensemble
from boltzgen.ensemble.uncertainty import Estimate, cluster_index
from boltzgen.potential import make_potential
from boltzgen.references.reference import NANOMETRES, RADIANS, REFERENCES, Reference, stored_references
from boltzgen.system.torsions import found_torsions

POSITIONS = Path(__file__).parent / "references"
N_KEPT, N_PROBES = 20_000, 4
SETTINGS = AnalyzeSettings(n_bootstrap=1000, n_bins=36)
MOST_BYTES = 4_000_000
SPLITS = {1000: 5, 2000: 5, 10_000: 3}
"""Frames on either side of a noise floor, and how many halvings it is averaged over."""


def make(runs: list[Path], name: str, system: MolecularSystem, with_positions: bool) -> None:
    """Write the files of a reference."""
    data = simulated(runs, system)
    kept = data.resample(N_KEPT, seed=0)
    kept = kept.select(np.random.default_rng(0).permutation(N_KEPT))
    compared = torsions_of(system)
    known = {cv.atoms for cv in compared}
    others = [t for t in found_torsions(system) if t.atoms not in known]
    torsions = [*compared, *(CollectiveVariable(t.name, "torsion", t.atoms) for t in others)]
    angles = torsion_values(kept, torsions)
    content: dict[str, Any] = {
        "system": system.name,
        "description": system.description,
        "temperature_k": system.temperature_k,
        "n_atoms": system.n_atoms,
        **how_made(runs),
        "n_frames": len(data),
        "kish_ess": data.ess,
        "n_blocks": len(cluster_index(data)[1]),
        "probes": probes(system, kept),
        "torsions": [{"name": cv.name, "atoms": cv.atoms} for cv in torsions],
        "n_compared": len(compared),
        "states": [
            {"name": state.name, "atoms": state.cv.atoms, "intervals": state.intervals}
            for state in system.states
        ],
        **statistics(system, data),
        "tica": slow_components(system, data, compared),
    }
    content["floors"] = noise_floors(Reference(name, content), data)
    (REFERENCES / f"{name}.json").write_text(json.dumps(json_safe(content), indent=1) + "\n")
    np.savez_compressed(
        REFERENCES / f"{name}.npz",
        torsions=np.round(angles / RADIANS).astype(np.int16),
        reduced_energies=kept.reduced_energies.astype(np.float32),
        blocks=cluster_index(kept)[0].astype(np.int32),
    )
    if with_positions:
        few = kept.select(slice(0, min(N_KEPT, MOST_BYTES // (6 * system.n_atoms))))
        np.savez_compressed(
            POSITIONS / f"{name}.npz",
            positions=np.round(few.positions / NANOMETRES).astype(np.int16),
            reduced_energies=few.reduced_energies.astype(np.float32),
        )


def simulated(runs: list[Path], system: MolecularSystem) -> WeightedEnsemble:
    """The frames of all runs at the temperature of a system, each run with the weight of its length."""
    each = [load_ensemble(run / "data" / "ensemble.h5").at_temperature(system.temperature_k) for run in runs]
    islands, first = [], 0
    for data in each:
        assert data.islands is not None
        islands.append(first + data.islands)
        first = int(islands[-1].max()) + 1
    together = WeightedEnsemble(
        positions=np.concatenate([data.positions for data in each]),
        log_weights=np.concatenate([np.log(data.weights) + np.log(len(data)) for data in each]),
        reduced_energies=np.concatenate([data.reduced_energies for data in each]),
        temperature_k=system.temperature_k,
        islands=np.concatenate(islands),
    )
    return with_blocks(system, together)


def how_made(runs: list[Path]) -> dict[str, Any]:
    """Method, commands, day and cost, by the records of the runs."""
    ns, minutes, steps, methods = 0.0, 0.0, 0.0, []
    for run in runs:
        opened = load_run(run)
        settings, stage = opened.config["simulate"], opened.manifest["stages"]["simulate"]
        n_frames = len(load_ensemble(run / "data" / "ensemble.h5"))
        n_frames += opened.manifest["recorded"].get("frames_left_out", 0)
        length = n_frames * settings["frame_interval_ps"] / 1000
        remark = next(line for line in opened.manifest["recorded"]["data_remarks"] if "steps of" in line)
        step_fs = float(remark.split("steps of ")[1].split(" fs")[0])
        ns, steps = ns + length, steps + 1e6 * length / step_fs
        minutes += stage["seconds"] / 60
        methods.append(settings["method"])
    return {
        "method": ", ".join(dict.fromkeys(methods)),
        "command": "; ".join(f"boltzgen simulate benchmarks/references/{run.name}.yaml" for run in runs),
        "made": date.today().isoformat(),
        "cost": {"ns": ns, "minutes": minutes, "steps": steps},
    }


def probes(system: MolecularSystem, kept: WeightedEnsemble) -> dict[str, Any]:
    """Configurations by which the system is known again, as they are rounded."""
    positions = kept.positions[:N_PROBES].astype(float).round(4)
    potential = make_potential(system, "openmm", platform="Reference")
    return {"positions": positions, "reduced_energies": potential(torch.from_numpy(positions)).numpy()}


def statistics(system: MolecularSystem, data: WeightedEnsemble) -> dict[str, Any]:
    """Mean energy, populations, free-energy differences of pairs of states and profiles [kT]."""
    values = estimates(system, data)
    profiles = {name: asdict(profile) for name, profile in md_profiles(system, data, SETTINGS)}
    return {"values": {key: asdict(value) for key, value in values.items()}, "pmf": profiles}


def estimates(system: MolecularSystem, data: WeightedEnsemble) -> dict[str, Estimate]:
    """By the keys of rows, Delta F of every pair by the names of its states."""
    found = {key: value for key, _, _, value in md_estimates(system, data, SETTINGS)}
    for key, (a, b) in delta_f_keys(system).items():
        found[delta_f_key(a.name, b.name)] = found.pop(key)
    return found


def noise_floors(reference: Reference, data: WeightedEnsemble) -> dict[str, dict[int, float]]:
    """Distances between frames of random halves that share no block, by the number on either side."""
    floors: dict[str, dict[int, float]] = {key: {} for key in DISTANCES}
    torsions = compared_torsions(reference)
    for n, n_splits in SPLITS.items():
        found: dict[str, list[float]] = {key: [] for key in floors}
        rng = np.random.default_rng(0)
        for split in range(n_splits):
            both = halves(data, rng)
            assert both is not None
            a, b = (half.resample(n, 2 * split + k) for k, half in enumerate(both))
            equal = np.full(n, 1.0 / n)
            found["energy_w2"].append(wasserstein_2(a.reduced_energies, equal, b.reduced_energies, equal))
            angles = [torsion_values(each, torsions) for each in (a, b)]
            for key in ("torsion_w2", "tica_w2"):
                found[key].append(torsion_distance(reference, key, *angles))
            print(f"noise floors, {n} frames: { {key: each[-1] for key, each in found.items()} }", flush=True)
        for key, each in found.items():
            floors[key][n] = float(np.mean(each))
    return floors


def agree(runs: list[Path], system: MolecularSystem) -> None:
    """Print Delta F of every pair of states by two simulations, and chi-squared over all."""
    both = [estimates(system, simulated([run], system)) for run in runs]
    keys, total = [key for key in both[0] if key.startswith(DELTA_F)], 0.0
    for key in keys:
        one, other = both[0][key], both[1][key]
        assert one.error is not None and other.error is not None
        apart = (one.value - other.value) / math.hypot(one.error, other.error)
        total += apart**2
        print(f"{key}: {shown(one)}, {shown(other)}: {apart:+.1f} combined standard errors")
    print(f"chi-squared {total:.2f} of {len(keys)}, p = {chi2.sf(total, len(keys)):.3f}")


def shown(estimate: Estimate) -> str:
    return f"{estimate.value:.4g}" + ("" if estimate.error is None else f" ± {estimate.error:.2g}")


def table() -> None:
    """Print what all references say and cost, in Markdown."""
    columns = ("reference", "atoms", "T (K)", "method", "ns", "minutes", "steps/s", "blocks")
    columns += ("Delta F of each phi (kT)", "mean u (kT)", "E-W2 / T-W2 / TICA-W2 floor")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for reference in stored_references():
        content, cost = reference.content, reference.content["cost"]
        values = {key: Estimate(**value) for key, value in content["values"].items()}
        phis = ", ".join(shown(value) for key, value in values.items() if key.startswith(DELTA_F))
        floors = " / ".join(f"{reference.floor(key, 10_000)[0]:.3g}" for key in content["floors"])
        print(
            f"| {reference.name} | {content['n_atoms']} | {reference.temperature_k:g} | "
            f"{content['method']} | {cost['ns']:.0f} | {cost['minutes']:.1f} | "
            f"{cost['steps'] / cost['minutes'] / 60:,.0f} | {content['n_blocks']} | "
            f"{phis} | {shown(values[MEAN_ENERGY])} | {floors} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make", help="store a simulation as a reference")
    maker.add_argument("runs", type=Path, nargs="+")
    maker.add_argument("--name", required=True)
    maker.add_argument("--positions", action="store_true", help="keep positions too")
    agreement = commands.add_parser("agree", help="two simulations of one system")
    agreement.add_argument("runs", type=Path, nargs=2)
    for command in (maker, agreement):
        command.add_argument("--system", help="a registered system; that of the run by default")
        command.add_argument("--parameter", nargs="*", default=[], help="of it: hamiltonian=A-vac")
    commands.add_parser("table", help="what all references say and cost")
    options = parser.parse_args()
    if options.command == "table":
        table()
        return
    parameters: dict[str, object] = dict(each.split("=", 1) for each in options.parameter)
    if "temperature_k" in parameters:
        parameters["temperature_k"] = float(str(parameters["temperature_k"]))
    system = load_system(options.system, parameters) if options.system else load_run(options.runs[0]).system
    if options.command == "make":
        make(options.runs, options.name, system, options.positions)
    else:
        agree(options.runs, system)


if __name__ == "__main__":
    main()
