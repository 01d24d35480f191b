"""What the sampler takes from a molecular system: members of its states, springs of its reverse kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from boltzgen.model.graph import pair_orbits, stiff_pairs
from boltzgen.smc.bidirectional import StateMembers
from boltzgen.smc.elastic_network import Springs
from boltzgen.smc.kernels import KERNELS, ReverseKernel, make_kernel
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.stereochemistry.domain import domain_of


def state_members(system: MolecularSystem) -> StateMembers:
    """Membership of each state; an enantiomer counts as the configuration that it is the mirror image of."""
    domain = domain_of(system)

    def members(x: Tensor) -> dict[str, Tensor]:
        x, _ = domain.reflected(x)
        return {state.name: state.contains(state.cv.evaluate(x)) for state in system.states}

    return members


def elastic_kernel(system: MolecularSystem, kind: str = "ddpm+cov", eta: float = 0.5) -> ReverseKernel:
    """The reverse kernel; that with a covariance has springs between atoms one to three bonds apart."""
    pairs = stiff_pairs(system, n_bonds=3)
    if not KERNELS[kind].uses_springs or not len(pairs):
        return make_kernel(kind, eta=eta)
    orbits = pair_orbits(system)[tuple(pairs.T)]
    return make_kernel(kind, eta=eta, springs=Springs(torch.as_tensor(pairs), torch.as_tensor(orbits)))
