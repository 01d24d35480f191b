"""Molecular systems from structure and force-field files, with every bond free to vibrate."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openmm
from numpy.typing import NDArray

from boltzgen.errors import MolecularSystemError, said_by
from boltzgen.system.builders import file_kinds
from boltzgen.system.builders.amber import build_amber
from boltzgen.system.builders.charmm import build_charmm
from boltzgen.system.builders.force_fields import build_by_force_field
from boltzgen.system.builders.gromacs import build_gromacs
from boltzgen.system.builders.inputs import INPUTS, InputOptions, register
from boltzgen.system.builders.openmm_xml import build_openmm_xml
from boltzgen.system.builders.sequences import peptide_of_sequence
from boltzgen.system.builders.starting_geometry import check_geometry, check_kept
from boltzgen.system.builders.structures import READERS, Structure, checked_file, kind_of_file, nanometres
from boltzgen.system.molecular_system import MolecularSystem

DEFAULT = InputOptions()
_MOST_ITERATIONS = 20_000
"""Of a minimisation: some of coordinates with too few digits never end."""
for _kind, _build in (
    (file_kinds.PDB, build_by_force_field),
    (file_kinds.MMCIF, build_by_force_field),
    (file_kinds.PRMTOP, build_amber),
    (file_kinds.GROMACS_TOPOLOGY, build_gromacs),
    (file_kinds.PSF, build_charmm),
    (file_kinds.SYSTEM, build_openmm_xml),
):
    register(_kind, _build)


def brings_parameters(kind: file_kinds.FileKind) -> bool:
    """Whether files of a kind describe a molecule together with its force field."""
    return kind in INPUTS and kind not in READERS


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
    paths = [Path(file) for file in files]
    first = _describing(paths)
    # Structures of formats that others registered are parametrised as those of a PDB are.
    build = INPUTS.get(kind_of_file(first), INPUTS[file_kinds.PDB])
    structure, system = build(first, [path for path in paths if path is not first], options)
    check_geometry(first, structure, system)
    return _finish(first, name, structure, system, temperature_k)


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


def from_sequence(
    sequence: str,
    forcefield: Sequence[Path | str],
    name: str,
    temperature_k: float = 300.0,
    nonbonded_cutoff_nm: float | None = None,
    ph: float = 7.0,
) -> MolecularSystem:
    """A peptide of L residues, drawn out and minimised.

    sequence
        Three-letter names with hyphens, as ``ACE-ALA-HIE-NME``; ends without a cap are charged.
    forcefield, nonbonded_cutoff_nm
        As of `from_pdb`.
    ph
        Decides the forms of residues that their names leave open.

    Raises MolecularSystemError for residues that are not known, here or to the force field.
    """
    prepared = peptide_of_sequence(sequence, ph, name)
    with tempfile.TemporaryDirectory() as directory:
        pdb = Path(directory) / "peptide.pdb"
        pdb.write_text(prepared.pdb, encoding="utf-8")
        return from_pdb(pdb, forcefield, name, temperature_k, nonbonded_cutoff_nm)


def minimise(openmm_system: openmm.System, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Local energy minimum near ``positions`` [nm] ``(n_atoms, 3)``, centred; the same on every machine."""
    context = openmm.Context(
        openmm_system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(context, 0.01, _MOST_ITERATIONS)
    found = nanometres(context.getState(positions=True).getPositions(asNumpy=True))
    return found - found.mean(axis=0)


def remove_centre_of_mass_motion_removers(openmm_system: openmm.System) -> None:
    """Delete CMMotionRemover forces in place: they act on momenta and are no part of an energy."""
    for index in reversed(range(openmm_system.getNumForces())):
        if isinstance(openmm_system.getForce(index), openmm.CMMotionRemover):
            openmm_system.removeForce(index)


def _describing(files: Sequence[Path]) -> Path:
    """The one file that describes a molecule: a structure where no topology does."""
    if not files:
        raise MolecularSystemError("system.parameters.files", "names no file", "give those of a molecule")
    kinds = {path: kind_of_file(path) for path in files}
    topologies = [path for path in files if brings_parameters(kinds[path])]
    found = topologies or [path for path in files if kinds[path] in READERS]
    if not found:
        kind = kinds[files[0]]
        known = f"give what describes the molecule too: {', '.join(kind.name for kind in INPUTS)}"
        remedy = known if kind.remedy == file_kinds.IN_FILES else kind.remedy
        raise MolecularSystemError(files[0], f"is {kind.name}", remedy)
    if len(found) > 1:
        raise MolecularSystemError(
            found[1], f"describes a molecule as {found[0]} does", "give the files of one molecule"
        )
    return found[0]


def _finish(
    where: Path,
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
    before = structure.positions.copy()
    try:
        structure.positions[...] = minimise(system, before)
    except openmm.OpenMMException as error:
        raise MolecularSystemError(
            where,
            f"gives forces that OpenMM cannot evaluate ({said_by(error)})",
            "mend its parameters; implicit solvents need radii, as of `set default PBRadii` in tleap",
        ) from error
    check_kept(where, first, before)
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
