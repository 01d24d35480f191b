"""``boltzgen check``: what a system's energy is made of, how it is evaluated here, and its symmetries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import openmm
import torch

from boltzgen.descriptors import Described, described
from boltzgen.domain import Domain, domain_of
from boltzgen.errors import MolecularSystemError, said_by
from boltzgen.platform import installed_platforms
from boltzgen.potential import Potential, make_potential
from boltzgen.potential.timing import configurations_per_second
from boltzgen.progress import Report, silent
from boltzgen.system import MolecularSystem
from boltzgen.testing import SystemCheck, check_system

BATCH = 1024
"""Configurations per call in the throughput measurement."""
_SPREAD_NM = 0.003


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
    """

    system: MolecularSystem
    forces: dict[str, int]
    potentials: dict[str, Potential]
    throughput: dict[str, float]
    invariance: SystemCheck
    domain: Domain
    stereochemistry: list[Described]


def check(
    system: MolecularSystem, *, seconds: float | None = None, compiled: bool = True, report: Report = silent
) -> Check:
    """Compare and test the energy of a system, and time it if asked to.

    ``seconds`` are spent on timing each evaluator; ``compiled=False`` leaves the compiled ones out.
    Raises MolecularSystemError where the system cannot be sampled.
    """
    report(0.0, 1.0, "symmetries")
    try:
        invariance = check_system(system)
    except AssertionError as error:
        raise MolecularSystemError(
            system.name,
            f"fails a check of what sampling relies on ({said_by(error).removeprefix(f'{system.name}: ')})",
            "mend its force field (or give atoms that differ other elements or masses), or its states",
        ) from error
    report(0.1, 1.0, "agreement with OpenMM")
    potentials = {"float64": make_potential(system), "float32": make_potential(system, dtype=torch.float32)}
    throughput = {} if seconds is None else _throughput(system, potentials, seconds, compiled, report)
    report(1.0, 1.0, "done")
    counts: dict[str, int] = {}
    for force in system.openmm_system.getForces():
        counts[type(force).__name__] = counts.get(type(force).__name__, 0) + 1
    domain = domain_of(system)
    return Check(system, counts, potentials, throughput, invariance, domain, described(domain))


def _throughput(
    system: MolecularSystem,
    potentials: Mapping[str, Potential],
    seconds: float,
    compiled: bool,
    report: Report,
) -> dict[str, float]:
    """Energies with forces per second of each evaluator that starts on this machine."""
    evaluators = _evaluators(system, potentials, compiled)
    generator = torch.Generator().manual_seed(0)
    reference = torch.as_tensor(system.positions)
    x = reference + _SPREAD_NM * torch.randn(
        (BATCH, *reference.shape), generator=generator, dtype=reference.dtype
    )
    throughput = {}
    for k, (name, make) in enumerate(evaluators.items()):
        report(0.2 + 0.8 * k / len(evaluators), 1.0, f"timing {name}")
        try:
            throughput[name] = configurations_per_second(make().energy_and_forces, x, seconds)
        except openmm.OpenMMException:  # a platform that is installed but finds no device
            continue
    return throughput


def _evaluators(
    system: MolecularSystem, potentials: Mapping[str, Potential], compiled: bool
) -> dict[str, Callable[[], Potential]]:
    def by_openmm(platform: str) -> Callable[[], Potential]:
        return lambda: make_potential(system, backend="openmm", platform=platform)

    def batched(dtype: torch.dtype, fused: bool) -> Callable[[], Potential]:
        return lambda: make_potential(system, backend="batched", dtype=dtype, compiled=fused)

    evaluators = {f"OpenMM {name}": by_openmm(name) for name in installed_platforms()}
    for name, potential in potentials.items():
        if potential.backend == "batched":
            dtype = getattr(torch, name)
            evaluators[f"batched {name}, eager"] = batched(dtype, False)
            if compiled:
                evaluators[f"batched {name}, compiled"] = batched(dtype, True)
    return evaluators
