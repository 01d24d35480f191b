"""Peptides by their sequence: the backbone drawn out, everything else put in as in any structure.

Bond lengths and angles: Engh & Huber, Acta Cryst. A 47, 392 (1991).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from openmm import app

from boltzgen.errors import MolecularSystemError
from boltzgen.system.builders.pdb_names import AMINO_ACIDS, FORMS, form_of
from boltzgen.system.builders.preparation import Prepared, completed
from boltzgen.system.builders.structures import Structure
from boltzgen.system.labels import listed

FIRST, LAST = "ACE", "NME"
"""Caps: of the first residue and of the last."""
_FORMS = [name for name, (residue, _) in FORMS.items() if residue != "CYS"]
"""Names that say which form of a residue is meant; a disulfide needs more than a sequence."""
PHI_DEG, PSI_DEG, OMEGA_DEG = -120.0, 130.0, 180.0
"""Torsions of the backbone in degrees, but for phi of proline."""
PHI_PROLINE_DEG = -70.0


@dataclass(frozen=True)
class _Placed:
    """An atom of the backbone: its name, and how it hangs on the three before it (nm and degrees)."""

    name: str
    length: float
    angle: float
    torsion: float


def peptide_of_sequence(sequence: str, ph: float, where: str = "--sequence") -> Prepared:
    """A peptide of L residues such as ``ACE-ALA-ALA-NME``, hydrogens as at a pH; ends without caps charged.

    ``where`` it was given is named in errors. Raises MolecularSystemError, one line, for unknown residues.
    """
    names = _residues(sequence, where)
    made = completed(where, _backbone(names), ph)
    assert made is not None  # there are no hydrogens yet
    drawn = f"{sequence.upper()} drawn out: phi {PHI_DEG:g}, psi {PSI_DEG:g}, every residue L"
    return Prepared(made.pdb, (drawn, made.added[-1]))


def _residues(sequence: str, where: str) -> list[str]:
    """Three-letter names; an error for what is none."""
    names = sequence.upper().split("-")
    inner = names[names[0] == FIRST : len(names) - (names[-1] == LAST)]
    if unknown := [name for name in inner if name not in (*AMINO_ACIDS, *_FORMS)]:
        raise MolecularSystemError(
            where,
            f"{unknown[0] or 'an empty name'} is no residue",
            f"write it as {FIRST}-ALA-GLY-{LAST}, of {listed(AMINO_ACIDS, len(AMINO_ACIDS))}",
        )
    if names in ([FIRST], [LAST]):
        raise MolecularSystemError(where, f"{sequence} is a cap alone", f"write {FIRST}-ALA-{LAST}")
    return names


def _backbone(names: list[str]) -> Structure:
    """N, CA, C and O of residues and the heavy atoms of caps, each from the three atoms before it."""
    topology = app.Topology()
    chain = topology.addChain("A")
    trace = [np.array([0.12, 0.05, 0.0]), np.array([0.1, -0.05, 0.02]), np.zeros(3)]  # before the first atom
    positions = []
    for number, name in enumerate(names, start=1):
        residue = topology.addResidue(form_of(name)[0], chain, str(number))
        for atom in _trace(name):
            place = _from_three(trace[-3:], atom)
            trace.append(place)
            positions.append(place)
            topology.addAtom(atom.name, app.Element.getBySymbol(atom.name[0]), residue)
        if name != LAST:
            oxygen = _Placed("O", 0.1231, 120.8, PSI_DEG + 180.0)  # across from the next nitrogen
            positions.append(_from_three(trace[-3:], oxygen))
            topology.addAtom("O", app.element.oxygen, residue)
    topology.createStandardBonds()
    called = tuple((names[atom.residue.index], atom.name) for atom in topology.atoms())
    return Structure(topology, np.array(positions), called)


def _trace(name: str) -> list[_Placed]:
    """What of a residue leads on to the next one."""
    nitrogen = _Placed("N", 0.1329, 116.2, PSI_DEG)
    if name == FIRST:
        return [_Placed("CH3", 0.15, 110.0, 180.0), _Placed("C", 0.15, 110.0, 180.0)]
    if name == LAST:
        return [nitrogen, _Placed("C", 0.1458, 121.7, OMEGA_DEG)]
    phi = PHI_PROLINE_DEG if name == "PRO" else PHI_DEG
    return [nitrogen, _Placed("CA", 0.1458, 121.7, OMEGA_DEG), _Placed("C", 0.1525, 111.2, phi)]


def _from_three(before: list[NDArray[np.float64]], atom: _Placed) -> NDArray[np.float64]:
    """The place by three others (Parsons et al., J. Comput. Chem. 26, 1063, 2005)."""
    a, b, c = before
    along = (c - b) / np.linalg.norm(c - b)
    normal = np.cross(b - a, along)
    normal /= np.linalg.norm(normal)
    theta, tau = np.radians(180.0 - atom.angle), np.radians(atom.torsion)
    local = np.array([np.cos(theta), np.sin(theta) * np.cos(tau), np.sin(theta) * np.sin(tau)])
    placed: NDArray[np.float64] = c + atom.length * local @ np.array([along, np.cross(normal, along), normal])
    return placed
