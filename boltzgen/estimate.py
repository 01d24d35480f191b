"""Rough forecasts of time and memory, printed before long work and labelled as estimates."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from boltzgen.config import ModelSettings, SampleSettings, SimulateSettings, TrainSettings, Workflow
from boltzgen.progress import clock

if TYPE_CHECKING:
    from boltzgen.model import EnergyModel
    from boltzgen.system import MolecularSystem

COMPILE_FROM_EVALUATIONS = 100_000
"""Network evaluations of a sampling from which compiling wins its time back."""
COMPILED_GAIN = 4.0
"""Speed of energy and score once compiled over that before (4.3 on two cores of a Xeon)."""
DEFAULT_CHUNK = {"cpu": 256, "cuda": 4096}
"""Configurations at once: what stays in a CPU's cache, what fills a GPU."""
MOST_FRAMES = 20_000
"""Frames that the scales of a network and the Gaussian of its prior are taken from, at most."""
BYTES_PER_PAIR = 10_000.0
"""That a training step holds for each pair of atoms in a noised configuration of the parts at work, with 2
layers of 32 channels, at least: 11 kB were measured for 55 atoms without bonds, 24 for alanine dipeptide."""
_BYTES_PER_ATOM = {"xtc": 5, "pdb": 81}
"""Of a frame in formats that are not plain float32 positions."""


def of_simulation(system: MolecularSystem, settings: SimulateSettings) -> str:
    """MD steps over a speed measured now, and the size of the stored frames."""
    from boltzgen.pace import expected

    steps, seconds = expected(system, settings)
    frames = settings.n_runs * settings.production_ps / settings.frame_interval_ps
    stored = size(frames * system.n_atoms * 3 * 4)
    return f"estimate: {steps:.3g} MD steps, about {clock(seconds)}, about {stored} of frames at the target"


def of_training(settings: TrainSettings) -> str:
    """The limits that end training."""
    limits = [] if settings.steps is None else [f"{settings.steps} steps"]
    limits += [] if settings.minutes is None else [f"{settings.minutes:g} minutes"]
    return f"ends after {' or '.join(limits)}" + (", whichever is sooner" if len(limits) == 2 else "")


def of_sampling(system: MolecularSystem, model: Path, settings: SampleSettings, device: str) -> str:
    """Network evaluations over the speed of one chunk, and the memory in use after it.

    The speed is measured before the network is compiled, and multiplied by what compiling typically gains.
    """
    from boltzgen.memory import keep_freed_memory
    from boltzgen.model import load_model

    keep_freed_memory()  # as sampling does
    return _of_sampling(system, load_model(model, device, system), settings, device)


def of_sampling_untrained(
    system: MolecularSystem, network: ModelSettings, settings: SampleSettings, device: str
) -> str:
    """The same before there is a network: by one of random numbers, which is as fast."""
    import torch

    from boltzgen.model import EnergyModel

    reference = torch.as_tensor(system.positions, dtype=torch.float32)
    noise = torch.randn((64, *reference.shape), generator=torch.Generator().manual_seed(0))
    model = EnergyModel.from_data(system, reference - reference.mean(dim=0) + 0.003 * noise, network)
    return _of_sampling(system, model.to(device), settings, device)


def _of_sampling(system: MolecularSystem, model: EnergyModel, settings: SampleSettings, device: str) -> str:
    levels = settings.n_levels * (1 + settings.ladder_moves * settings.leapfrog_steps)
    evaluations = (settings.n_particles + settings.n_pilot) * levels + settings.n_forward * settings.n_levels
    speed = _network_throughput(system, model, settings, device)
    seconds = evaluations / (speed * COMPILED_GAIN if will_compile(settings) else speed)
    return (
        f"estimate: about {evaluations:.3g} network evaluations, about {clock(seconds)}, "
        f"about {size(_memory(device))} of memory"
    )


