"""Beads joined by springs: a system of its own, and files that describe one.

A file begins with ``#springs``. Its other lines are beads (element, position in nm) and springs (the two
beads counted from 0, length in nm, force constant in kJ/mol/nm^2):

    #springs
    C 0.00 0.00 0.00
    C 0.15 0.00 0.00
    0 1 0.15 20000
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openmm
from openmm import app

from boltzgen import InputOptions, MolecularSystem, MolecularSystemError
from boltzgen.system.builders.file_kinds import FileKind
from boltzgen.system.builders.inputs import register
from boltzgen.system.builders.structures import Structure

Bead = tuple[str, list[float]]
Spring = tuple[int, int, float, float]
SPRINGS = FileKind("a file of springs")


def read(path: Path, others: Sequence[Path], options: InputOptions) -> tuple[Structure, openmm.System]:
    """Structure and System of a file of springs; what cannot be used is told in one line."""
    rows = [line.split() for line in path.read_text().splitlines() if line.strip() and line[0] != "#"]
    try:
        beads = [(symbol, [float(x) for x in rest]) for symbol, *rest in rows if symbol.isalpha()]
        springs = [(int(r[0]), int(r[1]), float(r[2]), float(r[3])) for r in rows if r[0].isdigit()]
    except (ValueError, IndexError) as error:
        raise MolecularSystemError(
            path, f"has a line that is no bead and no spring ({error})", "see boltzgen_springs"
        ) from error
    return network(beads, springs)


def network(beads: Sequence[Bead], springs: Sequence[Spring]) -> tuple[Structure, openmm.System]:
    """The molecule of these beads and springs."""
    topology, system, force = app.Topology(), openmm.System(), openmm.HarmonicBondForce()
    residue = topology.addResidue("NET", topology.addChain())
    for number, (symbol, _) in enumerate(beads):
        element = app.Element.getBySymbol(symbol)
        topology.addAtom(f"{symbol}{number}", element, residue)
        system.addParticle(element.mass)
    atoms = list(topology.atoms())
    for i, j, length, stiffness in springs:
        topology.addBond(atoms[i], atoms[j])
        force.addBond(i, j, length, stiffness)
    system.addForce(force)
    return Structure(topology, np.array([position for _, position in beads])), system


register(SPRINGS, read, recognises=lambda text: text.startswith("#springs"))


def build(stiffness: float = 20_000.0, temperature_k: float = 300.0) -> MolecularSystem:
    """Three carbon beads joined by three springs of a force constant in kJ/mol/nm^2."""
    corners = ([0.0, 0.0, 0.0], [0.15, 0.0, 0.0], [0.075, 0.13, 0.0])
    sides = ((0, 1), (1, 2), (0, 2))
    structure, system = network(
        [("C", corner) for corner in corners], [(i, j, 0.15, stiffness) for i, j in sides]
    )
    return MolecularSystem("triangle", structure.topology, system, structure.positions, temperature_k)
