"""CHARMM and NAMD topologies (PSF) with their parameters and coordinates."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import openmm
from openmm import app

from boltzgen.errors import MolecularSystemError, said_by
from boltzgen.system.builders import file_kinds
from boltzgen.system.builders.inputs import InputOptions
from boltzgen.system.builders.restarts import coordinates_beside
from boltzgen.system.builders.solutes import molecule_alone
from boltzgen.system.builders.solvents import add_solvent, solvent_named
from boltzgen.system.builders.structures import Structure
from boltzgen.system.labels import listed

_STREAM = re.compile(r"^\s*read\s+(rtf|para)", re.IGNORECASE | re.MULTILINE)
_LONE_PAIRS = re.compile(r"^\s*([1-9]\d*)\s+\d+\s+!NUMLP", re.MULTILINE)
_RESIDUES = re.compile(r"^\s*(RESI|PRES)\s", re.IGNORECASE | re.MULTILINE)


def build_charmm(psf: Path, others: Sequence[Path], options: InputOptions) -> tuple[Structure, openmm.System]:
    """Of a CHARMM or NAMD topology (PSF), coordinates and parameter files (rtf, prm and streams)."""
    solvent = solvent_named(psf, options.implicit_solvent)
    sets = [path for path in others if file_kinds.kind_of(path) is file_kinds.CHARMM_PARAMETERS]
    if not sets:
        raise MolecularSystemError(
            psf, "comes without parameters", "give its parameter files too (rtf, prm and streams)"
        )
    if counted := _LONE_PAIRS.search(psf.read_text(errors="replace")):
        raise MolecularSystemError(
            psf, f"has {counted.group(1)} lone pairs or Drude particles", "give a PSF without them"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = app.CharmmPsfFile(str(psf))
    except Exception as error:  # OpenMM's readers raise whatever they come upon
        raise MolecularSystemError(
            psf, f"is a PSF that cannot be read ({said_by(error)})", "is it complete?"
        ) from error
    parameters = _parameters(sets)
    coordinates = coordinates_beside(psf, read.topology, [path for path in others if path not in sets])
    given = listed((path.name for path in sets), len(sets))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            system = read.createSystem(parameters, **options.of_create_system())
    except Exception as error:  # OpenMM's readers raise whatever they come upon
        raise MolecularSystemError(
            psf,
            f"needs parameters that are not in {given} ({said_by(error)})",
            "give every parameter file that it was made with",
        ) from error
    structure, system = molecule_alone(
        psf,
        Structure(read.topology, coordinates.positions, notices=coordinates.notices),
        system,
        coordinates.box,
        options.implicit_solvent is not None,
    )
    if solvent is not None:
        add_solvent(system, structure.topology, solvent, options.nonbonded_cutoff_nm)
    return structure, system


def _parameters(sets: Sequence[Path]) -> app.CharmmParameterSet:
    """Of files in any order: masses before parameters, and streams, which hold both, last."""
    parameters = app.CharmmParameterSet()
    texts = {path: path.read_text(errors="replace") for path in sets}
    streams = [path for path in sets if _STREAM.search(texts[path])]
    topologies = [path for path in sets if path not in streams and _RESIDUES.search(texts[path])]
    others = [path for path in sets if path not in (*streams, *topologies)]
    reads = (
        (topologies, parameters.readTopologyFile),
        (others, parameters.readParameterFile),
        (streams, parameters.readStreamFile),
    )
    for path, read in ((path, read) for paths, read in reads for path in paths):
        try:
            read(str(path))
        except Exception as error:  # OpenMM's readers raise whatever they come upon
            raise MolecularSystemError(
                path,
                f"is a file of CHARMM parameters that cannot be read ({said_by(error)})",
                "give the rtf with the masses of its atom types too, or mend the file",
            ) from error
    return parameters
