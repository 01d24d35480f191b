"""Whether frames are of a force field and a temperature, told by averages of forces that are known exactly.

For a coordinate q with the Jacobian J(q), integration by parts of the Boltzmann distribution at T' gives

    <f(q) du/dq> = T'/T <f'(q) + f(q) d ln J/dq>

for any f, where u is the energy in units of kT. The deviation from the mean, f = q - <q>, gives the
temperature T' of the frames (generalised equipartition; Tolman, Phys. Rev. 11, 261, 1918), and f = 1 the mean
force, which is that of the Jacobian alone only if the frames are of this energy.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import networkx as nx
import numpy as np

from boltzgen.ensemble import Array
from boltzgen.system import MolecularSystem

BLOCKS = 20
"""Pieces that errors come from; vibrations decorrelate within a fraction of a ps."""


@dataclass(frozen=True)
class Motion:
    """A coordinate q [nm or rad] in every frame, and du/dq and d ln J/dq there, each ``(n,)``.

    ``atoms`` are those of a bond or an angle, or the two that a torsion turns about.
    """

    atoms: tuple[int, ...]
    value: Array
    slope: Array
    jacobian: Array


@dataclass(frozen=True)
class Equipartition:
    """What frames say of themselves.

    angles, bonds
        Their temperature in units of the system's, each with its standard error; None where there are none.
    misfit, misfit_error
        Half the sum of squares of mean forces, each in units of its own fluctuation: about the KL divergence
        [nats] between these frames and the system's, as far as bonds and angles have other equilibrium
        lengths.
    worst
        Atoms of the bond or angle that contributes most.
    """

    angles: tuple[float, float] | None
    bonds: tuple[float, float] | None
    misfit: float
    misfit_error: float
    worst: tuple[int, ...]


def equipartition(system: MolecularSystem, x: Array, gradient: Array, weights: Array) -> Equipartition:
    """Temperatures and misfit of frames.

    x, gradient
        Positions [nm] and gradients of the reduced energy [1/nm], ``(n, n_atoms, 3)``.
    weights
        Of the frames, ``(n,)``.

    A system without bonds has the virial in place of bonds.
    """
    bonds, angles = _bonds(system, x, gradient), _angles(system, x, gradient)
    of_bonds, of_angles = (_temperature(found, weights) for found in (bonds, angles))
    if not bonds:
        return Equipartition(None, _of_virial(system, x, gradient, weights), 0.0, 0.0, ())
    ratio = (of_angles or of_bonds or (1.0, 0.0))[0]
    motions = [*bonds, *angles, *_torsions(system, x, gradient)]
    parts = np.array([_misfit(motion, ratio, weights) for motion in motions])
    error = math.sqrt(float((parts[:, 1] ** 2).sum()))
    worst = motions[int(parts[:, 0].argmax())].atoms
    return Equipartition(of_angles, of_bonds, float(parts[:, 0].sum()), error, worst)


def _bonds(system: MolecularSystem, x: Array, gradient: Array) -> list[Motion]:
    """Stretching of every bond: all that hangs on its far atom moves along."""
    found = []
    for i, j in system.bonds:
        bond = x[:, j] - x[:, i]
        length = np.linalg.norm(bond, axis=-1)
        force = gradient[:, _side(system.graph, i, j)].sum(axis=1)
        found.append(Motion((i, j), length, (force * bond).sum(axis=-1) / length, 2.0 / length))
    return found


def _angles(system: MolecularSystem, x: Array, gradient: Array) -> list[Motion]:
    """Bending of every angle that opens without straining a ring: one side turns about the middle atom."""
    found = []
    for middle in system.graph:
        for pair in itertools.combinations(sorted(system.graph[middle]), 2):
            free = [j for j in pair if _hangs(system.graph, middle, j)]
            if not free:
                continue
            j, i = free[-1], pair[pair[0] == free[-1]]
            side = _side(system.graph, middle, j)
            a, b = x[:, i] - x[:, middle], x[:, j] - x[:, middle]
            normal = np.cross(a, b)
            sine = np.linalg.norm(normal, axis=-1)
            angle = np.arctan2(sine, (a * b).sum(axis=-1))
            arms = x[:, side] - x[:, middle][:, None]
            torque = np.cross(arms, gradient[:, side]).sum(axis=1)
            slope = (torque * normal).sum(axis=-1) / np.maximum(sine, 1e-12)
            found.append(Motion((i, middle, j), angle, slope, 1.0 / np.tan(angle)))
    return found


def _torsions(system: MolecularSystem, x: Array, gradient: Array) -> list[Motion]:
    """Turning about every bond that has further atoms at both ends and is in no ring."""
    found = []
    for i, j in system.bonds:
        if not _hangs(system.graph, i, j) or 1 in (len(system.graph[i]), len(system.graph[j])):
            continue
        side = _side(system.graph, i, j)
        axis = x[:, j] - x[:, i]
        axis = axis / np.linalg.norm(axis, axis=-1, keepdims=True)
        torque = np.cross(x[:, side] - x[:, j][:, None], gradient[:, side]).sum(axis=1)
        zero = np.zeros(len(x))
        found.append(Motion((i, j), zero, (torque * axis).sum(axis=-1), zero))
    return found


def _side(graph: nx.Graph, i: int, j: int) -> list[int]:
    """Atoms that hang on j when its bond to i is cut; j alone where a ring leads back to i."""
    rest = graph.copy()
    rest.remove_edge(i, j)
    side = nx.node_connected_component(rest, j)
    return [j] if i in side else sorted(side)


def _hangs(graph: nx.Graph, i: int, j: int) -> bool:
    """Whether the bond between i and j is in no ring, so that what hangs on j moves freely about i."""
    return len(_side(graph, i, j)) > 1 or len(graph[j]) == 1


def _temperature(motions: list[Motion], weights: Array) -> tuple[float, float] | None:
    """T'/T of some coordinates together, and its standard error."""
    if not motions:
        return None
    spread, expected = np.zeros(len(weights)), np.zeros(len(weights))
    for motion in motions:
        deviation = motion.value - np.average(motion.value, weights=weights)
        spread += deviation * motion.slope
        expected += 1.0 + deviation * motion.jacobian
    return _ratio(spread, expected, weights)


