"""Molecular systems from structure and force-field files, with every bond free to vibrate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from boltzgen.errors import MolecularSystemError, said_by
from boltzgen.system import CollectiveVariable, MolecularSystem, State

Reading = TypeVar("Reading")
_IMPLICIT_SOLVENTS = {"HCT": app.HCT, "OBC1": app.OBC1, "OBC2": app.OBC2, "GBn": app.GBn, "GBn2": app.GBn2}


def from_pdb(
    pdb: Path | str,
    forcefield: Sequence[Path | str],
    name: str,
    temperature_k: float = 300.0,
    collective_variables: Sequence[CollectiveVariable] = (),
    states: Sequence[State] = (),
    nonbonded_cutoff_nm: float | None = None,
) -> MolecularSystem:
    """A molecule from a PDB file that has its hydrogens, and OpenMM force-field files.

    pdb
        Structure; its first model is minimised and becomes the reference configuration.
    forcefield
        XML files by the names that OpenMM ships or by path, e.g.
        ``["amber99sbildn.xml", "amber99_obc.xml"]``; the second one adds implicit solvent.
    nonbonded_cutoff_nm
        Cutoff without periodicity [nm]; none by default, which is exact and fast for small molecules.

    Raises MolecularSystemError for files that cannot be read and residues the force field does not know.
    """
    _check_cutoff(name, nonbonded_cutoff_nm)
    structure = _readable(name, pdb, app.PDBFile)
    topology = _without_box(structure.topology)
    try:
        parameters = app.ForceField(*map(str, forcefield))
        system = parameters.createSystem(topology, **_unconstrained(nonbonded_cutoff_nm))
    except Exception as error:
        raise MolecularSystemError(
            name, f"{', '.join(map(str, forcefield))}: {said_by(error)}", "check the force field"
        ) from error
    positions = _nanometres(structure.getPositions(asNumpy=True))
    return _finish(name, topology, system, positions, temperature_k, collective_variables, states)


def from_amber(
    prmtop: Path | str,
    coordinates: Path | str,
    name: str,
    implicit_solvent: str | None = None,
    temperature_k: float = 300.0,
    collective_variables: Sequence[CollectiveVariable] = (),
    states: Sequence[State] = (),
    nonbonded_cutoff_nm: float | None = None,
) -> MolecularSystem:
    """A molecule from an Amber topology and its coordinates (inpcrd, rst7 or PDB).

    implicit_solvent
        One of HCT, OBC1, OBC2, GBn, GBn2; vacuum by default.

    Raises MolecularSystemError for files that cannot be read and unknown solvent models.
    """
    if implicit_solvent is not None and implicit_solvent not in _IMPLICIT_SOLVENTS:
        raise MolecularSystemError(
            name,
            f"unknown implicit_solvent {implicit_solvent}",
            f"use one of {', '.join(_IMPLICIT_SOLVENTS)}",
        )
    _check_cutoff(name, nonbonded_cutoff_nm)
    solvent = None if implicit_solvent is None else _IMPLICIT_SOLVENTS[implicit_solvent]
    parameters = _readable(name, prmtop, app.AmberPrmtopFile)
    reader = app.PDBFile if str(coordinates).endswith(".pdb") else app.AmberInpcrdFile
    structure = _readable(name, coordinates, reader)
    system = parameters.createSystem(implicitSolvent=solvent, **_unconstrained(nonbonded_cutoff_nm))
    positions = _nanometres(structure.getPositions(asNumpy=True))
    topology = _without_box(parameters.topology)
    return _finish(name, topology, system, positions, temperature_k, collective_variables, states)


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
    topology: app.Topology,
    system: openmm.System,
    positions: NDArray[np.float64],
    temperature_k: float,
    collective_variables: Sequence[CollectiveVariable],
    states: Sequence[State],
) -> MolecularSystem:
    """Minimise the structure, once everything that can be refused has been."""
    first = MolecularSystem(
        name=name,
        topology=topology,
        openmm_system=system,
        positions=positions,
        temperature_k=temperature_k,
        collective_variables=tuple(collective_variables),
        states=tuple(states),
    )
    positions[...] = minimise(first.openmm_system, positions)
    return first


def _unconstrained(cutoff_nm: float | None) -> dict[str, object]:
    """``createSystem`` arguments for free bonds and no periodicity."""
    options: dict[str, object] = {"constraints": None, "rigidWater": False, "removeCMMotion": False}
    if cutoff_nm is None:
        return {**options, "nonbondedMethod": app.NoCutoff}
    cutoff = cutoff_nm * unit.nanometer
    return {**options, "nonbondedMethod": app.CutoffNonPeriodic, "nonbondedCutoff": cutoff}


def _check_cutoff(name: str, cutoff_nm: float | None) -> None:
    if cutoff_nm is not None and not cutoff_nm > 0:
        raise MolecularSystemError(
            name, f"nonbonded_cutoff_nm must be positive, not {cutoff_nm:g}", "leave it out for none"
        )


def _readable(name: str, path: Path | str, reader: Callable[[str], Reading]) -> Reading:
    """``reader(path)``, its failures told in one line."""
    if not Path(path).is_file():
        raise MolecularSystemError(name, f"no file {path}", "paths are relative to the workflow file")
    try:
        return reader(str(path))
    except Exception as error:
        raise MolecularSystemError(
            name, f"{path} cannot be read ({said_by(error)})", "check the file"
        ) from error


def _without_box(topology: app.Topology) -> app.Topology:
    topology.setPeriodicBoxVectors(None)
    return topology


def _nanometres(quantity: unit.Quantity) -> NDArray[np.float64]:
    return np.array(quantity.value_in_unit(unit.nanometer), dtype=np.float64)
