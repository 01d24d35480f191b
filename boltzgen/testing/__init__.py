"""What authors run on their own work: `check_system` on a molecular system, `check_energy` on a network."""

from boltzgen.testing.energies import EnergyCheck, automorphisms, check_energy
from boltzgen.testing.systems import SystemCheck, check_system, equivalent_pairs

__all__ = ["EnergyCheck", "SystemCheck", "automorphisms", "check_energy", "check_system", "equivalent_pairs"]
