"""Alanine dipeptide, whose name covers four different Hamiltonians in the literature."""

from __future__ import annotations

import logging

import openmm
from openmm import app, unit

from boltzgen import (
    CollectiveVariable,
    InputOptions,
    MolecularSystem,
    MolecularSystemError,
    minimise,
    remove_centre_of_mass_motion_removers,
)
from boltzgen.systems.hamiltonians import HAMILTONIANS
from boltzgen.systems.phi_states import both_sides

PHI = CollectiveVariable("phi", "torsion", (4, 6, 8, 14))
PSI = CollectiveVariable("psi", "torsion", (6, 8, 14, 16))
STATES = both_sides(PHI)
OF_OPENMMTOOLS = {"A": "ff96 with OBC1 implicit solvent, no cutoff", "A-vac": "ff96 in vacuum, no cutoff"}
"""Those that are test systems of openmmtools."""


def build(hamiltonian: str = "B", temperature_k: float = 300.0) -> MolecularSystem:
    """Alanine dipeptide (22 atoms) in one of the published Hamiltonians A, A-vac, B, C.

    hamiltonian
        A: ff96 + OBC1; A-vac: ff96 in vacuum; B: amber99sbildn + amber99_obc without cutoff;
        C: amber14 + OBC1 with a 2 nm cutoff. No bond is constrained in any of them.
    temperature_k
        Temperature [K].
    """
    known = OF_OPENMMTOOLS | {letter: field.description for letter, field in HAMILTONIANS.items()}
    if hamiltonian not in known:
        raise MolecularSystemError(
            "alanine_dipeptide", f"unknown hamiltonian {hamiltonian}", f"use one of {', '.join(known)}"
        )
    molecule = _openmmtools_molecule(implicit=hamiltonian != "A-vac")
    topology, positions = molecule.topology, molecule.positions.value_in_unit(unit.nanometer)
    topology.setPeriodicBoxVectors(None)
    system = molecule.system if hamiltonian in OF_OPENMMTOOLS else _force_field(hamiltonian, topology)
    remove_centre_of_mass_motion_removers(system)
    return MolecularSystem(
        name=f"alanine_dipeptide/{hamiltonian}",
        topology=topology,
        openmm_system=system,
        positions=minimise(system, positions),
        temperature_k=temperature_k,
        collective_variables=(PHI, PSI),
        states=STATES,
        description=f"Alanine dipeptide, Hamiltonian {hamiltonian}: {known[hamiltonian]}",
        parameters={"hamiltonian": hamiltonian, "temperature_k": temperature_k},
    )


def _openmmtools_molecule(implicit: bool):  # type: ignore[no-untyped-def]
    """The openmmtools test system: topology, positions and the ff96 System."""
    logging.getLogger("pymbar").setLevel(logging.ERROR)  # greets every import with a banner
    from openmmtools import testsystems

    kind = testsystems.AlanineDipeptideImplicit if implicit else testsystems.AlanineDipeptideVacuum
    return kind(constraints=None)


def _force_field(hamiltonian: str, topology: app.Topology) -> openmm.System:
    field = HAMILTONIANS[hamiltonian]
    options = InputOptions(nonbonded_cutoff_nm=field.nonbonded_cutoff_nm)
    return app.ForceField(*field.forcefield).createSystem(topology, **options.of_create_system())
