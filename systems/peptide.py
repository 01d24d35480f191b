"""Peptides by their sequence, and those that published generators are compared on."""

from __future__ import annotations

from dataclasses import replace

from openmm import app

from boltzgen import CollectiveVariable, MolecularSystem, MolecularSystemError, State, from_sequence
from boltzgen.systems.hamiltonians import hamiltonian_named
from boltzgen.systems.phi_states import both_sides

TERMINI = {"zwitterion": ("", ""), "capped": ("ACE-", "-NME")}
"""What stands before and after the residues; ends without a cap are charged."""
LETTERS = {
    **{"A": "ALA", "R": "ARG", "N": "ASN", "D": "ASP", "C": "CYS", "E": "GLU", "Q": "GLN", "G": "GLY"},
    **{"H": "HIS", "I": "ILE", "L": "LEU", "K": "LYS", "M": "MET", "F": "PHE", "P": "PRO", "S": "SER"},
    **{"T": "THR", "W": "TRP", "Y": "TYR", "V": "VAL"},
}


def build(
    sequence: str, termini: str = "zwitterion", hamiltonian: str = "C", temperature_k: float = 310.0
) -> MolecularSystem:
    """A peptide of L residues by its sequence, such as the zwitterionic dipeptide AC.

    sequence
        One letter for each residue, or three with hyphens, as in ALA-HIE-CYS, which can say the form.
    termini
        zwitterion: both ends charged; capped: acetyl before and N-methyl amide after the residues.
    hamiltonian
        B: amber99sbildn + amber99_obc without cutoff; C: amber14 + OBC1 with a 2 nm cutoff.
    temperature_k
        Temperature [K].
    """
    if termini not in TERMINI:
        raise MolecularSystemError(
            "peptide", f"unknown termini {termini}", f"use one of {', '.join(TERMINI)}"
        )
    field = hamiltonian_named("peptide", hamiltonian)
    residues = _residues(sequence)
    before, after = TERMINI[termini]
    full = f"{before}{'-'.join(residues)}{after}"
    name = f"peptide/{'-'.join(residues)}/{termini}/{hamiltonian}"
    made = from_sequence(full, field.forcefield, name, temperature_k, field.nonbonded_cutoff_nm)
    variables = _backbone_torsions(made.topology, first=bool(before))
    return replace(
        made,
        collective_variables=variables,
        states=_states(made.topology, variables),
        description=f"{full}, {termini}, Hamiltonian {hamiltonian}: {field.description}",
        parameters={
            "sequence": sequence,
            "termini": termini,
            "hamiltonian": hamiltonian,
            "temperature_k": temperature_k,
        },
    )


def build_al3(temperature_k: float = 310.0) -> MolecularSystem:
    """AL3: three alanines without caps (33 atoms), amber14 + OBC1 with a 2 nm cutoff.

    temperature_k
        Temperature [K].
    """
    return replace(build("AAA", temperature_k=temperature_k), name="al3")


def build_al4(temperature_k: float = 300.0) -> MolecularSystem:
    """AL4: three alanines between caps (42 atoms), amber99sbildn + amber99_obc without cutoff.

    temperature_k
        Temperature [K].
    """
    return replace(build("AAA", "capped", "B", temperature_k), name="al4")


def build_al6(temperature_k: float = 310.0) -> MolecularSystem:
    """AL6: six alanines without caps (63 atoms), amber14 + OBC1 with a 2 nm cutoff.

    temperature_k
        Temperature [K].
    """
    return replace(build("AAAAAA", temperature_k=temperature_k), name="al6")


def build_ace_a5_nme(temperature_k: float = 300.0) -> MolecularSystem:
    """Ace-A5-Nme: five alanines between caps (62 atoms), amber99sbildn + amber99_obc without cutoff.

    temperature_k
        Temperature [K].
    """
    return replace(build("AAAAA", "capped", "B", temperature_k), name="ace_a5_nme")


def build_chignolin(temperature_k: float = 310.0) -> MolecularSystem:
    """Chignolin GYDPETGTWG (138 atoms), amber14 + OBC1 with a 2 nm cutoff.

    temperature_k
        Temperature [K].
    """
    return replace(build("GYDPETGTWG", temperature_k=temperature_k), name="chignolin")


def _residues(sequence: str) -> list[str]:
    """Three-letter names."""
    if "-" in sequence:
        return sequence.upper().split("-")
    unknown = [letter for letter in sequence.upper() if letter not in LETTERS]
    if unknown or not sequence:
        raise MolecularSystemError(
            "peptide",
            f"{unknown[0] if unknown else 'an empty sequence'} is no residue",
            f"write one letter for each of {''.join(LETTERS)}, or three with hyphens, as in ALA-CYS",
        )
    return [LETTERS[letter] for letter in sequence.upper()]


def _backbone_torsions(topology: app.Topology, first: bool) -> tuple[CollectiveVariable, ...]:
    """phi and psi of every residue that has them, numbered by its place in the sequence.

    ``first`` is whether the first residue of the topology is a cap.
    """
    index = {(atom.residue.index, atom.name): atom.index for atom in topology.atoms()}
    found = []
    for residue in topology.residues():
        k, number = residue.index, residue.index + 1 - first
        backbone = [(k, "N"), (k, "CA"), (k, "C")]
        for name, four in (("phi", [(k - 1, "C"), *backbone]), ("psi", [*backbone, (k + 1, "N")])):
            if all(atom in index for atom in four):
                atoms = tuple(index[atom] for atom in four)
                found.append(CollectiveVariable(f"{name}_{number}", "torsion", atoms))
    return tuple(found)


def _states(topology: app.Topology, variables: tuple[CollectiveVariable, ...]) -> tuple[State, ...]:
    """Both sides of every phi, but for that of proline, which a ring holds."""
    residues = [atom.residue.name for atom in topology.atoms()]
    return tuple(
        state
        for cv in variables
        if cv.name.startswith("phi") and residues[cv.atoms[1]] != "PRO"
        for state in both_sides(cv)
    )
