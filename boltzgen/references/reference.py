"""A stored reference: statistics with their errors, energies and torsions of independent frames."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

REFERENCES = Path(__file__).parent
"""Two files each: NAME.json and NAME.npz."""
RADIANS, NANOMETRES = 1e-4, 1e-4
"""What torsions and positions are rounded to, and kept as whole numbers of."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """What `benchmarks/reference.py` found out about a system.

    name
        Of its files.
    content
        Of NAME.json. ``system``, ``temperature_k``, ``command``, ``made``, ``cost``: what it is and how it
        was made. ``probes``: positions [nm] and reduced energies of a few configurations, by which its system
        is known again. ``states``: names, atoms of a torsion and intervals. ``values``: estimates by the keys
        of the rows of results. ``torsions``: names and atoms, of which the first ``n_compared`` are compared.
        ``floors``: distances between independent frames of the reference, by the number on either side.
        ``tica``: the projection of TICA-W2. ``pmf``: potentials of mean force.
    """

    name: str
    content: Mapping[str, Any]

    @property
    def temperature_k(self) -> float:
        return float(self.content["temperature_k"])

    @property
    def probes(self) -> tuple[Array, Array]:
        """Positions [nm] ``(n, n_atoms, 3)`` and reduced energies ``(n,)``."""
        probes = self.content["probes"]
        return np.array(probes["positions"]), np.array(probes["reduced_energies"])

    @property
    def torsions(self) -> Array:
        """Of independent frames [rad] ``(n, n_compared)``."""
        return RADIANS * self._arrays["torsions"][:, : self.content["n_compared"]].astype(float)

    @property
    def reduced_energies(self) -> Array:
        """Of the same frames, ``(n,)``."""
        return self._arrays["reduced_energies"].astype(float)

    def slow(self, torsions: Array) -> Array:
        """Time-lagged independent components ``(n, 2)`` of torsions [rad] ``(n, n_compared)``."""
        tica = self.content["tica"]
        return (features(torsions) - np.array(tica["mean"])) @ np.array(tica["vectors"])

    def floor(self, distance: str, most: int) -> tuple[float, int]:
        """A noise floor, and the number of frames on either side: at most ``most``, if there is one."""
        floors = {int(n): float(value) for n, value in self.content["floors"][distance].items()}
        n = max((n for n in floors if n <= most), default=min(floors))
        return floors[n], n

    @cached_property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        with np.load(REFERENCES / f"{self.name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)


def features(torsions: Array) -> Array:
    """Cosines and sines ``(n, 2 d)`` of torsions ``(n, d)``."""
    return np.concatenate([np.cos(torsions), np.sin(torsions)], axis=1)


def stored_references() -> list[Reference]:
    """All that come with boltzgen."""
    return [
        Reference(path.stem, json.loads(path.read_text(encoding="utf-8")))
        for path in sorted(REFERENCES.glob("*.json"))
    ]
