"""Boltzmann generator for molecules: an OpenMM system in, weighted Boltzmann samples and free energies out.

Public names are loaded on first use, so ``import boltzgen`` imports neither torch nor openmm.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boltzgen.analyze.free_energy import (
        free_energy_difference,
        free_energy_surface,
        kernel_pmf,
        kernel_surface,
        log_z_difference,
        potential_of_mean_force,
    )
    from boltzgen.analyze.mbar import bar, mbar
    from boltzgen.analyze.observables import observable
    from boltzgen.analyze.reweighting import reweighted
    from boltzgen.ensemble.weighted import WeightedEnsemble
    from boltzgen.errors import MolecularSystemError, UserError
    from boltzgen.model import EnergyModel
    from boltzgen.potential import Potential, make_potential, potential_of_openmm, torch_force
    from boltzgen.rundir.finished_run import load_run
    from boltzgen.system.builders.build import (
        from_amber,
        from_files,
        from_pdb,
        from_sequence,
        minimise,
        remove_centre_of_mass_motion_removers,
    )
    from boltzgen.system.builders.inputs import InputOptions
    from boltzgen.system.collective_variables import CollectiveVariable, State
    from boltzgen.system.molecular_system import MolecularSystem
    from boltzgen.system.registry import load_system
    from boltzgen.system.variables import with_variables
    from boltzgen.testing import check_system
    from boltzgen.units import thermal_energy

__version__ = "0.1.0"

_HOMES = {
    "MolecularSystem": "boltzgen.system.molecular_system",
    "CollectiveVariable": "boltzgen.system.collective_variables",
    "State": "boltzgen.system.collective_variables",
    "WeightedEnsemble": "boltzgen.ensemble.weighted",
    "load_system": "boltzgen.system.registry",
    "Potential": "boltzgen.potential",
    "make_potential": "boltzgen.potential",
    "potential_of_openmm": "boltzgen.potential",
    "torch_force": "boltzgen.potential",
    "EnergyModel": "boltzgen.model",
    "free_energy_difference": "boltzgen.analyze.free_energy",
    "potential_of_mean_force": "boltzgen.analyze.free_energy",
    "free_energy_surface": "boltzgen.analyze.free_energy",
    "kernel_pmf": "boltzgen.analyze.free_energy",
    "kernel_surface": "boltzgen.analyze.free_energy",
    "log_z_difference": "boltzgen.analyze.free_energy",
    "reweighted": "boltzgen.analyze.reweighting",
    "bar": "boltzgen.analyze.mbar",
    "mbar": "boltzgen.analyze.mbar",
    "observable": "boltzgen.analyze.observables",
    "load_run": "boltzgen.rundir.finished_run",
    "with_variables": "boltzgen.system.variables",
    "UserError": "boltzgen.errors",
    "from_pdb": "boltzgen.system.builders.build",
    "from_sequence": "boltzgen.system.builders.build",
    "from_amber": "boltzgen.system.builders.build",
    "from_files": "boltzgen.system.builders.build",
    "InputOptions": "boltzgen.system.builders.inputs",
    "minimise": "boltzgen.system.builders.build",
    "MolecularSystemError": "boltzgen.errors",
    "thermal_energy": "boltzgen.units",
    "remove_centre_of_mass_motion_removers": "boltzgen.system.builders.build",
    "check_system": "boltzgen.testing",
}

__all__ = [
    "CollectiveVariable",
    "EnergyModel",
    "InputOptions",
    "MolecularSystem",
    "MolecularSystemError",
    "Potential",
    "State",
    "UserError",
    "WeightedEnsemble",
    "__version__",
    "bar",
    "check_system",
    "free_energy_difference",
    "free_energy_surface",
    "from_amber",
    "from_files",
    "from_pdb",
    "from_sequence",
    "kernel_pmf",
    "kernel_surface",
    "load_run",
    "load_system",
    "log_z_difference",
    "make_potential",
    "mbar",
    "minimise",
    "observable",
    "potential_of_mean_force",
    "potential_of_openmm",
    "remove_centre_of_mass_motion_removers",
    "reweighted",
    "thermal_energy",
    "torch_force",
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
