"""Atoms chosen in MDTraj's selection language, by the names of the topology or of the file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import mdtraj
import numpy as np

from boltzgen.errors import ConfigError
from boltzgen.system.labels import both_names

if TYPE_CHECKING:
    from boltzgen.system.labels import Names
    from boltzgen.system.molecular_system import MolecularSystem

_PLAIN = re.compile(r"[A-Za-z_]\w*|[\d.]+")
"""Words that MDTraj reads without quotes."""
_NUMBERED = re.compile(r"\d+[A-Za-z][\w'*+-]*")
"""Names such as 1HB, which it would take for a number and a name."""
_BETWEEN = re.compile(r"""("[^"]*"|(?<!\w)'[^']*'|[\s()]+)""")
"""What stands between words that have no quotes: quoted ones, blanks and brackets."""
_MOST_LISTED = 30


def selected_atoms(system: MolecularSystem, key: str, selection: str) -> np.ndarray:
    """Indices of the atoms that ``selection`` selects, sorted.

    Atoms and residues may be called by the names of the topology or by those of the file it was read from.
    Names that MDTraj reads only in quotes, as 1HB and O5', need none.

    ``key`` is the dotted key of the setting it stands in. Raises ConfigError for what MDTraj does not
    understand, for a selection of nothing, and where a name is that of other atoms in the file than in the
    topology and both select some.
    """
    topology = mdtraj.Topology.from_openmm(system.topology)
    own: Names = tuple((atom.residue.name, atom.name) for atom in topology.atoms)
    file = system.names_in_file or own
    quoted = _quoted(selection, {name for pair in (*own, *file) for name in pair})
    words = set(re.findall(r"[\w'*+-]+", selection)) | {word.strip("'\"") for word in selection.split()}
    if "=~" in selection or not all(_means_one_thing(word, own, file) for word in words):
        atoms = _agreed(
            _selected(_renamed(topology, own), key, selection, quoted),
            _selected(_renamed(topology, file), key, selection, quoted),
            key,
            selection,
        )
    else:
        spoken = tuple(
            (theirs[0] if theirs[0] in words else ours[0], theirs[1] if theirs[1] in words else ours[1])
            for ours, theirs in zip(own, file, strict=True)
        )
        atoms = _selected(_renamed(topology, spoken), key, selection, quoted)
    if not len(atoms):
        raise ConfigError(key, f"{selection!r} selects no atom", f"there are {_there(system, selection)}")
    return atoms


def _agreed(own: np.ndarray, file: np.ndarray, key: str, selection: str) -> np.ndarray:
    """What a selection selects by one kind of names, where it selects nothing else by the other."""
    if len(own) and len(file) and not np.array_equal(own, file):
        raise ConfigError(
            key,
            f"{selection!r} selects the atoms {_some(file)} by the names of the file and {_some(own)} by "
            "those that OpenMM gives them",
            "give their indices",
        )
    return own if len(own) else file


def _means_one_thing(word: str, own: Names, file: Names) -> bool:
    """Whether no two sets of atoms or residues have this name, one in the topology and one in the file."""
    for place in (0, 1):
        ours = {k for k, names in enumerate(own) if names[place] == word}
        theirs = {k for k, names in enumerate(file) if names[place] == word}
        if ours and theirs and ours != theirs:
            return False
    return True


def _selected(topology: mdtraj.Topology, key: str, selection: str, quoted: str) -> np.ndarray:
    try:
        atoms: np.ndarray = topology.select(quoted)
    except Exception as error:  # MDTraj raises whatever its parser comes upon
        place = re.search(r"at char (\d+)", str(error))
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigError(
            key,
            f"MDTraj does not understand {selection!r} "
            f"({f'from character {int(place.group(1)) + 1} on' if place else reason})",
            "write it as in `name CA and resname ALA`",
        ) from error
    return atoms


def _renamed(topology: mdtraj.Topology, names: Names) -> mdtraj.Topology:
    renamed = topology.copy()
    for atom, (residue, name) in zip(renamed.atoms, names, strict=True):
        atom.name, atom.residue.name = name, residue
    return renamed


def _quoted(selection: str, names: set[str]) -> str:
    """A selection whose names are in quotes where they begin with a digit or hold a sign."""
    parts = _BETWEEN.split(selection)
    for k in range(0, len(parts), 2):  # the words; what stands between them is at odd places
        word = parts[k]
        if not _PLAIN.fullmatch(word) and (word in names or _NUMBERED.fullmatch(word)):
            parts[k] = f"'{word}'" if "'" not in word else f'"{word}"'
    return "".join(parts)


def _some(atoms: np.ndarray) -> str:
    return f"[{', '.join(map(str, atoms[:8]))}{', ...' if len(atoms) > 8 else ''}]"


def _there(system: MolecularSystem, selection: str) -> str:
    """The atoms of the residues that a selection names, or the first ones, with both names if they differ."""
    labels, words = system.labels, set(re.findall(r"[\w'*+-]+", selection))
    residues = list(system.topology.residues())
    meant = [r for r in residues if words & {r.name, labels.residue(r).split()[0]}] or residues
    told, left = [], _MOST_LISTED
    for residue in meant:
        atoms = list(residue.atoms())[:left]
        left -= len(atoms)
        if atoms:
            told.append(f"{', '.join(both_names(labels, a) for a in atoms)} of {labels.residue(residue)}")
    more = sum(len(list(r.atoms())) for r in meant) > _MOST_LISTED
    return "; ".join(told) + ("; and more" if more else "")
