"""What authors run on their own work: `check_system` on a molecular system, and on an energy network
`boltzgen.testing.energies.check_energy`, which lives in its own module because networks are slow to import.
"""

from boltzgen.testing.system_checks import SystemCheck, check_system, equivalent_pairs

__all__ = ["SystemCheck", "check_system", "equivalent_pairs"]
