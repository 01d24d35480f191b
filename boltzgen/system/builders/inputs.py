"""Files that a molecule may come from: which program's they are, and what makes a System of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import openmm
from openmm import app, unit

from boltzgen.errors import MolecularSystemError
from boltzgen.system.builders.file_kinds import PDB, FileKind
from boltzgen.system.builders.structures import READERS, Structure, kind_of_file


@dataclass(frozen=True)
class InputOptions:
    """What is asked for beside the files.

    implicit_solvent
        Name of a model of `boltzgen.system.builders.solvents.MODELS`; what the files say by default.
    nonbonded_cutoff_nm
        Cutoff without periodicity [nm]; none by default.
    forcefield
        OpenMM force-field files for structures that bring no parameters.
    residue_templates
        Templates of the force field to take where several fit a residue and differ.
    """

    implicit_solvent: str | None = None
    nonbonded_cutoff_nm: float | None = None
    forcefield: tuple[Path | str, ...] = ()
    residue_templates: tuple[str, ...] = ()

    def of_create_system(self) -> dict[str, object]:
        """Arguments of ``createSystem`` for free bonds and no periodicity."""
        free: dict[str, object] = {"constraints": None, "rigidWater": False, "removeCMMotion": False}
        if self.nonbonded_cutoff_nm is None:
            return {**free, "nonbondedMethod": app.NoCutoff}
        cutoff = self.nonbonded_cutoff_nm * unit.nanometer
        return {**free, "nonbondedMethod": app.CutoffNonPeriodic, "nonbondedCutoff": cutoff}


Build = Callable[[Path, Sequence[Path], InputOptions], tuple[Structure, openmm.System]]


@dataclass(frozen=True)
class InputFormat:
    """A way in for molecules.

    name
        Whose files they are: ``Amber``.
    with_it
        What belongs beside the file that describes the molecule, in words.
    build
        Makes structure and System of that file, the others and the options; raises MolecularSystemError,
        one line, for what cannot be used.
    """

    name: str
    with_it: str
    build: Build


INPUTS: dict[FileKind, InputFormat] = {}
"""By the kind of the file that describes the molecule."""


def register(kind: FileKind, format_: InputFormat) -> None:
    """Let molecules come from another format, known by the kind of the file that describes them."""
    INPUTS[kind] = format_


def built(files: Sequence[Path], options: InputOptions) -> tuple[Path, Structure, openmm.System]:
    """The file that describes the molecule, its structure and its System, of files in any order.

    A structure describes a molecule where no topology does. Raises MolecularSystemError, one line, for files
    that are no way in or do not belong together.
    """
    if not files:
        raise MolecularSystemError("system.parameters.files", "names no file", "give those of a molecule")
    kinds = {path: kind_of_file(path) for path in files}
    topologies = [path for path in files if kinds[path] in INPUTS and kinds[path] not in READERS]
    describing = topologies or [path for path in files if kinds[path] in READERS]
    if not describing:
        known = ", ".join(kind.name for kind in INPUTS)
        raise MolecularSystemError(
            files[0], f"is {kinds[files[0]].name}", f"give what describes the molecule too: {known}"
        )
    first = describing[0]
    if len(describing) > 1:
        raise MolecularSystemError(
            describing[1], f"describes a molecule as {first} does", "give the files of one molecule"
        )
    way_in = INPUTS.get(kinds[first], INPUTS[PDB])  # structures of other formats as those of a PDB
    return first, *way_in.build(first, [path for path in files if path is not first], options)
