"""What a file is, told by what it holds rather than by what it is called."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

IN_FILES = "give it and the files that belong to it as system.parameters.files"
_TO_PDB = "write the structure as PDB"
_HEAD = 4_000_000
"""Bytes that are looked at: headers may be long."""


@dataclass(frozen=True)
class FileKind:
    """A kind of file, with its article, and how to come from it to a system for now.

    suffix
        That of a trajectory of this format; ``packed`` is what has to be unpacked first.
    """

    name: str
    remedy: str = "give the structure as PDB or mmCIF and the force field as OpenMM XML"
    suffix: str = ""
    packed: bool = False


PDB = FileKind("a PDB file", IN_FILES, ".pdb")
MMCIF = FileKind("an mmCIF file", IN_FILES)
FORCE_FIELD = FileKind("an OpenMM force field", "give it as system.parameters.forcefield")
PRMTOP = FileKind("an Amber topology (prmtop)", IN_FILES)
AMBER_COORDINATES = FileKind("a file of Amber coordinates", IN_FILES)
NETCDF = FileKind("a NetCDF file, such as Amber's restarts and trajectories", IN_FILES, ".nc")
GROMACS_TOPOLOGY = FileKind("a GROMACS topology (top)", IN_FILES)
GROMACS_INCLUDE = FileKind("a part of a GROMACS topology (itp)", "give the topology (top) that includes it")
GRO = FileKind("a GROMACS structure (gro)", IN_FILES)
PSF = FileKind("a CHARMM or NAMD topology (PSF)", IN_FILES)
CHARMM_COORDINATES = FileKind("CHARMM coordinates (crd)", IN_FILES)
NAMD_COORDINATES = FileKind("NAMD coordinates (binary)", IN_FILES)
CHARMM_PARAMETERS = FileKind("CHARMM parameters", IN_FILES)
SYSTEM = FileKind("a serialised OpenMM System", IN_FILES)
STATE = FileKind("a serialised OpenMM State", IN_FILES)
_TO_PARAMETERS = "`boltzgen new NAME FILE` makes parameters for it"
SDF = FileKind("an SDF or MOL file", _TO_PARAMETERS)
MOL2 = FileKind("a MOL2 file", _TO_PARAMETERS)
EMPTY = FileKind("an empty file", "write it again")
UNKNOWN = FileKind("no format of structures or force fields that is known here")
_TRAJECTORY = f"{_TO_PDB} and give the frames as data.trajectory"
_MAGIC = {
    b"\x1f\x8b": FileKind("compressed by gzip", "unpack it with gunzip", packed=True),
    b"BZh": FileKind("compressed by bzip2", "unpack it with bunzip2", packed=True),
    b"PK\x03\x04": FileKind("a zip archive", "unpack it", packed=True),
    b"\xfd7zXZ": FileKind("compressed by xz", "unpack it with unxz", packed=True),
    b"\xff\xfe": FileKind("text in UTF-16", "save it as UTF-8 or plain ASCII"),
    b"\xfe\xff": FileKind("text in UTF-16", "save it as UTF-8 or plain ASCII"),
    b"CDF": NETCDF,
    b"\x89HDF": FileKind("an HDF5 file", _TRAJECTORY, ".h5"),
    b"\x00\x00\x07\xcb": FileKind("an XTC trajectory", _TRAJECTORY, ".xtc"),
    b"\x00\x00\x07\xc9": FileKind("a TRR trajectory", _TRAJECTORY, ".trr"),
}


_CHARMM = re.compile(
    r"\A([ \t]*(!.*)?\r?\n)*[ \t]*(read\s+(rtf|para)|MASS\s|(ATOMS|BONDS|ANGLES|NONBONDED)\b[^\[\]\n]*$)",
    re.IGNORECASE | re.MULTILINE,
)
"""How CHARMM's parameters begin where they have no title: with a heading, below comments."""


RECOGNISED: list[tuple[FileKind, Callable[[str], bool]]] = []
"""Kinds of text files that are looked for before all others."""


