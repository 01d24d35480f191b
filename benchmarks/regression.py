"""Whether a change made results worse: short trainings and samplings of three molecules beside stored ones.

    python benchmarks/regression.py [OUT] [--only aldp lj13 al4] [--first-seed 0] [--seeds N]
    python benchmarks/regression.py OUT --networks EARLIER_OUT    the sampler alone, with networks made before
    python benchmarks/regression.py OUT --store --seeds 3         make these results the stored ones

Alanine dipeptide B (three seeds), LJ13 and Ace-AAA-Nme (one each) are trained for a few hundred steps on
frames that are stored, and sampled with 1,024 particles; nothing is simulated. Workflow files and frames are
in benchmarks/regression/. Each molecule and seed is a run directory in OUT, by default runs/regression/ and
the commit; the same command goes on after a kill. OUT is for one state of the code: runs do not notice that
code has changed.

The table has the mean over seeds beside the stored mean, their difference in combined errors, and a mark
where means of seeds would differ by that much less than once in a hundred comparisons (?) or in a thousand
(!), by Student's t: of the sixty rows of a whole table, one with ? is no news. Denoising losses are on
frames, levels and noise that are the same for all seeds. The spread between seeds is that of the
molecule, or of all molecules where that is larger and few seeds tell of it, in units of the error that the
sampler states (and at least that error), or else relative to the value. Times are of this machine and get no
mark.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import mdtraj
import numpy as np
import torch
from scipy.stats import t as student

from boltzgen import load_run
from boltzgen.config.load import load_workflow
from boltzgen.diffusion.process import denoise, perturb
from boltzgen.geometry import dof, squared_norm
from boltzgen.model import load_model
from boltzgen.system.registry import build_system
from boltzgen.workflow.runner import run
from boltzgen.workflow.stage import Goal

HERE = Path(__file__).parent
CASES = HERE / "regression"
STORED = CASES / "results.json"
SEEDS = {"aldp": 3, "lj13": 1, "al4": 1}
FRAMES = {"aldp": HERE / "references" / "alanine_dipeptide_b.npz"}
"""Where they are not the molecule's own in benchmarks/regression/."""
N_JUDGING, N_LEVELS = 512, 7
JUDGED = 0.01, 8.0
"""Lowest and highest noise at which networks are judged, in units of the spread of the frames."""
SURPRISES = {1e-3: "!", 1e-2: "?"}
"""Marks of differences by their probability between equals."""
KNOWN = 4
"""Degrees of freedom from which the spread of one molecule is known."""
Values = dict[str, tuple[float, float]]
"""Quantities of one run with the errors that it states, zero where none."""


def data_file(case: str, directory: Path) -> Path:
    """The stored frames as a trajectory that a workflow reads."""
    path = directory / f"{case}.h5"
    if path.exists():
        return path
    with np.load(FRAMES.get(case, CASES / f"{case}.npz"), allow_pickle=False) as arrays:
        resolution = float(arrays["resolution_nm"]) if "resolution_nm" in arrays else 1e-4
        positions = (arrays["positions"] * resolution).astype(np.float32)
    topology = mdtraj.Topology.from_openmm(build_system(*load_workflow(str(CASES / f"{case}.yaml"))).topology)
    directory.mkdir(parents=True, exist_ok=True)
    mdtraj.Trajectory(positions, topology).save_hdf5(str(path.with_suffix(".partial.h5")))
    return path.with_suffix(".partial.h5").rename(path)


def made(case: str, seed: int, out: Path, networks: Path | None) -> Values:
    """One molecule and seed: trained, sampled and measured, or what of it is not done yet."""
    directory, results = out / f"{case}-{seed}", out / f"{case}-{seed}.json"
    if results.exists():
        return {name: tuple(pair) for name, pair in json.loads(results.read_text()).items()}
    if networks is not None and not directory.exists():
        if not (networks / directory.name).is_dir():
            raise SystemExit(f"--networks: {networks} has no {directory.name}; name what it has with --only")
        partial = directory.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(networks / directory.name, partial)
        partial.rename(directory)
    network = directory / "model" / "energy.safetensors"
    before = network.read_bytes() if networks is not None else b""
    data = data_file(case, networks or out).resolve()
    settings, base = load_workflow(
        str(CASES / f"{case}.yaml"), [f"data.trajectory=[{json.dumps(str(data))}]"], seed=seed
    )
    run(settings, base, directory, Goal("analyze", ("sample",) if networks else ()))
    if networks is not None and network.read_bytes() != before:
        raise SystemExit(f"{network}: was trained anew, with other settings than in {networks}")
    found = measured(directory)
    results.write_text(json.dumps(found) + "\n")
    return found


