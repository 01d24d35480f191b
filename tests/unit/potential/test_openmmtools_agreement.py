"""Batched energies and forces of openmmtools' test systems against OpenMM's Reference platform."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from helpers.agreement import assert_agreement
from openmm import unit

OPENMMTOOLS = [
    "AlanineDipeptideImplicit",
    "AlanineDipeptideVacuum",
    "AlchemicalAlanineDipeptide",
    "ConstraintCoupledHarmonicOscillator",
    "Diatom",
    "HarmonicOscillator",
    "HarmonicOscillatorArray",
    "HostGuestImplicit",
    "HostGuestImplicitGBn",
    "HostGuestImplicitGBn2",
    "HostGuestImplicitHCT",
    "HostGuestImplicitOBC1",
    "HostGuestImplicitOBC2",
    "HostGuestVacuum",
    "LennardJonesCluster",
    "LennardJonesPair",
    "PowerOscillator",
    "TolueneImplicit",
    "TolueneImplicitGBn",
    "TolueneImplicitGBn2",
    "TolueneImplicitHCT",
    "TolueneImplicitOBC1",
    "TolueneImplicitOBC2",
    "TolueneVacuum",
    "WaterCluster",
]
"""Every test system of openmmtools 0.27 without periodic box and with at most 200 particles."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if "HostGuest" in n else ()) for n in OPENMMTOOLS]
)
def test_openmmtools_systems_agree(name: str) -> None:
    logging.getLogger("pymbar").setLevel(logging.ERROR)  # greets every import with a banner
    from openmmtools import testsystems

    molecule = getattr(testsystems, name)()
    assert_agreement(molecule.system, np.array(molecule.positions.value_in_unit(unit.nanometer)))
