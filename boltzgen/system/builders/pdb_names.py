"""The text of PDB files before OpenMM reads it: columns in their places, names that are unique."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from boltzgen.errors import MolecularSystemError

_ATOMS = ("ATOM  ", "HETATM")
_NAME = slice(12, 16)
_LONGEST = 4
"""Characters of an atom's name."""
_PEPTIDE_BOND = 1.6
"""Carbon and nitrogen nearer than this [angstrom] are bonded."""
AMINO_ACIDS = (
    *("ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE"),
    *("LEU", "LYS", "MET", "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL"),
)
FORMS: dict[str, tuple[str, str | None]] = {
    **dict.fromkeys(("HID", "HSD", "HISD", "HISA"), ("HIS", "HID")),
    **dict.fromkeys(("HIE", "HSE", "HISE", "HISB"), ("HIS", "HIE")),
    **dict.fromkeys(("HIP", "HSP", "HISP", "HISH"), ("HIS", "HIP")),
    **dict.fromkeys(("ASH", "ASPP", "ASPH"), ("ASP", "ASH")),
    **dict.fromkeys(("GLH", "GLUP", "GLUH"), ("GLU", "GLH")),
    **dict.fromkeys(("LYN", "LSN", "LYSN"), ("LYS", "LYN")),
    **dict.fromkeys(("CYX", "CYM", "CYS2"), ("CYS", "CYX")),
}
"""Standard residue and its form, as OpenMM calls them, of what Amber, CHARMM and GROMACS call residues."""


@dataclass(frozen=True)
class Renamed:
    """An atom of a PDB file that was given a name of its own.

    residue
        The number of its residue in the order of the file, from 0.
    label
        The residue, as ``ETA 1``.
    """

    residue: int
    label: str
    original: str
    name: str


def check_columns(path: Path, lines: list[str]) -> None:
    """MolecularSystemError for the first atom whose name or coordinates are not in their columns."""
    for number, line in enumerate(lines, start=1):
        if not line.startswith(_ATOMS):
            continue
        fault = f"no coordinates in columns 31 to 54 but `{line[30:54].strip() or 'nothing'}`"
        try:
            placed = all(math.isfinite(float(line[start : start + 8])) for start in (30, 38, 46))
        except ValueError:
            placed = False
        if placed and line[20] != " " and len(line[17:20].strip()) < 3:
            placed, fault = False, f"no name of a residue in columns 18 to 20 but `{line[17:21].strip()}`"
        if not placed:
            raise MolecularSystemError(
                path,
                f"line {number} has {fault}",
                "PDB files have fixed columns; write it again with a program that keeps them",
            )


def check_numbers(path: Path, lines: list[str]) -> None:
    """MolecularSystemError where a CONECT record names a number that two atoms of a model have."""
    first = lines[: next((k for k, line in enumerate(lines) if line.startswith("ENDMDL")), len(lines))]
    numbers = Counter(line[6:11].strip() for line in first if line.startswith(_ATOMS))
    for line in lines:
        if line.startswith("CONECT"):
            for number in (line.rstrip()[k : k + 5].strip() for k in range(6, len(line.rstrip()), 5)):
                if numbers[number] > 1:
                    raise MolecularSystemError(
                        path,
                        f"{numbers[number]} atoms have the number {number}, which a CONECT record names",
                        "number the atoms anew, each with a number of its own",
                    )


def brought_together(lines: list[str]) -> tuple[list[str], int]:
    """``lines`` in which the atoms of a residue follow each other, and of how many residues they did not.

    Some programs write hydrogens below all others. Residues that would have two atoms of one name are left
    apart: they are of two molecules of one numbering.
    """
    runs, home = list(_residues(lines)), dict[tuple[int, str, str], int]()
    rows_of: dict[int, list[int]] = {}
    for at, (model, _, rows) in enumerate(runs):
        key = (model, lines[rows[0]][17:22], lines[rows[0]][22:27])
        there, here = ({lines[k][12:17] for k in some} for some in (rows_of.get(home.get(key, at), []), rows))
        if key not in home or there & here:
            home[key] = at
        rows_of.setdefault(home[key], []).extend(rows)
    apart = {at for at in rows_of if rows_of[at] != runs[at][2]}
    moved = {k for at in apart for k in rows_of[at]}
    ordered = []
    for k, line in enumerate(lines):
        ordered += [] if k in moved else [line]
        ordered += next(([lines[j] for j in rows_of[at]] for at in apart if runs[at][2][-1] == k), [])
    return ordered, len(apart)


