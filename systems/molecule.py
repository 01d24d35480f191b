"""Any molecule described by files alone: structure and force field, or the topology of another program."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boltzgen import InputOptions, MolecularSystem, from_files

FILE_KEYS = (
    *("pdb", "cif", "prmtop", "parm7", "inpcrd", "rst7", "coordinates", "top", "gro", "psf", "crd"),
    *("parameters", "system", "structure"),
)
"""What files may be called one by one in place of ``files``; they are told apart by what they hold."""
_FORCE_FIELD = ("amber99sbildn.xml", "amber99_obc.xml")


@dataclass(frozen=True)
class Molecule:
    """Your own molecule, from the files that you have.

    files
        Relative to the workflow file, in any order: a PDB or mmCIF file with hydrogens; or a topology
        (prmtop, GROMACS top, CHARMM psf, OpenMM System) with its coordinates and parameters.
    forcefield
        OpenMM force-field files for a PDB or mmCIF file, by path or by the names that OpenMM ships.
    implicit_solvent
        HCT, OBC1, OBC2, GBn, GBn2 or vacuum, for topologies of other programs.
    nonbonded_cutoff_nm
        Cutoff without periodicity [nm]; none by default.
    residue_templates
        Templates of the force field to take where several fit a residue and differ.
    """

    files: str | Sequence[str] = ()
    forcefield: str | Sequence[str] = _FORCE_FIELD
    implicit_solvent: str | None = None
    temperature_k: float = 300.0
    nonbonded_cutoff_nm: float | None = None
    residue_templates: str | Sequence[str] = ()
    base: Path | None = None

    def build(self) -> MolecularSystem:
        """The molecule, called as its first file is; see `boltzgen.from_files` for what it raises."""
        base = self.base or Path()
        files = _several(self.files)
        options = InputOptions(
            self.implicit_solvent,
            self.nonbonded_cutoff_nm,
            tuple(base / file if (base / file).is_file() else file for file in _several(self.forcefield)),
            tuple(_several(self.residue_templates)),
        )
        name = Path(files[0]).stem if files else "molecule"
        return from_files([base / file for file in files], name, self.temperature_k, options)


def build(**given: Any) -> MolecularSystem:
    """Your own molecule, from its files: PDB and force field, or those of Amber, GROMACS, CHARMM, OpenMM."""
    named = [file for key in FILE_KEYS for file in _several(given.pop(key, ()))]
    return Molecule(**{**given, "files": [*_several(given.get("files", ())), *named]}).build()


def _several(files: str | Sequence[str]) -> list[str]:
    """A name or several, as both are written in workflow files."""
    return [files] if isinstance(files, str) else [str(file) for file in files]


_FILES = [inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=()) for key in FILE_KEYS]
build.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what a workflow file may give
    [
        *(p.replace(kind=p.KEYWORD_ONLY) for p in inspect.signature(Molecule).parameters.values()),
        *_FILES,
    ]
)