def kind_of(path: Path) -> FileKind:
    """What a file that is there holds."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    for magic, found in _MAGIC.items():
        if head.startswith(magic):
            return found
    if len(head) == 4 + 24 * int.from_bytes(head[:4], "little") > 4 and path.stat().st_size == len(head):
        return NAMD_COORDINATES
    if head[4:8] == b"CORD":
        return FileKind("a DCD trajectory", _TRAJECTORY, ".dcd")
    if b"\x00" in head:
        return FileKind("a binary file", UNKNOWN.remedy)
    text = head.decode("utf-8-sig", errors="replace")
    for kind, recognises in RECOGNISED:
        if recognises(text):
            return kind
    return _of_text(text) if text.strip() else EMPTY


def _of_text(text: str) -> FileKind:
    lines = text.splitlines()
    if re.search(r"^%(VERSION|FLAG)", text, re.MULTILINE):
        return PRMTOP
    if text.lstrip().startswith("<"):
        return _of_xml(text)
    if re.search(r"^_atom_site\.", text, re.MULTILINE):
        return MMCIF
    if re.search(r"^\s*_atom_site_", text, re.MULTILINE):
        return FileKind("a CIF file of a crystal of small molecules", _TO_PDB)
    if re.search(r"^(ATOM  |HETATM)", text, re.MULTILINE):
        return FileKind("a PDBQT file", _TO_PDB) if re.search(r"^(ROOT|TORSDOF)", text, re.M) else PDB
    if lines[0].split()[:1] == ["PSF"]:
        return PSF
    if lines[0].startswith("*") or _CHARMM.search(text):
        return _of_charmm(lines)
    if "@<TRIPOS>" in text:
        return MOL2
    if any(line.rstrip().endswith(("V2000", "V3000")) for line in lines[:4]):
        return SDF
    if re.search(r"^\s*\[\s*(moleculetype|system|atoms|defaults)\s*\]", text, re.M) or "#include" in text:
        whole = re.search(r"^\s*\[\s*(system|molecules)\s*\]", text, re.MULTILINE)
        part = re.search(r"^\s*\[\s*(moleculetype|atoms|\w*types|nonbond_params)\s*\]", text, re.MULTILINE)
        return GROMACS_INCLUDE if part and not whole else GROMACS_TOPOLOGY
    return _of_columns(lines)


def _of_charmm(lines: list[str]) -> FileKind:
    """Of a file with CHARMM's title lines: a table of coordinates, or parameters."""
    body = [line for line in lines if line.strip() and not line.startswith("*")]
    counted = bool(body) and re.fullmatch(r"\s*\d+(\s+EXT)?\s*", body[0]) is not None
    return CHARMM_COORDINATES if counted else CHARMM_PARAMETERS


def _of_xml(text: str) -> FileKind:
    root = re.search(r"<([A-Za-z]\w*)", re.sub(r"<\?.*?\?>|<!--.*?-->", "", text, flags=re.DOTALL))
    name = root.group(1) if root else ""
    if name == "ForceField":
        return FORCE_FIELD
    if name in ("System", "State"):
        return SYSTEM if name == "System" else STATE
    if name == "Integrator":
        return FileKind("a serialised OpenMM Integrator", "give the System and a structure")
    return FileKind("an XML file that is no OpenMM force field")


def _of_columns(lines: list[str]) -> FileKind:
    """Formats without a word of their own: numbers in columns below a count of atoms."""
    second = lines[1].split() if len(lines) > 1 else []
    third = lines[2] if len(lines) > 2 else ""
    if lines[0].strip().isdigit() and re.match(r"\s*[A-Za-z]{1,2}(\s+-?\d+\.\d*){3}", third):
        return FileKind("an XYZ file", f"{_TO_PDB}, with residues and CONECT records")
    if second and second[0].isdigit():
        if len(second) == 1 and re.match(r".{15}[ \d]{5}(\s*(-?\d+\.\d+|nan|\*+)){3}", third):
            return GRO
        if re.match(r"(\s*(-?\d+\.\d{7}|nan|\*{8,}))+\s*$", third, re.IGNORECASE):
            return AMBER_COORDINATES
    if re.match(r"(\s*-?\d+\.\d{3})+\s*$", lines[1] if len(lines) > 1 else ""):
        return FileKind("an Amber trajectory in ASCII", _TRAJECTORY)
    return FileKind("a text file", UNKNOWN.remedy)
