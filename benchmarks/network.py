"""Our energy network beside an EGNN on alanine dipeptide: speed, memory, operations, losses, in one run.

    python benchmarks/network.py [--batch 256] [--device cpu|cuda] [--quick] [--json FILE]
    python benchmarks/network.py --train SECONDS [--data ENSEMBLE.h5]

A training step is DSM + DiffCLF at two noise levels with all parameter gradients, no optimiser; its rate
counts noised configurations. Ratios compare compiled with compiled and eager with eager; networks take
turns, and medians are printed. The EGNN runs at the best of a few batch sizes. Memory is that of eager calls
on the CPU (growth of a fresh process's peak resident set) and of either kind on a GPU. `--train` trains both
for the same time on the clock, compilation excluded, by Adam with warm-up and cosine decay in that time, and
compares them on the same held-out data, levels and noise. Nothing asserts these numbers.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from egnn import EGNNEnergy
from target_energy import cpu_name
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from boltzgen.config.schema import SimulateSettings
from boltzgen.diffusion.losses import diffclf, dsm, noised
from boltzgen.diffusion.noise_levels import draw_levels
from boltzgen.ensemble.storage import load_ensemble
from boltzgen.geometry import dof, random_rotations, zero_centroid_noise
from boltzgen.model import compiled
from boltzgen.model.calibration import calibrate_levels
from boltzgen.model.energy import EnergyModel
from boltzgen.runtime.context import Context
from boltzgen.runtime.threads import part_size
from boltzgen.simulate.stage import simulate
from boltzgen.system.registry import load_system
from boltzgen.train.gradients import add_gradients

TRAINING, INFERENCE = TASKS = ("training step", "energy + score")
ROUNDS = 5
N_BANDS = 7
MEMORY_BATCH = 32
"""Noised configurations in the CPU's measurement of memory, of either network."""
HELD_OUT = 512
"""Configurations that the losses after training are averaged over, each at two levels."""
Call = Callable[[], object]


@dataclass(frozen=True)
class Batch:
    """Data ``(n, n_atoms, 3)`` [nm], two log levels of each ``(2, n)``, noise ``(2, n, n_atoms, 3)``."""

    x0: Tensor
    log_sigmas: Tensor
    noise: Tensor

    def __len__(self) -> int:
        return self.log_sigmas.numel()

    @property
    def part_size(self) -> int:
        """Data of a part, as in training."""
        return part_size(*self.x0.shape[:2], self.x0.device, each=2)

    @property
    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """All by data: ``(n, ...)``."""
        return self.x0, self.log_sigmas.T, self.noise.transpose(0, 1)

    @classmethod
    def of_rows(cls, x0: Tensor, log_sigmas: Tensor, noise: Tensor) -> Batch:
        return cls(x0, log_sigmas.T, noise.transpose(0, 1))

    @property
    def inputs(self) -> tuple[Tensor, Tensor]:
        """Noised configurations and their levels, in a row."""
        y = self.x0 + self.log_sigmas.exp()[..., None, None] * self.noise
        return y.flatten(0, 1), self.log_sigmas.flatten()


