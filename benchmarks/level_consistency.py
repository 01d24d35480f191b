"""How well trained networks agree across noise levels, one row for each finished training.

    python benchmarks/level_consistency.py RUN [RUN ...] [--data RUN] [--paths 1000 512] [--json FILE]
        [--figure FILE]

RUN is a run directory whose network has been trained. Plain annealing without moves or resampling, and
noised data the other way, twice: 160 levels from sigma_max to 0.06 nm, and 300 levels to sigma_min.
Columns: steps of training; held-out loss of score matching; loss of classification, on the data that judge
and the same noise for all; sd(log w) of paths from noise at 0.1 and 0.06 nm, J at 0.06 nm; the population
of the first state there, annealed and in the noised data, whose rare states are up-weighted as in training;
J and Kish ESS / n at sigma_min; the share of paths from noise that are lost by then, which sd and J leave
out; and, where the run has been sampled, the population of the first state at sigma_min, log Z there by BAR
of paths both ways minus that of paths from noise, and effective ancestors per million evaluations of
network and target. All runs are judged by the data of the first, or of ``--data``. The figure has the
population of the first state at every level of the runs that have been sampled; names that differ after
their last hyphen share a colour."""

from __future__ import annotations

import argparse
import csv
import json
import math
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from boltzgen import load_run
from boltzgen.config.schema import SampleSettings
from boltzgen.diffusion.losses import diffclf, noised
from boltzgen.diffusion.noise_levels import draw_levels
from boltzgen.diffusion.process import EnergyAndScore
from boltzgen.ensemble.storage import load_ensemble
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.geometry import dof, zero_centroid_noise
from boltzgen.model import EnergyModel, load_model
from boltzgen.report import panels
from boltzgen.runtime.context import Context
from boltzgen.sample.level_consistency import consistency_curves
from boltzgen.sample.setup import annealing_of
from boltzgen.system.molecular_system import MolecularSystem

HIGH_SIGMA, MIDDLE_SIGMA = 0.1, 0.06
MIDDLE_LEVELS, LEVELS = 160, 300
REPEATS = 4
COLUMNS = {
    "steps": "{:,}",
    "DSM": "{:.4f}",
    "DiffCLF": "{:.4f}",
    "sd 0.1 nm": "{:.2f}",
    "sd 0.06 nm": "{:.2f}",
    "J 0.06 nm": "{:.2f}",
    "state": "{:.3f}",
    "state, data": "{:.3f}",
    "J": "{:.2f}",
    "lost": "{:.3f}",
    "Kish": "{:.3f}",
    "state, sampled": "{:.3f}",
    "BAR": "{:.2f}",
    "ESS / 10^6": "{:.0f}",
}


def measure(run: Path, system: MolecularSystem, data: WeightedEnsemble, n_paths: list[int]) -> dict[str, Any]:
    """One row; positions of paths from data are drawn by weight, rare states up-weighted."""
    model = load_model(run / "model", "cpu", system).eval()
    generator = torch.Generator().manual_seed(0)
    ends = annealing_of(system, model, data, SampleSettings(n_forward=max(n_paths)), Context(), generator)
    middle, whole = (ends.x0[:n] for n in n_paths)
    short = consistency_curves(
        system, model, ends.counter, middle, sigma_end=MIDDLE_SIGMA, n_levels=MIDDLE_LEVELS
    )
    full = consistency_curves(system, model, ends.counter, whole, n_levels=LEVELS)
    levels = short["paths"]
    assert isinstance(levels, list)
    high = min(levels, key=lambda level: abs(math.log(level["sigma"] / HIGH_SIGMA)))
    first = next(iter(levels[-1]["populations"]))
    with (run / "model" / "metrics.csv").open() as file:
        training = list(csv.DictReader(file))
    return {
        "steps": int(training[-1]["step"]),
        "DSM": min(float(row["held_out_dsm"]) for row in training),
        "DiffCLF": classification_loss(model, ends.counter, ends.x0),
        "sd 0.1 nm": high["sd_log_w"],
        "sd 0.06 nm": levels[-1]["sd_log_w"],
        "J 0.06 nm": levels[-1]["jeffreys"],
        "state": levels[-1]["populations"][first],
        "state, data": levels[-1]["data_populations"][first],
        "J": full["jeffreys"],
        "lost": full["paths"][-1]["lost_paths"],
        "Kish": full["kish_ess_fraction"],
        **sampled(run, first),
    }


def classification_loss(model: EnergyModel, network: EnergyAndScore, x0: torch.Tensor) -> float:
    """DiffCLF of REPEATS pairs of levels for each of ``x0``; every network gets the same random numbers."""
    generator, losses = torch.Generator().manual_seed(1), []
    for _ in range(REPEATS):
        information = model.prior.level_information
        levels = draw_levels("kl", 2, len(x0), model.log_sigma_range, information, generator)
        noise = zero_centroid_noise((2, *x0.shape), generator)
        batch = noised(network, x0, levels, noise, dof(x0.shape[1]))
        losses.append(diffclf(batch, lambda x, log_sigma: network(x, log_sigma)[0]).mean())
    return float(torch.stack(losses).mean())


def sampled(run: Path, state: str) -> dict[str, float]:
    """What the run's own samples say; NaN without them."""
    found = diagnostics(run)
    if not found:
        return dict.fromkeys(("state, sampled", "BAR", "ESS / 10^6"), math.nan)
    n = found["network_evaluations"] + found["target_evaluations"]
    return {
        "state, sampled": found["paths"][-1]["populations"][state],
        "BAR": found["bar_log_z_gap"],
        "ESS / 10^6": 1e6 * found["genealogical_ess"] / n,
    }


def diagnostics(run: Path) -> dict[str, Any]:
    """Of the run's samples; empty without."""
    path = run / "samples" / "diagnostics.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def draw(runs: list[Path], path: Path) -> None:
    """Population of the first state at every noise level, and in the noised data of the first run."""
    figure = Figure(figsize=(6.0, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axis, colours = figure.subplots(), dict[str, str]()
    for run in runs:
        levels = diagnostics(run).get("paths", [])[1:]
        if not levels:
            continue
        sigma, state = [level["sigma"] for level in levels], next(iter(levels[0]["populations"]))
        if not colours:
            data = [level["data_populations"][state] for level in levels]
            axis.semilogx(sigma, data, "--", color="black", lw=1.0, label="noised data")
        name = run.name.rpartition("-")[0] or run.name
        label = None if name in colours else name
        colour = colours.setdefault(name, panels.CATEGORICAL[len(colours) % len(panels.CATEGORICAL)])
        axis.semilogx(sigma, [level["populations"][state] for level in levels], color=colour, label=label)
        axis.set(xlabel="sigma (nm)", ylabel=f"population of {state}")
    axis.invert_xaxis()
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, help="the run whose data judge; by default the first")
    parser.add_argument(
        "--paths",
        type=int,
        nargs=2,
        default=[1000, 512],
        help="in each direction, to 0.06 nm and to sigma_min",
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    judging = options.data or options.runs[0]
    system, data = load_run(judging).system, load_ensemble(judging / "data" / "ensemble.h5")
    rows = {}
    print("run", *COLUMNS, sep=" | ")
    for run in options.runs:
        row = rows[str(run)] = measure(run, system, data, options.paths)
        print(run, *(form.format(row[name]) for name, form in COLUMNS.items()), sep=" | ", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    if options.figure is not None:
        draw(options.runs, options.figure)


if __name__ == "__main__":
    main()
