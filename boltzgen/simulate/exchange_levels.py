"""The distributions that replicas exchange between: each has a temperature and a strength of the bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from boltzgen.config.schema import SimulateSettings
from boltzgen.ensemble.weighted import Array
from boltzgen.simulate.bias import biased_variables
from boltzgen.simulate.temperature_ladder import number_for, temperatures_of
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.units import thermal_energy

_LENGTH_OF_A_VARIABLE = 1.45
"""Thermodynamic length from no bias to all of it, of one torsion of a peptide (1.35 for phi and psi of
alanine dipeptide, 1.5 for the six of three alanines, by acceptances); those of several add up like errors."""


@dataclass(frozen=True)
class ExchangeLevels:
    """Densities ``exp(-(U + strength V) / kT)``, the target's or the one next to it first.

    temperatures_k, strengths
        float64 ``(R,)``.
    """

    temperatures_k: Tensor
    strengths: Tensor

    @classmethod
    def at(cls, temperatures_k: Array, strength: float = 0.0) -> ExchangeLevels:
        """Temperatures with one strength of the bias."""
        kelvin = torch.as_tensor(temperatures_k, dtype=torch.float64)
        return cls(kelvin, torch.full_like(kelvin, strength))

    def __str__(self) -> str:
        kelvin = ", ".join(f"{each:.0f}" for each in self.temperatures_k.unique().tolist())
        if not self.strengths.any():
            return f"{kelvin} K"
        return f"{kelvin} K and {', '.join(f'{each:.2g}' for each in self.strengths.tolist())} of the bias"

    def __len__(self) -> int:
        return len(self.temperatures_k)

    @property
    def kT(self) -> Tensor:
        """In kJ/mol, ``(R,)``."""
        return thermal_energy(1.0) * self.temperatures_k

    def reduced(self, energy: Tensor, bias: Tensor) -> Tensor:
        """``(U + strength V) / kT`` at every level ``(R, ...)``, from energies [kJ/mol] of any shape."""
        shape = -1, *[1] * energy.ndim
        return (energy + self.strengths.view(shape) * bias) / self.kT.view(shape)


def levels_of(settings: SimulateSettings, system: MolecularSystem) -> ExchangeLevels:
    """What the settings ask for: hotter replicas, or ones under more and more of a bias, or both.

    Where nothing is said of temperatures, levels of a bias are all at the target's, and as many as let
    neighbours exchange often enough.
    """
    temperatures_k = temperatures_of(settings, system.n_atoms, system.temperature_k)
    if settings.method != "flat_histogram":
        return ExchangeLevels.at(temperatures_k)
    if settings.n_temperatures is None:
        length = _LENGTH_OF_A_VARIABLE * len(biased_variables(system, settings.bias)) ** 0.5
        temperatures_k = np.full(number_for(length), system.temperature_k)
    if len(temperatures_k) == 1:
        return ExchangeLevels.at(temperatures_k, 1.0)
    strengths = torch.linspace(0.0, 1.0, len(temperatures_k), dtype=torch.float64)
    return ExchangeLevels(torch.as_tensor(temperatures_k), strengths)
