"""Throughput of the energy network on alanine dipeptide, eager and compiled.

    python benchmarks/network.py [--batch 256] [--device cpu|cuda]

Prints configurations per second and the ratio to eager execution in the same run.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable

import torch

from boltzgen.geometry import mean_free_noise, remove_centroid
from boltzgen.model.compiled import compile_energy, compile_energy_and_score, eager_energy_and_score
from boltzgen.model.energy import EnergyModel
from boltzgen.objective import draw_level_pairs, losses
from boltzgen.registry import load_system


def seconds(function: Callable[[], object], repeats: int, device: str) -> float:
    """Best wall-clock time of ``repeats`` calls after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256, help="noised configurations per evaluation")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    system = load_system("alanine_dipeptide")
    reference = torch.as_tensor(system.positions).float()
    data = remove_centroid(reference + 0.01 * mean_free_noise((512, system.n_atoms, 3), generator))
    model = EnergyModel.from_data(system, data).to(options.device)
    x0 = data[: options.batch // 2].to(options.device)
    low, high = (float(v) for v in model.log_sigma_range)
    levels = draw_level_pairs(len(x0), (low, high), lambda s: torch.full_like(s, 60.0), generator)
    levels = levels.to(options.device)
    y, flat = x0.repeat(2, 1, 1) + 0.01 * torch.randn_like(x0.repeat(2, 1, 1)), levels.flatten()

    def training_step(energy_and_score, energy) -> None:
        model.zero_grad()
        result = losses(energy_and_score, energy, x0, levels, model.spec.sigma_data, generator)
        (result.dsm.mean() + result.classification.mean()).backward()

    name = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or "CPU"
    print(f"device: {name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    eager = eager_energy_and_score(model, training=True)
    compiled = compile_energy_and_score(model, y, flat, training=True)
    compiled_energy = compile_energy(model, y, flat)
    inference = compile_energy_and_score(model, y, flat, training=False)
    rows = {
        "training step (DSM + DiffCLF)": (
            lambda: training_step(eager, model.energy),
            lambda: training_step(compiled, compiled_energy),
        ),
        "energy + score": (lambda: model.energy_and_score(y, flat), lambda: inference(y, flat)),
    }
    for label, (slow, fast) in rows.items():
        rates = [len(y) / seconds(f, options.repeats, options.device) for f in (slow, fast)]
        print(f"{label:32s} eager {rates[0]:8.0f}/s  compiled {rates[1]:8.0f}/s  x{rates[1] / rates[0]:.1f}")


if __name__ == "__main__":
    main()
