"""Whether frames are of a force field and a temperature, told by averages of forces that are known exactly.

For a coordinate q with the Jacobian J(q), integration by parts of the Boltzmann distribution at T' gives

    <f(q) du/dq> = T'/T <f'(q) + f(q) d ln J/dq>

for any f, where u is the energy in units of kT. The deviation from the mean, f = q - <q>, gives the
temperature T' of the frames (generalised equipartition; Tolman, Phys. Rev. 11, 261, 1918), and f = 1 the mean
force, which is that of the Jacobian alone only if the frames are of this energy. For angles both have a
factor sin q, without which d ln J/dq has no bounds where atoms are in line.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import networkx as nx
import numpy as np

from boltzgen.ensemble.weighted import Array
from boltzgen.system.bonds import side_of
from boltzgen.system.molecular_system import MolecularSystem

FEWEST_BLOCKS_OF_A_MOTION = 8
"""Blocks that an error is still taken from."""
LEAST_INDEPENDENT = 50.0
"""Effective frames, beside the time that vibrations keep their energy, below which nothing is said."""
UNSURE = 0.1
"""Standard error of T'/T from which angles are too soft to say it."""
FORCELESS = 1e-6
"""Variance of a slope, in (kT per nm or rad) squared, of a coordinate that nothing but rounding moves."""


@dataclass(frozen=True)
class Motion:
    """A coordinate q [nm or rad] in every frame, each ``(n,)``, with a factor g(q) for what is averaged.

    atoms
        Those of a bond or an angle, or the two that a torsion turns about.
    slope, jacobian
        ``g du/dq`` and ``dg/dq + g d ln J/dq``.
    factor
        ``g``.
    """

    atoms: tuple[int, ...]
    value: Array
    slope: Array
    jacobian: Array
    factor: Array


@dataclass(frozen=True)
class Equipartition:
    """What frames say of themselves.

    angles, bonds
        Their temperature in units of the system's, each with its standard error; None where there are none.
    misfit, misfit_error
        Half the sum of squares of mean forces along bonds, angles and torsions, each in units of its own
        fluctuation, and its standard error. Of one coordinate it is about the KL divergence [nats] of a
        shift; coordinates of one atom are counted beside each other, so that the sum is a score.
    worst
        Atoms of the bond, angle or torsion that contributes most.
    """

    angles: tuple[float, float] | None
    bonds: tuple[float, float] | None
    misfit: float
    misfit_error: float
    worst: tuple[int, ...]
    n_coordinates: int = 0
    """Bonds and angles."""

    @property
    def temperature(self) -> tuple[float, float]:
        """That of the angles, which rounded positions blur least, or of bonds where angles hardly say it."""
        return _surest(self.angles, self.bonds)


def equipartition(system: MolecularSystem, x: Array, gradient: Array, weights: Array) -> Equipartition:
    """Temperatures and misfit of frames.

    x, gradient
        Positions [nm] and gradients of the reduced energy [1/nm], ``(n, n_atoms, 3)``.
    weights
        Of the frames, ``(n,)``.

    A system without bonds has the virial in place of bonds.
    """
    loads = _Loads(system, x, gradient)
    bonds, angles = _bonds(system, loads), _angles(system, loads)
    of_bonds, of_angles = (_temperature(found, weights) for found in (bonds, angles))
    if not bonds:
        return Equipartition(None, _of_virial(system, x, gradient, weights), 0.0, 0.0, ())
    ratio = _surest(of_angles, of_bonds)[0]
    motions = [*bonds, *angles, *_torsions(system, loads)]
    parts = np.array([_misfit(motion, ratio, weights) for motion in motions])
    error = math.sqrt(float((parts[:, 1] ** 2).sum()))
    worst = motions[int(parts[:, 0].argmax())].atoms
    n_coordinates = len(bonds) + len(angles)
    return Equipartition(of_angles, of_bonds, float(parts[:, 0].sum()), error, worst, n_coordinates)


class _Loads:
    """Total force and torque on what hangs on an atom when one of its bonds is cut, in every frame."""

    def __init__(self, system: MolecularSystem, x: Array, gradient: Array) -> None:
        self.graph, self.x, self.gradient = system.graph, x, gradient
        self.torque = np.cross(x, gradient)
        self.bridges = {frozenset(bond) for bond in nx.bridges(system.graph)}
        self.known: dict[tuple[int, int], tuple[Array, Array]] = {}

    def hangs(self, i: int, j: int) -> bool:
        """Whether the bond is in no ring, so that what hangs on j moves freely about i."""
        return frozenset((i, j)) in self.bridges

    def of(self, i: int, j: int) -> tuple[Array, Array]:
        """Sums of the gradient and of its torque about the origin over the side of j, ``(n, 3)`` each.

        Over j alone where a ring leads back to i. Both vanish for the whole molecule, so that the larger side
        has those of the smaller one, reversed.
        """
        if not self.hangs(i, j):
            return self.gradient[:, j], self.torque[:, j]
        if (i, j) not in self.known:
            small, sign = side_of(self.graph, i, j), 1.0
            if len(other := side_of(self.graph, j, i)) < len(small):
                small, sign = other, -1.0
            self.known[i, j] = (
                sign * self.gradient[:, small].sum(axis=1),
                sign * self.torque[:, small].sum(axis=1),
            )
        return self.known[i, j]

    def about(self, i: int, j: int, pivot: Array) -> Array:
        """Torque of the side of j about points ``(n, 3)``."""
        force, torque = self.of(i, j)
        return torque - np.cross(pivot, force)


