"""Target energies: reduced potentials u(x) = U(x) / kT of batches of configurations."""

from boltzgen.potential.of_torch import torch_force
from boltzgen.potential.potential import Potential, make_potential, potential_of_openmm

__all__ = ["Potential", "make_potential", "potential_of_openmm", "torch_force"]
