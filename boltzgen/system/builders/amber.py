"""Amber topologies with their coordinates, and whether radii are those that a solvent model was made for."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import openmm
from openmm import app
from openmm.app.internal.amber_file_parser import PrmtopLoader

from boltzgen.errors import MolecularSystemError, said_by
from boltzgen.system.builders.inputs import InputOptions
from boltzgen.system.builders.restarts import coordinates_beside
from boltzgen.system.builders.solutes import molecule_alone, surroundings
from boltzgen.system.builders.solvents import MODELS, add_solvent, solvent_named
from boltzgen.system.builders.structures import Structure


def build_amber(
    prmtop: Path, others: Sequence[Path], options: InputOptions
) -> tuple[Structure, openmm.System]:
    """Of an Amber topology (prmtop) and coordinates."""
    solvent = solvent_named(prmtop, options.implicit_solvent)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            parameters = app.AmberPrmtopFile(str(prmtop))
            solvated = bool(surroundings(parameters.topology)[0])
            model = None if solvent is None or solvated else MODELS[solvent].option
            found = coordinates_beside(prmtop, parameters.topology, others)
            system = parameters.createSystem(implicitSolvent=model, **options.of_create_system())
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
            "write it again, without extra points",
        ) from error
    own = [(atom.residue.name, atom.name) for atom in parameters.topology.atoms()]
    structure = Structure(
        parameters.topology, found.positions, tuple(names) if names != own else (), found.notices
    )
    structure, system = molecule_alone(
        prmtop, structure, system, found.box, options.implicit_solvent is not None
    )
    if solvent is None:
        return structure, system
    if solvated:  # radii of a file for explicit water are whatever its program puts there
        add_solvent(system, structure.topology, solvent, options.nonbonded_cutoff_nm)
        said_of_radii = [f"{prmtop}: radii are {MODELS[solvent].radii}, with which {solvent} was fitted"]
    else:
        differ = any("GB parameters" in str(warning.message) for warning in said)
        said_of_radii = [*_told_radii(prmtop, solvent, differ)]
    return replace(structure, notices=(*structure.notices, *said_of_radii)), system


def _told_radii(prmtop: Path, solvent: str, differ: bool) -> tuple[str, ...]:
    """A line where the radii are of another set than that of the solvent model, even if they are equal."""
    section = re.search(r"%FLAG RADIUS_SET\s+%FORMAT\S*\s+(.*)", prmtop.read_text(errors="replace"))
    given = re.search(r"\((\w+)\)\s*$", section.group(1)) if section else None
    fitted = MODELS[solvent].radii
    if not differ and (given is None or given.group(1) == fitted):
        return ()
    if given and given.group(1) == fitted:
        what = f"its radii are {fitted} by name, and some are others than OpenMM has for {solvent}"
        return (f"{prmtop}: {what}; those of the file are used",)
    theirs = f"radii are {given.group(1)}" if given else "radii are others"
    matters = (
        "solvation energies are not those of the model"
        if differ
        else "in this molecule both sets are the same, so that it does not matter here"
    )
    return (
        f"{prmtop}: its {theirs}, and {solvent} was fitted with {fitted} (`set default PBRadii {fitted}` in "
        f"tleap); {matters}",
    )