def _bonds(system: MolecularSystem, loads: _Loads) -> list[Motion]:
    """Stretching of every bond: all that hangs on its far atom moves along."""
    found, ones = [], np.ones(len(loads.x))
    for i, j in system.bonds:
        bond = loads.x[:, j] - loads.x[:, i]
        length = np.linalg.norm(bond, axis=-1)
        slope = (loads.of(i, j)[0] * bond).sum(axis=-1) / length
        found.append(Motion((i, j), length, slope, 2.0 / length, ones))
    return found


def _angles(system: MolecularSystem, loads: _Loads) -> list[Motion]:
    """Bending of every angle that opens without straining a ring: one side turns about the middle atom."""
    found, x = [], loads.x
    for middle in system.graph:
        for pair in itertools.combinations(sorted(system.graph[middle]), 2):
            free = [j for j in pair if loads.hangs(middle, j)]
            if not free:
                continue
            j, i = free[-1], pair[pair[0] == free[-1]]
            a, b = (
                arm / np.linalg.norm(arm, axis=-1, keepdims=True)
                for arm in (x[:, k] - x[:, middle] for k in (i, j))
            )
            normal, cosine = np.cross(a, b), (a * b).sum(axis=-1)
            sine = np.linalg.norm(normal, axis=-1)
            slope = (loads.about(middle, j, x[:, middle]) * normal).sum(axis=-1)
            found.append(Motion((i, middle, j), np.arctan2(sine, cosine), slope, 2.0 * cosine, sine))
    return found


def _torsions(system: MolecularSystem, loads: _Loads) -> list[Motion]:
    """Turning about every bond that has further atoms at both ends and is in no ring."""
    found, zero = [], np.zeros(len(loads.x))
    for i, j in system.bonds:
        if not loads.hangs(i, j) or 1 in (len(system.graph[i]), len(system.graph[j])):
            continue
        axis = loads.x[:, j] - loads.x[:, i]
        axis = axis / np.linalg.norm(axis, axis=-1, keepdims=True)
        slope = (loads.about(i, j, loads.x[:, j]) * axis).sum(axis=-1)
        found.append(Motion((i, j), zero, slope, zero, zero + 1.0))
    return found


def _temperature(motions: list[Motion], weights: Array) -> tuple[float, float] | None:
    """T'/T of some coordinates together, and its standard error.

    The error is at least that by the scatter between coordinates: in dynamics so short that they keep their
    energies it is all there is to see.
    """
    if not motions:
        return None
    deviations = [motion.value - np.average(motion.value, weights=weights) for motion in motions]
    spread = np.array([d * motion.slope for d, motion in zip(deviations, motions, strict=True)])
    expected = np.array(
        [motion.factor + d * motion.jacobian for d, motion in zip(deviations, motions, strict=True)]
    )
    ratio, error = _ratio(spread.sum(axis=0), expected.sum(axis=0), weights)
    scatter = np.average(spread - ratio * expected, weights=weights, axis=1)
    between = float(np.linalg.norm(scatter)) / abs(float(np.average(expected.sum(axis=0), weights=weights)))
    return ratio, max(error, between)


def _of_virial(system: MolecularSystem, x: Array, gradient: Array, weights: Array) -> tuple[float, float]:
    """T'/T by ``<x . du/dx> = dof``."""
    virial = (gradient * (x - x.mean(axis=1, keepdims=True))).sum(axis=(1, 2))
    return _ratio(virial, np.full(len(x), float(system.dof)), weights)


def _ratio(above: Array, below: Array, weights: Array) -> tuple[float, float]:
    """Ratio of two weighted means, and its standard error.

    The error is at least that of a ratio of one: coordinates that nothing holds have both means zero, and say
    nothing of a temperature.
    """
    mean = float(np.average(below, weights=weights))
    ratio = float(np.average(above, weights=weights)) / mean
    return ratio, max(_error(above - r * below, weights) for r in (ratio, 1.0)) / abs(mean)


def _surest(angles: tuple[float, float] | None, bonds: tuple[float, float] | None) -> tuple[float, float]:
    """The one of the angles if its error is small, else the one of the smaller error; 1 of neither."""
    found = [pair for pair in (angles, bonds) if pair is not None] or [(1.0, 0.0)]
    return found[0] if found[0][1] < UNSURE else min(found, key=lambda pair: pair[1])


def _misfit(motion: Motion, ratio: float, weights: Array) -> tuple[float, float]:
    """Half the square of the mean force in units of its fluctuation, without that of noise; its error."""
    excess = motion.slope - ratio * motion.jacobian
    mean, error = float(np.average(excess, weights=weights)), _error(excess, weights)
    variance = float(np.average((excess - mean) ** 2, weights=weights))
    if variance < FORCELESS or error == math.inf:
        return 0.0, 0.0
    return 0.5 * (mean**2 - error**2) / variance, error * math.hypot(mean, error) / variance


def _error(values: Array, weights: Array) -> float:
    """Standard error of a weighted mean over time; infinite where too little of it is independent.

    It is the largest one by blocks of any length (Flyvbjerg and Petersen, J. Chem. Phys. 91, 461, 1989). The
    autocorrelation of vibrations changes sign within a period, long before they forget their energy.
    """
    shares = weights / weights.sum()
    parts = shares * (values - float(shares @ values))
    squares, length = [float(parts @ parts)], 2
    while length <= len(parts) // FEWEST_BLOCKS_OF_A_MOTION:
        sums = np.add.reduceat(parts, np.arange(0, len(parts), length))
        squares.append(float(sums @ sums))
        length *= 2
    inefficiency = max(squares) / squares[0] if squares[0] else 1.0
    if 1.0 / (shares @ shares) < LEAST_INDEPENDENT * inefficiency:
        return math.inf
    return math.sqrt(max(squares))
