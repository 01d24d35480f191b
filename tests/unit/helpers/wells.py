"""Weighted, related samples of the harmonic well about the centroid, whose partition function is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from torch import Tensor

from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.systems.harmonic import well_log_z
from boltzgen.units import thermal_energy

N_ATOMS = 4


def well_energy(stiffness: float, temperature_k: float) -> Callable[[Tensor], Tensor]:
    """``u`` of centred configurations [nm]."""
    kT = thermal_energy(temperature_k)
    return lambda x: 0.5 * stiffness * x.double().square().sum((1, 2)) / kT


def well_ensemble(
    rng: np.random.Generator,
    stiffness: float,
    temperature_k: float,
    families: int,
    size: int = 1,
    wide: float = 1.15,
    islands: int = 1,
) -> WeightedEnsemble:
    """Families that share 60 % of their variance, drawn ``wide`` times too wide and weighted."""
    kT = thermal_energy(temperature_k)
    family = np.repeat(np.arange(families), size)
    shared = rng.normal(size=(families, N_ATOMS, 3))[family]
    own = rng.normal(size=(len(family), N_ATOMS, 3))
    x = wide * math.sqrt(kT / stiffness) * (math.sqrt(0.6) * shared + math.sqrt(0.4) * own)
    x -= x.mean(axis=1, keepdims=True)
    u = 0.5 * stiffness * np.square(x).sum(axis=(1, 2)) / kT
    return WeightedEnsemble(
        x.astype(np.float32),
        u / wide**2 - u,
        u,
        temperature_k,
        log_z=well_log_z(N_ATOMS, stiffness, temperature_k),
        log_z_error=0.05,
        lineages=family,
        islands=family % islands,
    )
