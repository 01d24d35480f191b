"""Which transformations leave a system's energy unchanged, tested numerically."""

from __future__ import annotations

import torch

from boltzgen import geometry
from boltzgen.errors import MolecularSystemError
from boltzgen.potential.potential import make_potential
from boltzgen.system.molecular_system import MolecularSystem


def check_translation_invariant(system: MolecularSystem) -> None:
    """Raise MolecularSystemError if moving the whole molecule changes its energy."""
    reference = torch.as_tensor(system.positions)
    shifts = torch.tensor(
        [[0.0, 0.0, 0.0], [0.31, 0.0, 0.0], [0.0, -0.53, 0.0], [0.0, 0.0, 0.97]], dtype=torch.float64
    )
    potential = make_potential(system, backend="openmm", platform="Reference")
    energy, forces = potential.energy_and_forces(reference + shifts[:, None, :])
    net, scale = float(forces.sum(dim=1).norm(dim=-1).max()), float(forces.abs().max())
    change = float((energy - energy[0]).abs().max())
    if change > 1e-3 * (1.0 + abs(float(energy[0]))) or net > 1e-2 * (1.0 + scale):
        raise MolecularSystemError(
            system.name,
            f"the energy changes by {change:.3g} kJ/mol when the whole molecule is moved",
            "remove external forces and position restraints (forces must depend on relative positions only)",
        )


def reflection_is_symmetry(system: MolecularSystem) -> bool:
    """Whether mirror images have the same energy, tested on distorted copies of the reference."""
    generator = torch.Generator().manual_seed(0)
    reference = torch.as_tensor(system.positions)
    noise = torch.randn((8, *reference.shape), generator=generator, dtype=torch.float64)
    scales = torch.linspace(0.002, 0.02, 8, dtype=torch.float64)[:, None, None]
    x = reference + scales * noise
    potential = make_potential(system, backend="openmm")
    u, mirrored = potential(x), potential(geometry.mirror(x))
    return bool(torch.allclose(u, mirrored, rtol=1e-5, atol=1e-3))