def measured(directory: Path) -> Values:
    """Every quantity of a finished run."""
    finished = load_run(directory)
    told = json.loads((directory / "samples" / "diagnostics.json").read_text())
    stages = json.loads((directory / "manifest.json").read_text())["stages"]
    rows = {(row["quantity"], row["unit"]): row for row in finished.results["rows"]}
    found = {name: (value, 0.0) for name, value in denoising_losses(directory).items()}
    log = (directory / "model" / "metrics.csv").read_text().splitlines()
    last = dict(zip(log[0].split(","), log[-1].split(","), strict=True))
    of_levels = last.get("held_out_level_loss") or last["held_out_heights"]  # of version 0.1.0
    found["held-out classification loss"] = float(of_levels), 0.0
    for name, key in (("J", "jeffreys"), ("Kish ESS / n", "kish_ess_fraction"), ("ESS", "genealogical_ess")):
        found[name] = float(told[key]), 0.0
    for state, effective in told["ancestors_per_state"].items():
        found[f"effective ancestors of {state}"] = float(effective), 0.0
    if told["log_z_error"] is not None:  # else the table says that log Z is not there
        found["log Z"] = told["log_z"], told["log_z_error"]
    for name, unit in (("Delta F", "kT"), ("mean reduced energy", "kT")):
        if (name, unit) in rows and isinstance(rows[name, unit]["value"], float):
            found[name] = rows[name, unit]["value"], rows[name, unit]["error"] or 0.0
    found["evaluations"] = float(told["network_evaluations"] + told["target_evaluations"]), 0.0
    for stage in ("train", "sample"):
        found[f"s of {stage}"] = float(stages[stage]["seconds"]), 0.0
    return found


def denoising_losses(directory: Path) -> dict[str, float]:
    """Mean square error of denoised frames per degree of freedom, in units of sigma^2, by level of noise.

    Levels are named in units of the spread of the frames, so that molecules have them in common. Most frames
    are those of the training: a network that learns them by heart would look good here.
    """
    finished = load_run(directory)
    model = load_model(directory / "model", system=finished.system).eval()
    frames = torch.from_numpy(finished.reference.positions)
    x0 = frames[torch.linspace(0, len(frames) - 1, N_JUDGING).long()]
    spread = math.sqrt(float(squared_norm(x0 - x0.mean(1, keepdim=True)).mean()) / dof(x0.shape[1]))
    edges = np.geomspace(*JUDGED, N_LEVELS + 1)
    found = {}
    for band, share in enumerate(np.sqrt(edges[1:] * edges[:-1])):
        sigma = torch.full((N_JUDGING,), share * spread, dtype=x0.dtype)
        y = perturb(x0, sigma, torch.Generator().manual_seed(band))
        errors = []
        for some, level, clean in zip(y.split(64), sigma.split(64), x0.split(64), strict=True):
            _, score = model.energy_and_score(some, level.log())
            errors.append(squared_norm(denoise(some, level, score.detach()) - clean) / level.square())
        found[f"denoising error at {share:.2g} spreads"] = float(torch.cat(errors).mean()) / dof(x0.shape[1])
    return found


# ---- comparison ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """Values of one quantity of one molecule over seeds, with the largest error that the runs state."""

    values: tuple[float, ...]
    stated: float = 0.0

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def unit(self) -> float:
        """What spread between seeds is measured in: the stated error, or else the size of the value."""
        return self.stated or abs(self.mean) or 1.0


def collected(runs: Iterable[Values]) -> dict[str, Sample]:
    """Quantities of several seeds; those that only some have are left out."""
    runs = list(runs)
    names = [name for name in runs[0] if all(name in each for each in runs)]
    return {
        name: Sample(tuple(each[name][0] for each in runs), max(each[name][1] for each in runs))
        for name in names
    }


Results = dict[str, dict[str, Sample]]
"""Quantities of every molecule."""


def spread_of(name: str, case: str, *results: Results) -> tuple[float, int]:
    """Standard deviation between seeds in units of each quantity, and its degrees of freedom.

    This molecule's where enough seeds tell, else the larger one of its own and of all molecules', and at
    least a stated error. Not a number where there is one seed of it: some molecules scatter more than others.
    """

    def of(samples: list[Sample]) -> tuple[float, int]:
        degrees = sum(len(sample.values) - 1 for sample in samples)
        squares = sum(float(np.square((np.array(s.values) - s.mean) / s.unit).sum()) for s in samples)
        return math.sqrt(squares / degrees) if degrees else math.nan, degrees

    here = [found[case][name] for found in results if name in found.get(case, {})]
    stated = any(sample.stated for sample in here)
    everywhere = [
        quantities[name] for found in results for quantities in found.values() if name in quantities
    ]
    own, pooled = of(here), of([sample for sample in everywhere if bool(sample.stated) == stated])
    spread, degrees = own if math.isnan(own[0]) or own[1] >= KNOWN else max(own, pooled)
    return (max(spread, 1.0) if stated else spread), degrees


