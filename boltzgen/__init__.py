"""Boltzmann generator for molecules: an OpenMM system in, weighted Boltzmann samples and free energies out.

Public names are loaded on first use, so ``import boltzgen`` imports neither torch nor openmm.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boltzgen.ensemble import WeightedEnsemble
    from boltzgen.errors import UserError
    from boltzgen.free_energy import (
        free_energy_difference,
        free_energy_surface,
        kernel_pmf,
        kernel_surface,
        log_z_difference,
        potential_of_mean_force,
    )
    from boltzgen.model import EnergyModel
    from boltzgen.multistate import bar, mbar
    from boltzgen.observables import observable
    from boltzgen.potential import Potential, make_potential, potential_of_openmm
    from boltzgen.registry import load_system
    from boltzgen.reweighting import reweighted
    from boltzgen.runs import load_run
    from boltzgen.system import CollectiveVariable, MolecularSystem, State
    from boltzgen.variables import with_variables

__version__ = "0.1.0"

_HOMES = {
    "MolecularSystem": "boltzgen.system",
    "CollectiveVariable": "boltzgen.system",
    "State": "boltzgen.system",
    "WeightedEnsemble": "boltzgen.ensemble",
    "load_system": "boltzgen.registry",
    "Potential": "boltzgen.potential",
    "make_potential": "boltzgen.potential",
    "potential_of_openmm": "boltzgen.potential",
    "EnergyModel": "boltzgen.model",
    "free_energy_difference": "boltzgen.free_energy",
    "potential_of_mean_force": "boltzgen.free_energy",
    "free_energy_surface": "boltzgen.free_energy",
    "kernel_pmf": "boltzgen.free_energy",
    "kernel_surface": "boltzgen.free_energy",
    "log_z_difference": "boltzgen.free_energy",
    "reweighted": "boltzgen.reweighting",
    "bar": "boltzgen.multistate",
    "mbar": "boltzgen.multistate",
    "observable": "boltzgen.observables",
    "load_run": "boltzgen.runs",
    "with_variables": "boltzgen.variables",
    "UserError": "boltzgen.errors",
}

__all__ = [
    "CollectiveVariable",
    "EnergyModel",
    "MolecularSystem",
    "Potential",
    "State",
    "UserError",
    "WeightedEnsemble",
    "__version__",
    "bar",
    "free_energy_difference",
    "free_energy_surface",
    "kernel_pmf",
    "kernel_surface",
    "load_run",
    "load_system",
    "log_z_difference",
    "make_potential",
    "mbar",
    "observable",
    "potential_of_mean_force",
    "potential_of_openmm",
    "reweighted",
    "with_variables",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'boltzgen' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
