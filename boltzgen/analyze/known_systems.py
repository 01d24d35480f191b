"""Which stored reference is that of a system."""

from __future__ import annotations

import functools

import torch

from boltzgen.errors import MolecularSystemError
from boltzgen.potential import make_potential
from boltzgen.references.reference import Reference, stored_references
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.stereochemistry.domain import domain_of

SAME_KT = 0.02
"""Reduced energies of one configuration that agree so well are those of one Hamiltonian."""


@functools.lru_cache(maxsize=4)
def reference_of(system: MolecularSystem) -> Reference | None:
    """The reference of a system at its temperature, whatever the system is called.

    It is known by energies of a few configurations, which also have to be of the isomer that is sampled.
    """
    if system.free_isomers:
        return None
    for reference in stored_references():
        x, expected = reference.probes
        if x.shape[1] != system.n_atoms or abs(reference.temperature_k - system.temperature_k) > 1e-6:
            continue
        positions = torch.from_numpy(x)
        energies = make_potential(system, "openmm", platform="Reference")(positions).numpy()
        if abs(energies - expected).max() < SAME_KT and _contained(system, positions):
            return reference
    return None


def _contained(system: MolecularSystem, positions: torch.Tensor) -> bool:
    try:
        return bool(domain_of(system).contains(positions).all())
    except MolecularSystemError:  # the reference configuration has no arrangement
        return False
