"""Amber topologies with their coordinates, and whether radii are those that a solvent model was made for."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit
from openmm.app.internal.amber_file_parser import PrmtopLoader

from boltzgen.errors import MolecularSystemError, said_by
from boltzgen.system.builders import file_kinds
from boltzgen.system.builders.structures import READERS, Structure, checked_file, read_structure

IMPLICIT_SOLVENTS = {"HCT": app.HCT, "OBC1": app.OBC1, "OBC2": app.OBC2, "GBn": app.GBn, "GBn2": app.GBn2}
RADII = {"HCT": "mbondi", "OBC1": "mbondi2", "OBC2": "mbondi2", "GBn": "bondi", "GBn2": "mbondi3"}
"""The sets of radii that the models were fitted with."""


def read_amber(
    prmtop: Path, coordinates: Path, solvent: str | None, options: dict[str, object]
) -> tuple[Structure, openmm.System]:
    """Structure and System of an Amber topology and coordinates in a file of their own.

    options
        Arguments of ``createSystem``.

    Raises MolecularSystemError, one line, for what cannot be read or does not belong together.
    """
    checked_file(prmtop, file_kinds.PRMTOP, belongs="an Amber topology (prmtop or parm7)")
    positions, elements = _coordinates(coordinates)
    model = None if solvent is None else IMPLICIT_SOLVENTS[solvent]
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            parameters = app.AmberPrmtopFile(str(prmtop))
            _check_pair(prmtop, parameters.topology, coordinates, len(positions), elements)
            system = parameters.createSystem(implicitSolvent=model, **options)
        loader = PrmtopLoader(str(prmtop))
        names = [(loader.getResidueLabel(k), loader.getAtomName(k)) for k in range(loader.getNumAtoms())]
    except MolecularSystemError:
        raise
    except KeyError as error:
        raise MolecularSystemError(
            prmtop, f"lacks a section of Amber topologies ({error.args[0]})", "is it complete?"
        ) from error
    except Exception as error:  # OpenMM's readers raise whatever they come upon
        raise MolecularSystemError(
            prmtop,
            f"is an Amber topology that cannot be used ({said_by(error)})",
            "write it again, without a box and extra points",
        ) from error
    topology = parameters.topology
    topology.setPeriodicBoxVectors(None)
    own = [(atom.residue.name, atom.name) for atom in topology.atoms()]
    differ = any("GB parameters" in str(warning.message) for warning in said)
    notices = () if solvent is None else _told_radii(prmtop, solvent, differ)
    return Structure(topology, positions, tuple(names) if names != own else (), notices), system


def _coordinates(coordinates: Path) -> tuple[NDArray[np.float64], list[str]]:
    """Positions [nm] of a restart or a structure, and the elements that the latter has."""
    kinds = (file_kinds.AMBER_COORDINATES, file_kinds.NETCDF, *READERS)
    belongs = "an Amber restart (inpcrd, rst7 or NetCDF) or a PDB"
    if checked_file(coordinates, *kinds, belongs=belongs) in READERS:
        structure = read_structure(coordinates)
        return structure.positions, _elements(structure.topology)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the reader of NetCDF
            found = app.AmberInpcrdFile(str(coordinates)).getPositions(asNumpy=True)
    except Exception as error:  # OpenMM's readers raise whatever they come upon
        raise MolecularSystemError(
            coordinates,
            f"holds no coordinates of one configuration ({said_by(error)})",
            "give an inpcrd, rst7 or NetCDF restart file, or a PDB",
        ) from error
    return np.array(found.value_in_unit(unit.nanometer), dtype=np.float64), []


def _elements(topology: app.Topology) -> list[str]:
    return [atom.element.symbol if atom.element is not None else "" for atom in topology.atoms()]


def _check_pair(
    prmtop: Path, topology: app.Topology, coordinates: Path, n_atoms: int, elements: list[str]
) -> None:
    """Refuse coordinates of another number of atoms, and of other elements where these are known."""
    if topology.getNumAtoms() != n_atoms:
        raise MolecularSystemError(
            coordinates,
            f"has {n_atoms} atoms, and {prmtop} has {topology.getNumAtoms()}",
            "give two files of one molecule",
        )
    for k, (theirs, ours) in enumerate(zip(elements, _elements(topology), strict=False)):
        if theirs and ours and theirs != ours:
            raise MolecularSystemError(
                coordinates,
                f"atom {k} is {theirs}, and in {prmtop} it is {ours}",
                "give coordinates in the order of the prmtop",
            )


def _told_radii(prmtop: Path, solvent: str, differ: bool) -> tuple[str, ...]:
    """A line where the radii are of another set than that of the solvent model, even if they are equal."""
    section = re.search(r"%FLAG RADIUS_SET\s+%FORMAT\S*\s+(.*)", prmtop.read_text(errors="replace"))
    given = re.search(r"\((\w+)\)\s*$", section.group(1)) if section else None
    if not differ and (given is None or given.group(1) == RADII[solvent]):
        return ()
    theirs = f"radii are {given.group(1)}" if given else "radii are others"
    matters = (
        "solvation energies are not those of the model"
        if differ
        else "in this molecule both sets are the same, so that it does not matter here"
    )
    return (
        f"{prmtop}: its {theirs}, and {solvent} was fitted with {RADII[solvent]} (`set default PBRadii "
        f"{RADII[solvent]}` in tleap); {matters}",
    )
