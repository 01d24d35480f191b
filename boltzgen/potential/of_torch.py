"""Energies of one's own: a torch function of positions as a force of OpenMM, called in batches here."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from openmm import unit
from torch import Tensor

from boltzgen.errors import UserError, said_by
from boltzgen.potential.coordinates import Frame, Unsupported
from boltzgen.potential.terms import Layout, Term

Energy = Callable[[Tensor], Tensor]
"""Positions [nm] ``(n, n_atoms, 3)`` to energies [kJ/mol] ``(n,)`` that can be differentiated."""


def torch_force(energy: Energy) -> openmm.PythonForce:
    """A force for an OpenMM System whose energy is a torch function, a machine-learned one for instance.

    energy
        Takes positions [nm] ``(n, n_atoms, 3)``, of a precision and on a device that are not its choice, and
        returns energies [kJ/mol] ``(n,)``, each of its own configuration alone, that torch can differentiate.
        A module of torch is moved to the device of the positions. No translation or rotation may change it.

    Samplers call it with batches, OpenMM with one configuration at a time. Raises UserError for what cannot
    be pickled: other processes need it too.
    """
    if not hasattr(openmm, "PythonForce"):
        raise UserError("torch_force", f"OpenMM {openmm.__version__} has no PythonForce", "take a newer one")
    try:
        pickle.dumps(energy)
    except Exception as error:  # pickle raises whatever the object does
        raise UserError(
            "torch_force",
            f"the energy cannot be pickled ({said_by(error)})",
            "make it a function or a class at the top level of a module",
        ) from error
    return openmm.PythonForce(OneAtATime(energy))


@dataclass(frozen=True)
class OneAtATime:
    """What OpenMM calls: energy [kJ/mol] and forces [kJ/mol/nm] of the configuration of a State."""

    energy: Energy

    def __call__(self, state: openmm.State) -> tuple[float, NDArray[np.float64]]:
        positions = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        x = torch.tensor(positions, dtype=torch.float64)[None]
        with torch.enable_grad():
            energy = self.energy(x.requires_grad_())
            (gradient,) = torch.autograd.grad(energy.sum(), x)
        return float(energy.detach()), -gradient[0].numpy()


@dataclass(frozen=True)
class Whole:
    """An energy of some atoms, all of them where ``rows`` is None."""

    energy: Energy
    rows: Tensor | None

    def __call__(self, frame: Frame) -> Tensor:
        x = frame.x if self.rows is None else frame.x[self.rows]
        return self.energy(x.permute(2, 0, 1)).to(x.dtype)


def torch_functions(force: openmm.PythonForce, layout: Layout) -> list[Term]:
    """The function of `torch_force`, in a copy on the device of the evaluation."""
    # OpenMM gives the function back in its XML only.
    written = ElementTree.fromstring(openmm.XmlSerializer.serialize(force)).get("function", "")
    called = pickle.loads(bytes.fromhex(written))
    if not isinstance(called, OneAtATime):
        raise Unsupported("a PythonForce that is none of boltzgen.torch_force")
    energy = called.energy
    if isinstance(energy, torch.nn.Module):
        energy = energy.to(layout.like.device)
    atoms = list(force.getParticles())
    return [Whole(energy, torch.tensor(atoms, device=layout.like.device) if atoms else None)]