def _of_virial(system: MolecularSystem, x: Array, gradient: Array, weights: Array) -> tuple[float, float]:
    """T'/T by ``<x . du/dx> = dof``."""
    virial = (gradient * (x - x.mean(axis=1, keepdims=True))).sum(axis=(1, 2))
    return _ratio(virial, np.full(len(x), float(system.dof)), weights)


def _ratio(above: Array, below: Array, weights: Array) -> tuple[float, float]:
    """Ratio of two weighted means, and its standard error from blocks."""
    ratio = float(np.average(above, weights=weights) / np.average(below, weights=weights))
    return ratio, _error(above - ratio * below, weights) / abs(float(np.average(below, weights=weights)))


def _misfit(motion: Motion, ratio: float, weights: Array) -> tuple[float, float]:
    """Half the square of the mean force in units of its fluctuation, without that of noise; its error."""
    excess = motion.slope - ratio * motion.jacobian
    mean, error = float(np.average(excess, weights=weights)), _error(excess, weights)
    variance = float(np.average((excess - mean) ** 2, weights=weights))
    return 0.5 * (mean**2 - error**2) / variance, error * math.hypot(mean, error) / variance


def _error(values: Array, weights: Array) -> float:
    """Standard error of a weighted mean, from that of blocks of consecutive frames."""
    shares = weights / weights.sum()
    mean = float(shares @ values)
    sums = np.add.reduceat(shares * (values - mean), np.arange(BLOCKS) * len(values) // BLOCKS)
    return math.sqrt(BLOCKS / (BLOCKS - 1) * float(sums @ sums))
