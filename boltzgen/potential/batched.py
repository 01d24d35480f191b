"""An OpenMM System compiled to torch: energies and forces of thousands of configurations at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openmm
import torch
from torch import Tensor

from boltzgen.potential import compound, custom, forces
from boltzgen.potential.coordinates import Unsupported
from boltzgen.potential.of_torch import torch_functions
from boltzgen.potential.program import OnePass, Program
from boltzgen.potential.terms import Layout, Term
from boltzgen.system.molecular_system import WITHOUT_ENERGY

LARGEST = 500
"""Atoms up to which all pairs of many configurations are worth holding in memory."""

_COMPILERS: dict[str, Callable[[Any, Layout], list[Term]]] = {
    "HarmonicBondForce": forces.harmonic_bonds,
    "HarmonicAngleForce": forces.harmonic_angles,
    "PeriodicTorsionForce": forces.periodic_torsions,
    "RBTorsionForce": forces.rb_torsions,
    "CMAPTorsionForce": forces.torsion_maps,
    "NonbondedForce": forces.nonbonded,
    "GBSAOBCForce": custom.gbsa_obc,
    "CustomBondForce": custom.custom_bonds,
    "CustomAngleForce": custom.custom_angles,
    "CustomTorsionForce": custom.custom_torsions,
    "CustomExternalForce": custom.custom_external,
    "CustomNonbondedForce": custom.custom_nonbonded,
    "CustomGBForce": custom.custom_gb,
    "CustomCompoundBondForce": compound.compound_bonds,
    "CustomCentroidBondForce": compound.centroid_bonds,
    "PythonForce": torch_functions,
}


def compile_forces(system: openmm.System, like: Tensor, fused: bool = False) -> dict[str, list[Term]]:
    """The terms of every force, by force name, in the dtype and on the device of ``like``.

    ``fused`` terms are for a compiler, which merges their operations (see Sum). Raises Unsupported, with
    the name of what is in the way.
    """
    if system.getNumParticles() > LARGEST:
        raise Unsupported(f"{system.getNumParticles()} atoms: all pairs are held in memory up to {LARGEST}")
    for atom in range(system.getNumParticles()):
        if system.isVirtualSite(atom):
            raise Unsupported("virtual sites")
    masses = [system.getParticleMass(atom)._value for atom in range(system.getNumParticles())]
    layout = Layout(np.array(masses), like, fused)
    compiled: dict[str, list[Term]] = {}
    for force in system.getForces():
        name = type(force).__name__
        if name in WITHOUT_ENERGY or _is_empty(force):
            continue
        if name not in _COMPILERS:
            raise Unsupported(f"a {name}")
        if force.usesPeriodicBoundaryConditions():
            raise Unsupported(f"a periodic {name}")
        compiled.setdefault(name, []).extend(_COMPILERS[name](force, layout))
    return compiled


def _is_empty(force: openmm.Force) -> bool:
    counts = ("getNumBonds", "getNumAngles", "getNumTorsions", "getNumParticles")
    return any(getattr(force, count)() == 0 for count in counts if hasattr(force, count))


class BatchedEvaluator:
    """Energies [kJ/mol] and forces [kJ/mol/nm] of an OpenMM System in torch, on the device of the input.

    system
        Compiled at construction; raises Unsupported where it cannot be.
    dtype
        Of the arithmetic and the results.
    compiled
        Whether to fuse everything into one kernel; by default once eager evaluation has taken long.
    chunk
        Configurations in one pass where fewer than fit the cache are enough.
    """

    def __init__(
        self,
        system: openmm.System,
        dtype: torch.dtype,
        compiled: bool | None = None,
        chunk: int | None = None,
    ) -> None:
        self.system, self.dtype, self.compiled, self.chunk = system, dtype, compiled, chunk
        self._programs: dict[torch.device, Program] = {}
        self.forces = sorted(self._program(torch.device("cpu")).forces)

    def energy(self, x: Tensor) -> Tensor:
        """Energies ``(n,)`` by plain tensor operations, differentiable any number of times in ``x``."""
        return self._program(x.device).energy(x.to(self.dtype).permute(1, 2, 0))

    def energy_and_forces(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies ``(n,)`` and forces ``(n, n_atoms, 3)`` without autograd, in chunks.

        An energy that is not a finite number is +inf; forces that are not finite are zero.
        """
        return self._program(x.device).energy_and_forces(x.detach())

    def one_pass(self, device: torch.device, to_compile: bool) -> OnePass:
        """See `boltzgen.potential.program.Program.one_pass`."""
        return self._program(device).one_pass(to_compile)

    def _program(self, device: torch.device) -> Program:
        if device not in self._programs:
            like = torch.empty(0, dtype=self.dtype, device=device)
            self._programs[device] = Program(
                compile_forces(self.system, like),
                lambda: compile_forces(self.system, like, fused=True),
                self.system.getNumParticles(),
                like,
                self.compiled,
                self.chunk,
            )
        return self._programs[device]

    def __getstate__(self) -> dict[str, Any]:
        """Compiled code stays behind when the evaluator travels to another process."""
        return {**self.__dict__, "_programs": {}}
