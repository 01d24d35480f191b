"""What the author of a molecular system runs on it: ``check_system(build())``."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from boltzgen import geometry
from boltzgen.potential import Potential, make_potential
from boltzgen.potential.cohesion import check_cohesion
from boltzgen.potential.symmetries import check_translation_invariant, reflection_is_symmetry
from boltzgen.system.molecular_system import MolecularSystem

_MOST_SWAPS = 60
MOST_BY_EXCHANGE = 2.0
"""Change of u by an exchange of equivalent atoms that is let pass: impropers of Amber's force fields depend
on the order of their atoms, by up to 0.8 in carboxylates. Samples are weighted by the energy as it is."""


@dataclass(frozen=True)
class SystemCheck:
    """What ``check_system`` measured.

    reduced_energy
        u at the reference configuration.
    translation_error, rotation_error, exchange_error
        Largest change of u under random translations and rotations and under exchanges of equivalent atoms.
    gradient_error
        Largest difference to central finite differences, relative to the largest gradient component.
    n_exchanges
        Exchanges of equivalent atoms tried.
    mirror_symmetric
        Whether mirror images have the same energy.
    """

    reduced_energy: float
    translation_error: float
    rotation_error: float
    exchange_error: float
    gradient_error: float
    n_exchanges: int
    mirror_symmetric: bool


def check_system(system: MolecularSystem, tolerance: float = 1e-4, seed: int = 0) -> SystemCheck:
    """Check that a system can be sampled: finite, invariant, bound, differentiable, with disjoint states.

    Energies come from OpenMM's Reference platform (double precision) on slightly distorted copies of the
    reference configuration. ``tolerance`` is absolute in u plus relative to its size.

    Raises AssertionError with one line naming what fails (MolecularSystemError for external forces and
    for what flies apart).
    """
    potential = make_potential(system, backend="openmm", platform="Reference")
    generator = torch.Generator().manual_seed(seed)
    reference = torch.as_tensor(system.positions, dtype=torch.float64)
    reduced_energy = float(potential(reference[None]))
    _require(system, np.isfinite(reduced_energy), "the energy of the reference configuration is not finite")
    check_translation_invariant(system)
    check_cohesion(system)
    noise = torch.randn((4, *reference.shape), generator=generator, dtype=torch.float64)
    x = reference + 0.003 * noise
    moved = x + torch.randn((4, 1, 3), generator=generator, dtype=torch.float64)
    turned = x @ geometry.random_rotations(4, generator, torch.float64).transpose(1, 2)
    exchanges = equivalent_pairs(system)
    u = potential(x)
    allowed = tolerance * (1 + float(u.abs().max()))
    result = SystemCheck(
        reduced_energy=reduced_energy,
        translation_error=float((potential(moved) - u).abs().max()),
        rotation_error=float((potential(turned) - u).abs().max()),
        exchange_error=_exchange_error(system, potential, x[0], exchanges),
        gradient_error=_gradient_error(potential, x[:1], generator),
        n_exchanges=len(exchanges),
        mirror_symmetric=reflection_is_symmetry(system),
    )
    for what in ("translation", "rotation"):
        error = getattr(result, f"{what}_error")
        _require(system, error <= allowed, f"u changes by {error:.2g} under {what}; it must not")
    error = result.gradient_error
    _require(system, error <= 1e-4, f"the gradient differs from finite differences by {error:.2g} (relative)")
    _check_states(system)
    return result


def equivalent_pairs(system: MolecularSystem) -> list[tuple[int, int]]:
    """Pairs of atoms whose exchange, all others kept, is a symmetry of the molecular graph (60 at most)."""
    classes, neighbours = (
        system.atom_classes,
        {i: set(system.graph.neighbors(i)) for i in range(system.n_atoms)},
    )
    pairs = (
        (i, j)
        for i, j in itertools.combinations(range(system.n_atoms), 2)
        if classes[i] == classes[j] and neighbours[i] - {j} == neighbours[j] - {i}
    )
    return list(itertools.islice(pairs, _MOST_SWAPS))


def _exchange_error(
    system: MolecularSystem,
    potential: Potential,
    x: Tensor,
    pairs: list[tuple[int, int]],
) -> float:
    """Largest change of u when two equivalent atoms trade places; AssertionError where it is not allowed."""
    u, worst = potential(x[None]), 0.0
    for i, j in pairs:
        order = list(range(system.n_atoms))
        order[i], order[j] = j, i
        change = float((potential(x[None, order]) - u).abs())
        _require(
            system,
            change <= MOST_BY_EXCHANGE,
            f"atoms {i} and {j} look equivalent (same bonds, element, mass and charge) but exchanging them "
            f"changes u by {change:.2g} kT: their terms in the force field differ",
        )
        worst = max(worst, change)
    return worst


def _gradient_error(potential: Potential, x: Tensor, generator: torch.Generator) -> float:
    """Along random directions, by central differences of 1e-5 nm."""
    _, gradient = potential.reduced_energy_and_gradient(x)
    directions = torch.randn((6, *x.shape[1:]), generator=generator, dtype=torch.float64)
    directions /= directions.square().sum(dim=(1, 2), keepdim=True).sqrt()
    step = 1e-5
    slopes = (potential(x + step * directions) - potential(x - step * directions)) / (2 * step)
    difference = (slopes - (gradient * directions).sum(dim=(1, 2))).abs().max()
    return float(difference / (1e-8 + gradient.square().sum().sqrt()))


def _check_states(system: MolecularSystem) -> None:
    names = [state.name for state in system.states]
    _require(system, len(set(names)) == len(names), f"two states share a name: {', '.join(names)}")
    for a, b in itertools.combinations(system.states, 2):
        if a.cv != b.cv:
            continue
        for (low, high), (other_low, other_high) in itertools.product(a.intervals, b.intervals):
            _require(
                system,
                min(high, other_high) - max(low, other_low) < 1e-9,
                f"states {a.name} and {b.name} overlap: "
                f"[{low:g}, {high:g}) and [{other_low:g}, {other_high:g})",
            )


def _require(system: MolecularSystem, condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(f"{system.name}: {message}")
