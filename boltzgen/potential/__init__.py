"""Target energies: reduced potentials u(x) = U(x) / kT of batches of configurations."""

from boltzgen.potential.potential import Potential, make_potential

__all__ = ["Potential", "make_potential"]
