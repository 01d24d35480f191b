"""What a structure lacks, put in: heavy atoms of standard residues, ends of chains, and hydrogens at a pH."""

from __future__ import annotations

import io
import itertools
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
from openmm import app
from pdbfixer import PDBFixer

from boltzgen.errors import MolecularSystemError, said_by
from boltzgen.system.builders.pdb_names import form_of
from boltzgen.system.builders.side_chains import check_arrangement, with_first_atoms
from boltzgen.system.builders.solutes import check_no_solvent
from boltzgen.system.builders.structures import Structure, read_structure
from boltzgen.system.labels import Labels, listed

_FORMS: dict[str, list[tuple[set[str], str]]] = {
    "ASP": [({"HD2"}, "with its hydrogen")],
    "GLU": [({"HE2"}, "with its hydrogen")],
    "HIS": [
        ({"HD1", "HE2"}, "with hydrogens at both nitrogens"),
        ({"HD1"}, "with its hydrogen at ND1"),
        ({"HE2"}, "with its hydrogen at NE2"),
    ],
    "CYS": [({"HG"}, ""), (set(), "in a disulfide")],
    "LYS": [({"HZ1", "HZ2", "HZ3"}, "with its charge"), (set(), "without charge")],
}
"""Forms that residues have by pH and surroundings: the first of which all hydrogens are there."""
_NEAR_NM = 0.22
"""Atoms nearer than this may be bonded."""


@dataclass(frozen=True)
class Prepared:
    """A structure as a PDB file, and what was put in, a line each."""

    pdb: str
    added: tuple[str, ...]


def prepared(path: Path, ph: float) -> Prepared | None:
    """The structure of a PDB or mmCIF file with the atoms that it lacks; None where it is whole.

    It is whole where no residue lacks heavy atoms and hydrogens are there: those that a file has are never
    changed. A name such as HIE or ASH says which form is meant, whatever the pH. Raises MolecularSystemError,
    one line, for what cannot be completed.
    """
    structure = read_structure(path)
    check_no_solvent(path, structure.topology, structure.names)
    return completed(path, structure, ph)


def completed(where: Path | str, structure: Structure, ph: float) -> Prepared | None:
    """The same of a structure; ``where`` it comes from is named in errors."""
    variants = _variants(structure)
    try:
        fixer = _fixer(structure)
        _check_ends(where, structure, fixer)
        heavy = _without_heavy_atoms(fixer, Labels(structure.topology, structure.names))
        if not heavy and not _lacks_hydrogens(structure.topology):
            return None
        _check_backbone(where, structure, fixer)
        _check_bonds(where, structure, fixer.topology)
        missing = {residue.index: {a.name for a in atoms} for residue, atoms in fixer.missingAtoms.items()}
        fixer = _fixer(with_first_atoms(structure, missing))
        with _the_same_random_numbers():
            fixer.addMissingAtoms(seed=1)
            check_arrangement(where, structure, fixer.topology, fixer.positions)
            modeller = app.Modeller(fixer.topology, fixer.positions)
            platform = openmm.Platform.getPlatformByName("Reference")
            modeller.addHydrogens(pH=ph, variants=variants, platform=platform)
    except MolecularSystemError:
        raise
    except Exception as error:  # PDBFixer raises whatever it comes upon
        raise MolecularSystemError(
            where, f"cannot be completed ({said_by(error)})", "complete it by another program"
        ) from error
    text = io.StringIO()
    app.PDBFile.writeFile(modeller.topology, modeller.positions, text, keepIds=True)
    said = (*structure.notices, *heavy)
    return Prepared(text.getvalue(), (*said, _hydrogens(structure, modeller.topology, ph)))


def _variants(structure: Structure) -> list[str | None]:
    """The form of each residue by what the file calls it, in place renamed as standard ones are."""
    first = [next(residue.atoms()).index for residue in structure.topology.residues()]
    variants: list[str | None] = []
    for residue, atom in zip(structure.topology.residues(), first, strict=True):
        called = structure.names[atom][0] if structure.names else residue.name
        residue.name, _ = form_of(residue.name)
        variants.append(form_of(called)[1] or _form_by_hydrogens(residue))
    return variants


def _form_by_hydrogens(residue: app.topology.Residue) -> str | None:
    """The form that the hydrogens of a residue show; None without any, and where every form would do."""
    names = {atom.name for atom in residue.atoms()}
    if not any(atom.element is app.element.hydrogen for atom in residue.atoms()):
        return None
    for form, sign in (("HIP", {"HD1", "HE2"}), ("HID", {"HD1"}), ("HIE", {"HE2"})):
        if residue.name == "HIS" and sign <= names:
            return form
    acids = {"ASP": ("HD2", "ASH"), "GLU": ("HE2", "GLH")}
    if residue.name in acids:
        hydrogen, form = acids[residue.name]
        return form if hydrogen in names else residue.name
    if residue.name == "LYS" and (count := len(names & {"HZ1", "HZ2", "HZ3"})):
        return "LYS" if count == 3 else "LYN"
    return None


