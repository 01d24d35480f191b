"""What frames of somebody's own molecular dynamics are checked for before anything trusts them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from numpy.typing import NDArray

from boltzgen.config.consistency import LEAST_FRAMES
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.errors import DataError
from boltzgen.potential.cohesion import stiffness_of
from boltzgen.potential.symmetries import reflection_is_symmetry
from boltzgen.system.bonds import harmonic_bonds
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.stereochemistry.domain import COUNTS, domain_of
from boltzgen.units import WRONG_LENGTHS

UNIT_TOLERANCE = 1.25
"""Factor that nearly every length may be away from one of these."""

OTHER_LENGTHS = 1.5
"""Factor that the nearest atoms, in the closest frame, are away from those of the reference configuration."""

STEPS_NM = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
"""Steps of positions that are looked for, the coarsest first."""

MOST_BLUR = 0.05
"""Energy [kT] that rounding may give the stiffest bond."""

BROKEN = 2.0
"""A bond this much longer than usual is none: the molecule is cut."""

LEAST_VIBRATION = 0.2
"""A bond vibrating less than this fraction of what kT gives it was constrained."""

MOST_REPEATED = 0.1
"""Fraction of frames that may repeat the one before; more are no molecular dynamics of this system."""


def check_finite(x: NDArray[np.float32], rows: NDArray[np.int64], where: str) -> None:
    """Refuse positions that are not finite; ``rows`` are the numbers of the frames in their file."""
    bad = rows[~np.isfinite(x).all(axis=(1, 2))]
    if len(bad):
        raise DataError(where, f"frame {bad[0]} has positions that are not finite", "cut it out")


def check_unit(system: MolecularSystem, x: NDArray[np.float32], where: str) -> None:
    """Refuse positions in another unit than that of the file's format, as bonds tell it.

    Where there are no bonds it is the nearest atoms in the closest frame that tell it: for frames whose
    energies are found to be impossible, as molecules may be far apart in others.
    """
    pairs = np.array(system.bonds or list(itertools.combinations(range(system.n_atoms), 2)))
    first, second = pairs.T
    usual = np.linalg.norm(system.positions[first] - system.positions[second], axis=-1)
    lengths = np.linalg.norm(x[:, first] - x[:, second], axis=-1)
    if system.bonds:
        what, found = "bonds are", np.median(lengths, axis=0)
    else:
        what, found, usual = "the nearest atoms are", lengths.min(keepdims=True)[0], usual.min(keepdims=True)
    ratios = np.quantile(np.maximum(found, 1e-9) / np.maximum(usual, 1e-9), (0.1, 0.5, 0.9))
    for factor, cause in WRONG_LENGTHS.items():
        if (np.abs(np.log(ratios / factor)) < math.log(UNIT_TOLERANCE)).all():
            raise DataError(
                where,
                f"{what} {ratios[1]:.3g} times as {_far(system)} as in {system.name}: {cause}",
                f"divide the positions by {factor:g} and save them anew",
            )
    if not system.bonds and max(ratios[1], 1 / ratios[1]) > OTHER_LENGTHS:
        raise DataError(
            where,
            f"{what} {ratios[1]:.3g} times as {_far(system)} as in {system.name}: lengths are in another "
            "unit, or frames are of another system",
            "save them in the unit of the file's format, of the system's own scale",
        )


def _far(system: MolecularSystem) -> str:
    return "long" if system.bonds else "far apart"


def check_rounding(system: MolecularSystem, x: NDArray[np.float32], where: str) -> float:
    """The step [nm] that positions are rounded to, 0 where they are not; refuse one that ruins energies."""
    step = next((step for step in STEPS_NM if _on_grid(x, step)), 0.0)
    if not step:
        return 0.0
    harmonic = harmonic_bonds(system.openmm_system)
    others = [bond for bond in system.bonds if bond not in harmonic]
    stiffest = max([*(k for _, k in harmonic.values()), *stiffness_of(system, others)], default=0.0)
    blur = 0.5 * stiffest * step**2 / 6 / system.kT  # variance of a distance between two rounded ends
    if blur > MOST_BLUR:
        raise DataError(
            where,
            f"positions are rounded to {step:g} nm, which alone gives a bond an energy of {blur:.2g} kT",
            "the digits are lost: take the trajectory with full precision, or run again with a step of 0.001 "
            "nm or less (GROMACS: compressed-x-precision = 1000)",
        )
    return step


def _on_grid(x: NDArray[np.float32], step: float) -> bool:
    """Whether all positions are multiples of a step, up to the digits of single precision."""
    some = x[:: max(1, len(x) // 100)].astype(np.float64)
    return bool(np.abs(some - np.round(some / step) * step).max() < 0.02 * step + 3e-7 * np.abs(some).max())


def check_number(n: int, where: str) -> None:
    """Refuse too few frames."""
    if n < LEAST_FRAMES:
        raise DataError(
            where,
            f"leave {n} frames to train on",
            f"at least {LEAST_FRAMES} are needed, and thousands are usual",
        )


def check_repeats(pieces: list[NDArray[np.float32]], where: str) -> str:
    """Refuse many frames that repeat the one before in their file; a line of warning for a few.

    ``pieces`` are positions ``(n, n_atoms, 3)`` of each file.
    """
    n = sum(map(len, pieces))
    repeated = sum(int((x[1:] == x[:-1]).all(axis=(1, 2)).sum()) for x in pieces)
    if repeated > MOST_REPEATED * n:
        raise DataError(
            where,
            f"{repeated} of {n} frames repeat the one before",
            "cut them out, or keep fewer with data.stride",
        )
    return f"warning: {where}: {repeated} of {n} frames repeat the one before" if repeated else ""


def check_bonds(
    system: MolecularSystem,
    x: NDArray[np.float32],
    rows: NDArray[np.int64],
    resolution_nm: float,
    where: str,
) -> None:
    """Refuse bonds that are too long to be bonds, cut by a periodic box, or too stiff to be free.

    ``rows`` are the numbers of the frames in their file, ``resolution_nm`` is the step of their positions.
    """
    atoms, labels = list(system.topology.atoms()), system.labels
    harmonic = harmonic_bonds(system.openmm_system)
    noise = resolution_nm**2 / 6  # variance of a distance between two coordinates rounded to the step
    for i, j in system.bonds:
        lengths = np.linalg.norm(x[:, i].astype(np.float64) - x[:, j], axis=-1)
        bond, median = labels.bond(atoms[i], atoms[j]), float(np.median(lengths))
        distance = float(np.linalg.norm(system.positions[i] - system.positions[j]))
        usual, stiffness = harmonic.get((i, j), (distance, 0.0))
        thermal = math.sqrt(system.kT / stiffness) if stiffness else math.inf
        if abs(median - usual) > max(0.3 * usual, 6 * thermal):
            raise DataError(
                where,
                f"the bond {bond} is {median:.2f} nm long, where {usual:.2f} nm are usual: atoms are in "
                "another order, or of another molecule",
                f"bring the atoms into the order of {system.name} (`boltzgen check` lists them)",
            )
        broken = np.flatnonzero(lengths > BROKEN * usual + 10 * min(thermal, usual))
        if len(broken):
            raise DataError(
                where,
                f"in {len(broken)} frames, the first of them frame {rows[broken[0]]}, the bond {bond} is "
                f"{lengths[broken[0]]:.2f} nm long: the molecule is cut by a periodic box, or has come apart",
                "make molecules whole (GROMACS: trjconv -pbc mol; MDTraj: t.make_molecules_whole())",
            )
        spread, blur = float(lengths.var()), 4 * noise / math.sqrt(len(x))
        least = LEAST_VIBRATION * thermal if thermal < math.inf else 0.0
        if math.sqrt(max(spread - noise - blur, 0.0)) < max(least, 1e-5):
            raise DataError(
                where,
                f"the bond {bond} does not vibrate (standard deviation {math.sqrt(spread):.1e} nm): it was "
                "constrained, and constrained bonds have no density in Cartesian space",
                "run the dynamics with constraints=None",
            )


def reflected(system: MolecularSystem, x: NDArray[np.float32], where: str) -> tuple[NDArray[np.float32], str]:
    """Frames with enantiomers of the reference structure reflected, and a warning if there are any.

    None are reflected where the mirror image has another energy: its frames are those of another force field.
    """
    domain, positions = domain_of(system), torch.as_tensor(x)
    back, inside = domain.reflected(positions)
    n = int((inside & ~domain.contains(positions)).sum())
    if not n or not reflection_is_symmetry(system):
        return x, ""
    return back.numpy(), (
        f"warning: {where}: {n} of {len(x)} frames are mirror images of the molecule (the other enantiomer); "
        "they are reflected back"
    )


def inside_domain(system: MolecularSystem, data: WeightedEnsemble) -> tuple[WeightedEnsemble, str]:
    """The ensemble without frames outside the domain of Z, and a line that says how many were left out."""
    domain, positions = domain_of(system), torch.as_tensor(data.positions)
    inside = domain.contains(positions).numpy()
    if inside.all():
        return data, ""
    counts = domain.counts(positions)
    wrong = ", ".join(f"{name}: {n}" for name, n in counts.items() if n and name not in COUNTS)
    kinds = {"mirror images": counts["wrong_hand"], f"other isomers ({wrong})": counts["diastereomers"]}
    what = " and ".join(f"{n} are {kind}" for kind, n in kinds.items() if n)
    if inside.sum() < LEAST_FRAMES:
        raise DataError(
            "data",
            f"of {len(data)} frames {what} of the reference structure",
            "start from a structure of the isomer that is meant, or let isomers be (system.free_isomers)",
        )
    weight = float(data.weights[~inside].sum())
    return data.select(np.flatnonzero(inside)), (
        f"warning: of {len(data)} frames {what} of the reference structure and are left out "
        f"({weight:.2%} of the weight); system.free_isomers keeps isomers"
    )