@dataclass
class Network:
    """One rival: its model, the batch of each task, and its functions by mode (eager, compiled)."""

    model: Any
    sigma_data: float
    batches: dict[str, Batch] = field(default_factory=dict)
    functions: dict[str, dict[str, compiled.BatchFunction]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        eager = compiled.eager_derivatives(self.model), self.model.energy, self.model.energy_and_score
        self.functions["eager"] = dict(zip(("derivatives", "energy", INFERENCE), eager, strict=True))

    def compile(self) -> float:
        """Compile for the batches' shapes; returns the seconds until everything has run once."""
        started, batch = time.perf_counter(), self.batches[TRAINING]
        inputs = Batch.of_rows(*(rows[: batch.part_size] for rows in batch.rows)).inputs
        self.functions["compiled"] = {
            "derivatives": compiled.compile_derivatives(self.model, *inputs),
            "energy": compiled.compile_energy(self.model, *inputs),
            INFERENCE: compiled.compile_energy_and_score(self.model, *self.batches[INFERENCE].inputs),
        }
        for task in TASKS:
            self.call(task, "compiled", self.batches[task])()
        return time.perf_counter() - started

    def losses(self, mode: str, batch: Batch) -> tuple[Tensor, Tensor]:
        """DSM ``(2, n)`` and DiffCLF ``(n,)``."""
        derivatives, energy, _ = self.functions[mode].values()
        noisy = noised(derivatives, batch.x0, batch.log_sigmas, batch.noise, dof(batch.x0.shape[1]))
        return dsm(noisy, self.sigma_data), diffclf(noisy, energy)

    def sum_of_losses(self, mode: str, batch: Batch) -> Tensor:
        """What is trained on, times the number of data."""
        scores, level_losses = self.losses(mode, batch)
        return (scores.mean(0) + level_losses).sum()

    def training_step(self, mode: str, batch: Batch) -> None:
        """Gradients of all parameters."""

        def share(*rows: Tensor) -> tuple[Tensor, None]:
            return self.sum_of_losses(mode, Batch.of_rows(*rows)) / len(batch.x0), None

        self.model.zero_grad()
        add_gradients(share, list(self.model.parameters()), batch.rows, batch.part_size)

    def call(self, task: str, mode: str, batch: Batch) -> Call:
        if task == TRAINING:
            return partial(self.training_step, mode, batch)
        return partial(self.functions[mode][INFERENCE], *batch.inputs)


def networks(positions: Tensor, device: str) -> dict[str, Network]:
    """Both, untrained, with the noise range and scale that ours takes from the data."""
    torch.manual_seed(0)
    system = load_system("alanine_dipeptide")
    ours = EnergyModel.from_data(system, positions)
    calibrate_levels(ours, positions[:1024], torch.Generator().manual_seed(1))
    models = {"ours": ours, "EGNN": EGNNEnergy(system, ours)}
    return {name: Network(model.to(device), ours.spec.sigma_data) for name, model in models.items()}


def make_batch(ours: EnergyModel, x0: Tensor, generator: torch.Generator) -> Batch:
    """``x0``, randomly rotated, with levels and noise; on the device of the model."""
    device = next(ours.parameters()).device

    def information(sigma: Tensor) -> Tensor:
        return ours.prior.level_information(sigma.to(device)).cpu()

    levels = draw_levels("kl", 2, len(x0), ours.log_sigma_range, information, generator)
    x0 = x0 @ random_rotations(len(x0), generator)
    noise = zero_centroid_noise((2, *x0.shape), generator)
    return Batch(x0.to(device), levels.to(device), noise.to(device))


def some_batch(ours: EnergyModel, positions: Tensor, size: int) -> Batch:
    """The same ``size`` noised configurations every time."""
    generator = torch.Generator().manual_seed(2)
    rows = torch.randint(len(positions), (size // 2,), generator=generator)
    return make_batch(ours, positions[rows], generator)


def training_data(path: Path | None, picoseconds: float) -> tuple[Tensor, Tensor]:
    """Equally weighted positions for training, and of held-out blocks of time, a fifth of all."""
    if path:
        ensemble = load_ensemble(path)
    else:
        settings = SimulateSettings(
            method="langevin", equilibration_ps=5, production_ps=picoseconds, frame_interval_ps=0.05
        )
        ensemble = simulate(load_system("alanine_dipeptide"), settings, Context())
    blocks = torch.arange(len(ensemble)) if ensemble.lineages is None else torch.as_tensor(ensemble.lineages)
    parts = [ensemble.select(rows.nonzero()[:, 0].numpy()) for rows in (blocks % 5 != 0, blocks % 5 == 0)]
    data, held_out = (torch.as_tensor(part.resample(len(part), seed=0).positions) for part in parts)
    return data, held_out


# ---- measurements ----------------------------------------------------------------------------------


def rate(call: Call, n: int, seconds: float) -> float:
    """Configurations per second of a call that evaluates ``n``."""
    calls, started = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - started < seconds:
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        calls += 1
    return n * calls / (time.perf_counter() - started)


def choose_batches(rivals: dict[str, Network], positions: Tensor, ours: int, egnn: list[int]) -> None:
    """Give every task its batch: ours as asked, the EGNN's the one with the highest eager rate."""
    model, rival = rivals["ours"].model, rivals["EGNN"]
    candidates = [some_batch(model, positions, size) for size in egnn]
    for task in TASKS:
        rivals["ours"].batches[task] = some_batch(model, positions, ours)
        rival.call(task, "eager", candidates[0])()
        found = [rate(rival.call(task, "eager", batch), len(batch), 1.0) for batch in candidates]
        rival.batches[task] = candidates[found.index(max(found))]
        tried = ", ".join(f"{size}: {r:.0f}/s" for size, r in zip(egnn, found, strict=True))
        print(f"{task}: batch {ours}, EGNN {len(rival.batches[task])} (eager, {tried})", flush=True)


def rates(rivals: dict[str, Network], task: str, mode: str, seconds: float) -> dict[str, float]:
    """Median rates over ROUNDS, in each of which the networks take turns, and median ``ratio`` in a round."""
    calls = {name: (r.call(task, mode, r.batches[task]), len(r.batches[task])) for name, r in rivals.items()}
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    for k in range(ROUNDS + 1):
        for name, (call, n) in calls.items():
            value = rate(call, n, seconds / ROUNDS if k else 0.0)
            rounds[name] += [value] if k else []  # the first call warms up
    rounds["ratio"] = [a / b for a, b in zip(rounds["ours"], rounds["EGNN"], strict=True)]
    return {name: statistics.median(values) for name, values in rounds.items()}


class ProductCounter(TorchDispatchMode):
    """Adds up the floating-point operations of matrix products inside it, by FlopCounterMode's formulas.

    That class itself also follows modules by hooks, which fail in derivatives of derivatives.
    """

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.total += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def operations(network: Network, task: str) -> float:
    """Floating-point operations of matrix products, millions per configuration."""
    batch = network.batches[task]
    with ProductCounter() as counter:  # of this thread
        if task == TRAINING:
            network.sum_of_losses("eager", batch).backward()
        else:
            network.call(task, "eager", batch)()
    return counter.total / len(batch) / 1e6


def matmul_peak(device: str, seconds: float) -> float:
    """Millions of floating-point operations per second of a large float32 matrix product."""
    a, b = torch.rand((2, 2048, 2048), device=device)
    rate(lambda: a @ b, 1, 0.0)
    return 2.0 * 2048**3 / 1e6 * rate(lambda: a @ b, 1, seconds)


def resident_growth(name: str, task: str, positions: Tensor, threads: int) -> float:
    """MiB per configuration by which this process, a fresh one, grows at its peak in eager calls."""
    torch.set_num_threads(threads)
    rivals, peaks, sizes = networks(positions, "cpu"), [], (2, MEMORY_BATCH)
    for size in sizes:
        rivals[name].call(task, "eager", some_batch(rivals["ours"].model, positions, size))()
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # KiB on Linux
    return (peaks[1] - peaks[0]) / 1024 / (sizes[1] - sizes[0])


def cpu_memory(name: str, task: str, positions: Tensor) -> float:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        arguments = name, task, positions[:512], torch.get_num_threads()
        return pool.submit(resident_growth, *arguments).result()


def cuda_memory(network: Network, task: str, mode: str) -> float:
    """MiB per configuration that a call adds to what is allocated."""
    call = network.call(task, mode, network.batches[task])
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return (torch.cuda.max_memory_allocated() - before) / 2**20 / len(network.batches[task])


def measure(rivals: dict[str, Network], options: argparse.Namespace, memory: dict[str, list[float]]) -> Any:
    """Print and return the rows of the table."""
    peak, rows = matmul_peak(options.device, options.seconds), []
    print(f"matmul peak {peak / 1000:.1f} GFLOP/s\n\n{'':44s}{'ours':>10s}{'EGNN':>10s}{'factor':>8s}")

    def row(label: str, values: list[float], factor: float | None = None) -> None:
        factor = values[1] / values[0] if factor is None else factor
        rows.append({"label": label, "ours": values[0], "EGNN": values[1], "in favour of ours": factor})
        print(f"{label:44s}{values[0]:10,.4g}{values[1]:10,.4g}{factor:8.2f}", flush=True)

    for task in TASKS:
        flop = {name: operations(rival, task) for name, rival in rivals.items()}
        row(f"{task} [MFLOP of matrix products]", list(flop.values()))
        for mode in rivals["ours"].functions:
            speed = rates(rivals, task, mode, options.seconds)
            row(f"{task}, {mode} [1/s]", [speed[name] for name in rivals], speed["ratio"])
            shares = [100 * flop[name] * speed[name] / peak for name in rivals]
            row(f"{task}, {mode} [% of peak]", shares, shares[0] / shares[1])
            if options.device == "cuda":
                row(f"{task}, {mode} [MiB]", [cuda_memory(rival, task, mode) for rival in rivals.values()])
        if task in memory:
            row(f"{task}, eager, batch {MEMORY_BATCH} [MiB]", memory[task])
    row("parameters", [sum(p.numel() for p in rival.model.parameters()) for rival in rivals.values()])
    return rows


# ---- training --------------------------------------------------------------------------------------


def training(
    network: Network, mode: str, ours: EnergyModel, data: Tensor, step_size: float, budget: float
) -> Iterator[float]:
    """Yields the seconds of every step of Adam, whose step size depends on the share of the budget spent."""
    adam = torch.optim.Adam(network.model.parameters())
    generator, n, spent = torch.Generator().manual_seed(3), len(network.batches[TRAINING]) // 2, 0.0
    while True:
        started, share = time.perf_counter(), min(spent / budget, 1.0)
        decay = 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * share))
        adam.param_groups[0]["lr"] = step_size * min(1.0, 0.01 + share / 0.05) * decay
        rows = torch.randint(len(data), (n,), generator=generator)
        network.training_step(mode, make_batch(ours, data[rows], generator))
        torch.nn.utils.clip_grad_norm_(network.model.parameters(), 1.0)
        adam.step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        spent += seconds
        yield seconds


def train_both(rivals: dict[str, Network], mode: str, data: Tensor, options: argparse.Namespace) -> None:
    """Step by step, always the one that has had less time, until both have had ``options.train`` seconds."""
    runs = {
        name: training(rival, mode, rivals["ours"].model, data, step_size, options.train)
        for (name, rival), step_size in zip(rivals.items(), options.step_size, strict=True)
    }
    spent, steps = dict.fromkeys(rivals, 0.0), dict.fromkeys(rivals, 0)
    while spent[name := min(spent, key=spent.__getitem__)] < options.train:
        spent[name] += next(runs[name])
        steps[name] += 1
    print(
        "\ntrained for "
        + ", ".join(f"{steps[name]} steps in {spent[name]:.0f} s ({name})" for name in rivals)
    )


def held_out_losses(network: Network, batch: Batch, log_range: tuple[float, float]) -> dict[str, Any]:
    """``(mean, standard error)`` of DSM in each noise band, low noise first, of all DSM, and of DiffCLF."""
    parts = zip(batch.x0.split(16), batch.log_sigmas.split(16, 1), batch.noise.split(16, 1), strict=True)
    pieces = [[loss.detach() for loss in network.losses("eager", Batch(*part))] for part in parts]
    scores, level_losses = torch.cat([s for s, _ in pieces], 1).flatten(), torch.cat([h for _, h in pieces])
    low, width = log_range[0], (log_range[1] - log_range[0]) / N_BANDS
    band = ((batch.log_sigmas.flatten() - low) / width).long().clamp(0, N_BANDS - 1)
    values = {
        f"DSM, sigma about {math.exp(low + (k + 0.5) * width):.2g} nm": scores[band == k]
        for k in range(N_BANDS)
    } | {"DSM, all": scores, "DiffCLF": level_losses}
    return {label: (float(v.mean()), float(v.std() / len(v) ** 0.5)) for label, v in values.items()}


def compare_losses(rivals: dict[str, Network], held_out: Tensor) -> dict[str, Any]:
    """Print and return the losses on held-out data."""
    ours = rivals["ours"].model
    batch = some_batch(ours, held_out, 2 * HELD_OUT)
    results = {name: held_out_losses(rival, batch, ours.log_sigma_range) for name, rival in rivals.items()}
    print(f"\n{'held-out loss':32s}{'ours':>20s}{'EGNN':>20s}")
    for label in results["ours"]:
        values = [f"{mean:.4g} +- {error:.2g}" for mean, error in (results[name][label] for name in rivals)]
        print(f"{label:32s}{values[0]:>20s}{values[1]:>20s}")
    return results


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256, help="noised configurations per call of ours")
    parser.add_argument("--egnn-batches", type=int, nargs="+", default=[8, 16, 32, 64], help="to choose from")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--seconds", type=float, default=15.0, help="per network and rate")
    parser.add_argument("--train", type=float, default=0.0, help="seconds to train each network for")
    parser.add_argument("--step-size", type=float, nargs=2, default=[1e-2, 2e-3], help="ours and the EGNN's")
    parser.add_argument("--data", type=Path, help="ensemble file; default: a short OpenMM run")
    parser.add_argument("--quick", action="store_true", help="eager only, small batches, seconds")
    parser.add_argument("--json", type=Path, help="write every number to this file")
    options = parser.parse_args()
    if options.quick:
        options.batch, options.egnn_batches, options.seconds = 64, [32], 1.0
    return options


def main() -> None:
    options = parse()
    name = torch.cuda.get_device_name() if options.device == "cuda" else cpu_name()
    title = f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(title)
    data, held_out = training_data(options.data, 100.0 if options.train else 10.0)
    # Before anything large: a process's peak starts from that of the one that started it.
    cpu = TASKS if options.device == "cpu" else ()
    memory = {task: [cpu_memory(name, task, data) for name in ("ours", "EGNN")] for task in cpu}
    rivals = networks(data, options.device)
    choose_batches(rivals, data, options.batch, options.egnn_batches)
    if not options.quick:
        for label, rival in rivals.items():
            print(f"{label}: compiled in {rival.compile():.0f} s", flush=True)
    batches = {name: {task: len(b) for task, b in r.batches.items()} for name, r in rivals.items()}
    rows = measure(rivals, options, memory)
    result: dict[str, Any] = {"machine": title, "batches": batches, "rows": rows}
    if options.train:
        train_both(rivals, "eager" if options.quick else "compiled", data, options)
        result["held-out losses"] = compare_losses(rivals, held_out)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
