"""Small molecules without parameters: drawn by RDKit, charged and typed by AmberTools' own programs.

GAFF2 with AM1-BCC charges: Wang et al., J. Comput. Chem. 25, 1157 (2004); Jakalian et al., J. Comput. Chem.
23, 1623 (2002).
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boltzgen.errors import MolecularSystemError, said_by
from boltzgen.runtime.ambertools import INSTALL, PROGRAMS, programs
from boltzgen.system.builders.file_kinds import MOL2, SDF
from boltzgen.system.builders.structures import kind_of_file
from boltzgen.system.labels import listed

_ELEMENTS = frozenset({"H", "C", "N", "O", "F", "P", "S", "Cl", "Br", "I"})
"""Those that GAFF2 has types of; for others its programs take parameters of the nearest without a word."""
_SHORTEST, _LONGEST = 0.6, 3.0
"""Lengths of bonds [angstrom] in any molecule."""
_SEED = 1
"""Of the conformer that RDKit makes: the same molecule always starts alike."""
_LEAP = """source leaprc.gaff2
set default PBRadii {radii}
ligand = loadmol2 ligand.mol2
loadamberparams ligand.frcmod
saveamberparm ligand ligand.prmtop ligand.rst7
quit
"""


@dataclass(frozen=True)
class Ligand:
    """An Amber topology and its coordinates, and what was done, a line each."""

    prmtop: str
    rst7: str
    said: tuple[str, ...]


def ligand_of_smiles(smiles: str, radii: str) -> Ligand:
    """A molecule by its SMILES, every stereocentre and double bond given; ``radii`` is a set of Amber's.

    Raises MolecularSystemError, one line, for what is no single molecule, leaves its isomer open or has no
    parameters, and where a program is missing.
    """
    chem = _rdkit()
    molecule = chem.MolFromSmiles(smiles)
    if molecule is None or not molecule.GetNumAtoms():
        raise MolecularSystemError(
            "--smiles", f"{smiles or 'nothing'} is no SMILES", "quote it, as in 'CC(=O)O'"
        )
    return _parametrised("--smiles", chem.AddHs(molecule), radii, [])


def ligand_of_file(path: Path, radii: str) -> Ligand:
    """A molecule from an SDF, MOL or MOL2 file, its coordinates kept where it has them in space.

    Raises MolecularSystemError as `ligand_of_smiles` does.
    """
    chem, kind = _rdkit(), kind_of_file(path)
    text, said = path.read_text(errors="replace"), list[str]()
    if kind not in (SDF, MOL2):
        raise MolecularSystemError(path, f"is {kind.name}", "give an SDF, MOL or MOL2 file")
    if text.count("M  END") > 1 or text.count("@<TRIPOS>MOLECULE") > 1:
        raise MolecularSystemError(path, "holds several molecules", "give a file with one")
    read = chem.MolFromMolBlock if kind is SDF else chem.MolFromMol2Block
    molecule = read(text, removeHs=False)
    if molecule is None or not molecule.GetNumAtoms():
        remedy = "write it again" if kind is SDF else "write it with SYBYL's atom types, or as SDF"
        raise MolecularSystemError(path, "holds no molecule that RDKit understands", remedy)
    if not molecule.GetConformer().Is3D():
        molecule.RemoveAllConformers()
        said.append(f"{path}: is drawn in a plane, and a conformer in space was made")
    whole = chem.AddHs(molecule, addCoords=bool(molecule.GetNumConformers()))
    if added := whole.GetNumAtoms() - molecule.GetNumAtoms():
        said.append(f"{path}: {added} hydrogens were put in")
    if whole.GetNumConformers():
        _check_lengths(path, molecule)
        chem.AssignStereochemistryFrom3D(whole)
    return _parametrised(path, whole, radii, said)


def _check_lengths(path: Path, molecule: Any) -> None:
    """Refuse coordinates in another unit, or none."""
    place = molecule.GetConformer().GetAtomPosition
    for bond in molecule.GetBonds():
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        apart = place(i).Distance(place(j))
        if not _SHORTEST < apart < _LONGEST:
            raise MolecularSystemError(
                path,
                f"has a bond of {apart:.2g} angstrom, between atoms {i} and {j} counted from 0",
                "give the coordinates of a relaxed structure, in angstrom",
            )


def _parametrised(where: Path | str, molecule: Any, radii: str, said: list[str]) -> Ligand:
    chem, found = _rdkit(), programs()
    if missing := [name for name in PROGRAMS if name not in found]:
        raise MolecularSystemError(where, f"needs {listed(missing)} of AmberTools", INSTALL)
    _check(where, molecule)
    if not molecule.GetNumConformers():
        _embed(where, molecule)
    charge = chem.GetFormalCharge(molecule)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "ligand.mol").write_text(chem.MolToMolBlock(molecule))
        (folder / "leap.in").write_text(_LEAP.format(radii=radii))
        for name, arguments, makes in _steps(charge):
            _call(where, folder, [found[name], *arguments.split()], folder / makes)
        _check_parameters(where, folder / "ligand.frcmod")
        prmtop, rst7 = ((folder / name).read_text() for name in ("ligand.prmtop", "ligand.rst7"))
    made = f"GAFF2 with AM1-BCC charges by {found['antechamber']}, net charge {charge}, radii {radii}"
    return Ligand(prmtop, rst7, (*said, made))


def _steps(charge: int) -> list[tuple[str, str, str]]:
    """Programs with their arguments and the file that each is called for."""
    typed = f"-i ligand.mol -fi mdl -o ligand.mol2 -fo mol2 -c bcc -nc {charge} -at gaff2 -rn LIG -pf y"
    return [
        ("antechamber", typed, "ligand.mol2"),
        ("parmchk2", "-i ligand.mol2 -f mol2 -o ligand.frcmod -s gaff2", "ligand.frcmod"),
        ("tleap", "-f leap.in", "ligand.prmtop"),
    ]


def _call(where: Path | str, folder: Path, command: Sequence[str], makes: Path) -> None:
    """Call a program; an error that quotes it where it does not write what it is called for."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    if done.returncode == 0 and makes.exists():
        return
    lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
    first = next((k for k, line in enumerate(lines) if "rror" in line or "FATAL" in line), len(lines) - 1)
    told = " ".join(lines[max(first, 0) : first + 3]) or "without a word"
    raise MolecularSystemError(
        where, f"{Path(command[0]).name} makes no parameters of it ({told})", "give a file with parameters"
    )


