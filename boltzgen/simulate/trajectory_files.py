"""Frames of one trajectory file, in any format that MDTraj reads, in the order of the system's atoms."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import mdtraj
import numpy as np
from mdtraj.formats.registry import FormatRegistry
from numpy.typing import NDArray

from boltzgen.errors import DataError, said_by
from boltzgen.system.builders.file_kinds import EMPTY, kind_of
from boltzgen.system.molecular_system import MolecularSystem

Positions = NDArray[np.float32]

BINARY = (".dcd", ".xtc", ".trr", ".nc", ".h5")
"""Formats that are told by their first bytes."""
ALIKE = {".ncdf": ".nc", ".netcdf": ".nc", ".ncrst": ".nc", ".hdf5": ".h5", ".lh5": ".h5"}
MOST_AGREE = 0.7
"""Share of names in common from which the others are expected to be spelled alike."""
OWN_ATOMS = (".pdb", ".gro", ".h5", ".hdf5", ".lh5", ".cif", ".mmcif", ".pdbx")
"""Formats that name their atoms, and are read with these names."""


def read_frames(path: Path, system: MolecularSystem) -> tuple[Positions, list[str]]:
    """Positions [nm] ``(n, n_atoms, 3)`` of a file, and what was mended on the way.

    Frames after the end of a file that was cut off are left out, and atoms that the file names are brought
    into the order of the system. Raises DataError for what is no trajectory of these atoms.
    """
    _check_kind(path)
    topology = mdtraj.Topology.from_openmm(system.topology)
    own_atoms = path.suffix.lower() in OWN_ATOMS
    remarks: list[str] = []
    with _silence():
        try:
            loaded = mdtraj.load(str(path)) if own_atoms else mdtraj.load(str(path), top=topology)
        except Exception as error:  # MDTraj raises whatever its parsers come upon
            _check_number(_number_of_atoms(path), system, path)
            loaded = None if own_atoms else _whole_frames(path, topology)
            if loaded is None:
                raise DataError(
                    path,
                    f"is cut off, damaged or no trajectory of {system.n_atoms} atoms ({said_by(error)})",
                    "copy or convert it again; a text file may be ended after its last whole frame",
                ) from error
            remarks.append(_cut_off(path, len(loaded)))
    _check_number(loaded.n_atoms, system, path)
    _check_box(loaded, system, path)
    x = np.asarray(loaded.xyz, dtype=np.float32)
    if own_atoms:
        order, remark = order_of_atoms(loaded.topology, system, path)
        x, remarks = x[:, order], [*remarks, *filter(None, [remark])]
    whole = x.any(axis=(1, 2))
    promised = _promised_frames(path)
    if not remarks and (not whole.all() or promised > len(x)):
        remarks.append(_cut_off(path, int(whole.sum())))
    return x[whole], remarks


def _cut_off(path: Path, n: int) -> str:
    return f"warning: {path}: is cut off after {n} whole frames; these are used"


def _check_kind(path: Path) -> None:
    """DataError unless the file is there and is what it is called."""
    suffix = path.suffix.lower()
    if not path.exists():
        raise DataError("data.trajectory", f"no file {path}", "paths are relative to the workflow file")
    if path.is_dir():
        if suffix not in (".dtr", ".stk"):  # trajectories of Desmond are directories
            raise DataError(path, "is a directory", "name the files in it")
        return
    found = kind_of(path)
    if found is EMPTY or found.packed:
        raise DataError(path, f"is {found.name}", found.remedy)
    ours = ALIKE.get(suffix, suffix)
    if found.suffix not in ("", ours) and not (found.suffix == ".h5" and ours == ".nc"):
        raise DataError(path, f"is {found.name}", f"rename it to {path.stem}{found.suffix}")
    if suffix not in {name for name in FormatRegistry.loaders if name.count(".") == 1}:
        what = f"MDTraj reads no {suffix or 'files without a suffix'}"
        raise DataError(path, what, "convert it to .dcd, .xtc, .trr, .nc, .h5 or .pdb")
    if not found.suffix and ours in BINARY:
        what = f"is no {suffix} file, or damaged at its start"
        raise DataError(path, what, "copy or convert it again")


def _check_number(n_atoms: int, system: MolecularSystem, path: Path) -> None:
    if n_atoms in (0, system.n_atoms):
        return
    heavy = sum(atom.element is None or atom.element.symbol != "H" for atom in system.topology.atoms())
    if n_atoms > system.n_atoms:
        guess = "strip solvent and ions first"
    elif n_atoms == heavy:
        guess = "these are its heavy atoms; save all atoms"
    else:
        guess = "save all atoms of the molecule"
    raise DataError(path, f"has {n_atoms} atoms, {system.name} has {system.n_atoms}", guess)


def _check_box(loaded: mdtraj.Trajectory, system: MolecularSystem, path: Path) -> None:
    if loaded.unitcell_lengths is not None:
        raise DataError(
            path,
            f"has a periodic box, and {system.name} has none",
            "if the dynamics was not periodic, save it anew without it (MDTraj: t.unitcell_vectors = None)",
        )


def order_of_atoms(
    theirs: mdtraj.Topology, system: MolecularSystem, path: Path
) -> tuple[NDArray[np.int64], str]:
    """Rows of a file's atoms in the order of the system, and what is said of it.

    Atoms that have the system's names, or those of the structure it was built from, residue by residue, are
    brought into its order. Elements that disagree are an error, unless names agree: readers guess elements
    of files that do not give them. So are names that, where nearly all agree, are those of other atoms.
    """
    topology = mdtraj.Topology.from_openmm(system.topology)
    residues = [atom.residue.index for atom in topology.atoms]
    given = [(atom.residue.index, atom.name.upper()) for atom in theirs.atoms]
    names = [[atom.name for atom in topology.atoms], [name for _, name in system.names_in_file]]
    ours = [[*zip(residues, map(str.upper, kind), strict=True)] for kind in names if kind]
    same = np.arange(system.n_atoms)
    for known in ours:
        if known != given and sorted(known) == sorted(given) and len(set(known)) == len(same):
            order = np.array([given.index(name) for name in known])
            moved = int((order != same).sum())
            line = f"warning: {path}: {moved} atoms are in another order; brought into that of {system.name}"
            return order, line
    agree = np.array([any(known[k] == given[k] for known in ours) for k in same])
    labels, guessed = system.labels, 0
    for k, (atom, other) in enumerate(zip(topology.atoms, theirs.atoms, strict=True)):
        symbols = {a.element.symbol for a in (atom, other) if a.element is not None} - {"VS"}
        elsewhere = any(given[k] in known for known in ours) and agree.mean() > MOST_AGREE
        if agree[k]:
            guessed += len(symbols) > 1
        elif len(symbols) > 1 or elsewhere:
            mine = labels.atom(list(system.topology.atoms())[k])
            raise DataError(
                path,
                f"atom {k}, counted from 0, is {other.name} of {other.residue}, and {mine} in {system.name}",
                f"bring the atoms into the order of {system.name}",
            )
    line = (
        f"warning: {path}: {guessed} atoms would be read as other elements (columns are shifted?); those of "
    )
    return same, line + f"{system.name} are taken, as names agree" if guessed else ""


def _number_of_atoms(path: Path) -> int:
    """Atoms of the first frame, 0 where that cannot be read."""
    with suppress(Exception), mdtraj.open(str(path)) as file:
        read = file.read(n_frames=1)
        return int((read[0] if isinstance(read, tuple) else read).shape[1])
    return 0


def _whole_frames(path: Path, topology: mdtraj.Topology) -> mdtraj.Trajectory | None:
    """Frames before the place where a file cannot be read any more; None where there are none."""
    frames: list[mdtraj.Trajectory] = []
    with suppress(Exception), mdtraj.open(str(path)) as file:
        while len(frame := file.read_as_traj(topology, n_frames=1)):
            frames.append(frame)
    return mdtraj.join(frames, check_topology=False) if frames else None


def _promised_frames(path: Path) -> int:
    """Frames that the header of a DCD file speaks of; 0 for other formats and where it does not say."""
    if path.suffix.lower() != ".dcd":
        return 0
    with path.open("rb") as file:
        header = file.read(12)
    return int.from_bytes(header[8:12], "little" if header[0] else "big", signed=True)


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing on the terminal from libraries in C that print where they should return."""
    try:
        kept = [os.dup(number) for number in (1, 2)]
    except OSError:  # there is no terminal
        yield
        return
    with open(os.devnull, "w") as nowhere:
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
    try:
        yield
    finally:
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)