def difference(now: Sample, before: Sample, spread: float, degrees: int) -> tuple[float, float]:
    """Difference of means in combined errors, and the probability of one as large between equals."""
    if now.mean == before.mean:
        return 0.0, 1.0
    if not math.isfinite(now.mean):
        return math.nan, 0.0
    one = spread * max(before.unit, now.stated)
    error = one * math.sqrt(1 / len(now.values) + 1 / len(before.values))
    if math.isnan(error):
        return math.nan, math.nan
    apart = (now.mean - before.mean) / error if error else math.copysign(math.inf, now.mean - before.mean)
    return apart, float(2 * student.sf(abs(apart), degrees))


def table(now: Results, stored: Results) -> list[str]:
    """The comparison as lines of markdown."""
    lines = ["| molecule | quantity | stored | now | difference / error | |", "|---|---|---|---|---|---|"]
    for case, quantities in now.items():
        for name, sample in quantities.items():
            before = stored.get(case, {}).get(name)
            if before is None:
                lines.append(f"| {case} | {name} | - | {sample.mean:.4g} | | |")
                continue
            cells = f"| {case} | {name} | {before.mean:.4g} | {sample.mean:.4g} |"
            if name.startswith("s of "):
                lines.append(f"{cells} {sample.mean / before.mean:.2f} times | |")
                continue
            apart, chance = difference(sample, before, *spread_of(name, case, stored, now))
            shown = f"{apart:+.1f}" if math.isfinite(apart) else "-"
            mark = next((mark for limit, mark in SURPRISES.items() if chance < limit), "")
            lines.append(f"{cells} {shown} | {mark} |")
        lost = [name for name in stored.get(case, {}) if name not in quantities]
        lines += [f"| {case} | {name} | {stored[case][name].mean:.4g} | not there | | ! |" for name in lost]
    return lines


def stored_results(path: Path = STORED) -> Results:
    """What ``--store`` wrote."""
    if not path.exists():
        return {}
    return {case: collected(runs) for case, runs in json.loads(path.read_text())["runs"].items()}


def store(runs: dict[str, list[Values]]) -> None:
    """Keep results as those that others are compared with; those of other molecules stay."""
    content = json.loads(STORED.read_text()) if STORED.exists() else {"made": {}, "runs": {}}
    content["made"] |= {key: {"commit": commit(), "machine": machine()} for key in runs}
    content["runs"] |= runs
    STORED.write_text(json.dumps(content, indent=1) + "\n")


def commit() -> str:
    """The commit at hand."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, cwd=HERE, capture_output=True, text=True).stdout.strip() or "unknown"


def machine() -> str:
    """Cores in use, what they can, and the version of torch."""
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{torch.get_num_threads()} x {platform.machine()} {capability}, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", help="by default runs/regression/COMMIT")
    parser.add_argument("--only", nargs="+", choices=SEEDS, default=list(SEEDS))
    parser.add_argument("--seeds", type=int, help="of each molecule; by default 3 of aldp, else 1")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--networks", type=Path, metavar="DIR", help="OUT of an earlier run with these seeds")
    parser.add_argument(
        "--store", action="store_true", help="keep as the results that others are compared with"
    )
    options = parser.parse_args()
    if options.out is None and (options.networks or commit().endswith("-dirty")):
        parser.error("OUT: name a directory for code that is not committed, and with --networks")
    if options.store and (options.seeds or 0) < 2:
        parser.error("--store: give --seeds of 3 or more, so that their spread is known")
    options.out = options.out or Path("runs") / "regression" / commit()
    found: dict[str, list[Values]] = {}
    for case in options.only:
        seeds = range(options.first_seed, options.first_seed + (options.seeds or SEEDS[case]))
        found[case] = [made(case, seed, options.out, options.networks) for seed in seeds]
    lines = table({case: collected(runs) for case, runs in found.items()}, stored_results())
    print("\n".join(lines))
    (options.out / "table.md").write_text("\n".join(lines) + "\n")
    if options.store:
        store(found)


if __name__ == "__main__":
    main()