def _check(where: Path | str, molecule: Any) -> None:
    """Refuse what is several molecules or leaves open which isomer it is."""
    chem = _rdkit()
    if len(chem.GetMolFrags(molecule)) > 1:
        raise MolecularSystemError(where, "is several molecules", "give one, without its salt")
    others = {atom.GetSymbol() for atom in molecule.GetAtoms()} - _ELEMENTS
    if others:
        raise MolecularSystemError(
            where,
            f"holds {listed(sorted(others))}, which GAFF2 does not describe",
            "give a file with parameters",
        )
    for atom in molecule.GetAtoms():
        for what, there in (
            ("an unpaired electron", atom.GetNumRadicalElectrons()),
            ("an isotope", atom.GetIsotope()),
        ):
            if there:
                raise MolecularSystemError(
                    where, f"has {what} at atom {atom.GetIdx()}, counted from 0", "give a molecule without"
                )
    open_ = [
        f"{'centre' if 'Tetrahedral' in str(element.type) else 'bond'} {element.centeredOn}, counted from 0"
        for element in chem.FindPotentialStereo(molecule)
        if str(element.specified).endswith("Unspecified")
    ]
    if open_ and not molecule.GetNumConformers() and _has_several_isomers(molecule):
        raise MolecularSystemError(
            where, f"leaves open which isomer it is ({listed(open_)})", "write it with @ or @@, / or \\"
        )


def _has_several_isomers(molecule: Any) -> bool:
    """Whether more than one of those that are open can be built: caged centres and azides have but one."""
    from rdkit.Chem.EnumerateStereoisomers import EnumerateStereoisomers, StereoEnumerationOptions

    options = StereoEnumerationOptions(
        tryEmbedding=True, onlyUnassigned=True, unique=True, maxIsomers=16, rand=_SEED
    )
    isomers = EnumerateStereoisomers(molecule, options=options)
    return next(isomers, None) is not None and next(isomers, None) is not None


def _embed(where: Path | str, molecule: Any) -> None:
    """A conformer in space, relaxed in MMFF94."""
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    if rdDistGeom.EmbedMolecule(molecule, randomSeed=_SEED) != 0:
        raise MolecularSystemError(where, "RDKit finds no conformer of it", "give a file with coordinates")
    rdForceFieldHelpers.MMFFOptimizeMolecule(molecule)


def _check_parameters(where: Path | str, frcmod: Path) -> None:
    """Refuse parameters that parmchk2 could not find and says to be revised."""
    lines = [line for line in frcmod.read_text().splitlines() if "ATTN" in line]
    if lines:
        raise MolecularSystemError(
            where, f"GAFF2 has no parameters for {lines[0].split()[0]}", "give a file with parameters"
        )


def _rdkit() -> Any:
    try:
        from rdkit import Chem, rdBase
    except ImportError as error:
        raise MolecularSystemError("RDKit", f"cannot be imported ({said_by(error)})", INSTALL) from error
    rdBase.DisableLog("rdApp.*")
    return Chem
