"""The files that describe a molecule: as given, or made of a structure, a SMILES or a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from boltzgen.errors import ConfigError
from boltzgen.system.builders.build import brings_parameters
from boltzgen.system.builders.file_kinds import MOL2, SDF
from boltzgen.system.builders.ligands import Ligand, ligand_of_file, ligand_of_smiles
from boltzgen.system.builders.preparation import Prepared, prepared
from boltzgen.system.builders.sequences import peptide_of_sequence
from boltzgen.system.builders.solvents import MODELS, solvent_named
from boltzgen.system.builders.structures import READERS, kind_of_file

SOLVENT = "OBC2"
"""The implicit solvent where none is asked for."""
PH = 7.0
"""At which hydrogens are put in where no other pH is asked for."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for beside the files; None for what is chosen here, and said."""

    forcefield: tuple[str, ...] = ()
    solvent: str | None = None
    temperature_k: float = 300.0
    ph: float | None = None
    smiles: str | None = None
    sequence: str | None = None


WANTED = Wanted()


def files_of_molecule(
    name: str, files: Sequence[Path], wanted: Wanted, made: list[Path]
) -> tuple[list[Path], list[str]]:
    """The files to name in the workflow file: those that are given, or made here and added to ``made``.

    Small molecules without parameters become ``NAME.prmtop`` and ``NAME.rst7``, sequences and structures that
    lack atoms ``NAME_prepared.pdb``. With them comes what was done, a line each. Raises UserError for what
    cannot be used.
    """
    _check_one_description(files, wanted)
    kinds = [kind_of_file(path) for path in files]
    solvent = solvent_named("--solvent", wanted.solvent or SOLVENT)
    radii = MODELS[solvent or SOLVENT].radii
    ph = PH if wanted.ph is None else wanted.ph
    is_small = wanted.smiles is not None or (len(files) == 1 and kinds[0] in (SDF, MOL2))
    if is_small and wanted.ph is not None:
        raise ConfigError("--ph", "is for a PDB or a sequence", "draw the molecule with the charges it has")
    for path in _paths_of_ligand(name) if is_small else ():
        _check_free(path)
    if wanted.smiles is not None:
        return _of_ligand(name, ligand_of_smiles(wanted.smiles, radii), made)
    if wanted.sequence is not None:
        return _of_prepared(name, peptide_of_sequence(wanted.sequence, ph), made)
    if is_small:
        return _of_ligand(name, ligand_of_file(files[0], radii), made)
    structures = [path for path, kind in zip(files, kinds, strict=True) if kind in READERS]
    if len(structures) != 1 or any(map(brings_parameters, kinds)):
        return list(files), []
    whole = prepared(structures[0], ph)
    if whole is None:
        return list(files), []
    others = [file for file in files if file is not structures[0]]
    paths, said = _of_prepared(name, whole, made)
    return [*paths, *others], said


def _check_one_description(files: Sequence[Path], wanted: Wanted) -> None:
    given = [
        word
        for word, value in (
            ("FILE", files or None),
            ("--smiles", wanted.smiles),
            ("--sequence", wanted.sequence),
        )
        if value is not None
    ]
    if not given:
        raise ConfigError("FILE", "no file is given", "give those of the molecule, --smiles or --sequence")
    if len(given) > 1:
        raise ConfigError(given[-1], f"and {given[0]} both describe a molecule", "give one of them")


def _of_ligand(name: str, ligand: Ligand, made: list[Path]) -> tuple[list[Path], list[str]]:
    paths = _paths_of_ligand(name)
    for path, text in zip(paths, (ligand.prmtop, ligand.rst7), strict=True):
        write_new(path, text, made)
    return paths, [*ligand.said, f"{paths[0]} and {paths[1]} written"]


def _paths_of_ligand(name: str) -> list[Path]:
    return [Path(f"{name}.prmtop"), Path(f"{name}.rst7")]


def _of_prepared(name: str, whole: Prepared, made: list[Path]) -> tuple[list[Path], list[str]]:
    path = Path(f"{name}_prepared.pdb")
    write_new(path, whole.pdb, made)
    return [path], [*whole.added, f"{path} written"]


def _check_free(path: Path) -> None:
    if path.exists():
        raise ConfigError(path, "is there already", "choose another name, or remove it")


def write_new(path: Path, text: str, made: list[Path]) -> None:
    """Write a file that is not there yet, and add it to ``made``."""
    _check_free(path)
    made.append(path)
    path.write_text(text, encoding="utf-8")