def will_compile(settings: SampleSettings) -> bool:
    """Whether sampling evaluates the network often enough for compiling to win its time back."""
    moves = 1 + 0.5 * settings.ladder_moves * settings.leapfrog_steps
    return settings.n_particles * settings.n_levels * moves >= COMPILE_FROM_EVALUATIONS


def network_chunk(settings: SampleSettings, device: str) -> int:
    """Configurations that the network is given at once, at most a population."""
    size = settings.chunk_size or DEFAULT_CHUNK[device]
    return max(1, min(size, settings.n_particles // settings.populations))


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def disk_bytes(n_atoms: int, workflow: Workflow) -> dict[str, float]:
    """What each stage writes, roughly: frames, the weighted sample, its copies in every format."""
    sampled = workflow.sample.n_particles
    exported = sum(_BYTES_PER_ATOM.get(suffix, 12) for suffix in workflow.export.formats)
    return {
        "simulate": _n_frames(n_atoms, workflow) / workflow.data.stride * n_atoms * 12.0,
        "sample": sampled * n_atoms * 12.0,
        "export": (sampled + workflow.export.n_resampled) * n_atoms * float(exported),
    }


def memory_bytes(n_atoms: int, workflow: Workflow, device: str) -> dict[str, float]:
    """What each stage holds in memory at least: frames twice, forces beside them, distances of pairs.

    Distances are those that the scales of the network are taken from, of MOST_FRAMES at most. What a
    training step holds, one part for each core, comes later, on a CPU in the same memory.
    """
    import torch

    from boltzgen.cores import part_size

    read = _n_frames(n_atoms, workflow)
    kept, model, train = read / workflow.data.stride, workflow.model, workflow.train
    part = part_size(train.batch_size, n_atoms, torch.device("cpu"), train.levels_per_sample)
    at_once = min(train.batch_size, part * torch.get_num_threads()) * train.levels_per_sample
    pairs = n_atoms * (n_atoms - 1) * at_once
    step = pairs * BYTES_PER_PAIR * model.n_layers * model.n_channels / 64
    if device != "cpu" or workflow.pretrained is not None:
        step = 0.0
    return {
        "simulate": read * n_atoms * 24.0,
        "train": kept * n_atoms * 24.0 + max(min(kept, MOST_FRAMES) * n_atoms**2 * 8.0, step),
        "sample": float(workflow.sample.n_particles) * n_atoms * 48.0,
    }


def size(n_bytes: float) -> str:
    """``n_bytes`` in words."""
    if n_bytes >= 1e12:
        return f"{n_bytes / 1e12:.1f} TB"
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{max(n_bytes / 1e6, 1):.0f} MB"


def _n_frames(n_atoms: int, workflow: Workflow) -> float:
    """Frames that the run simulates, or reads, going by the size of the files."""
    if workflow.pretrained is not None:
        return 0.0
    if workflow.data.trajectory:
        files = [path for path in map(Path, workflow.data.trajectory) if path.is_file()]
        per_atom = [_BYTES_PER_ATOM.get(path.suffix.lower().lstrip("."), 12) for path in files]
        sizes = zip(files, per_atom, strict=True)
        return sum(path.stat().st_size / (each * n_atoms) for path, each in sizes)
    simulate = workflow.simulate
    return simulate.n_runs * simulate.production_ps / simulate.frame_interval_ps


def _network_throughput(
    system: MolecularSystem, model: EnergyModel, settings: SampleSettings, device: str
) -> float:
    """Configurations per second of energies with scores, from the second of two chunks."""
    import torch

    n = network_chunk(settings, device)
    reference = torch.as_tensor(system.positions, dtype=torch.float32, device=device)
    x = (reference - reference.mean(dim=0)).expand(n, -1, -1).contiguous()
    log_sigma = torch.full((n,), -2.0, device=device)
    for _ in range(2):
        start = time.perf_counter()
        _, score = model.energy_and_score(x, log_sigma)
        score.sum().item()
    return n / (time.perf_counter() - start)


def _memory(device: str) -> float:
    """Peak memory in bytes of this process so far, on the device that the network runs on."""
    if device == "cuda":
        import torch

        return float(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
