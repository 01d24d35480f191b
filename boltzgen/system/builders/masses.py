"""Whether the atoms of a topology are of the elements that the masses of a System say."""

from __future__ import annotations

import openmm
from openmm import app, unit

ISOTOPES = 1.5
"""Masses of one element differ by less [Da]."""
_HEAVIEST_DEUTERIUM, _HEAVIEST_HYDROGEN = 2.1, 4.5
"""Where mass is shared with hydrogens, one weighs more than the former and none more than the latter [Da]."""


def unlike_their_masses(
    topology: app.Topology, system: openmm.System
) -> tuple[list[tuple[app.topology.Atom, float]], bool]:
    """Atoms that have no element or another than their mass [Da] says, and whether hydrogens share masses."""
    masses = [system.getParticleMass(k).value_in_unit(unit.dalton) for k in range(system.getNumParticles())]
    atoms = list(topology.atoms())
    light = [atom.element is not None and atom.element.symbol in ("H", "D") for atom in atoms]
    shared = any(mass > _HEAVIEST_DEUTERIUM for mass, hydrogen in zip(masses, light, strict=True) if hydrogen)
    unlike = []
    for atom, mass, hydrogen in zip(atoms, masses, light, strict=True):
        fits = mass < _HEAVIEST_HYDROGEN if hydrogen else (shared and mass > _HEAVIEST_DEUTERIUM)
        own = None if atom.element is None else atom.element.mass.value_in_unit(unit.dalton)
        if mass > 0.0 and (own is None or not (fits or abs(mass - own) < ISOTOPES)):
            unlike.append((atom, mass))
    return unlike, shared
