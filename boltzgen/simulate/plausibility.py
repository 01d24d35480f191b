"""Whether frames are what they are given for: of this force field, at this temperature, unblurred."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from boltzgen.ensemble.uncertainty import SURE
from boltzgen.ensemble.weighted import Array
from boltzgen.errors import DataError
from boltzgen.potential import Potential
from boltzgen.simulate.equipartition import Equipartition, equipartition
from boltzgen.system.molecular_system import MolecularSystem

LEAST_LOOKED_AT, MOST_LOOKED_AT = 100, 2000
"""Frames that a temperature is taken from; these at most, evenly spaced."""
LEAST_COORDINATES = 8
"""Bonds and angles from which another temperature is refused: few of them may be hot or cold for long."""
TEMPERATURE_SAID, TEMPERATURE_REFUSED = 0.03, 0.15
"""Relative deviations of the temperature that are told, and that are refused."""
BLURRED = 0.25
"""Bonds may vibrate so much more than angles, relatively, as integrators with long steps make them."""
MISFIT_SAID, MISFIT_REFUSED = 0.01, 2.0
"""Misfits of mean forces that are told, and that are refused: .02 to .06 were measured for alanine dipeptide
in another force field of one family or another implicit solvent, .4 in vacuum."""
HIGHEST_ENERGY = 5.0
"""Energy above the reference configuration, in kT per degree of freedom, that no frame has; 0.5 is usual."""
LEAST_HIGH_KT = 40.0
"""Few degrees of freedom may have so much: a complex that comes apart, in frames that a bias took there."""
USUAL_ENERGY = 1.5
"""Where half of the frames lie above this, it isn't single ones that are at fault."""


def check_energies(
    system: MolecularSystem, u: Array, u_reference: float, rows: NDArray[np.int64], where: str
) -> None:
    """Refuse frames whose reduced energies no molecular dynamics of this system has.

    ``rows`` are the numbers of the frames in their file.
    """
    bad = np.flatnonzero(~np.isfinite(u))
    if len(bad):
        raise DataError(
            where, f"frame {rows[bad[0]]} has no finite energy", "is it the same molecule, whole? cut it out"
        )
    per_dof = (u - u_reference) / system.dof
    high = np.flatnonzero(per_dof > max(HIGHEST_ENERGY, LEAST_HIGH_KT / system.dof))
    if len(high) and np.median(per_dof) > USUAL_ENERGY:
        raise DataError(
            where,
            f"half of the frames lie more than {np.median(per_dof) * system.dof:.3g} kT above the reference "
            f"configuration, where about {0.5 * system.dof:.3g} kT are usual",
            f"are the atoms in the order of {system.name}, was its force field used, and is its temperature, "
            f"{system.temperature_k:g} K, right?",
        )
    if len(high):
        raise DataError(
            where,
            f"{len(high)} frames of {len(u)}, the first of them frame {rows[high[0]]}, lie more than "
            f"{max(HIGHEST_ENERGY * system.dof, LEAST_HIGH_KT):.3g} kT above the reference "
            "configuration: dynamics that broke down, or a molecule cut by a periodic box",
            "cut them out, or make molecules whole",
        )


def is_possible(system: MolecularSystem, u: Array, u_reference: float) -> bool:
    """Whether frames have the energies that molecular dynamics gives, but for single ones."""
    return bool(np.median((u - u_reference) / system.dof) < HIGHEST_ENERGY)


def check_physics(
    system: MolecularSystem, potential: Potential, x: NDArray[np.float32], weights: Array, where: str
) -> list[str]:
    """Refuse frames of another temperature, of other forces and blurred ones; a line for small deviations.

    x, weights
        Positions [nm] ``(n, n_atoms, 3)`` of one file, in the order of time, and their weights.
    """
    if len(x) < LEAST_LOOKED_AT:
        return []
    some = np.linspace(0, len(x) - 1, min(len(x), MOST_LOOKED_AT)).round().astype(int)
    positions = x[some].astype(np.float64)
    gradient = potential.reduced_energy_and_gradient(torch.as_tensor(positions))[1].double().numpy()
    found = equipartition(system, positions, gradient, weights[some])
    _refuse_blur(found, system, where)
    weighted = bool(np.ptp(weights[some]) > 0)
    return [*_temperature(found, system, weighted, where), *_misfit(found, system, where)]


def _refuse_blur(found: Equipartition, system: MolecularSystem, where: str) -> None:
    """DataError where bonds and angles are not of one temperature: rounded or averaged positions."""
    if found.angles is None or found.bonds is None:
        return
    excess, error = found.bonds[0] - found.angles[0], math.hypot(found.bonds[1], found.angles[1])
    averaged = found.bonds[0] < 1.0 - TEMPERATURE_REFUSED and found.angles[0] < 1.0 - TEMPERATURE_REFUSED
    least = BLURRED * (abs(found.angles[0]) if averaged else 1.0)
    if abs(excess) < max(least, SURE * error) or (excess < 0.0 and not averaged):
        return
    kelvin = [f"{ratio * system.temperature_k:.0f} K" for ratio, _ in (found.bonds, found.angles)]
    what = f"bonds vibrate as at {kelvin[0]} and angles as at {kelvin[1]}: "
    if averaged:
        raise DataError(
            where,
            f"{what}positions are averages (smoothed?), not frames",
            "give frames as the dynamics had them",
        )
    raise DataError(
        where,
        f"{what}positions have lost digits (rounded, then moved?), or the time step was too long",
        "take the trajectory with full precision (0.001 nm or finer), of steps of 1 fs or less",
    )


def _temperature(found: Equipartition, system: MolecularSystem, weighted: bool, where: str) -> list[str]:
    """A line for a temperature somewhat off; DataError for another one."""
    ratio, error = found.temperature
    # A ratio is as uncertain, relatively, whatever the temperature.
    certain = abs(ratio * math.log(ratio)) if 0.0 < ratio < 1.0 else ratio - 1.0
    if abs(ratio - 1.0) < TEMPERATURE_SAID or certain < SURE * error:
        return []
    kelvin, uncertain = ratio * system.temperature_k, error * system.temperature_k
    what = (
        f"frames {'with their weights ' if weighted else ''}fit a temperature of {kelvin:.3g} +- "
        f"{uncertain:.2g} K, and {system.name} is at {system.temperature_k:g} K"
    )
    remedy = (
        "are data.weights those of these frames for this temperature, and of the right sign?"
        if weighted
        else "set temperature_k of the system to that of the frames, or give weights for the system's as an "
        ".npy file (data.weights): exp(-U/k (1/T - 1/T_frames)), one for each frame"
    )
    if abs(ratio - 1.0) < TEMPERATURE_REFUSED or found.n_coordinates < LEAST_COORDINATES:
        return [f"warning: {where}: {what}; {remedy}"]
    raise DataError(where, what, remedy)


def _misfit(found: Equipartition, system: MolecularSystem, where: str) -> list[str]:
    """A line for frames of a similar force field; DataError for frames of quite another."""
    if found.misfit < max(MISFIT_SAID, SURE * found.misfit_error):
        return []
    atoms, labels = list(system.topology.atoms()), system.labels
    named = " - ".join(labels.atom(atoms[i]) for i in found.worst)
    what = (
        f"mean forces in the frames are not those of {system.name}, most at {named}: they are of another "
        f"force field or solvent (misfit {found.misfit:.2g})"
    )
    if found.misfit < MISFIT_REFUSED:
        return [
            f"warning: {where}: {what}; samples are weighted to {system.name}, populations of the MD are not"
        ]
    raise DataError(where, what, f"give frames of {system.name}, or the system the force field of the frames")
