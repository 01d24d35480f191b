"""Ways in for molecules: what is asked for beside files, and what makes a System of which kind of file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import openmm
from openmm import app, unit

from boltzgen.system.builders.file_kinds import RECOGNISED, FileKind
from boltzgen.system.builders.structures import Structure


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


BuildInput = Callable[[Path, Sequence[Path], InputOptions], tuple[Structure, openmm.System]]
"""Makes structure and System of the file that describes a molecule, the others and the options; raises
MolecularSystemError, one line, for what cannot be used."""
INPUTS: dict[FileKind, BuildInput] = {}
"""How molecules are built, by the kind of the file that describes them."""


def register(kind: FileKind, build: BuildInput, recognises: Callable[[str], bool] | None = None) -> None:
    """Let molecules come from another format, known by the kind of the file that describes them.

    recognises
        Whether the text of a file is of this kind, where boltzgen does not know it; asked before all others.
    """
    INPUTS[kind] = build
    if recognises is not None:
        RECOGNISED.append((kind, recognises))
