"""Our sampler beside the DiffCLF paper's protocol and parallel tempering, with one network in one run.

    python benchmarks/sampler.py runs/alanine_dipeptide [--particles 1024] [--islands 8] [--json FILE]
                                 [--paper-particles 1536] [--only "ours, smc" "paper, smc, ddpm"]

RUN is a finished run directory. Ours: levels placed by a pilot run, DDPM with the covariance of the
denoiser's errors, MCMC moves at low noise and on the bridge, resampling below 0.5. The paper's (arXiv
2601.21025): 512 levels, no moves, a direct jump from the lowest level to the target, kernels DDPM,
exponential integrator and DDIM, by AIS and by SMC with resampling below 0.3; its levels are taken equally
spaced in log sigma. Ours takes about 1.2 times the evaluations of the paper's for each particle, pilot
included: give the paper's more particles (``--paper-particles``) to compare at equal evaluations. Columns:
log Z with its error, effective samples by surviving ancestors, distances to the MD reference, effective
samples of the first state, p (1 - p) / error^2 of its population p, where enough ancestors support it for an
error; per million evaluations (network and target) and per second. The last row is the run's own parallel
tempering, whose time is that of its stage. Nothing asserts these numbers.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from boltzgen import load_run
from boltzgen.analyze.distances import energy_w2, torsion_pair, torsion_w2
from boltzgen.analyze.free_energy import Estimate, state_probability
from boltzgen.config.schema import SampleSettings
from boltzgen.ensemble.storage import load_ensemble
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.model import load_model
from boltzgen.runtime.context import Context
from boltzgen.sample.islands import run_islands
from boltzgen.sample.setup import Annealing, annealing_of, schedule_of
from boltzgen.sample.stage import ensemble_of
from boltzgen.smc.combine import combine
from boltzgen.smc.kernels import ReverseKernel, make_kernel
from boltzgen.smc.levels import Schedule
from boltzgen.smc.spacing import measured_errors, spaced_levels

PAPER_LEVELS = 512
Row = dict[str, Any]


def paper_schedule(annealing: Annealing, kernel: ReverseKernel, generator: torch.Generator) -> Schedule:
    """Levels equally spaced in log sigma, no moves, one jump to the target."""
    ends = annealing.sigma_max, annealing.sigma_min
    errors = measured_errors(annealing.network, annealing.x0, ends, None, generator)
    sigmas = spaced_levels(*ends, np.ones_like, PAPER_LEVELS)
    return Schedule(tuple(sigmas), errors.at(sigmas), kernel=kernel)


def protocols(options: argparse.Namespace) -> Iterator[tuple[str, SampleSettings, ReverseKernel | None]]:
    """Name, settings, and the kernel of the paper's protocols."""
    counts = {"n_particles": options.particles, "n_islands": options.islands}
    paper = counts | {"n_particles": options.paper_particles or options.particles}
    for sampler in ("smc", "ais"):
        yield f"ours, {sampler}", SampleSettings(sampler=sampler, **counts), None
    for sampler in ("smc", "ais"):
        for kind in ("ddpm", "ei", "ddim"):
            settings = SampleSettings(sampler=sampler, resample_below=0.3, **paper)
            yield f"paper, {sampler}, {kind}", settings, make_kernel(kind)


def measure(
    name: str,
    annealing: Annealing,
    settings: SampleSettings,
    kernel: ReverseKernel | None,
    reference: WeightedEnsemble,
) -> Row:
    """Run one protocol; its pilot counts too."""
    generator = torch.Generator().manual_seed(1)
    started, targets = time.perf_counter(), annealing.potential.evaluations
    annealing.counter.evaluations = 0
    if kernel:
        schedule = paper_schedule(annealing, kernel, generator)
    else:
        schedule = schedule_of(annealing, settings, generator)
    islands = run_islands(annealing, schedule, settings, Context(1))
    populations = [island.population for island in islands]
    seconds = time.perf_counter() - started
    combined = combine(populations)
    evaluations = annealing.counter.evaluations + annealing.potential.evaluations - targets
    samples = ensemble_of(combined, annealing.system.temperature_k)
    row = {"sampler": name, "seconds": seconds, "evaluations": evaluations}
    row |= {"log_z": combined.log_z, "log_z_error": combined.log_z_error}
    row |= {"var_log_z": float(np.var([p.log_z for p in populations], ddof=1))}
    row |= {"genealogical_ess": combined.genealogical_ess}
    return row | quality(annealing, samples, reference)


