"""Settings that are each in range and cannot work together, found before anything is read or computed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from boltzgen.config.schema import DataSettings, ModelSettings, SampleSettings, SimulateSettings, Workflow
from boltzgen.errors import ConfigError

LEAST_FRAMES = 10
"""Fewer frames than this cannot be trained on: some are held out, and distances need a spread."""


def contradictions(workflow: Workflow) -> Iterator[ConfigError]:
    """Every contradiction, by its dotted key."""
    yield from _of_data(workflow.data, workflow.pretrained)
    if not workflow.data.trajectory and workflow.pretrained is None:
        yield from _of_simulation(workflow.simulate)
    yield from _of_model(workflow.model)
    yield from _of_sampling(workflow.sample)
    if not workflow.export.formats:
        yield ConfigError("export.formats", "is empty", "name at least one, such as [dcd]")


def _of_data(data: DataSettings, pretrained: str | None) -> Iterator[ConfigError]:
    if data.trajectory and pretrained is not None:
        yield ConfigError(
            "data.trajectory", f"is not read with pretrained {pretrained}", "drop one of the two"
        )
    for name, times in Counter(data.trajectory).items():
        if times > 1:
            yield ConfigError(
                "data.trajectory", f"{name} is named {times} times", "give data.weights to weigh frames"
            )
    if not data.trajectory:
        for key, value, unset in (
            ("weights", data.weights, None),
            ("stride", data.stride, 1),
            ("skip_frames", data.skip_frames, 0),
        ):
            if value != unset:
                yield ConfigError(
                    f"data.{key}",
                    "is for trajectories of your own, and data.trajectory names none",
                    "take it out",
                )


def _of_simulation(simulate: SimulateSettings) -> Iterator[ConfigError]:
    step, frame, swap = simulate.timestep_fs or 1.0, simulate.frame_interval_ps, simulate.swap_interval_ps
    step = step / 1000
    tempering = simulate.method == "parallel_tempering" and simulate.n_temperatures != 1
    exchanging = tempering or simulate.method == "flat_histogram"
    intervals = {"frame_interval_ps": frame} | ({"swap_interval_ps": swap} if exchanging else {})
    for name, interval in intervals.items():
        if not _divides(step, interval):
            yield ConfigError(
                f"simulate.{name}",
                f"{interval:g} ps is no whole number of steps of {1000 * step:g} fs (simulate.timestep_fs)",
                f"use {_neighbours(interval, step)} ps",
            )
    if exchanging and not (_divides(frame, swap) or _divides(swap, frame)):
        yield ConfigError(
            "simulate.swap_interval_ps",
            f"{swap:g} ps and simulate.frame_interval_ps, {frame:g} ps, do not fit",
            "make one a multiple of the other",
        )
    longest = max(frame, swap) if exchanging else frame
    if simulate.production_ps < longest:
        yield ConfigError(
            "simulate.production_ps",
            f"{simulate.production_ps:g} ps is shorter than the {longest:g} ps between frames or swaps",
            "simulate longer",
        )
    for key, given in (
        ("method", simulate.method == "flat_histogram"),
        ("minutes", simulate.minutes is not None),
    ):
        if given and simulate.platform not in ("auto", "batched"):
            yield ConfigError(
                f"simulate.{key}",
                f"is only for batched replicas, and simulate.platform is {simulate.platform}",
                "leave simulate.platform out",
            )
    if simulate.bias and simulate.method != "flat_histogram":
        yield ConfigError("simulate.bias", f"is not used by {simulate.method}", "use method flat_histogram")
    n_frames = simulate.n_runs * simulate.production_ps / frame
    if n_frames < LEAST_FRAMES:
        yield ConfigError(
            "simulate.production_ps",
            f"leaves {n_frames:.0f} frames to train on, at least {LEAST_FRAMES} are needed and "
            "thousands are usual",
            "simulate longer or store more often",
        )


def _of_model(model: ModelSettings) -> Iterator[ConfigError]:
    low, high = model.sigma_min_nm, model.sigma_max_nm
    if low is not None and high is not None and low >= high:
        yield ConfigError(
            "model.sigma_min_nm",
            f"{low:g} nm is not below model.sigma_max_nm, {high:g} nm",
            "leave both out to take them from the data",
        )


def _of_sampling(sample: SampleSettings) -> Iterator[ConfigError]:
    populations = max(sample.n_islands, sample.populations)
    if sample.n_particles < 2 * populations:
        yield ConfigError(
            "sample.n_islands",
            f"{populations} populations cannot share {sample.n_particles} particles "
            "(sample.n_particles), two each at least",
            "use fewer islands or more particles",
        )


def _divides(step: float, length: float) -> bool:
    """Whether ``length`` is a whole number of steps, up to rounding."""
    ratio = length / step
    return math.isfinite(ratio) and round(ratio) >= 1 and abs(ratio - round(ratio)) <= 1e-6 * ratio


def _neighbours(length: float, step: float) -> str:
    """The whole numbers of steps just below and above a length."""
    below = math.floor(min(length / step, 1e15))
    return " or ".join(f"{n * step:.6g}" for n in (below, below + 1) if n > 0)