def with_standard_residues(lines: list[str]) -> tuple[list[str], dict[int, str]]:
    """``lines`` in which forms and ends of residues are called as the residue, and what they were called.

    By number of the residue in the first model, from 0.
    """
    lines, called = list(lines), dict[int, str]()
    for model, number, rows in _residues(lines):
        name = lines[rows[0]][17:21].strip()
        standard, _ = form_of(name)
        if standard == name:
            continue
        called |= {number: name} if model == 0 else {}
        for k in rows:
            lines[k] = f"{lines[k][:17]}{standard} {lines[k][21:]}"
    return lines, called


def form_of(name: str) -> tuple[str, str | None]:
    """The residue of a name that says its form, that it ends a chain (NALA) or both, and the form."""
    if name in FORMS:
        return FORMS[name]
    inner = name[1:]
    is_end = len(name) == _LONGEST and name[0] in "NC" and (inner in AMINO_ACIDS or inner in FORMS)
    return form_of(inner) if is_end else (name, None)


def joined_chains(lines: list[str]) -> tuple[list[str], int]:
    """``lines`` in which what a peptide bond joins is one chain, and how many of them the file parts."""
    lines, joints = list(lines), 0
    runs = list(_residues(lines))
    for (model, _, one), (other_model, _, other) in itertools.pairwise(runs):
        carbon, nitrogen = _place(lines, one, "C"), _place(lines, other, "N")
        ended = [k for k in range(one[-1], other[0]) if lines[k].startswith("TER")]
        letter, after = lines[one[0]][21:22], lines[other[0]][21:22]
        if model != other_model or carbon is None or nitrogen is None or not (ended or letter != after):
            continue
        if math.dist(carbon, nitrogen) > _PEPTIDE_BOND:
            continue
        joints += 1
        for k in ended:
            lines[k] = "REMARK\n"
        end = next(
            (k for k in range(other[-1], len(lines)) if lines[k].startswith(("TER", "ENDMDL"))), len(lines)
        )
        for k in range(other[0], end):
            if lines[k].startswith(_ATOMS) and lines[k][21:22] == after:
                lines[k] = f"{lines[k][:21]}{letter}{lines[k][22:]}"
    return lines, joints


def _place(lines: list[str], rows: list[int], name: str) -> tuple[float, ...] | None:
    """Where an atom of a residue is [angstrom]."""
    line = next((lines[k] for k in rows if lines[k][_NAME].strip() == name), None)
    return None if line is None else tuple(float(line[k : k + 8]) for k in (30, 38, 46))


def with_unique_names(lines: list[str]) -> tuple[list[str], list[Renamed]]:
    """``lines`` in which no two atoms of a residue share a name, and what was renamed in the first model.

    Alternate locations of one atom share theirs as they should. Names get a number, as C1 and C2.
    """
    lines, renamed = list(lines), []
    for model, number, rows in _residues(lines):
        seen = Counter((lines[k][_NAME].strip(), lines[k][16:17]) for k in rows)
        shared = {name for (name, _), count in seen.items() if count > 1}
        taken, given, so_far = {name for name, _ in seen}, dict[tuple[str, int], str](), Counter[str]()
        for k in rows:
            original = lines[k][_NAME].strip()
            if original not in shared:
                continue
            so_far[original + lines[k][16:17]] += 1
            nth = (original, so_far[original + lines[k][16:17]])
            if nth not in given:
                given[nth] = _free_name(original, taken)
                taken.add(given[nth])
                if model == 0:
                    label = f"{lines[k][17:20].strip()} {lines[k][22:27].strip()}"
                    renamed.append(Renamed(number, label, original, given[nth]))
            name = given[nth]
            lines[k] = f"{lines[k][:12]}{name if len(name) == _LONGEST else f' {name:<3}'}{lines[k][16:]}"
    return lines, renamed


def _free_name(original: str, taken: set[str]) -> str:
    """The shared name with a number, shortened to leave room for it."""
    numbers = range(1, 10**_LONGEST)
    names = (original[: max(1, _LONGEST - len(str(n)))] + str(n) for n in numbers)
    return next(name for name in names if name not in taken)


def _residues(lines: list[str]) -> Iterator[tuple[int, int, list[int]]]:
    """Model, number in the model and indices of lines of every residue: a run of lines that agree."""
    model, number, chain, before, rows = 0, -1, 0, None, list[int]()
    for k, line in enumerate(lines):
        if line.startswith(_ATOMS):
            # The name of a residue may differ between alternate locations of a mutated one.
            residue = line[17:21] if line[16:17] == " " or before is None else before[2]
            here = (chain, line[21:22], residue, line[22:27])
            if here != before:
                if rows:
                    yield model, number, rows
                before, rows, number = here, [], number + 1
            rows.append(k)
        elif line.startswith("TER"):
            chain += 1
        elif line.startswith("ENDMDL"):
            if rows:
                yield model, number, rows
            model, number, chain, before, rows = model + 1, -1, 0, None, []
    if rows:
        yield model, number, rows
