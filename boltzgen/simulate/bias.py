"""A bias on collective variables: a sum of harmonics of each, added to the energy of the molecule.

It is the same Fourier series in every configuration, whose coefficients are learned
(`boltzgen.simulate.flat_histogram`); one of several variables is a sum of functions of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
        theta = self.angles(parameters, x)
        c, s = theta.cos(), theta.sin()
        cosines, sines = [c], [s]
        for _ in range(HARMONICS - 1):
            a, b = cosines[-1], sines[-1]
            cosines.append(a * c - b * s)
            sines.append(b * c + a * s)
        periodic = torch.tensor([[float(cv.periodic)] for cv in self.variables]).to(x)
        return torch.stack([*cosines, *(periodic * each for each in sines)], dim=1)

    def energy(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Energies ``(n,)`` in the unit of a and b."""
        return (parameters[:, : 2 * HARMONICS, None] * self.basis(parameters, x)).sum((0, 1))

    def energy_and_forces(self, parameters: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B,)`` and ``(n_atoms, 3, B)`` of configurations in that order."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = self.energy(parameters, x.permute(2, 0, 1))
            (gradient,) = torch.autograd.grad(energy.sum(), x)
        return energy.detach(), -gradient


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
