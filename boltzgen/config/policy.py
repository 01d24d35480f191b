"""How sampling evaluates the network: compiled or not, and how many configurations at once."""

from __future__ import annotations

from boltzgen.config.schema import SampleSettings

COMPILE_NETWORK_FROM = 100_000
"""Evaluations of the network from which compiling it wins its time back."""
MOST_FRAMES = 20_000
"""Frames that the scales of a network and the Gaussian of its prior are taken from, at most."""
DEFAULT_CHUNK = {"cpu": 256, "cuda": 4096}
"""Configurations at once: what stays in a CPU's cache, what fills a GPU."""


def will_compile(settings: SampleSettings) -> bool:
    """Whether sampling evaluates the network often enough for compiling to win its time back."""
    moves = 1 + 0.5 * settings.level_moves * settings.leapfrog_steps
    return settings.n_particles * settings.n_levels * moves >= COMPILE_NETWORK_FROM


def network_chunk(settings: SampleSettings, device: str) -> int:
    """Configurations that the network is given at once, at most a population."""
    size = settings.chunk_size or DEFAULT_CHUNK[device]
    return max(1, min(size, settings.n_particles // settings.populations))
