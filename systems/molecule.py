"""Any molecule described in a workflow file alone: a PDB, a force field, collective variables and states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from boltzgen import MolecularSystem, from_pdb, with_variables


def build(
    pdb: str,
    forcefield: str | Sequence[str] = ("amber99sbildn.xml", "amber99_obc.xml"),
    temperature_k: float = 300.0,
    cvs: Mapping[str, Mapping[str, Any]] | None = None,
    states: Mapping[str, Mapping[str, Any]] | None = None,
    nonbonded_cutoff_nm: float | None = None,
    residue_templates: Sequence[str] = (),
    base: Path | None = None,
) -> MolecularSystem:
    """Your own molecule from a PDB or mmCIF file (with hydrogens) and OpenMM force-field files.

    pdb, forcefield
        Files relative to the workflow file; force fields also by the names that OpenMM ships.
    residue_templates
        Templates of the force field to take where several fit a residue and differ.
    cvs, states
        As `collective_variables` and `states` of a workflow file; see `boltzgen.with_variables`.
    """
    base = Path() if base is None else base
    files = [forcefield] if isinstance(forcefield, str) else list(forcefield)
    molecule = from_pdb(
        base / pdb,
        [base / file if (base / file).is_file() else file for file in files],
        name=Path(pdb).stem,
        temperature_k=temperature_k,
        nonbonded_cutoff_nm=nonbonded_cutoff_nm,
        residue_templates=[residue_templates] if isinstance(residue_templates, str) else residue_templates,
    )
    return with_variables(molecule, cvs, states, where=("system.parameters.cvs", "system.parameters.states"))
