"""Standard OpenMM forces (bonded, nonbonded) as terms."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations

import numpy as np
import openmm
import torch
from numpy.typing import NDArray

from boltzgen.potential.coordinates import DISTANCE, Pairs, Unsupported
from boltzgen.potential.tables import Spline
from boltzgen.potential.terms import Bend, FourierTwist, Index, Layout, Stretch, Term, TorsionMap

COULOMB = 138.93545764438198
"""1/(4 pi epsilon_0) [kJ nm/mol/e^2] as in OpenMM."""

Array = NDArray[np.float64]


def harmonic_bonds(force: openmm.HarmonicBondForce, layout: Layout) -> list[Term]:
    """``k (r - length)^2 / 2``."""
    atoms, values = split([force.getBondParameters(k) for k in range(force.getNumBonds())], 2)
    constants = {"length": values[:, 0], "k": values[:, 1]}
    expression = layout.expression("0.5*k*(r-length)^2", constants, DISTANCE)
    return [Stretch(layout.pairs(*atoms.T), expression)]


def harmonic_angles(force: openmm.HarmonicAngleForce, layout: Layout) -> list[Term]:
    """``k (theta - angle)^2 / 2``."""
    atoms, values = split([force.getAngleParameters(k) for k in range(force.getNumAngles())], 3)
    constants = {"angle": values[:, 0], "k": values[:, 1]}
    expression = layout.expression("0.5*k*(theta-angle)^2", constants, ("theta",))
    return [Bend(*angle_vectors(atoms, layout), expression)]


def periodic_torsions(force: openmm.PeriodicTorsionForce, layout: Layout) -> list[Term]:
    """``k (1 + cos(n phi - phase))``."""
    rows = [force.getTorsionParameters(k) for k in range(force.getNumTorsions())]
    atoms, values = split(rows, 4)
    cosines = np.zeros((1 + int(values[:, 0].max(initial=1)), len(atoms)))
    sines = np.zeros_like(cosines)
    for row, (n, phase, k) in enumerate(values):
        cosines[0, row] += k
        cosines[int(n), row] += k * np.cos(phase)
        sines[int(n), row] += k * np.sin(phase)
    return fourier(atoms, cosines, sines, layout)


def rb_torsions(force: openmm.RBTorsionForce, layout: Layout) -> list[Term]:
    """``sum_n c_n cos(phi - pi)^n`` (Ryckaert-Bellemans)."""
    atoms, values = split([force.getTorsionParameters(k) for k in range(force.getNumTorsions())], 4)
    cosines = np.zeros((6, len(atoms)))
    for row, polynomial in enumerate(values):
        signed = polynomial * (-1.0) ** np.arange(6)
        series = np.polynomial.chebyshev.poly2cheb(signed)
        cosines[: len(series), row] = series
    return fourier(atoms, cosines, np.zeros_like(cosines), layout)


def fourier(atoms: Index, cosines: Array, sines: Array, layout: Layout) -> list[Term]:
    """One term for all torsions; several on the same four atoms become one row."""
    unique, row_of = np.unique(atoms, axis=0, return_inverse=True)
    merged = np.zeros((2, len(cosines), len(unique)))
    for row, target in enumerate(row_of.ravel()):
        merged[0, :, target] += cosines[:, row]
        merged[1, :, target] += sines[:, row]
    a, b = torch.from_numpy(merged[..., None]).to(layout.like)
    return [FourierTwist(layout.bonds(unique), a, b)]


def torsion_maps(force: openmm.CMAPTorsionForce, layout: Layout) -> list[Term]:
    """Bicubic periodic interpolation of a map of two dihedral angles (CMAP)."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for torsion in range(force.getNumTorsions()):
        size, _ = force.getMapParameters(force.getTorsionParameters(torsion)[0])
        by_size[size].append(torsion)
    return [_torsion_maps(force, size, members, layout) for size, members in by_size.items()]


def _torsion_maps(force: openmm.CMAPTorsionForce, size: int, members: list[int], layout: Layout) -> Term:
    rows = np.array([force.getTorsionParameters(k) for k in members])
    used, which = np.unique(rows[:, 0], return_inverse=True)
    values = []
    for index in used:
        grid = np.array(force.getMapParameters(int(index))[1]._value).reshape(size, size, order="F")
        values.append(np.pad(grid, (0, 1), mode="wrap"))
    maps = Spline(np.array(values), [(0.0, 2 * np.pi)] * 2, periodic=True)
    maps.coefficients = maps.coefficients.to(layout.like)
    index = torch.as_tensor(which.reshape(-1, 1), device=layout.like.device)
    return TorsionMap(layout.bonds(rows[:, 1:5]), layout.bonds(rows[:, 5:9]), maps, index)


