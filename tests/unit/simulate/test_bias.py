"""A bias on collective variables: its forces, ranges and learning; which variables are taken."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from boltzgen.errors import ConfigError
from boltzgen.simulate.bias import HARMONICS, Bias, biased_variables
from boltzgen.simulate.flat_histogram import FASTEST, flatness, growth
from boltzgen.system.collective_variables import CollectiveVariable, State
from boltzgen.system.registry import load_system

KINDS = {"torsion": (4, 6, 8, 14), "angle": (4, 6, 8), "distance": (1, 20), "radius_of_gyration": ()}


def configurations(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.as_tensor(load_system("alanine_dipeptide").positions)
    return x + 0.02 * torch.randn(n, *x.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_series_that_it_says_and_forces_are_its_gradient(kind: str) -> None:
    bias = Bias(
        (CollectiveVariable("a", kind, KINDS[kind]), CollectiveVariable("b", "torsion", (0, 1, 4, 6)))
    )
    x, generator = configurations(5), torch.Generator().manual_seed(2)
    parameters = bias.ranged(configurations(50))
    parameters[:, : 2 * HARMONICS] = torch.randn(2, 2 * HARMONICS, generator=generator, dtype=torch.float64)
    energy, force = bias.energy_and_forces(parameters, x.permute(1, 2, 0))
    expected = np.zeros(5)
    for cv, theta, row in zip(
        bias.variables, bias.angles(parameters, x).numpy(), parameters.numpy(), strict=True
    ):
        for k in range(1, HARMONICS + 1):
            expected += row[k - 1] * np.cos(k * theta)
            expected += row[HARMONICS + k - 1] * np.sin(k * theta) if cv.periodic else 0.0
    np.testing.assert_allclose(energy.numpy(), expected, atol=1e-10)
    moved = x.clone()
    moved[:, 6, 1] += 1e-6
    rise = (bias.energy(parameters, moved) - energy) / 1e-6
    np.testing.assert_allclose(-force[6, 1].numpy(), rise.numpy(), rtol=1e-3, atol=1e-3)


def test_beyond_its_range_it_is_constant() -> None:
    bias = Bias((CollectiveVariable("r", "distance", (0, 1)),))
    parameters = torch.ones(1, 2 * HARMONICS + 2, dtype=torch.float64)
    parameters[:, -2:] = torch.tensor([0.2, 0.4])
    x = torch.zeros(4, 2, 3, dtype=torch.float64)
    x[:, 1, 0] = torch.tensor([0.1, 0.2, 0.4, 0.6])
    energy, force = bias.energy_and_forces(parameters, x.permute(1, 2, 0))
    assert energy[0] == energy[1] and energy[2] == energy[3] and energy[0] != energy[2]
    assert not force[..., [0, 3]].any()


def test_what_is_added_is_a_gaussian_of_unit_area_around_the_replicas() -> None:
    """On the circle, relative to a mean of one that no harmonic has."""
    bias, x = Bias((CollectiveVariable("phi", "torsion", (4, 6, 8, 14)),)), configurations(1)
    added = growth(bias, bias.none_yet(), x, 0.1, 0.1)
    theta = float(bias.angles(bias.none_yet(), x))
    at = np.linspace(-math.pi, math.pi, 201)
    series = sum(
        float(added[0, k - 1]) * np.cos(k * at) + float(added[0, HARMONICS + k - 1]) * np.sin(k * at)
        for k in range(1, HARMONICS + 1)
    )
    turn = np.abs((at - theta + math.pi) % (2 * math.pi) - math.pi)
    gaussian = 2 * math.pi * np.exp(-0.5 * (turn / 0.2) ** 2) / math.sqrt(2 * math.pi) / 0.2
    np.testing.assert_allclose(series, 0.1 * FASTEST * (gaussian - 1.0), atol=0.01)
    assert growth(bias, bias.none_yet(), x, 100.0, 0.1)[0, 0] == pytest.approx(float(added[0, 0]) * 0.03)


def test_flatness_is_one_for_all_values_and_small_for_one() -> None:
    assert flatness(np.linspace(-3.1415, 3.1415, 36_000), True) > 0.999
    assert flatness(np.linspace(0.0, 3.1415, 36_000), False) > 0.999
    assert flatness(np.linspace(0.0, 3.1415, 36_000), True) == pytest.approx(0.5, abs=0.01)
    assert flatness(np.full(100, 0.5), True) == pytest.approx(1 / 36)


def test_variables_are_those_named_or_those_of_the_states() -> None:
    system = load_system("alanine_dipeptide")
    assert [cv.name for cv in biased_variables(system, ())] == ["phi", "psi"]
    assert [cv.name for cv in biased_variables(system, ("psi", "phi"))] == ["psi", "phi"]
    dimer = load_system("harmonic_dimer")
    bond = dimer.collective_variables[0]
    stretched = replace(dimer, states=(State("stretched", bond, ((0.2, 0.3),)),))
    assert biased_variables(stretched, ()) == (bond,)
    with pytest.raises(
        ConfigError, match=r"simulate.bias: chi is no collective variable; known are phi, psi"
    ):
        biased_variables(system, ("chi",))
    rmsd = CollectiveVariable("fold", "rmsd", (0, 1), ((0.0, 0.0, 0.0), (0.1, 0.0, 0.0)))
    folded = replace(system, collective_variables=(rmsd,), states=(State("near", rmsd, ((0.0, 0.1),)),))
    with pytest.raises(ConfigError, match="fold is of kind rmsd"):
        biased_variables(folded, ())
    with pytest.raises(ConfigError, match="no variable to bias"):
        biased_variables(replace(system, collective_variables=(), states=()), ())
