"""Internal units (nm, ps, K, kJ/mol) and the physical constants they need."""

from __future__ import annotations

GAS_CONSTANT = 8.31446261815324e-3
"""Molar gas constant, kJ/mol/K (exact since the 2019 SI)."""


def thermal_energy(temperature_k: float) -> float:
    """kT in kJ/mol at a temperature in K."""
    return GAS_CONSTANT * temperature_k