def nonbonded(force: openmm.NonbondedForce, layout: Layout) -> list[Term]:
    """Lennard-Jones and Coulomb over all pairs, reaction field and switching included.

    Exceptions replace the parameters of their pair and are never cut off.
    """
    charge, sigma, epsilon = _nonbonded_particles(force)
    i, j = all_pairs(layout.n_atoms)
    pair = np.stack([charge[i] * charge[j], (sigma[i] + sigma[j]) / 2, np.sqrt(epsilon[i] * epsilon[j])])
    is_exception = np.zeros(len(i), dtype=bool)
    place = {(int(a), int(b)): row for row, (a, b) in enumerate(zip(i, j, strict=True))}
    for (a, b), values in _exceptions(force).items():
        row = place[(a, b) if (a, b) in place else (b, a)]
        pair[:, row] = values
        is_exception[row] = True
    constants: dict[str, Array | float] = {"qq": COULOMB * pair[0], "sigma": pair[1], "epsilon": pair[2]}
    text = "4*epsilon*a*(a-1) + qq/r; a=(sigma/r)^6"
    if force.getNonbondedMethod() == openmm.NonbondedForce.CutoffNonPeriodic:
        text, cutoff = _cut_off(force, is_exception)
        constants |= cutoff
    elif force.getNonbondedMethod() != openmm.NonbondedForce.NoCutoff:
        raise Unsupported("a periodic NonbondedForce")
    return [Stretch(layout.pairs(i, j), layout.expression(text, constants, DISTANCE))]


def _cut_off(force: openmm.NonbondedForce, is_exception: NDArray[np.bool_]) -> tuple[str, dict[str, Array]]:
    """The expression with cutoff, and its constants: those of exceptions switch all of it off."""
    cutoff, dielectric = force.getCutoffDistance()._value, force.getReactionFieldDielectric()
    k_rf = (dielectric - 1.0) / (2.0 * dielectric + 1.0) / cutoff**3
    c_rf = 3.0 * dielectric / (2.0 * dielectric + 1.0) / cutoff
    on, width = cutoff, 1.0
    if force.getUseSwitchingFunction():
        on = force.getSwitchingDistance()._value
        width = cutoff - on
    constants = {
        "cutoff": np.where(is_exception, np.inf, cutoff),
        "krf": np.where(is_exception, 0.0, k_rf),
        "crf": np.where(is_exception, 0.0, c_rf),
    }
    lennard_jones = "4*epsilon*a*(a-1)"
    if force.getUseSwitchingFunction():
        lennard_jones += "*(1+t^3*(-10+t*(15-6*t)))"
        constants |= {"on": np.full(len(is_exception), on), "slope": np.where(is_exception, 0, 1 / width)}
    text = f"step(cutoff-r)*({lennard_jones} + qq*(1/r+krf*r^2-crf)); a=(sigma/r)^6; t=slope*max(0,r-on)"
    return text, constants


def _nonbonded_particles(force: openmm.NonbondedForce) -> Array:
    """Charge, sigma, epsilon ``(3, n_atoms)`` at the default values of global parameters."""
    rows = [force.getParticleParameters(k) for k in range(force.getNumParticles())]
    values = np.array([[v._value for v in row] for row in rows]).reshape(-1, 3)
    defaults = global_parameters(force)
    for k in range(force.getNumParticleParameterOffsets()):
        name, particle, *scales = force.getParticleParameterOffset(k)
        values[particle] += defaults[name] * np.array(scales)
    return values.T


def _exceptions(force: openmm.NonbondedForce) -> dict[tuple[int, int], Array]:
    """Charge product, sigma, epsilon of each excepted pair."""
    rows = [force.getExceptionParameters(k) for k in range(force.getNumExceptions())]
    atoms, values = split(rows, 2)
    defaults = global_parameters(force)
    for k in range(force.getNumExceptionParameterOffsets()):
        name, exception, *scales = force.getExceptionParameterOffset(k)
        values[exception] += defaults[name] * np.array(scales)
    return {(min(a, b), max(a, b)): row for (a, b), row in zip(atoms.tolist(), values, strict=True)}


def split(rows: list[list], n_atoms: int) -> tuple[Index, Array]:
    """Rows of OpenMM parameters as atoms ``(R, n_atoms)`` and values in OpenMM's units ``(R, k)``."""
    atoms = np.array([row[:n_atoms] for row in rows], dtype=np.int64)
    values = [[getattr(v, "_value", v) for v in row[n_atoms:]] for row in rows]
    return atoms, np.array(values, dtype=np.float64)


def global_parameters(force: openmm.Force) -> dict[str, float]:
    """Default values of a force's global parameters."""
    count = force.getNumGlobalParameters()
    return {force.getGlobalParameterName(k): force.getGlobalParameterDefaultValue(k) for k in range(count)}


def angle_vectors(atoms: Index, layout: Layout) -> tuple[Pairs, Pairs]:
    """The two vectors that leave the middle atom of each row."""
    return layout.pairs(atoms[:, 1], atoms[:, 0]), layout.pairs(atoms[:, 1], atoms[:, 2])


def all_pairs(n_atoms: int) -> tuple[Index, Index]:
    """Every pair of atoms once; each atom is the first of as many pairs as it is the second of, or nearly."""
    i, apart = np.meshgrid(np.arange(n_atoms), np.arange(1, n_atoms // 2 + 1))
    once = (2 * apart < n_atoms) | (2 * i < n_atoms)
    return i[once].astype(np.int64), ((i + apart) % n_atoms)[once].astype(np.int64)


def pairs_without(n_atoms: int, excluded: set[tuple[int, int]]) -> tuple[Index, Index]:
    """Every pair once, but for the excluded ones (smaller index first)."""
    if not excluded:
        return all_pairs(n_atoms)
    kept = [pair for pair in combinations(range(n_atoms), 2) if pair not in excluded]
    i, j = np.array(kept, dtype=np.int64).reshape(-1, 2).T
    return i, j
