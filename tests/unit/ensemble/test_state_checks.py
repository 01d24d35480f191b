"""States of every value or none are refused; those of every frame or none are warned of, with their unit."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import openmm
import pytest
from helpers.chain import END_TO_END, PHI, chain_positions, chain_system

from boltzgen.ensemble.state_checks import check_states, overlap_warnings, possible_range, state_warnings
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.errors import ConfigError
from boltzgen.system.collective_variables import CollectiveVariable, State
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system

LONGEST = 4 * 0.15 * 1.3
ANGLE = CollectiveVariable("bend", "angle", (0, 1, 2))
SIZE = CollectiveVariable("size", "radius_of_gyration")


def with_states(*regions: tuple[CollectiveVariable, list[tuple[float, float]]]) -> MolecularSystem:
    states = tuple(State(f"s{k}", cv, tuple(intervals)) for k, (cv, intervals) in enumerate(regions))
    return replace(chain_system(), states=states)


def frames() -> WeightedEnsemble:
    """Torsions of -1.5 to 1.5, equally weighted; the ends are 0.39 to 0.52 nm apart."""
    phi = np.linspace(-1.5, 1.5, 100)
    return WeightedEnsemble(chain_positions(phi, 0 * phi + 2.0), np.zeros(100), np.zeros(100), 300.0)


def test_ranges_hold_what_is_possible_and_little_more() -> None:
    chain = chain_system()
    variables = {kind: CollectiveVariable(kind, kind) for kind in ("radius_of_gyration",)}  # type: ignore[arg-type]
    variables["rmsd"] = CollectiveVariable("rmsd", "rmsd", (), tuple(map(tuple, chain.positions)))
    variables["distance"] = END_TO_END
    stretched = np.zeros((1, 5, 3), dtype=np.float32)
    stretched[0, :, 0] = 1.25 * 0.15 * np.arange(5)
    for kind, tightness in (("distance", 0.95), ("radius_of_gyration", 0.55), ("rmsd", 0.2)):
        low, high = possible_range(chain, variables[kind])
        value = float(variables[kind].values(stretched)[0])
        assert low == 0.0 and tightness * high < value < high, kind
    assert possible_range(chain, END_TO_END)[1] == pytest.approx(LONGEST, abs=1e-6)
    assert possible_range(chain, PHI) == (-math.pi, math.pi)
    assert possible_range(chain, ANGLE) == (0.0, math.pi)


def test_nothing_is_said_of_atoms_that_no_harmonic_bonds_join() -> None:
    chain = chain_system()
    double_well = openmm.CustomBondForce("(r-0.1)^2*(r-0.4)^2")
    double_well.addBond(1, 2, [])
    chain.openmm_system.addForce(double_well)
    assert possible_range(chain, END_TO_END) == (0.0, math.inf)
    assert possible_range(load_system("lj13"), SIZE) == (0.0, math.inf)
    soft = load_system("harmonic_dimer", {"stiffness": 100.0})
    assert possible_range(soft, soft.collective_variables[0])[1] > 1.0


@pytest.mark.parametrize(
    ("cv", "intervals", "expected"),
    [
        (END_TO_END, [(0.0, 3.5)], "every value that the variable end to end can have (0 to 0.78 nm); int"),
        (END_TO_END, [(0.0, 3.5)], "in nm: if Angstrom was meant, divide by 10"),
        (END_TO_END, [(3.5, math.inf)], "no value that the variable end to end can have (0 to 0.78 nm); int"),
        (END_TO_END, [(0.0, 9.0)], "in nm: if Angstrom was meant, divide by 10"),
        (END_TO_END, [(0.0, 350.0)], "if pm were meant, divide by 1000"),
        (END_TO_END, [(0.0, math.inf)], "can have (0 to 0.78 nm); give the part of that range that is meant"),
        (END_TO_END, [(0.0, 0.4), (0.4, 1.0)], "covers every value"),
        (SIZE, [(0.0, 3.0)], "covers every value that the variable size can have (0 to 0.478 nm)"),
        (PHI, [(-math.inf, math.inf)], "value that the variable phi can have (-3.14 to 3.14 rad); give"),
        (PHI, [(-3.14, 3.14)], "covers every value"),
        (PHI, [(-6.0, 6.0)], "covers every value"),
        (ANGLE, [(4.0, 6.0)], "bend can have (0 to 3.14 rad); intervals are in rad: if degrees"),
        (ANGLE, [(-1.0, 0.0)], "holds no value"),
    ],
)  # fmt: skip
def test_states_of_no_use_are_refused(
    cv: CollectiveVariable, intervals: list[tuple[float, float]], expected: str
) -> None:
    system = with_states((cv, intervals))
    with pytest.raises(ConfigError) as caught:
        check_states(system, {"s0": "states.s0.intervals"})
    assert str(caught.value).startswith("states.s0.intervals: ") and expected in str(caught.value)
    with pytest.raises(ConfigError, match=r"^chain: state s0: "):
        check_states(system, {})


@pytest.mark.parametrize("end", [0.4, math.inf])
def test_states_of_use_are_not(end: float) -> None:
    check_states(with_states((END_TO_END, [(0.3, end)]), (PHI, [(0.0, 2.0)]), (ANGLE, [(0.0, 1.9)])), {})
    cluster = load_system("lj13")
    check_states(
        replace(cluster, states=(State("far", cluster.collective_variables[0], ((3.0, end + 9),)),)), {}
    )
    with pytest.raises(ConfigError, match=r"can have \(0 nm and more\)"):
        everywhere = State("all", cluster.collective_variables[0], ((0.0, math.inf),))
        check_states(replace(cluster, states=(everywhere,)), {})


def said(*regions: tuple[CollectiveVariable, list[tuple[float, float]]]) -> list[str]:
    return state_warnings(with_states(*regions), frames())


def test_states_that_data_never_or_always_visit_are_named() -> None:
    assert said((PHI, [(0.0, 3.0)]), (PHI, [(-3.0, 0.0)])) == []
    (never,) = said((PHI, [(0.0, 3.0)]), (PHI, [(2.0, 2.5)]))
    assert (
        "the data never visit the state s1, so that" in never
        and "(phi is -1.5 to 1.5 rad in the data); sim" in never
    )
    (never,) = said((END_TO_END, [(0.0, 0.7)]), (END_TO_END, [(4.5, 5.0)]))
    assert (
        "nm in the data, every frame in s0); intervals are in nm: if Angstrom was meant, divide by 10, else"
        in never
    )
    (always,) = said((PHI, [(-2.0, 2.0)]))
    assert "every frame of the data is in the state s0, which tells nothing apart (phi is -1.5" in always


def test_the_states_of_delta_f_are_looked_at_together() -> None:
    (both,) = said((PHI, [(-2.0, 0.1)]), (PHI, [(0.0, 3.0)]))
    assert "3 of 100 frames are in both the states s0 and s1 of Delta F" in both
    (outside,) = said((PHI, [(-0.5, 0.0)]), (PHI, [(0.0, 0.5)]))
    assert "leave out 67% of the data" in outside
    assert said((PHI, [(-1.0, 0.0)]), (PHI, [(0.0, 1.0)]), (END_TO_END, [(0.4, 1.0)])) == []
    assert overlap_warnings(with_states((PHI, [(-2.0, 0.1)]), (PHI, [(0.0, 3.0)])))
    assert not overlap_warnings(with_states((PHI, [(-2.0, 0.0)]), (PHI, [(0.0, 3.0)])))