def _check_ends(where: Path | str, structure: Structure, fixer: PDBFixer) -> None:
    """Refuse an end of a chain whose carbon is as near to another nitrogen as if it were bonded on."""
    labels, x = Labels(structure.topology, structure.names), structure.positions
    ends = {residue.index for residue in fixer.missingTerminals}
    atoms = list(structure.topology.atoms())
    carbons = [atom for atom in atoms if atom.name == "C" and atom.residue.index in ends]
    nitrogens = [atom for atom in atoms if atom.name == "N"]
    for carbon, nitrogen in itertools.product(carbons, nitrogens):
        apart = float(np.linalg.norm(x[carbon.index] - x[nitrogen.index]))
        if carbon.residue is not nitrogen.residue and apart < _NEAR_NM:
            raise MolecularSystemError(
                where,
                f"{labels.atom(carbon)} and {labels.atom(nitrogen)} are {apart:.2g} nm apart and not bonded",
                "add a CONECT record for their bond, as of a ring, or move them apart",
            )


def _check_backbone(where: Path | str, structure: Structure, fixer: PDBFixer) -> None:
    """Refuse residues without their backbone, which nothing places."""
    labels = Labels(structure.topology, structure.names)
    known = list(structure.topology.residues())
    for residue, atoms in fixer.missingAtoms.items():
        lacking = [atom.name for atom in atoms if atom.name in ("N", "CA", "C")]
        if lacking and residue.name not in ("ACE", "NME"):
            raise MolecularSystemError(
                where,
                f"{labels.residue(known[residue.index])} lacks {listed(lacking)} of its backbone, as where a "
                "file was cut off",
                "give the whole residue, or leave it out",
            )


def _fixer(structure: Structure) -> PDBFixer:
    """PDBFixer on what was read: gaps of the chain are left as they are, and what is bonded on is no end."""
    text = io.StringIO()
    app.PDBFile.writeFile(structure.topology, 10.0 * structure.positions, text, keepIds=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # told by the reader of structures
        fixer = PDBFixer(pdbfile=io.StringIO(text.getvalue()))
    fixer.missingResidues = {}
    fixer.findMissingAtoms()
    joined = {
        carbon.residue.index
        for bond in structure.topology.bonds()
        for carbon, other in (bond, bond[::-1])
        if carbon.name == "C" and other.name == "N" and carbon.residue is not other.residue
    }
    fixer.missingTerminals = {r: t for r, t in fixer.missingTerminals.items() if r.index not in joined}
    return fixer


def _check_bonds(where: Path | str, structure: Structure, topology: app.Topology) -> None:
    """Refuse where a bond between standard residues would be lost, as that which closes a ring of them."""
    kept = {frozenset((a.index, b.index)) for a, b in topology.bonds()}
    labels = Labels(structure.topology, structure.names)
    lost = [
        labels.bond(a, b) for a, b in structure.topology.bonds() if frozenset((a.index, b.index)) not in kept
    ]
    if lost:
        raise MolecularSystemError(
            where,
            f"lacks atoms, and its bond {lost[0]} would be lost in completing it",
            "complete it by another program that keeps its CONECT records",
        )


def _without_heavy_atoms(fixer: PDBFixer, labels: Labels) -> list[str]:
    """A line for the heavy atoms that residues lack, and one for the ends of chains."""
    lines = []
    for what, missing in (("heavy atoms", fixer.missingAtoms), ("ends of chains", fixer.missingTerminals)):
        each = [
            f"{', '.join(str(getattr(atom, 'name', atom)) for atom in atoms)} of {labels.residue(residue)}"
            for residue, atoms in missing.items()
        ]
        lines += [f"{what} put in: {listed(each, 8)}"] if each else []
    return lines


def _lacks_hydrogens(topology: app.Topology) -> bool:
    """Whether a residue has fewer hydrogens than it has in every form and place of a chain."""
    app.Modeller._loadStandardHydrogenDefinitions()
    known = app.Modeller._residueHydrogens
    return any(
        residue.name in known
        and sum(atom.element is app.element.hydrogen for atom in residue.atoms())
        < sum(
            hydrogen.variants is None and hydrogen.terminal is None
            for hydrogen in known[residue.name].hydrogens
        )
        for residue in topology.residues()
    )


def _hydrogens(structure: Structure, topology: app.Topology, ph: float) -> str:
    """How many hydrogens were put in, and the form of each residue that has several."""

    def count(atoms: app.Topology) -> int:
        return sum(atom.element is app.element.hydrogen for atom in atoms.atoms())

    labels = Labels(topology)
    chosen = [f"{labels.residue(r)} is {form}" for r in topology.residues() if (form := _form(r))]
    line = f"{count(topology) - count(structure.topology)} hydrogens put in at pH {ph:g}"
    return f"{line}; {listed(chosen, 12)}" if chosen else line


def _form(residue: app.topology.Residue) -> str:
    names = {atom.name for atom in residue.atoms()}
    return next((form for needed, form in _FORMS.get(residue.name, []) if needed <= names), "")


@contextmanager
def _the_same_random_numbers() -> Iterator[None]:
    """OpenMM places hydrogens by Python's random numbers before it relaxes them."""
    before = random.getstate()
    random.seed(1)
    try:
        yield
    finally:
        random.setstate(before)
