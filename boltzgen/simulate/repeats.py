"""Frames of molecular dynamics that a restart wrote twice, and frames that repeat the one before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAME_NM = 1e-5
"""Two frames whose distances differ by less than this are one frame, however they lie in space."""
SHORTEST_OVERLAP = 2
"""So many frames in a row, all seen before in the same order, were written twice; single ones may recur."""
LEAST_COMPARED = 6
"""Distances at least that agree in these: fewer do so by chance, as those of frames of two atoms."""


def first_seen(x: NDArray[np.float32]) -> NDArray[np.int64]:
    """For each frame ``(n, n_atoms, 3)`` [nm] the row of the earliest one that it repeats, or its own.

    Frames are compared by the distances between consecutive atoms, which turning and moving leave alone.
    """
    steps = np.linalg.norm(np.diff(x.astype(np.float64), axis=1), axis=-1)
    across = np.linalg.norm(x[:, ::2].astype(np.float64) - x[:, -1:], axis=-1)
    features = np.concatenate([steps, across], axis=1)
    key = features @ np.cos(np.arange(features.shape[1]))
    order = np.argsort(key, kind="stable")
    first = np.arange(len(x))
    for shift in range(1, len(x)):
        a, b = order[:-shift], order[shift:]
        near = key[b] - key[a] < SAME_NM
        if not near.any():
            break
        a, b = a[near], b[near]
        same = np.abs(features[a] - features[b]).max(axis=1) < SAME_NM
        early, late = np.minimum(a[same], b[same]), np.maximum(a[same], b[same])
        np.minimum.at(first, late, early)
    return first


def written_twice(first: NDArray[np.int64], n_atoms: int) -> NDArray[np.bool_]:
    """Frames of an overlap: rows in a row that repeat earlier rows in a row, of which a restart made both.

    A frame that repeats the one before is none: dynamics that rejects moves stays where it is.
    """
    free = max(1, 3 * n_atoms - 6)
    shortest = max(SHORTEST_OVERLAP, -(-LEAST_COMPARED // free))
    copied = np.arange(len(first)) - first > 1
    starts = np.ones(len(first), dtype=bool)
    starts[1:] = ~(copied[:-1] & copied[1:] & (np.diff(first) == 1))
    piece = np.cumsum(starts) - 1
    return copied & (np.bincount(piece, minlength=1)[piece] >= shortest)
