"""PDB files that are read again with the bonds that were written."""

from __future__ import annotations

import io
import itertools
import logging
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import mdtraj
import numpy as np
from mdtraj.core.topology import Atom, Chain, Residue
from openmm import app

_LOG = logging.getLogger(__name__)
_PER_RECORD = 4
"""Bonds that one CONECT record has room for."""


def write_pdb(frames: mdtraj.Trajectory, path: Path) -> None:
    """Write frames, a model each, without their unit cell, for fewer than 100 000 atoms.

    Every bond becomes a CONECT record, because readers make only those that they know from the names of
    standard residues; MDTraj's own writer loses what closes a ring of amino acids. A chain ends where a
    reader would join two neighbours that are not bonded. Names of residues and atoms are cut to four
    characters, and those of atoms numbered where a residue has one twice: OpenMM reads only the first.
    Logs a warning of the bonds that OpenMM makes or leaves out all the same.
    """
    topology = frames.topology
    angstrom = 10.0 * frames.xyz.astype(np.float64)
    own = {_pair(a, b) for a, b in topology.bonds}
    template, serials = _template(topology, ends=frozenset())
    ends = {
        max(pair) for pair in _bonds_read(_filled(template, angstrom[0])) - own if _adjoin(topology, *pair)
    }
    if ends:
        template, serials = _template(topology, frozenset(topology.atom(k).residue.index for k in ends))
    records = "".join(_conect(own, serials))
    if wrong := _bonds_read(_filled(template, angstrom[0]) + records) ^ own:
        listed = ", ".join("-".join(str(topology.atom(k)) for k in pair) for pair in sorted(wrong))
        _LOG.warning("%s: OpenMM will read bonds that are not so in the molecule: %s", path.name, listed)
    with path.open("w", encoding="utf-8") as file:
        for number, x in enumerate(angstrom, start=1):
            model = _filled(template, x)
            file.write(f"MODEL     {number % 10_000:4d}\n{model}ENDMDL\n" if len(angstrom) > 1 else model)
        file.write(f"{records}END\n")


def _template(topology: mdtraj.Topology, ends: frozenset[int]) -> tuple[str, list[int]]:
    """Atom and TER records of a model with places for its coordinates, and the atoms' serial numbers.

    A TER stands after every chain and before the residues whose indices are in ``ends``.
    """
    lines: list[str] = []
    serials: list[int] = []
    for chain in topology.chains:
        name, residues = _chain_name(chain), list(chain.residues)
        for residue, number in zip(residues, _numbers(residues), strict=True):
            if lines and (residue.index in ends or residue is residues[0]):
                lines.append(f"TER   {len(lines) + 1:5d}\n")
            tag = "ATOM  " if residue.is_protein or residue.is_nucleic else "HETATM"
            of = f"{residue.name.strip()[:4] or 'UNL':>3}".ljust(4) + f"{name}{number:4d}"
            for atom, label in zip(residue.atoms, _names(residue), strict=True):
                serials.append(len(lines) + 1)
                symbol, charge = atom.element.symbol if atom.element else "", _charge(atom)
                padded = label if len(label) == 4 or len(symbol) > 1 else f" {label}"
                head = f"{tag}{len(lines) + 1:5d} {padded:<4} {of}    ".replace("%", "%%")
                lines.append(f"{head}%.8s%.8s%.8s  1.00  0.00          {symbol[-2:]:>2}{charge}\n")
    lines.append(f"TER   {len(lines) + 1:5d}\n")
    return "".join(lines), serials


def _filled(template: str, x: np.ndarray) -> str:
    """A model at positions [Angstrom] ``(n_atoms, 3)``; far out, numbers lose digits behind the point."""
    return template % tuple([f"{value:8.3f}" for value in x.ravel().tolist()])


def _conect(bonds: Iterable[tuple[int, int]], serials: Sequence[int]) -> Iterable[str]:
    """Records of the bonds of every atom that has some, each bond from both of its ends."""
    partners = defaultdict(list)
    for i, j in sorted(bonds):
        partners[serials[i]].append(serials[j])
        partners[serials[j]].append(serials[i])
    for serial, others in sorted(partners.items()):
        for k in range(0, len(others), _PER_RECORD):
            yield "CONECT" + "".join(f"{s:5d}" for s in (serial, *others[k : k + _PER_RECORD])) + "\n"


def _bonds_read(text: str) -> set[tuple[int, int]]:
    """Pairs of atoms that OpenMM takes for bonded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = app.PDBFile(io.StringIO(text))
    return {_pair(a, b) for a, b in read.topology.bonds()}


def _pair(a: Atom | app.topology.Atom, b: Atom | app.topology.Atom) -> tuple[int, int]:
    return min(a.index, b.index), max(a.index, b.index)


def _adjoin(topology: mdtraj.Topology, i: int, j: int) -> bool:
    """Whether two atoms belong to residues that follow one another."""
    return abs(topology.atom(i).residue.index - topology.atom(j).residue.index) == 1


def _chain_name(chain: Chain) -> str:
    """The first letter of its name, or one that counts."""
    name = (chain.chain_id or "").strip()[:1]
    return name or chr(ord("A") + chain.index % 26)


def _numbers(residues: Sequence[Residue]) -> list[int]:
    """Numbers of a chain's residues, counted anew where they do not tell neighbours apart."""
    numbers = [residue.resSeq for residue in residues]
    apart = all(a != b for a, b in itertools.pairwise(numbers))
    if apart and all(-1000 < number < 10_000 for number in numbers):
        return numbers
    return [(k + 1) % 10_000 for k in range(len(residues))]


def _names(residue: Residue) -> list[str]:
    """Names of a residue's atoms in four characters, no two of them the same."""
    wanted = [atom.name.strip()[:4] or "X" for atom in residue.atoms]
    names: list[str] = []
    for name in wanted:
        label, count = name, 1
        while label in names or (count > 1 and label in wanted):
            count += 1
            label = f"{name[: 4 - len(str(count))]}{count}"
        names.append(label)
    return names


def _charge(atom: Atom) -> str:
    """Formal charge as PDB files have it: ``1-``."""
    charge = atom.formal_charge or 0
    return f"{abs(charge)}{'+' if charge > 0 else '-'}" if 0 < abs(charge) < 10 else "  "
