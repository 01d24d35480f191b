"""Any molecule described in a workflow file alone: a PDB, a force field, collective variables and states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from boltzgen import MolecularSystem, from_pdb


def build(
    pdb: str,
    forcefield: str | Sequence[str] = ("amber99sbildn.xml", "amber99_obc.xml"),
    temperature_k: float = 300.0,
    nonbonded_cutoff_nm: float | None = None,
    residue_templates: Sequence[str] = (),
    base: Path | None = None,
) -> MolecularSystem:
    """Your own molecule from a PDB or mmCIF file (with hydrogens) and OpenMM force-field files.

    pdb, forcefield
        Files relative to the workflow file; force fields also by the names that OpenMM ships.
    residue_templates
        Templates of the force field to take where several fit a residue and differ.
    """
    base = Path() if base is None else base
    files = [forcefield] if isinstance(forcefield, str) else list(forcefield)
    return from_pdb(
        base / pdb,
        [base / file if (base / file).is_file() else file for file in files],
        name=Path(pdb).stem,
        temperature_k=temperature_k,
        nonbonded_cutoff_nm=nonbonded_cutoff_nm,
        residue_templates=[residue_templates] if isinstance(residue_templates, str) else residue_templates,
    )
