"""Internal units (nm, ps, K, kJ/mol) and the physical constants they need."""

from __future__ import annotations

GAS_CONSTANT = 8.31446261815324e-3
"""Molar gas constant, kJ/mol/K (exact since the 2019 SI)."""

WRONG_LENGTHS = {
    10.0: "Angstrom stand where nm belong",
    0.1: "nm stand where Angstrom belong",
    18.897: "Bohr radii stand where nm belong",
    1.8897: "Bohr radii stand where Angstrom belong",
    100.0: "pm stand where Angstrom belong",
    1000.0: "pm stand where nm belong",
}
"""Factors by which lengths in a file are wrong, and what they come from."""


def thermal_energy(temperature_k: float) -> float:
    """kT in kJ/mol at a temperature in K."""
    return GAS_CONSTANT * temperature_k
