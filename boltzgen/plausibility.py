"""Whether frames are what they are given for: of this force field, at this temperature, unblurred."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from boltzgen.ensemble import Array
from boltzgen.equipartition import Equipartition, equipartition
from boltzgen.errors import DataError
from boltzgen.labels import labels_of
from boltzgen.potential import Potential
from boltzgen.system import MolecularSystem

LEAST_FRAMES = 100
"""Fewer frames say nothing about a temperature."""
MOST_FRAMES = 5000
"""As many frames, evenly spaced, as forces are looked at."""
SURE = 4.0
"""Standard errors from which a deviation is told."""
TEMPERATURE_SAID, TEMPERATURE_REFUSED = 0.03, 0.15
"""Relative deviations of the temperature that are told, and that are refused."""
BLURRED = 0.25
"""Bonds may vibrate so much more than angles, relatively, as integrators with long steps make them."""
MISFIT_SAID, MISFIT_REFUSED = 0.01, 2.0
"""Misfits [nats] of mean forces that are told, and that are refused."""
HIGHEST_ENERGY = 5.0
"""Energy above the reference configuration, in kT per degree of freedom, that no frame has; 0.5 is usual."""


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
    if np.median(per_dof) > HIGHEST_ENERGY:
        raise DataError(
            where,
            f"half of the frames lie more than {np.median(per_dof) * system.dof:.3g} kT above the reference "
            f"configuration, where about {0.5 * system.dof:.3g} kT are usual",
            f"are the atoms in the order of {system.name}, and was its force field used?",
        )
    high = np.flatnonzero(per_dof > HIGHEST_ENERGY)
    if len(high):
        raise DataError(
            where,
            f"{len(high)} frames of {len(u)}, the first of them frame {rows[high[0]]}, lie more than "
            f"{HIGHEST_ENERGY * system.dof:.3g} kT above the reference configuration: dynamics that broke "
            "down, or a molecule cut by a periodic box",
            "cut them out, or make molecules whole",
        )


def check_physics(
    system: MolecularSystem, potential: Potential, x: NDArray[np.float32], weights: Array, where: str
) -> list[str]:
    """Refuse frames of another temperature, of other forces and blurred ones; a line for small deviations.

    x, weights
        Positions [nm] ``(n, n_atoms, 3)`` of one file, in the order of time, and their weights.
    """
    some = np.flatnonzero(weights > 0)[:: max(1, len(x) // MOST_FRAMES)]
    if len(some) < LEAST_FRAMES:
        return []
    positions = x[some].astype(np.float64)
    gradient = potential.reduced_energy_and_gradient(torch.as_tensor(positions))[1].double().numpy()
    found = equipartition(system, positions, gradient, weights[some])
    _refuse_blur(found, system, where)
    return [*_temperature(found, system, where), *_misfit(found, system, where)]


def _refuse_blur(found: Equipartition, system: MolecularSystem, where: str) -> None:
    if found.angles is None or found.bonds is None:
        return
    excess, error = found.bonds[0] - found.angles[0], math.hypot(found.bonds[1], found.angles[1])
    if excess > max(BLURRED, SURE * error):
        kelvin = [f"{ratio * system.temperature_k:.0f} K" for ratio, _ in (found.bonds, found.angles)]
        raise DataError(
            where,
            f"bonds vibrate as at {kelvin[0]} and angles as at {kelvin[1]}: positions have lost digits "
            "(rounded, then moved?)",
            "take the trajectory with full precision (a step of 0.001 nm or less)",
        )


def _temperature(found: Equipartition, system: MolecularSystem, where: str) -> list[str]:
    """A line for a temperature somewhat off; DataError for another one."""
    ratio, error = found.temperature
    certain = abs(ratio - 1.0) * min(ratio, 1.0)  # were the ratio one, its error would be larger, as it is
    if abs(ratio - 1.0) < TEMPERATURE_SAID or certain < SURE * error:
        return []
    kelvin, uncertain = ratio * system.temperature_k, error * system.temperature_k
    what = (
        f"frames fit a temperature of {kelvin:.0f} +- {uncertain:.0f} K, and {system.name} is at "
        f"{system.temperature_k:g} K"
    )
    if abs(ratio - 1.0) < TEMPERATURE_REFUSED:
        return [f"warning: {where}: {what}"]
    raise DataError(
        where, what, "set temperature_k of the system to that of the frames, or give weights (data.weights)"
    )


def _misfit(found: Equipartition, system: MolecularSystem, where: str) -> list[str]:
    """A line for frames of a similar force field; DataError for frames of quite another."""
    if found.misfit < max(MISFIT_SAID, SURE * found.misfit_error):
        return []
    atoms, labels = list(system.topology.atoms()), labels_of(system)
    named = " - ".join(labels.atom(atoms[i]) for i in found.worst)
    what = (
        f"mean forces in the frames are not those of {system.name}, most at {named}: they are of another "
        f"force field or solvent (misfit {found.misfit:.2g} kT)"
    )
    if found.misfit < MISFIT_REFUSED:
        return [
            f"warning: {where}: {what}; samples stay exact, and populations of the MD are not this system's"
        ]
    raise DataError(where, what, f"give frames of {system.name}, or the system the force field of the frames")
