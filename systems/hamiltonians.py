"""The force fields of published comparisons, by the letters that they go by here."""

from __future__ import annotations

from dataclasses import dataclass

from boltzgen import MolecularSystemError


@dataclass(frozen=True)
class Hamiltonian:
    """Force-field files of OpenMM, and a cutoff without periodicity [nm]; no bond is constrained."""

    description: str
    forcefield: tuple[str, ...]
    nonbonded_cutoff_nm: float | None = None


HAMILTONIANS = {
    "B": Hamiltonian(
        "amber99sbildn with amber99_obc implicit solvent, no cutoff", ("amber99sbildn.xml", "amber99_obc.xml")
    ),
    "C": Hamiltonian(
        "amber14 with OBC1 implicit solvent, 2 nm cutoff", ("amber14-all.xml", "implicit/obc1.xml"), 2.0
    ),
}


def hamiltonian_named(system: str, letter: str) -> Hamiltonian:
    """The one of a letter; MolecularSystemError where there is none."""
    if letter not in HAMILTONIANS:
        raise MolecularSystemError(
            system, f"unknown hamiltonian {letter}", f"use one of {', '.join(HAMILTONIANS)}"
        )
    return HAMILTONIANS[letter]
