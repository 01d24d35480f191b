"""Why a force field does not know a structure, from its residues and the templates of the force field."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from openmm import app

from boltzgen.system.builders.structures import Structure
from boltzgen.system.labels import Labels, listed, symbol_of

_TOO_CLOSE_NM = 0.22
"""Atoms of two residues nearer than this are bonded, hydrogens aside."""
_ALIKE = 0.5
"""Share of the atoms that a residue has in common with a template that it was meant to be."""
_OF_RESIDUE = re.compile(r"residue (\d+) \(")
_HYDROGENS = (
    "add them, as by `boltzgen new NAME FILE` or OpenMM's Modeller.addHydrogens(); atoms are then "
    "renumbered, so that indices in collective_variables change, and selections do not"
)
_CONECT = "add CONECT records of its atoms' serial numbers (struct_conn or chem_comp_bond in mmCIF)"


@dataclass(frozen=True)
class Fault:
    """What is wrong with a structure, the most telling fault of all its residues; ``rank`` orders them."""

    rank: int
    what: str
    remedy: str


def telling_fault(structure: Structure, field: app.ForceField, called: str, said: str) -> Fault | None:
    """What keeps residues from fitting the templates of a force field; None where that is not the matter.

    called
        The force field, for messages.
    said
        What OpenMM said about the first residue that it came to.
    """
    named = _OF_RESIDUE.search(said)
    if "emplate" not in said or named is None:
        return None
    residues = list(structure.topology.residues())
    first = residues[int(named.group(1))]
    faults = _Faults(structure, field, called)
    if faults.are_heavy_atoms_alone(residues):
        return faults.without_hydrogens()
    try:
        unmatched = field.getUnmatchedResidues(structure.topology)
    except Exception:  # of several templates that fit
        unmatched = [first]
    if field._patches:  # what these mend, such as ends of chains, is not known here
        return faults.beside_patches(first, unmatched)
    found_all = [fault for residue in unmatched if (fault := faults.of(residue))]
    best = min(found_all, key=lambda fault: fault.rank, default=None)
    if best is not None and best.rank == _Faults.HYDROGENS:
        return faults.hydrogens(unmatched)
    return best


class _Faults:
    """The faults of residues, in the order in which one explains the next."""

    UNKNOWN, HYDROGENS, ELEMENTS, ATOMS, NO_BONDS, NAMES, OPEN, OTHER = range(8)

    def __init__(self, structure: Structure, field: app.ForceField, called: str) -> None:
        self.structure, self.templates, self.called = structure, field._templates, called
        self.labels = Labels(structure.topology, structure.names)
        self.bonds = list(structure.topology.bonds())
        self.bonded = Counter(atom.index for bond in self.bonds for atom in bond)

    def of(self, residue: Any) -> Fault | None:
        template = self._nearest(residue)
        label = self.labels.residue(residue)
        if template is None or not self.is_known(residue):
            return self._unknown(residue, label)
        lacks, extra = _differences(residue, template)
        if lacks and not extra and set(lacks) == {"H"}:
            return self.hydrogens([residue])
        if lacks or extra:
            return self._other_atoms(residue, template, label)
        if alone := self._alone(residue):
            if len(alone) == len(list(residue.atoms())):
                return Fault(
                    self.NO_BONDS,
                    f"the file has no bonds of {label}, and they are not taken from the force field",
                    _CONECT,
                )
            return self._misnamed(residue, alone, template, label)
        return self._open(residue, template, label)

    def are_heavy_atoms_alone(self, residues: Iterable[Any]) -> bool:
        """Whether there are no hydrogens where the force field has some."""
        atoms = self.structure.topology.atoms()
        return not any(symbol_of(atom.element) == "H" for atom in atoms) and any(
            _differences(residue, self._nearest(residue))[0]["H"] for residue in residues if self.templates
        )

    def without_hydrogens(self) -> Fault:
        """A structure of heavy atoms alone."""
        names = listed(self.labels.residue(residue) for residue in self.structure.topology.residues())
        return Fault(self.HYDROGENS, f"there are no hydrogens in {names}", _HYDROGENS)

    def hydrogens(self, residues: Iterable[Any]) -> Fault:
        """Residues that fit but for their hydrogens."""
        names, missing, number = list[str](), list[str](), 0
        for residue in residues:
            template = self._nearest(residue)
            lacks, extra = _differences(residue, template)
            if set(lacks) == {"H"} and not extra:
                names.append(self.labels.residue(residue))
                number += lacks["H"]
                ours = {atom.name for atom in residue.atoms()}
                missing += [
                    a.name for a in template.atoms if a.name not in ours and symbol_of(a.element) == "H"
                ]
        told = f" ({listed(missing, 6)})" if len(missing) == number else ""
        return Fault(self.HYDROGENS, f"lacks {_hydrogens(number)} of {listed(names)}{told}", _HYDROGENS)

    def beside_patches(self, first: Any, unmatched: Iterable[Any]) -> Fault:
        """What can be said where a force field mends residues by patches: the first one, or one unknown."""
        known = [residue for residue in self.structure.topology.residues() if self.is_known(residue)]
        for residue in unmatched:
            if self._alone(residue) and residue not in known:
                return self._unknown(residue, self.labels.residue(residue))
        fault = self.of(first) if first in known else None
        if fault is not None and fault.rank in (self.HYDROGENS, self.ELEMENTS, self.NO_BONDS, self.NAMES):
            return fault
        return Fault(
            self.OTHER,
            f"{self.labels.residue(first)} or an end of its chain fits nothing in {self.called}",
            "complete both ends of the chain and every residue as the force field has them",
        )

    def is_known(self, residue: Any) -> bool:
        """Whether a template has the name of a residue, or it is known by its bonds and most of its atoms."""
        template = self._nearest(residue)
        if template is None:
            return False
        if _related(residue.name, template.name):
            return True
        return not self._alone(residue) and _overlap(residue, template) > _ALIKE

    def _alone(self, residue: Any) -> list[Any]:
        """Atoms of a residue of several that have no bond."""
        atoms = list(residue.atoms())
        return [atom for atom in atoms if not self.bonded[atom.index]] if len(atoms) > 1 else []

    def _unknown(self, residue: Any, label: str) -> Fault:
        if not self.templates:
            return Fault(
                self.UNKNOWN,
                f"{self.called} describes no residues",
                "add a force field that does, such as amber14-all.xml",
            )
        elements = {symbol_of(a.element) for t in self.templates.values() for a in t.atoms}
        foreign = {symbol_of(atom.element) for atom in residue.atoms()} - elements
        why = f", which describes no {listed(sorted(foreign))}" if foreign else ""
        alike = [
            template.name
            for template in self.templates.values()
            if not any(_differences(residue, template)) and _overlap(residue, template) > _ALIKE
        ]
        meant = f"call it {alike[0]} if that is meant, or " if alike else ""
        return Fault(
            self.UNKNOWN,
            f"the residue {label} is unknown to {self.called}{why}",
            f"{meant}give a force-field file that describes it",
        )

    def _other_atoms(self, residue: Any, template: Any, label: str) -> Fault:
        """Atoms too many or too few, or of other elements than the template's."""
        lacks, extra = _differences(residue, template)
        theirs = {atom.name: symbol_of(atom.element) for atom in template.atoms}
        other = [
            (atom, theirs[atom.name])
            for atom in residue.atoms()
            if theirs.get(atom.name, symbol_of(atom.element)) != symbol_of(atom.element)
        ]
        if other:
            told = [
                f"{self.labels.name(a)} is {symbol_of(a.element) or 'no element'}, not {s}" for a, s in other
            ]
            return Fault(
                self.ELEMENTS,
                f"{label} has atoms of another element than in {self.called}: {listed(told)}",
                "mend the columns of names and elements in the file",
            )
        ours = {atom.name for atom in residue.atoms()}
        missing = _names_or_number([n for n, s in theirs.items() if n not in ours and s in lacks], lacks)
        beyond = [
            self.labels.name(a)
            for a in residue.atoms()
            if a.name not in theirs and symbol_of(a.element) in extra
        ]
        told = [f"lacks {missing}"] if lacks else []
        told += [f"has {_names_or_number(beyond, extra)} too many"] if extra else []
        return Fault(
            self.ATOMS,
            f"{label} {' and '.join(told)} beside the {template.name} of {self.called}",
            "mend the file, or give a force-field file that describes this form of the residue",
        )

    def _misnamed(self, residue: Any, alone: list[Any], template: Any, label: str) -> Fault:
        ours = {atom.name for atom in residue.atoms()}
        free = [atom.name for atom in template.atoms if atom.name not in ours]
        meant = f"; {template.name} has {listed(free)} instead" if free else ""
        return Fault(
            self.NAMES,
            f"no bond holds {listed(self.labels.name(a) for a in alone)} of {label}{meant}",
            "name atoms as in the force field, or add CONECT records for their bonds",
        )

    def _open(self, residue: Any, template: Any, label: str) -> Fault | None:
        """Bonds to other residues that the force field expects and that are missing, or that are too many."""
        ours = {atom.name: atom for atom in residue.atoms()}
        outward = {a.index for bond in self.bonds if bond[0].residue is not bond[1].residue for a in bond}
        wanted = [template.atoms[k].name for k in template.externalBonds]
        missing = [ours[name] for name in wanted if name in ours and ours[name].index not in outward]
        for atom in missing:
            if (near := self._neighbour(atom)) is not None:
                return Fault(
                    self.OPEN,
                    f"{self.labels.atom(atom)} and {self.labels.atom(near[0])} are {near[1]:.3f} nm apart "
                    "and not bonded in the file, as if a ring or a crosslink were open",
                    f"add {_record(atom, near[0])} for this bond, or move them apart",
                )
        if missing:
            atoms = listed(self.labels.name(atom) for atom in missing)
            return Fault(
                self.OPEN,
                f"{label} is an end of the chain that {self.called} does not know: nothing more is bonded to "
                f"its {atoms}",
                "cap it (ACE before the first residue, NME after the last), or complete a charged end "
                "(H1, H2, H3 on N; OXT on C)",
            )
        beyond = [a for a in residue.atoms() if a.index in outward and a.name not in wanted]
        if beyond:
            return Fault(
                self.OPEN,
                f"{listed(self.labels.name(a) for a in beyond)} of {label} is bonded to another residue, "
                f"which {self.called} does not expect of {template.name}",
                "mend the bonds in the file, or give a force-field file that describes this residue",
            )
        return Fault(
            self.OTHER,
            f"the atoms of {label} are those of {template.name} in {self.called}, bonded otherwise",
            "mend the names of atoms and the bonds in the file",
        )

    def _neighbour(self, atom: Any) -> tuple[Any, float] | None:
        """The nearest heavy atom of another residue that is near enough to be bonded and is not."""
        x = self.structure.positions
        distance = np.linalg.norm(x - x[atom.index], axis=1)
        joined = {b.index for bond in self.bonds if atom in bond for b in bond}
        near = [
            (other, float(distance[other.index]))
            for other in self.structure.topology.atoms()
            if other.residue is not atom.residue
            and other.index not in joined
            and symbol_of(other.element) != "H"
            and distance[other.index] < _TOO_CLOSE_NM
        ]
        return min(near, key=lambda pair: pair[1], default=None)

    def _nearest(self, residue: Any) -> Any:
        """The template that a residue was most likely meant to be."""

        def score(template: Any) -> tuple[object, ...]:
            lacks, extra = _differences(residue, template)
            close = difflib.SequenceMatcher(None, residue.name, template.name).ratio()
            return (
                not _related(residue.name, template.name),
                sum(lacks.values()) + 2 * sum(extra.values()),
                -_overlap(residue, template),
                -close,
            )

        return min(self.templates.values(), key=score, default=None)


