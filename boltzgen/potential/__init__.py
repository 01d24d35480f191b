"""Target energies: reduced potentials u(x) = U(x) / kT of batches of configurations."""

from boltzgen.potential.openmm import OpenMMPotential

__all__ = ["OpenMMPotential"]
