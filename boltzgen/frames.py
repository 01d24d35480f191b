"""What frames of somebody's own molecular dynamics are checked for before anything trusts them."""

from __future__ import annotations

import math

import mdtraj
import numpy as np
import torch
from numpy.typing import NDArray

from boltzgen.contradictions import LEAST_FRAMES
from boltzgen.domain import COUNTS, domain_of
from boltzgen.ensemble import WeightedEnsemble
from boltzgen.errors import DataError
from boltzgen.potential.symmetry import reflection_is_symmetry
from boltzgen.system import MolecularSystem

LONGEST_BOND_NM = 0.3
"""A median bond length above this means that the atoms are in another order."""

LEAST_VIBRATION = 0.2
"""A bond vibrating less than this fraction of what kT gives it was constrained."""

MOST_REPEATED = 0.1
"""Fraction of frames that may repeat the one before; more are no molecular dynamics of this system."""

HIGHEST_ENERGY = 5.0
"""Median of ``(u - u_reference) / dof`` that is too high for frames of this system; 0.5 is usual."""


def check_molecule(loaded: mdtraj.Trajectory, system: MolecularSystem, where: str) -> None:
    """Refuse other atoms, a periodic box, and positions that are not finite."""
    if loaded.n_atoms != system.n_atoms:
        raise DataError(
            where,
            f"has {loaded.n_atoms} atoms, {system.name} has {system.n_atoms}",
            "strip solvent and ions first",
        )
    for ours, theirs in zip(system.topology.atoms(), loaded.topology.atoms, strict=True):
        symbols = {atom.element.symbol for atom in (ours, theirs) if atom.element is not None}
        if len(symbols - {"VS"}) == 2:
            raise DataError(
                where,
                f"atom {ours.index} is {theirs}, in {system.name} it is {ours.name} of {ours.residue.name}",
                f"bring the atoms into the order of {system.name}",
            )
    if loaded.unitcell_lengths is not None:
        raise DataError(
            where,
            f"has a periodic box, and {system.name} has none",
            "if the dynamics was not periodic, save it anew without the box (MDTraj: "
            "t.unitcell_vectors = None)",
        )
    bad = np.flatnonzero(~np.isfinite(loaded.xyz).all(axis=(1, 2)))
    if len(bad):
        raise DataError(where, f"frame {bad[0]} has positions that are not finite", "cut it out")


def check_number(x: NDArray[np.float32], where: str) -> list[str]:
    """Refuse too few frames and many repeated ones; a line of warning for a few repeated ones."""
    if len(x) < LEAST_FRAMES:
        raise DataError(
            where,
            f"leave {len(x)} frames to train on",
            f"at least {LEAST_FRAMES} are needed, and thousands are usual",
        )
    repeated = int((np.abs(x[1:] - x[:-1]).max(axis=(1, 2)) == 0).sum())
    if repeated > MOST_REPEATED * len(x):
        raise DataError(
            where,
            f"{repeated} of {len(x)} frames repeat the one before",
            "cut them out, or keep fewer with data.stride",
        )
    if repeated:
        return [f"warning: {where}: {repeated} of {len(x)} frames repeat the one before"]
    return []


def check_bonds(system: MolecularSystem, x: NDArray[np.float32], resolution_nm: float, where: str) -> None:
    """Refuse bonds that are too long to be bonds or too stiff to be free."""
    atoms, stiffness = list(system.topology.atoms()), _bond_stiffness(system)
    noise = resolution_nm**2 / 6  # variance of a distance between two coordinates rounded to the step
    for i, j in system.bonds:
        lengths = np.linalg.norm(x[:, i].astype(np.float64) - x[:, j], axis=-1)
        bond, median = f"{atoms[i].name}({i}) - {atoms[j].name}({j})", float(np.median(lengths))
        if median > LONGEST_BOND_NM:
            raise DataError(
                where,
                f"the bond {bond} is {median:.2f} nm long",
                f"are the atoms in the order of {system.name}, and molecules whole?",
            )
        if len(x) < 10:
            continue
        thermal = math.sqrt(system.kT / stiffness[i, j]) if stiffness.get((i, j)) else 0.0
        spread, blur = float(lengths.var()), 4 * noise / math.sqrt(len(x))
        if math.sqrt(max(spread - noise - blur, 0.0)) < max(LEAST_VIBRATION * thermal, 1e-5):
            raise DataError(
                where,
                f"the bond {bond} does not vibrate (standard deviation {math.sqrt(spread):.1e} nm)",
                "constrained bonds have no density in Cartesian space, run the dynamics with "
                "constraints=None",
            )


def _bond_stiffness(system: MolecularSystem) -> dict[tuple[int, int], float]:
    """Force constants [kJ/mol/nm^2] of harmonic bonds, by atom pair ``i < j``."""
    found = {}
    for force in system.openmm_system.getForces():
        if type(force).__name__ == "HarmonicBondForce":
            for k in range(force.getNumBonds()):
                i, j, _, stiffness = force.getBondParameters(k)
                found[min(i, j), max(i, j)] = float(stiffness._value)
    return found


def check_energies(system: MolecularSystem, u: NDArray[np.float64], u_reference: float, where: str) -> None:
    """Refuse frames whose reduced energies say that they are of another molecule or force field."""
    excess = float(np.median(u)) - u_reference
    if excess > HIGHEST_ENERGY * system.dof:
        raise DataError(
            where,
            f"half of the frames lie more than {excess:.3g} kT above the reference configuration, "
            f"where about {0.5 * system.dof:.3g} kT are usual",
            f"are the atoms in the order of {system.name}, and was its force field used?",
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
    tally = domain.tally(positions)
    wrong = ", ".join(f"{name}: {n}" for name, n in tally.items() if n and name not in COUNTS)
    kinds = {"mirror images": tally["wrong_hand"], f"other isomers ({wrong})": tally["diastereomers"]}
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
