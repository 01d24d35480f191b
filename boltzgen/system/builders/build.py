"""Molecular systems from structure and force-field files, with every bond free to vibrate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import unit

from boltzgen.errors import MolecularSystemError
from boltzgen.system.builders import file_kinds
from boltzgen.system.builders.amber import AMBER
from boltzgen.system.builders.charmm import CHARMM
from boltzgen.system.builders.force_fields import OPENMM_FORCE_FIELDS
from boltzgen.system.builders.gromacs import GROMACS
from boltzgen.system.builders.inputs import InputOptions, built, register
from boltzgen.system.builders.openmm_xml import OPENMM_XML
from boltzgen.system.builders.starting_geometry import check_geometry
from boltzgen.system.builders.structures import READERS, Structure, checked_file
from boltzgen.system.molecular_system import MolecularSystem

DEFAULT = InputOptions()
for _kind, _format in (
    (file_kinds.PDB, OPENMM_FORCE_FIELDS),
    (file_kinds.MMCIF, OPENMM_FORCE_FIELDS),
    (file_kinds.PRMTOP, AMBER),
    (file_kinds.GROMACS_TOPOLOGY, GROMACS),
    (file_kinds.PSF, CHARMM),
    (file_kinds.SYSTEM, OPENMM_XML),
):
    register(_kind, _format)


def from_files(
    files: Sequence[Path | str], name: str, temperature_k: float = 300.0, options: InputOptions = DEFAULT
) -> MolecularSystem:
    """A molecule from the files that describe it, in any order and told apart by what they hold.

    files
        A structure (PDB or mmCIF, with force fields in ``options`` or beside it), or the topology of another
        program with coordinates and what else belongs to it, as `boltzgen.system.builders.inputs.INPUTS`
        has them.

    The configuration is minimised and becomes the reference. Collective variables and states are declared by
    `boltzgen.with_variables`. Raises MolecularSystemError, one line, for files that cannot be used.
    """
    _check_cutoff(name, options.nonbonded_cutoff_nm)
    described, structure, system = built([Path(file) for file in files], options)
    check_geometry(described, structure, system)
    return _finish(name, structure, system, temperature_k)


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
    checked_file(pdb, *READERS)
    options = InputOptions(None, nonbonded_cutoff_nm, tuple(forcefield), tuple(residue_templates))
    return from_files([pdb], name, temperature_k, options)


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
    checked_file(prmtop, file_kinds.PRMTOP, belongs="an Amber topology (prmtop or parm7)")
    options = InputOptions(implicit_solvent, nonbonded_cutoff_nm)
    return from_files([prmtop, coordinates], name, temperature_k, options)


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
