"""``boltzgen check``: what a system's energy is made of, how it is evaluated here, and its symmetries."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from boltzgen.analyze.known_systems import reference_of
from boltzgen.errors import MolecularSystemError, said_by
from boltzgen.potential import Potential, make_potential
from boltzgen.potential.timing import throughput_of
from boltzgen.runtime.progress import OnProgress, silent
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.stereochemistry.descriptors import Described, described
from boltzgen.system.stereochemistry.domain import Domain, domain_of
from boltzgen.testing import SystemCheck, check_system


@dataclass(frozen=True)
class Check:
    """What was found.

    forces
        Forces of the System that contribute to its energy and how they are evaluated, by class name.
    potentials
        The batched potential of each dtype, or OpenMM where it took over.
    throughput
        Energies with forces per second of each evaluator, configurations of thermal size, if asked for.
    invariance
        Numerical symmetries of the energy.
    domain, stereochemistry
        What log Z covers, and every centre, double bond, amide and axis of the reference structure.
    stored_reference
        Name of the one that runs are compared with, or nothing.
    """

    system: MolecularSystem
    forces: dict[str, int]
    potentials: dict[str, Potential]
    throughput: dict[str, float]
    invariance: SystemCheck
    domain: Domain
    stereochemistry: list[Described]
    stored_reference: str


def check(
    system: MolecularSystem,
    *,
    seconds: float | None = None,
    compiled: bool = True,
    on_progress: OnProgress = silent,
) -> Check:
    """Compare and test the energy of a system, and time it if asked to.

    ``seconds`` are spent on timing each evaluator; ``compiled=False`` leaves the compiled ones out.
    Raises MolecularSystemError where the system cannot be sampled.
    """
    on_progress(0.0, 1.0, "symmetries")
    try:
        invariance = check_system(system)
    except AssertionError as error:
        raise MolecularSystemError(
            system.name,
            f"fails a check of what sampling relies on ({said_by(error).removeprefix(f'{system.name}: ')})",
            "mend its force field (or give atoms that differ other elements or masses), or its states",
        ) from error
    on_progress(0.1, 1.0, "agreement with OpenMM")
    potentials = {"float64": make_potential(system), "float32": make_potential(system, dtype=torch.float32)}
    throughput = {} if seconds is None else throughput_of(system, potentials, seconds, compiled, on_progress)
    on_progress(1.0, 1.0, "done")
    counts: dict[str, int] = {}
    for force in system.openmm_system.getForces():
        counts[type(force).__name__] = counts.get(type(force).__name__, 0) + 1
    domain = domain_of(system)
    reference = reference_of(system)
    named = reference.name if reference else ""
    return Check(system, counts, potentials, throughput, invariance, domain, described(domain), named)
