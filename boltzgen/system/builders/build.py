"""Molecular systems from structure and force-field files, with every bond free to vibrate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from boltzgen.errors import MolecularSystemError
from boltzgen.system.builders.amber import IMPLICIT_SOLVENTS, read_amber
from boltzgen.system.builders.force_fields import parametrised
from boltzgen.system.builders.starting_geometry import check_geometry
from boltzgen.system.builders.structures import Structure, read_structure
from boltzgen.system.molecular_system import MolecularSystem


def from_pdb(
    pdb: Path | str,
    forcefield: Sequence[Path | str],
    name: str,
    temperature_k: float = 300.0,
    nonbonded_cutoff_nm: float | None = None,
    residue_templates: Sequence[str] = (),
) -> MolecularSystem:
    """A molecule from a PDB or mmCIF file that has its hydrogens, and OpenMM force-field files.

    pdb
        Structure; its first model is minimised and becomes the reference configuration.
    forcefield
        XML files by the names that OpenMM ships or by path, e.g.
        ``["amber99sbildn.xml", "amber99_obc.xml"]``; the second one adds implicit solvent.
    nonbonded_cutoff_nm
        Cutoff without periodicity [nm]; none by default, which is exact and fast for small molecules.
    residue_templates
        Templates of the force field to take where several fit a residue and differ.

    Collective variables and states are declared by `boltzgen.with_variables`. Raises MolecularSystemError for
    files that cannot be read and residues the force field does not know.
    """
    _check_cutoff(name, nonbonded_cutoff_nm)
    structure = read_structure(pdb)
    made = parametrised(pdb, structure, forcefield, _unconstrained(nonbonded_cutoff_nm), residue_templates)
    check_geometry(pdb, structure, made.system)
    structure = replace(structure, notices=(*structure.notices, *made.notices))
    return _finish(name, structure, made.system, temperature_k)


def from_amber(
    prmtop: Path | str,
    coordinates: Path | str,
    name: str,
    implicit_solvent: str | None = None,
    temperature_k: float = 300.0,
    nonbonded_cutoff_nm: float | None = None,
) -> MolecularSystem:
    """A molecule from an Amber topology and its coordinates (inpcrd, rst7, NetCDF restart, PDB or mmCIF).

    implicit_solvent
        One of HCT, OBC1, OBC2, GBn, GBn2; vacuum by default.

    Raises MolecularSystemError for files that cannot be read or do not belong together and unknown solvent
    models.
    """
    if implicit_solvent is not None and implicit_solvent not in IMPLICIT_SOLVENTS:
        raise MolecularSystemError(
            name,
            f"unknown implicit_solvent {implicit_solvent}",
            f"use one of {', '.join(IMPLICIT_SOLVENTS)}",
        )
    _check_cutoff(name, nonbonded_cutoff_nm)
    options = _unconstrained(nonbonded_cutoff_nm)
    structure, system = read_amber(Path(prmtop), Path(coordinates), implicit_solvent, options)
    check_geometry(coordinates, structure, system)
    return _finish(name, structure, system, temperature_k)


def minimise(openmm_system: openmm.System, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Local energy minimum near ``positions`` [nm] ``(n_atoms, 3)``, centred; the same on every machine."""
    context = openmm.Context(
        openmm_system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(context, tolerance=0.01)
    found = _nanometres(context.getState(positions=True).getPositions(asNumpy=True))
    return found - found.mean(axis=0)


def remove_centre_of_mass_motion_removers(openmm_system: openmm.System) -> None:
    """Delete CMMotionRemover forces in place: they act on momenta and are no part of an energy."""
    for index in reversed(range(openmm_system.getNumForces())):
        if isinstance(openmm_system.getForce(index), openmm.CMMotionRemover):
            openmm_system.removeForce(index)


def _finish(
    name: str,
    structure: Structure,
    system: openmm.System,
    temperature_k: float,
) -> MolecularSystem:
    """Minimise the structure, once everything that can be refused has been."""
    first = MolecularSystem(
        name=name,
        topology=structure.topology,
        openmm_system=system,
        positions=structure.positions,
        temperature_k=temperature_k,
        names_in_file=structure.names,
        notices=structure.notices,
    )
    structure.positions[...] = minimise(first.openmm_system, structure.positions)
    return first


def _unconstrained(cutoff_nm: float | None) -> dict[str, object]:
    """``createSystem`` arguments for free bonds and no periodicity."""
    options: dict[str, object] = {"constraints": None, "rigidWater": False, "removeCMMotion": False}
    if cutoff_nm is None:
        return {**options, "nonbondedMethod": app.NoCutoff}
    cutoff = cutoff_nm * unit.nanometer
    return {**options, "nonbondedMethod": app.CutoffNonPeriodic, "nonbondedCutoff": cutoff}


SHORTEST_CUTOFF_NM = 0.3
"""A cutoff below this is inside the repulsion of atoms."""


def _check_cutoff(name: str, cutoff_nm: float | None) -> None:
    if cutoff_nm is None:
        return
    if not isinstance(cutoff_nm, int | float):
        raise MolecularSystemError(
            name, f"nonbonded_cutoff_nm is {cutoff_nm!r}", "give a number of nm, without a unit"
        )
    if not cutoff_nm > 0:
        raise MolecularSystemError(
            name, f"nonbonded_cutoff_nm must be positive, not {cutoff_nm:g}", "leave it out for none"
        )
    if cutoff_nm < SHORTEST_CUTOFF_NM:
        raise MolecularSystemError(
            name,
            f"nonbonded_cutoff_nm is {cutoff_nm:g} nm, which is less than atoms are apart",
            "give 1 nm or more, or leave it out for none",
        )


def _nanometres(quantity: unit.Quantity) -> NDArray[np.float64]:
    return np.array(quantity.value_in_unit(unit.nanometer), dtype=np.float64)
