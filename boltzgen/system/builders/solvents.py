"""Implicit solvents by name, for force fields whose files do not bring one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import openmm
from openmm import app, unit
from openmm.app.internal import customgbforces

from boltzgen.errors import MolecularSystemError

VACUUM = "vacuum"


@dataclass(frozen=True)
class SolventModel:
    """A generalised Born model.

    option
        OpenMM's name of it, an argument of ``createSystem``.
    force
        Its force with the radii that OpenMM gives by element and bonds.
    radii
        The set of radii that it was fitted with, as Amber calls it.
    """

    option: object
    force: Callable[..., openmm.CustomGBForce]
    radii: str


MODELS = {
    "HCT": SolventModel(app.HCT, customgbforces.GBSAHCTForce, "mbondi"),
    "OBC1": SolventModel(app.OBC1, customgbforces.GBSAOBC1Force, "mbondi2"),
    "OBC2": SolventModel(app.OBC2, customgbforces.GBSAOBC2Force, "mbondi2"),
    "GBn": SolventModel(app.GBn, customgbforces.GBSAGBnForce, "bondi"),
    "GBn2": SolventModel(app.GBn2, customgbforces.GBSAGBn2Force, "mbondi3"),
}


def solvent_named(where: Path | str, name: str | None) -> str | None:
    """The key of `MODELS` that is meant, upper or lower case; None for vacuum and for no name."""
    if name is None or str(name).lower() == VACUUM:
        return None
    found = {model.lower(): model for model in MODELS}.get(str(name).lower())
    if found is None:
        raise MolecularSystemError(
            where, f"unknown implicit_solvent {name}", f"use one of {', '.join((*MODELS, VACUUM))}"
        )
    return found


def add_solvent(system: openmm.System, topology: app.Topology, name: str, cutoff_nm: float | None) -> None:
    """Put a model of `MODELS` into a System, in place, with the charges of its NonbondedForce.

    Radii are those that OpenMM gives by element and bonds, and the surface term is that of its readers of
    Amber files and of its force fields (ACE).
    """
    force = MODELS[name].force(SA="ACE", cutoff=cutoff_nm)
    nonbonded = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    for atom, parameters in enumerate(force.getStandardParameters(topology)):
        charge = nonbonded.getParticleParameters(atom)[0].value_in_unit(unit.elementary_charge)
        force.addParticle([charge, *parameters])
    force.finalize()
    if cutoff_nm is not None:
        force.setNonbondedMethod(openmm.CustomGBForce.CutoffNonPeriodic)
        force.setCutoffDistance(cutoff_nm)
    nonbonded.setReactionFieldDielectric(1.0)
    system.addForce(force)
