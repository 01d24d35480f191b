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
from boltzgen.system import MolecularSystem

Positions = NDArray[np.float32]

SIGNATURES = {
    b"\x1f\x8b": "a gzip archive",
    b"PK\x03\x04": "a zip archive",
    b"\x89HDF": ".h5",
    b"CDF": ".nc",
    b"\x00\x00\x07\xcb": ".xtc",
    b"\x00\x00\x07\xc9": ".trr",
    b"\x54\x00\x00\x00CORD": ".dcd",
    b"\x00\x00\x00\x54CORD": ".dcd",
}
"""What a file is, by its first bytes."""
ALIKE = {".ncdf": ".nc", ".netcdf": ".nc", ".ncrst": ".nc", ".hdf5": ".h5", ".lh5": ".h5"}
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
    if not path.exists():
        raise DataError("data.trajectory", f"no file {path}", "paths are relative to the workflow file")
    if path.is_dir():
        raise DataError(path, "is a directory", "name the files in it")
    start = path.read_bytes()[:8] if path.stat().st_size < 8 else path.open("rb").read(8)
    if not start:
        raise DataError(path, "is empty", "copy it again")
    suffix = path.suffix.lower()
    kind = next((kind for signature, kind in SIGNATURES.items() if start.startswith(signature)), "")
    if kind.startswith("a "):
        raise DataError(path, f"is {kind}", "unpack it")
    known = sorted(name for name in FormatRegistry.loaders if name.count(".") == 1)
    if suffix not in known:
        what = f"is a {kind} file" if kind else f"MDTraj reads no {suffix or 'files without a suffix'}"
        remedy = (
            f"rename it to {path.stem}{kind}" if kind else "convert it to .dcd, .xtc, .trr, .nc, .h5 or .pdb"
        )
        raise DataError(path, what, remedy)
    binary = set(SIGNATURES.values())
    ours = ALIKE.get(suffix, suffix)
    if kind != ours and not (kind == ".h5" and ours == ".nc") and (kind or ours in binary):
        what = f"is a {kind} file" if kind else f"is no {suffix} file, or damaged at its start"
        raise DataError(path, what, f"rename it to {path.stem}{kind}" if kind else "copy or convert it again")


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

    Atoms that have the system's names, residue by residue, are brought into its order. Elements that
    disagree are an error, unless names agree: readers guess elements of files that do not give them.
    """
    topology = mdtraj.Topology.from_openmm(system.topology)
    named = [[(a.residue.index, a.name) for a in top.atoms] for top in (topology, theirs)]
    same = np.arange(system.n_atoms)
    if named[0] != named[1] and sorted(named[0]) == sorted(named[1]) and len(set(named[0])) == len(same):
        place = {name: k for k, name in enumerate(named[1])}
        order = np.array([place[name] for name in named[0]])
        moved = int((order != same).sum())
        return (
            order,
            f"warning: {path}: {moved} atoms are in another order; brought into that of {system.name}",
        )
    guessed = 0
    for ours, other in zip(topology.atoms, theirs.atoms, strict=True):
        symbols = {a.element.symbol for a in (ours, other) if a.element is not None} - {"VS"}
        if len(symbols) < 2:
            continue
        if ours.name.upper() != other.name.upper():
            raise DataError(
                path,
                f"atom {ours.index + 1} is {other.name} of {other.residue}, "
                f"and {ours.name} of {ours.residue} in {system.name}",
                f"bring the atoms into the order of {system.name}",
            )
        guessed += 1
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
    kept = [os.dup(number) for number in (1, 2)]
    with open(os.devnull, "w") as nowhere:
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
    try:
        yield
    finally:
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)
