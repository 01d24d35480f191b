"""A bias on collective variables: a sum of harmonics of each, added to the energy of the molecule.

It is the same Fourier series in every configuration, whose coefficients are learned
(`boltzgen.simulate.flat_histogram`); one of several variables is a sum of functions of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from boltzgen.errors import ConfigError
from boltzgen.system.collective_variables import CollectiveVariable
from boltzgen.system.molecular_system import MolecularSystem

HARMONICS = 16
BIASED_KINDS = ("torsion", "angle", "distance", "radius_of_gyration")
"""The rotation of an rmsd has no gradient that compiles."""


@dataclass(frozen=True)
class Bias:
    """``sum_v sum_k a_vk cos(k theta_v) + b_vk sin(k theta_v)``.

    theta is a torsion itself; of other variables it is 0 at the lower end of a range and pi at its upper end,
    and constant beyond, where b is zero. Parameters ``(n_variables, 2 HARMONICS + 2)`` are a, b, and both
    ends of the range.
    """

    variables: tuple[CollectiveVariable, ...]

    def none_yet(self) -> Tensor:
        """Parameters of a bias that is zero, float64."""
        found = torch.zeros(len(self.variables), 2 * HARMONICS + 2, dtype=torch.float64)
        found[:, -1] = 1.0
        return found

    def ranged(self, x: Tensor) -> Tensor:
        """The same over the ranges that configurations [nm] ``(n, n_atoms, 3)`` span."""
        found = self.none_yet()
        values = torch.stack([cv.evaluate(x) for cv in self.variables])
        found[:, -2], found[:, -1] = values.amin(1), values.amax(1)
        return found

    def angles(self, parameters: Tensor, x: Tensor) -> Tensor:
        """theta ``(n_variables, n)`` of configurations [nm] ``(n, n_atoms, 3)``."""
        rows = []
        for cv, low, high in zip(self.variables, parameters[:, -2], parameters[:, -1], strict=True):
            values = cv.evaluate(x)
            inside = ((values - low) / (high - low)).clamp(0.0, 1.0)
            rows.append(values if cv.periodic else math.pi * inside)
        return torch.stack(rows)

    def basis(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Cosines and sines ``(n_variables, 2 HARMONICS, n)``; the sines of what is not periodic are zero."""
        order = torch.arange(1, HARMONICS + 1, dtype=x.dtype)[:, None]
        angles = order * self.angles(parameters, x)[:, None]
        periodic = torch.tensor([float(cv.periodic) for cv in self.variables], dtype=x.dtype)
        return torch.cat([angles.cos(), periodic[:, None, None] * angles.sin()], dim=1)

    def energy(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Energies ``(n,)`` in the unit of a and b."""
        return self._series(parameters, self.angles(parameters, x))[0].sum(0)

    def energy_and_forces(self, parameters: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B,)`` and ``(n_atoms, 3, B)`` of configurations in that order.

        Only the angles are differentiated, in the positions of their atoms: little to compile.
        """
        atoms = sorted({atom for cv in self.variables for atom in cv.atoms or range(len(x))})
        place = {atom: k for k, atom in enumerate(atoms)}
        among = Bias(
            tuple(replace(cv, atoms=tuple(place[a] for a in cv.atoms or atoms)) for cv in self.variables)
        )
        with torch.enable_grad():
            few = x.detach()[atoms].requires_grad_()
            theta = among.angles(parameters, few.permute(2, 0, 1))
            energies, slopes = self._series(parameters, theta.detach())
            (gradient,) = torch.autograd.grad(theta, few, slopes)
        none = len(atoms)  # the row of atoms that feel nothing
        rows = torch.tensor([place.get(atom, none) for atom in range(len(x))])
        return energies.sum(0), -torch.cat([gradient, torch.zeros_like(gradient[:1])])[rows]

    def _series(self, parameters: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of each variable ``(n_variables, n)`` and its derivative in theta, by recurrence."""
        periodic = torch.tensor([[float(cv.periodic)] for cv in self.variables], dtype=theta.dtype)
        c1, s1 = theta.cos(), theta.sin()
        c, s, total, slope = c1, s1, torch.zeros_like(theta), torch.zeros_like(theta)
        for k in range(1, HARMONICS + 1):
            a = parameters[:, k - 1, None]
            b = periodic * parameters[:, HARMONICS + k - 1, None]
            total, slope = total + a * c + b * s, slope + k * (b * c - a * s)
            c, s = c * c1 - s * s1, s * c1 + c * s1
        return total, slope


def biased_variables(system: MolecularSystem, names: Sequence[str]) -> tuple[CollectiveVariable, ...]:
    """The variables of these names, or every torsion and those of states; ConfigError for others."""
    known = {cv.name: cv for cv in system.collective_variables}
    for name in names:
        if name not in known:
            raise ConfigError(
                "simulate.bias",
                f"{name} is no collective variable",
                f"known are {', '.join(known) or 'none'}",
            )
    of_states = {state.cv.name for state in system.states}
    slow = [name for name, cv in known.items() if cv.kind == "torsion" or name in of_states]
    chosen = tuple(known[name] for name in list(names) or slow)
    if not chosen:
        raise ConfigError("simulate.bias", "there is no variable to bias", "declare collective_variables")
    for cv in chosen:
        if cv.kind not in BIASED_KINDS:
            raise ConfigError(
                "simulate.bias", f"{cv.name} is of kind {cv.kind}", f"use one of {', '.join(BIASED_KINDS)}"
            )
    return chosen
