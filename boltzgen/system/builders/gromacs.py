"""GROMACS topologies (top) with their coordinates."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import openmm

from boltzgen.errors import MolecularSystemError, said_by
from boltzgen.system.builders import file_kinds
from boltzgen.system.builders.gromacs_rules import (
    GromacsTopology,
    check_molecule_types,
    check_sections,
    tell_elements_by_mass,
    zero_pairs_not_listed,
)
from boltzgen.system.builders.inputs import InputOptions
from boltzgen.system.builders.restarts import coordinates_beside
from boltzgen.system.builders.solutes import molecule_alone
from boltzgen.system.builders.solvents import add_solvent, solvent_named
from boltzgen.system.builders.structures import Structure

_INCLUDE = re.compile(r"Could not locate #include file: (.*)")


def build_gromacs(
    top: Path, others: Sequence[Path], options: InputOptions
) -> tuple[Structure, openmm.System]:
    """Of a GROMACS topology (top) and coordinates; the itp files are those that it includes."""
    solvent = solvent_named(top, options.implicit_solvent)
    others = [path for path in others if file_kinds.kind_of(path) is not file_kinds.GROMACS_INCLUDE]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = GromacsTopology(top)
            notices = check_sections(top, read)
            check_molecule_types(top, read)
            coordinates = coordinates_beside(top, read.topology, others)
            system = read.createSystem(**options.of_create_system())
    except MolecularSystemError:
        raise
    except Exception as error:  # OpenMM's readers raise whatever they come upon
        raise _refused(top, error) from error
    if n_zeroed := zero_pairs_not_listed(read, system):
        notices += (f"{top}: {n_zeroed} pairs over three bonds are not among [ pairs ] and do not interact",)
    notices += tell_elements_by_mass(top, read.topology, system)
    structure, system = molecule_alone(
        top,
        Structure(read.topology, coordinates.positions, notices=(*notices, *coordinates.notices)),
        system,
        coordinates.box,
        options.implicit_solvent is not None,
    )
    if solvent is not None:
        add_solvent(system, structure.topology, solvent, options.nonbonded_cutoff_nm)
    return structure, system


def _refused(top: Path, error: Exception) -> MolecularSystemError:
    said = said_by(error)
    if missing := _INCLUDE.search(said):
        return MolecularSystemError(
            top,
            f"includes {missing.group(1)}, which is neither beside it nor with GROMACS",
            "copy the file or its folder there, or set GMXDATA to the folder of GROMACS that holds top",
        )
    if "irtual site" in said:
        return MolecularSystemError(top, "has virtual sites", "write it without them (pdb2gmx -vsite none)")
    return MolecularSystemError(
        top, f"is a GROMACS topology that cannot be used ({said})", "write it again by gmx grompp -pp"
    )
