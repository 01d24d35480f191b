"""What a structure lacks, put in: heavy atoms of standard residues, ends of chains, and hydrogens at a pH."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit
from pdbfixer import PDBFixer

from boltzgen.errors import MolecularSystemError, said_by
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
    "LYS": [({"HZ1", "HZ2", "HZ3"}, ""), (set(), "without charge")],
}
"""Forms that residues have by pH and surroundings: the first of which all hydrogens are there."""

_CALLED = {
    **dict.fromkeys(("HID", "HSD", "HISD", "HISA"), ("HIS", "HID")),
    **dict.fromkeys(("HIE", "HSE", "HISE", "HISB"), ("HIS", "HIE")),
    **dict.fromkeys(("HIP", "HSP", "HISP", "HISH"), ("HIS", "HIP")),
    **dict.fromkeys(("ASH", "ASPP", "ASPH"), ("ASP", "ASH")),
    **dict.fromkeys(("GLH", "GLUP", "GLUH"), ("GLU", "GLH")),
    **dict.fromkeys(("LYN", "LSN", "LYSN"), ("LYS", "LYN")),
    **dict.fromkeys(("CYX", "CYS2"), ("CYS", "CYX")),
}
"""Standard residue and its form, as OpenMM calls them, of what Amber, CHARMM and GROMACS call residues."""
_AROUND = {
    ("", "CA"): ("N", "C", "CB"),
    ("THR", "CB"): ("CA", "OG1", "CG2"),
    ("ILE", "CB"): ("CA", "CG1", "CG2"),
}
"""Atoms around centres in the order in which they span a positive volume in L residues."""
_UPRIGHT_NM3 = 0.0008
"""A third of that volume, which is near 0.0025 nm^3."""


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
        heavy = _without_heavy_atoms(fixer, Labels(structure.topology, structure.names))
        if not heavy and not _lacks_hydrogens(structure.topology):
            return None
        _check_backbone(where, structure, fixer)
        _check_bonds(where, structure, fixer.topology)
        fixer = _fixer(_with_beta_carbons(structure, fixer))
        with _the_same_random_numbers():
            fixer.addMissingAtoms(seed=1)
            _check_arrangement(where, structure, fixer)
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
    return Prepared(text.getvalue(), (*heavy, _hydrogens(structure, modeller.topology, ph)))


def _variants(structure: Structure) -> list[str | None]:
    """The form of each residue by what the file calls it, in place renamed as standard ones are."""
    first = [next(residue.atoms()).index for residue in structure.topology.residues()]
    variants: list[str | None] = []
    for residue, atom in zip(structure.topology.residues(), first, strict=True):
        called = structure.names[atom][0] if structure.names else residue.name
        residue.name, variant = _CALLED.get(called, (residue.name, None))
        variants.append(variant)
    return variants


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
    """PDBFixer on what was read, gaps of the chain left as they are."""
    text = io.StringIO()
    app.PDBFile.writeFile(structure.topology, 10.0 * structure.positions, text, keepIds=True)
    fixer = PDBFixer(pdbfile=io.StringIO(text.getvalue()))
    fixer.missingResidues = {}
    fixer.findMissingAtoms()
    return fixer


def _with_beta_carbons(structure: Structure, fixer: PDBFixer) -> Structure:
    """Side chains of which there is nothing hung on the backbone as in L residues.

    PDBFixer lays a whole residue over what there is of one, so that the backbone's torsions decide.
    """
    lacking = {r.index for r, atoms in fixer.missingAtoms.items() if any(atom.name == "CB" for atom in atoms)}
    topology, places = app.Topology(), list[NDArray[np.float64]]()
    copies: dict[app.topology.Atom, app.topology.Atom] = {}
    for chain in structure.topology.chains():
        new_chain = topology.addChain(chain.id)
        for residue in chain.residues():
            new = topology.addResidue(residue.name, new_chain, residue.id, residue.insertionCode)
            place = {atom.name: structure.positions[atom.index] for atom in residue.atoms()}
            copies |= {atom: topology.addAtom(atom.name, atom.element, new) for atom in residue.atoms()}
            places += [structure.positions[atom.index] for atom in residue.atoms()]
            if residue.index in lacking and {"N", "CA", "C"} <= place.keys():
                along, out = place["CA"] - place["N"], place["C"] - place["CA"]
                topology.addAtom("CB", app.element.carbon, new)
                places.append(place["CA"] + 0.568 * along - 0.541 * out - 5.827 * np.cross(along, out))
    for one, other in structure.topology.bonds():
        topology.addBond(copies[one], copies[other])
    return Structure(topology, np.array(places))


def _check_arrangement(where: Path | str, structure: Structure, fixer: PDBFixer) -> None:
    """Refuse a centre that came out as the mirror image of its own: minimisation may turn it over."""
    for residue, was in zip(fixer.topology.residues(), structure.topology.residues(), strict=True):
        there, hand = {atom.name for atom in was.atoms()}, 1.0
        place = {
            atom.name: np.array(fixer.positions[atom.index].value_in_unit(unit.nanometer))
            for atom in residue.atoms()
        }
        for centre in ("CA", "CB"):
            around = _AROUND.get((residue.name, centre), _AROUND.get(("", centre), ()))
            if not around or not {centre, *around} <= place.keys():
                continue
            volume = float(np.linalg.det([place[name] - place[centre] for name in around]))
            if not {centre, *around} <= there and volume * hand < _UPRIGHT_NM3:
                raise MolecularSystemError(
                    where,
                    f"cannot be completed: {centre} of {Labels(fixer.topology).residue(residue)} came out as "
                    "its mirror image",
                    "complete it by another program",
                )
            hand = math.copysign(1.0, volume)  # of D residues, everything is mirrored


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
    """Whether a residue that has hydrogens in every form has none here."""
    app.Modeller._loadStandardHydrogenDefinitions()
    known = app.Modeller._residueHydrogens
    return any(
        residue.name in known
        and known[residue.name].hydrogens
        and not any(atom.element is app.element.hydrogen for atom in residue.atoms())
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
