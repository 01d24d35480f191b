"""Rough forecasts of time and memory, printed before long work and labelled as estimates."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from boltzgen.config.policy import MOST_FRAMES, network_chunk, will_compile
from boltzgen.config.schema import SampleSettings, SimulateSettings, Workflow
from boltzgen.export.formats import FORMATS
from boltzgen.pretrained import shipped
from boltzgen.runtime.files import size
from boltzgen.runtime.progress import clock

if TYPE_CHECKING:
    from boltzgen.model import EnergyModel
    from boltzgen.system.molecular_system import MolecularSystem
    from boltzgen.workflow.stage import Run

COMPILED_GAIN = 4.0
"""Speed of energy and score once compiled over that before (4.3 on two cores of a Xeon)."""
BYTES_PER_PAIR = 10_000.0
"""That a training step holds for each pair of atoms in a noised configuration of the parts at work, with 2
layers of 32 channels, at least: 11 kB were measured for 55 atoms without bonds, 24 for alanine dipeptide."""


def of_simulation(run: Run) -> str:
    """MD steps over a speed measured now, and the size of the stored frames."""
    settings, system = run.workflow.simulate, run.system
    if run.workflow.pretrained:
        return _taken(run.workflow.pretrained)
    if run.own_data is not None:
        return f"{len(run.own_data)} frames of your own"
    from boltzgen.simulate.engine import expected

    steps, seconds = expected(system, settings)
    stored = size(_simulated_frames(settings, system) * system.n_atoms * 3 * 4)
    return f"estimate: {steps:.3g} MD steps, about {clock(seconds)}, up to {stored} of frames"


def of_training(run: Run) -> str:
    """The limits that end training."""
    if run.workflow.pretrained:
        return _taken(run.workflow.pretrained)
    settings = run.workflow.train
    limits = [] if settings.steps is None else [f"{settings.steps} steps"]
    limits += [] if settings.minutes is None else [f"{settings.minutes:g} minutes"]
    return f"ends after {' or '.join(limits)}" + (", whichever is sooner" if len(limits) == 2 else "")


def _taken(pretrained: str) -> str:
    return f"taken from the model {pretrained} that comes with boltzgen"


def of_sampling(run: Run, trained: bool) -> str:
    """Network evaluations over the speed of one chunk, and the memory in use after it.

    The speed is measured before the network is compiled, and multiplied by what compiling typically gains.
    Without a trained network it is that of one of random numbers, which is as fast.
    """
    from boltzgen.model import load_model
    from boltzgen.runtime.allocator import keep_freed_memory

    if not trained and run.workflow.pretrained is None:
        return _of_sampling(run, _untrained(run))
    keep_freed_memory()  # as sampling does
    pretrained = None if trained else run.workflow.pretrained
    directory = run.out / "model" if pretrained is None else shipped.ROOT / pretrained
    return _of_sampling(run, load_model(directory, run.device, run.system))


def _untrained(run: Run) -> EnergyModel:
    import torch

    from boltzgen.model import EnergyModel

    reference = torch.as_tensor(run.system.positions, dtype=torch.float32)
    noise = torch.randn((64, *reference.shape), generator=torch.Generator().manual_seed(0))
    x = reference - reference.mean(dim=0) + 0.003 * noise
    return EnergyModel.from_data(run.system, x, run.workflow.model).to(run.device)


def _of_sampling(run: Run, model: EnergyModel) -> str:
    settings = run.workflow.sample
    levels = settings.n_levels * (1 + settings.level_moves * settings.leapfrog_steps)
    evaluations = (settings.n_particles + settings.n_pilot) * levels + settings.n_forward * settings.n_levels
    speed = _network_throughput(run.system, model, settings, run.device)
    seconds = evaluations / (speed * COMPILED_GAIN if will_compile(settings) else speed)
    return (
        f"estimate: about {evaluations:.3g} network evaluations, about {clock(seconds)}, "
        f"about {size(_memory(run.device))} of memory"
    )


# ---- bytes that a stage writes, and that it holds at least ------------------------------------------


def disk_of_data(run: Run) -> float:
    """Frames."""
    n_atoms, workflow = run.system.n_atoms, run.workflow
    return _n_frames(run.system, workflow) / workflow.data.stride * n_atoms * 12.0


def disk_of_sample(run: Run) -> float:
    """The weighted sample."""
    return run.workflow.sample.n_particles * run.system.n_atoms * 12.0


def disk_of_export(run: Run) -> float:
    """Copies of the sample in every format."""
    workflow = run.workflow
    n_frames = workflow.sample.n_particles + workflow.export.n_resampled
    per_atom = sum(FORMATS[suffix].bytes_per_atom for suffix in workflow.export.formats)
    return n_frames * run.system.n_atoms * per_atom


def memory_of_data(run: Run) -> float:
    """Frames, twice."""
    return _n_frames(run.system, run.workflow) * run.system.n_atoms * 24.0


def memory_of_training(run: Run) -> float:
    """Frames with forces beside them, and distances of pairs or what a step holds.

    Distances are those that the scales of the network are taken from, of MOST_FRAMES at most. What a step
    holds, one part for each core, comes later, on a CPU in the same memory.
    """
    import torch

    from boltzgen.runtime.threads import part_size

    n_atoms, workflow = run.system.n_atoms, run.workflow
    kept = _n_frames(run.system, workflow) / workflow.data.stride
    model, train = workflow.model, workflow.train
    part = part_size(train.batch_size, n_atoms, torch.device("cpu"), train.levels_per_sample)
    at_once = min(train.batch_size, part * torch.get_num_threads()) * train.levels_per_sample
    pairs = n_atoms * (n_atoms - 1) * at_once
    step = pairs * BYTES_PER_PAIR * model.n_layers * model.n_channels / 64
    if run.device != "cpu" or workflow.pretrained is not None:
        step = 0.0
    return kept * n_atoms * 24.0 + max(min(kept, MOST_FRAMES) * n_atoms**2 * 8.0, step)


def memory_of_sample(run: Run) -> float:
    """Particles, and what moves them."""
    return float(run.workflow.sample.n_particles) * run.system.n_atoms * 48.0


def _n_frames(system: MolecularSystem, workflow: Workflow) -> float:
    """Frames that the run simulates, or reads, going by the size of the files."""
    if workflow.pretrained is not None:
        return 0.0
    if workflow.data.trajectory:
        files = [path for path in map(Path, workflow.data.trajectory) if path.is_file()]
        formats = [FORMATS.get(path.suffix.lower().lstrip(".")) for path in files]
        per_atom = [12.0 if each is None else each.bytes_per_atom for each in formats]
        sizes = zip(files, per_atom, strict=True)
        return sum(path.stat().st_size / (each * system.n_atoms) for path, each in sizes)
    return _simulated_frames(workflow.simulate, system)


def _simulated_frames(settings: SimulateSettings, system: MolecularSystem) -> float:
    """Frames of all runs, at most: batched replicas leave some at every level."""
    from boltzgen.simulate.exchange_levels import levels_of

    n_levels = len(levels_of(settings, system))
    return settings.n_runs * n_levels * settings.production_ps / settings.frame_interval_ps


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
