"""Throughput of target energies with forces: OpenMM's arrangements beside batched torch, in one run.

    python benchmarks/target_energy.py [--systems ALDP-B LJ13] [--seconds 3] [--json FILE] [--figure FILE]

Rivals, all on the same cores: one OpenMM context on the Reference and on the CPU platform (one thread: more
do not help small molecules), and on either a pool of single-threaded processes, one per core. Each batched
row ends in its ratio to the best of them; on a GPU the CUDA platform is a rival too. Evaluators take turns,
so that a machine whose speed drifts does not favour one of them; medians are printed. The figure shows cost
against batch size and atom number. Nothing asserts these numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import torch
from torch import Tensor

from boltzgen import MolecularSystem, load_system, make_potential
from boltzgen.potential.platforms import installed_platforms
from boltzgen.potential.timing import configurations_per_second

SYSTEMS: dict[str, tuple[str, dict[str, object]]] = {
    "ALDP-A": ("alanine_dipeptide", {"hamiltonian": "A"}),
    "ALDP-B": ("alanine_dipeptide", {"hamiltonian": "B"}),
    "ALDP-C": ("alanine_dipeptide", {"hamiltonian": "C"}),
    "ALA3": ("alanine_peptide", {"residues": 3, "solvent": "obc2"}),
    "ALA6": ("alanine_peptide", {"residues": 6, "solvent": "obc2"}),
    "LJ13": ("lj13", {}),
    "LJ55": ("lj55", {}),
}
ROUNDS = 5
BATCH_SIZES = [1, 4, 16, 64, 256, 1024, 4096]
DTYPES = {"float32": torch.float32, "float64": torch.float64}

Evaluate = Callable[[Tensor], object]

_worker: dict[str, Any] = {}


def _start_worker(name: str, platform_name: str) -> None:
    torch.set_num_threads(1)
    system = load_system(*SYSTEMS[name])
    _worker["evaluate"] = make_potential(system, backend="openmm", platform=platform_name).energy_and_forces


def _work(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    energy, forces = _worker["evaluate"](torch.from_numpy(x))
    return energy.numpy(), forces.numpy()


@contextmanager
def openmm_pool(name: str, platform_name: str) -> Iterator[Evaluate]:
    """Energies and forces by one OpenMM process per core; arrays travel both ways."""
    n = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(n, get_context("spawn"), _start_worker, (name, platform_name)) as pool:

        def evaluate(x: Tensor) -> None:
            list(pool.map(_work, np.array_split(x.numpy(), n)))

        yield evaluate


def configurations(system: MolecularSystem, n: int) -> Tensor:
    """The reference with 0.003 nm of noise, ``(n, n_atoms, 3)``."""
    generator = torch.Generator().manual_seed(0)
    reference = torch.as_tensor(system.positions)
    return reference + 0.003 * torch.randn((n, *reference.shape), generator=generator, dtype=torch.float64)


def rate(evaluate: Evaluate, x: Tensor, seconds: float) -> float:
    """Configurations per second."""

    def finished(x: Tensor) -> None:
        evaluate(x)
        if x.device.type == "cuda":
            torch.cuda.synchronize()

    return configurations_per_second(finished, x, seconds)


def by_openmm(name: str, stack: ExitStack) -> dict[str, Evaluate]:
    """OpenMM's arrangements by label, those that run on this machine."""
    system, found = load_system(*SYSTEMS[name]), {}
    for platform_name in installed_platforms():
        evaluate = make_potential(system, backend="openmm", platform=platform_name).energy_and_forces
        try:
            evaluate(configurations(system, 1))
        except openmm.OpenMMException:  # installed without a device
            continue
        found[f"OpenMM {platform_name}"] = evaluate
    for platform_name in ("Reference", "CPU"):
        pool = stack.enter_context(openmm_pool(name, platform_name))
        found[f"OpenMM {platform_name}, {len(os.sched_getaffinity(0))} processes"] = pool
    return found


def batched(name: str) -> dict[str, tuple[Evaluate, torch.dtype, str]]:
    """Batched evaluators by label, with the dtype and device of their input."""
    system = load_system(*SYSTEMS[name])
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    return {
        f"{device} {label} {'compiled' if fused else 'eager'}": (
            make_potential(system, backend="batched", dtype=dtype, compiled=fused).energy_and_forces,
            dtype,
            device,
        )
        for device in devices
        for label, dtype in DTYPES.items()
        for fused in (False, True)
    }


