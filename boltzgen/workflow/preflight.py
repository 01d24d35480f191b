"""Checks of a run before anything is written: the energy of its system, what the directory holds, room."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import torch

from boltzgen.analyze.observables import check_observables
from boltzgen.config.schema import ModelSettings, Workflow
from boltzgen.ensemble.state_checks import check_states
from boltzgen.errors import ConfigError, DataError, MolecularSystemError, UserError
from boltzgen.potential import make_potential
from boltzgen.potential.cohesion import check_cohesion
from boltzgen.potential.platforms import installed_platforms, why_not
from boltzgen.potential.symmetries import check_translation_invariant
from boltzgen.pretrained import shipped
from boltzgen.runtime.files import nearest_existing, size
from boltzgen.runtime.yaml_files import YAMLError, load
from boltzgen.simulate.batched_replicas import BATCHED
from boltzgen.simulate.bias import biased_variables
from boltzgen.simulate.engine import only_batched
from boltzgen.simulate.run_plan import RunPlan
from boltzgen.simulate.sampling_masses import openmm_time_step_fs, physical_masses, sampling_masses
from boltzgen.simulate.temperature_ladder import hottest_k
from boltzgen.system.bonds import harmonic_bonds
from boltzgen.system.builders.starting_geometry import check_topology, check_unit
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.selection import selected_atoms
from boltzgen.workflow.stage import Run, Stage

HOTTEST_K = 10_000.0
"""A temperature of parallel tempering above this breaks any molecule."""

_ROUND_STEP = 0.7
"""A step of molecular dynamics that is good, over the angular period of the fastest bond."""

_REPLACED = ("data", "model", "samples", "results", "export")


def check_run(workflow: Workflow, system: MolecularSystem, out: Path) -> None:
    """Raise UserError for what can be known to fail before the first stage starts."""
    _check_directory(out, workflow)
    if workflow.pretrained is not None:
        shipped.check_fits(workflow.pretrained, system.name, system.temperature_k)
    elif workflow.train.start is not None:
        _check_start(workflow.train.start, workflow.model, system)
    elif workflow.model.prior == "forcefield" and not system.graph.number_of_edges():
        raise ConfigError("model.prior", f"forcefield needs bonds, and {system.name} has none", "use none")
    check_states(system.at_temperature(workflow.sample.temperature_k), _keys_of_states(workflow))
    _check_energy(system)
    _check_temperatures(workflow, system)
    check_cohesion(system.at_temperature(_hottest_k(workflow, system)))
    _check_timestep(workflow, system)
    if workflow.simulate.method == "flat_histogram" and not (workflow.data.trajectory or workflow.pretrained):
        biased_variables(system, workflow.simulate.bias)
    check_observables(workflow.analyze.observables, system)
    _check_platform(workflow, system)
    for key in ("select", "align"):
        if (selection := getattr(workflow.export, key)) is not None:
            selected_atoms(system, f"export.{key}", selection)


def check_room(run: Run, stages: Sequence[Stage]) -> None:
    """ConfigError where these stages would fill the disk, or one of them the memory."""
    written = [(stage.disk(run), stage) for stage in stages]
    total, free = sum(n_bytes for n_bytes, _ in written), shutil.disk_usage(nearest_existing(run.out)).free
    if total > free:
        worst = max(written, key=lambda pair: pair[0])[1]
        raise ConfigError(
            f"--out {run.out}",
            f"the run would write about {size(total)}, most of it in {worst.name}, where {size(free)} are "
            "free",
            f"{worst.takes_less(run.workflow)}, or choose another disk",
        )
    available = psutil.virtual_memory().available
    for stage in stages:
        if (needed := stage.memory(run)) > available:
            raise ConfigError(
                "memory",
                f"{stage.name} needs at least {size(needed)} and {size(available)} are free",
                stage.takes_less(run.workflow),
            )


def check_model(directory: Path, system: MolecularSystem) -> None:
    """DataError for a network that was trained on another system or Hamiltonian."""
    path = directory / "energy.json"
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
        made_for = spec["system"], spec["n_atoms"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(
            path, "not the record of a trained network", "`--force train` makes it again"
        ) from None
    if made_for != (system.name, system.n_atoms):
        raise DataError(
            path,
            f"is a network of {made_for[0]} ({made_for[1]} atoms), not of {system.name} "
            f"({system.n_atoms} atoms)",
            "train again with `--force train`, or choose another --out",
        )


def _check_start(start: str, settings: ModelSettings, system: MolecularSystem) -> None:
    """ConfigError for a network to start from that is not there, of other sizes, or of other atoms."""
    directory = shipped.network_directory(start)
    try:
        spec = json.loads((directory / "energy.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = ", ".join(shipped.available())
        raise ConfigError(
            "train.start", f"no trained network in {directory}", f"give a run directory or one of {known}"
        ) from None
    sizes = ("n_layers", "n_channels", "n_radial", "l_max", "hidden", "prior")
    asked = {key: getattr(settings, key) for key in sizes}
    asked |= {"n_atoms": system.n_atoms, "n_classes": int(system.atom_classes.max()) + 1}
    for key, value in asked.items():
        if spec.get(key) != value:
            raise ConfigError(
                "train.start",
                f"the network of {start} has {key} {spec.get(key)}, this run needs {value}",
                "set model to what that network has, or leave train.start out",
            )


def _check_directory(out: Path, workflow: Workflow) -> None:
    """ConfigError for the run of another system, or for input that the run would write over."""
    for name in (*workflow.data.trajectory, *filter(None, [workflow.data.weights])):
        if any(Path(name).resolve().is_relative_to((out / part).resolve()) for part in _REPLACED):
            raise ConfigError(
                "data",
                f"{name} lies in the run directory, where the run would replace it",
                "move it elsewhere or choose another --out",
            )
    if workflow.train.start is not None:
        start = shipped.network_directory(workflow.train.start)
        if start.resolve() == (out / "model").resolve():
            raise ConfigError(
                "train.start", f"training would replace the network in {out}", "choose another --out"
            )
    record = out / "config.yaml"
    if not record.exists():
        return
    try:
        settings = load(record.read_text(encoding="utf-8"))["system"]
        before = _called(settings["name"], settings.get("parameters") or {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, YAMLError):
        raise DataError(record, "is no record of a run", "remove it or choose another --out") from None
    now = _called(workflow.system.name, workflow.system.parameters)
    if before != now:
        raise ConfigError(
            f"--out {out}",
            f"holds a run of the system {before}, which one of {now} would replace",
            "choose another directory",
        )


def _called(name: str, parameters: Mapping[str, object]) -> str:
    """A system in words, wherever its files are."""
    pdb = parameters.get("pdb")
    return Path(name).name + (f" in {Path(str(pdb)).name}" if pdb is not None else "")


def _keys_of_states(workflow: Workflow) -> dict[str, str]:
    """Dotted keys of the states that the workflow file declares, by name."""
    return {str(name): f"states.{name}.intervals" for name in workflow.states}


def _check_energy(system: MolecularSystem) -> None:
    """A finite energy at the reference configuration, of relative positions only, that holds it together."""
    check_unit(str(system.name), system.positions, system.openmm_system)
    check_topology(system)
    potential = make_potential(system, backend="openmm", platform="Reference")
    u, gradient = potential.reduced_energy_and_gradient(torch.as_tensor(system.positions)[None])
    if not (u.isfinite().all() and gradient.isfinite().all()):
        raise MolecularSystemError(
            system.name, "has no finite energy at its reference configuration", "do atoms overlap there?"
        )
    check_translation_invariant(system)


def _check_platform(workflow: Workflow, system: MolecularSystem) -> None:
    wanted: str = workflow.simulate.platform
    there = installed_platforms()
    key, remedy = "simulate.platform", "use auto"
    if wanted == "auto" and only_batched(workflow.simulate):
        wanted, key, remedy = BATCHED, "simulate.method", "use parallel_tempering, without simulate.minutes"
    if workflow.data.trajectory or workflow.pretrained or wanted == "auto":
        return
    if wanted in there:
        if reason := why_not(system, wanted):
            raise ConfigError(
                "simulate.platform", f"{wanted} does not start on this machine ({reason})", "use auto"
            )
        return
    if wanted != BATCHED:
        raise ConfigError(
            "simulate.platform",
            f"OpenMM has no {wanted} on this machine",
            f"use auto for the fastest, batched, or one of {', '.join(there)}",
        )
    try:
        make_potential(system, backend="batched", dtype=torch.float32)
    except UserError as error:
        reason = f"{system.name} cannot be batched ({error.what})"
        raise ConfigError(key, reason, remedy) from None


def _check_timestep(workflow: Workflow, system: MolecularSystem) -> None:
    """ConfigError for a step with which the stiffest bond explodes: over 2 by its angular frequency."""
    if workflow.data.trajectory or workflow.pretrained:
        return
    if only_batched(workflow.simulate):
        masses, step_fs = sampling_masses(system), 1000 * RunPlan.of(workflow.simulate, system).dt_ps
    else:
        masses, step_fs = physical_masses(system), openmm_time_step_fs(workflow.simulate)
    fastest, (i, j) = max(
        (
            (math.sqrt(k * float(1 / masses[i] + 1 / masses[j])), (i, j))
            for (i, j), (_, k) in harmonic_bonds(system.openmm_system).items()
        ),
        default=(0.0, (0, 0)),
    )
    if step_fs / 1000 * fastest < 2.0:
        return
    atoms = list(system.topology.atoms())
    raise ConfigError(
        "simulate.timestep_fs",
        f"steps of {step_fs:g} fs are too long for the bond "
        f"{system.labels.bond(atoms[i], atoms[j])}, which vibrates once in "
        f"{2000 * math.pi / fastest:.3g} fs, as no bond is constrained",
        f"take {_ROUND_STEP * 1000 / fastest:.1g} fs",
    )


def _hottest_k(workflow: Workflow, system: MolecularSystem) -> float:
    """The highest temperature [K] that the system is brought to: of sampling, or of parallel tempering."""
    simulate = workflow.simulate
    target = max(system.temperature_k, workflow.sample.temperature_k or 0.0)
    if workflow.data.trajectory or workflow.pretrained:
        return target
    return max(target, hottest_k(simulate, system.n_atoms, system.temperature_k))


def _check_temperatures(workflow: Workflow, system: MolecularSystem) -> None:
    simulate, hottest = workflow.simulate, _hottest_k(workflow, system)
    if simulate.n_temperatures is not None and hottest > max(HOTTEST_K, system.temperature_k):
        raise ConfigError(
            "simulate.n_temperatures",
            f"{simulate.n_temperatures} temperatures with temperature_ratio "
            f"{simulate.temperature_ratio:g} reach {hottest:.3g} K",
            "use fewer or a smaller ratio",
        )