def quality(annealing: Annealing, samples: WeightedEnsemble, reference: WeightedEnsemble) -> Row:
    """Distances to the reference and effective samples of the first state."""
    row: Row = {"energy_w2": energy_w2(samples, reference).value}
    torsions = torsion_pair(annealing.system)
    if torsions is not None:
        row["torsion_w2"] = torsion_w2(samples, reference, torsions).value
    if annealing.system.states:
        row |= state_row(annealing, samples)
    return row


def state_row(annealing: Annealing, samples: WeightedEnsemble) -> Row:
    """Population of the first state and effective samples of it, by its error."""
    members = annealing.system.states[0].members(samples.positions)
    p: Estimate = state_probability(samples, members)
    effective = p.value * (1.0 - p.value) / p.error**2 if p.error else None
    return {"population": p.value, "population_error": p.error, "effective_state": effective}


def parallel_tempering(annealing: Annealing, run: Path) -> Row:
    """The run's own MD, with the seconds its stage took."""
    stages = json.loads((run / "manifest.json").read_text())["stages"]
    seconds = float(stages["simulate"]["seconds"])
    return {"sampler": "parallel tempering", "seconds": seconds} | state_row(annealing, annealing.data)


def show(row: Row) -> str:
    """One line of the table."""

    def cell(key: str, pattern: str) -> str:
        value = row.get(key)
        return "-" if value is None else format(value, pattern)

    state, seconds, millions = row.get("effective_state"), row["seconds"], row.get("evaluations", 0) / 1e6
    per_second = "-" if state is None else f"{state / seconds:.3g}"
    per_million = (
        "-" if not millions or "genealogical_ess" not in row else f"{row['genealogical_ess'] / millions:.3g}"
    )
    log_z = f"{cell('log_z', '.2f')} ± {cell('log_z_error', '.2f')}"
    cells = [
        row["sampler"],
        cell("seconds", ".0f"),
        cell("evaluations", ".3g"),
        log_z,
        cell("var_log_z", ".3g"),
        cell("genealogical_ess", ".3g"),
        per_million,
        cell("energy_w2", ".3f"),
        cell("torsion_w2", ".3f"),
        f"{cell('population', '.4f')} ± {cell('population_error', '.4f')}",
        cell("effective_state", ".3g"),
        per_second,
    ]
    return "| " + " | ".join(cells) + " |"


HEADER = (
    "| sampler | s | evaluations | log Z | var log Z | ESS | ESS / 10^6 evaluations | E-W2 | T-W2 | "
    "P(first state) | its effective samples | per s |\n" + "|---" * 12 + "|"
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--particles", type=int, default=1024)
    parser.add_argument("--islands", type=int, default=8)
    parser.add_argument("--paper-particles", type=int)
    parser.add_argument("--only", nargs="+", metavar="SAMPLER", help="names as in the first column")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    system = load_run(options.run).system
    reference = load_ensemble(options.run / "data" / "ensemble.h5")
    model = load_model(options.run / "model", options.device, system)
    settings = SampleSettings(n_particles=options.particles, n_islands=options.islands)
    annealing = annealing_of(
        system, model, reference, settings, Context(device=options.device), torch.Generator().manual_seed(0)
    )
    print(f"{system.name}, {options.particles} particles, {platform.machine()}, torch {torch.__version__}")
    print(HEADER)
    rows = []
    for name, chosen, kernel in protocols(options):
        if options.only and name not in options.only:
            continue
        rows.append(measure(name, annealing, chosen, kernel, reference))
        print(show(rows[-1]), flush=True)
    rows.append(parallel_tempering(annealing, options.run))
    print(show(rows[-1]))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