def measure(name: str, batch: int, seconds: float) -> dict[str, Any]:
    """Print and return medians over ROUNDS; every round times every evaluator, and has its own ratios."""
    x = configurations(load_system(*SYSTEMS[name]), batch)
    rounds: dict[str, list[float]] = {}
    with ExitStack() as stack:
        openmm_evaluators = by_openmm(name, stack)
        evaluators = {label: (evaluate, x) for label, evaluate in openmm_evaluators.items()}
        for label, (evaluate, dtype, device) in batched(name).items():
            evaluators[label] = evaluate, x.to(device, dtype)
        for evaluate, inputs in evaluators.values():
            evaluate(inputs[:64])  # compiles, starts processes
        for _ in range(ROUNDS):
            for label, (evaluate, inputs) in evaluators.items():
                rounds.setdefault(label, []).append(rate(evaluate, inputs, seconds / ROUNDS))
    best = np.max([rounds[label] for label in openmm_evaluators], axis=0)
    print(f"\n{name}, {x.shape[1]} atoms, batch {batch}")
    result: dict[str, Any] = {"atoms": x.shape[1], "openmm": {}, "batched": {}}
    for label, rates in rounds.items():
        kind = "openmm" if label in openmm_evaluators else "batched"
        value = result[kind][label] = statistics.median(rates)
        ratio = "" if kind == "openmm" else f"  x{float(np.median(np.array(rates) / best)):.1f}"
        print(f"  {label:32s} {value:12,.0f}/s{ratio}", flush=True)
    return result


def batch_curves(name: str, seconds: float) -> dict[str, list[float]]:
    """Rates over BATCH_SIZES on the CPU, for the left panel."""
    x = configurations(load_system(*SYSTEMS[name]), max(BATCH_SIZES))
    curves = {}
    for label, (evaluate, dtype, device) in batched(name).items():
        if device == "cpu":
            evaluate(x.to(dtype))  # compiles
            curves[label] = [rate(evaluate, x[:n].to(dtype), seconds / 3) for n in BATCH_SIZES]
    return curves


def draw(results: dict[str, Any], curves: dict[str, list[float]], title: str, path: Path) -> None:
    """Cost per configuration against batch size and against atom number."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from boltzgen.report.panels import CATEGORICAL

    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for (label, rates), colour in zip(curves.items(), CATEGORICAL, strict=False):
        left.loglog(BATCH_SIZES, [1e6 / r for r in rates], "o-", color=colour, label=f"batched {label[4:]}")
    openmm_best = max(results["ALDP-B"]["openmm"].values())
    left.axhline(1e6 / openmm_best, color="black", linestyle="--", label="best OpenMM arrangement")
    left.set(title="ALDP-B", xlabel="batch size", ylabel="cost per configuration (µs)")
    for family, marker in (("AL", "o"), ("LJ", "s")):
        family_rows = [row for name, row in results.items() if name.startswith(family)]
        rows = sorted(family_rows, key=lambda row: row["atoms"])
        atoms = [row["atoms"] for row in rows]
        kind = "GB peptides" if family == "AL" else "LJ clusters"
        for dtype, colour in zip(DTYPES, CATEGORICAL, strict=False):
            cost = [1e6 / row["batched"][f"cpu {dtype} compiled"] for row in rows]
            right.loglog(atoms, cost, marker, color=colour, label=f"{kind}, {dtype} compiled")
        cost = [1e6 / max(row["openmm"].values()) for row in rows]
        right.loglog(atoms, cost, marker, color="black", label=f"{kind}, best OpenMM", fillstyle="none")
    right.set(title="batch of 1,024", xlabel="atoms")
    for axis in (left, right):
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3, which="both")
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--batch", type=int, default=1024, help="configurations per call")
    parser.add_argument("--seconds", type=float, default=3.0, help="per evaluator")
    parser.add_argument("--quick", action="store_true", help="ALDP-B and LJ13, a fraction of a second each")
    parser.add_argument("--json", type=Path, help="write every rate to this file")
    parser.add_argument("--figure", type=Path, help="draw cost against batch size and atoms (needs ALDP-B)")
    options = parser.parse_args()
    if options.quick:
        options.systems, options.seconds = ["ALDP-B", "LJ13"], 0.3
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_name()
    title = (
        f"{device}, {len(os.sched_getaffinity(0))} cores; torch {torch.__version__}, "
        f"OpenMM {openmm.Platform.getOpenMMVersion()}"
    )
    print(title)
    results = {name: measure(name, options.batch, options.seconds) for name in options.systems}
    curves = batch_curves("ALDP-B", options.seconds) if options.figure else {}
    if options.json:
        content = {"machine": title, "systems": results, "batch_sizes": BATCH_SIZES, "curves": curves}
        options.json.write_text(json.dumps(content, indent=1))
    if options.figure:
        draw(results, curves, title, options.figure)


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "CPU"


if __name__ == "__main__":
    main()
