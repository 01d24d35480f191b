"""Exact samples of the harmonic dimer at 300 K, and the settings of a training on them in seconds."""

from __future__ import annotations

import numpy as np

from boltzgen.config.schema import ModelSettings, TrainSettings
from boltzgen.ensemble.weighted import WeightedEnsemble

LENGTH, WIDTH = 0.2, 0.0158
"""Of the bond, and its thermal deviation [nm]."""
MODEL = ModelSettings(n_layers=1, n_channels=4, n_radial=4, hidden=16)


def settings(steps: int, **changes: object) -> TrainSettings:
    return TrainSettings(steps=steps, batch_size=32, compile="never", **changes)  # type: ignore[arg-type]


def dimers(n: int) -> WeightedEnsemble:
    """``n`` exact samples of a harmonic bond of 0.2 nm at 300 K."""
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(n, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    proposed = rng.normal(LENGTH, WIDTH, size=10 * n)
    lengths = proposed[rng.random(10 * n) < (proposed / 0.3) ** 2][:n]
    bond = direction * lengths[:, None]
    positions = np.stack([-bond / 2, bond / 2], axis=1).astype(np.float32)
    return WeightedEnsemble(positions, np.zeros(n), np.zeros(n), 300.0)
