"""Temperatures of replica exchange: how many it takes, and where, for neighbours to exchange often enough.

Potential energies of a molecule are nearly Gaussian, and a fraction ``erfc(sqrt(m) / 2)`` of exchanges
between neighbours is accepted, with m the difference of inverse temperatures times that of mean energies. The
root of m adds up along the temperatures (a thermodynamic length), so equal parts of it are equal acceptances.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import erfc, erfcinv

from boltzgen.config.schema import SimulateSettings
from boltzgen.ensemble.weighted import Array
from boltzgen.geometry import dof
from boltzgen.units import thermal_energy

ACCEPTANCE = 0.35
"""Wanted between neighbours. About .23 is best for round trips alone (Kone and Kofke, J. Chem. Phys. 122,
206101, 2005); here frames of all temperatures count, and closer ones overlap more."""
HOTTEST_RATIO = 2.5
"""Highest temperature over that of the target."""
_LARGEST_LOG_RATIO = 100.0
_GAP = 2.0 * float(erfcinv(ACCEPTANCE))


def temperatures_of(settings: SimulateSettings, n_atoms: int, target_k: float) -> Array:
    """Those that are asked for [K], the target's first, or as many as a molecule of this size needs.

    Each degree of freedom is counted with the heat capacity of a harmonic one, k / 2.
    """
    if settings.method == "langevin":
        return np.array([target_k])
    if settings.n_temperatures is not None:
        log_ratios = math.log(settings.temperature_ratio) * np.arange(settings.n_temperatures)
        return target_k * np.exp(np.minimum(log_ratios, _LARGEST_LOG_RATIO))
    if settings.method == "flat_histogram":
        return np.array([target_k])
    length = math.sqrt(max(dof(n_atoms) - 3, 1) / 2) * math.log(HOTTEST_RATIO)
    return np.geomspace(target_k, HOTTEST_RATIO * target_k, number_for(length))


def hottest_k(settings: SimulateSettings, n_atoms: int, target_k: float) -> float:
    """The highest temperature [K] that replicas are brought to, if only to leave where they start."""
    if settings.method == "langevin":
        return target_k
    return max(float(temperatures_of(settings, n_atoms, target_k)[-1]), HOTTEST_RATIO * target_k)


def number_for(length: float) -> int:
    """Temperatures that divide a length into gaps of the wanted acceptance."""
    return 1 + max(1, math.ceil(length / _GAP - 0.1))


def evenly_spaced(temperatures_k: Array, mean_energies: Array) -> Array:
    """Temperatures from the same lowest to the same highest that accept alike [K].

    mean_energies
        Measured at ``temperatures_k`` [kJ/mol], both ``(R,)``.
    """
    beta = 1.0 / (thermal_energy(1.0) * temperatures_k)
    gaps = np.sqrt(np.maximum(np.diff(-beta) * np.diff(mean_energies), 1e-2))
    length = np.concatenate([[0.0], np.cumsum(gaps)])
    wanted = np.linspace(0.0, length[-1], number_for(length[-1]))
    return np.exp(np.interp(wanted, length, np.log(temperatures_k)))


def expected_acceptance(length: float) -> float:
    """Of exchanges over a thermodynamic length."""
    return float(erfc(length / 2))