def _related(name: str, template: str) -> bool:
    """Whether a template is the residue itself or one of its ends, such as NALA."""
    return template == name or (len(name) > 1 and len(template) == len(name) + 1 and template.endswith(name))


def _overlap(residue: Any, template: Any) -> float:
    """Share of names in common."""
    ours, theirs = {a.name for a in residue.atoms()}, {a.name for a in template.atoms}
    return len(ours & theirs) / max(1, len(ours))


def _differences(residue: Any, template: Any) -> tuple[Counter[str], Counter[str]]:
    """Elements that a residue has too few and too many of beside a template."""
    ours = Counter(symbol_of(atom.element) for atom in residue.atoms())
    theirs = Counter(symbol_of(atom.element) for atom in template.atoms)
    return theirs - ours, ours - theirs


def _names_or_number(names: list[str], elements: Counter[str]) -> str:
    """Atoms by name where the names agree with the numbers of elements, else by those."""
    if len(names) == sum(elements.values()):
        return listed(names, 6)
    return listed(f"{number} {symbol}" for symbol, number in elements.items())


def _hydrogens(number: int) -> str:
    return "a hydrogen" if number == 1 else f"{number} hydrogens"


def _record(a: Any, b: Any) -> str:
    """The CONECT record of a bond, where atoms have the serial numbers of a PDB file."""
    numbers = [str(atom.id).strip() for atom in (a, b)]
    if not all(number.isdigit() and len(number) < 6 for number in numbers):
        return "a CONECT record"
    return f"the line `CONECT{numbers[0]:>5}{numbers[1]:>5}`"
