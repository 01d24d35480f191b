"""What the output of each stage depends on, as name -> digest; the names appear in messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from boltzgen.pretrained import shipped
from boltzgen.rundir.manifest import MADE_FROM, Manifest, digest, file_digest, xml_digest
from boltzgen.system.stereochemistry.domain import domain_of
from boltzgen.workflow.stage import Dependencies, Run, Stage

if TYPE_CHECKING:
    from boltzgen.system.molecular_system import MolecularSystem

Inputs = dict[str, str]


def manifest_of(run: Run) -> Manifest:
    """The record of a run directory, which knows the defaults of settings that it may be older than."""
    workflow = run.workflow
    usual = {
        f"{name}.{key}": _text(value)
        for name in ("data", "simulate", "model", "train", "sample", "analyze", "export")
        for key, value in type(getattr(workflow, name))().model_dump(mode="json").items()
    }
    return Manifest(run.out, workflow.model_dump(mode="json", exclude={"quick"}), usual)


def of_simulation(given: Dependencies, stage: Stage) -> Inputs:
    """The settings of the dynamics, or the user's own trajectories."""
    workflow = given.run.workflow
    if workflow.pretrained:
        return _physics(given) | {"the pretrained model": workflow.pretrained}
    if not workflow.data.trajectory:
        return _common(given) | _sections(given, stage, "simulate") | _biased(given)
    data = workflow.data.model_dump(mode="json")
    frames = {f"data.{key}": _text(data[key]) for key in ("stride", "skip_frames")}
    return _physics(given) | {"the trajectories": digest(list(given.data_files))} | frames


def of_training(given: Dependencies, stage: Stage) -> Inputs:
    """The network's settings, the data, and where it starts from."""
    workflow = given.run.workflow
    if workflow.pretrained:
        return _physics(given) | {"the pretrained model": workflow.pretrained}
    made_from = _stamps(given, "the data")
    if workflow.train.start is not None:
        network = shipped.network_directory(workflow.train.start) / "energy.safetensors"
        made_from["the network to start from"] = file_digest(network)
    return _common(given) | _sections(given, stage, "model", "train") | made_from | _states(given)


def of_sampling(given: Dependencies, stage: Stage) -> Inputs:
    """The sampler's settings, the network and the data."""
    made_from = _stamps(given, "the data", "the model")
    return _common(given) | _sections(given, stage, "sample") | made_from | _states(given)


def of_analysis(given: Dependencies, stage: Stage) -> Inputs:
    """The sample, and what is looked at."""
    observables = given.run.workflow.analyze.observables
    own = [file_digest(Path(name.rpartition(":")[0])) for name in observables if ".py:" in name]
    looked_at = _variables(given) | _states(given) | ({"the observables": digest(own)} if own else {})
    looked_at |= _stored_reference(given)
    return _common(given) | _sections(given, stage, "analyze") | _stamps(given, "the samples") | looked_at


def of_export(given: Dependencies, stage: Stage) -> Inputs:
    """The sample, the formats, and the variables of the COLVAR file."""
    made_from = _stamps(given, "the samples")
    return _common(given) | _sections(given, stage, "export") | made_from | _variables(given)


def _physics(given: Dependencies) -> Inputs:
    """The system as it is asked for, and as it was built."""
    asked, system = given.run.workflow.model_dump(mode="json")["system"], given.run.system
    physics = {"system.name": _text(_content(asked["name"]))}
    physics |= {f"system.parameters.{k}": _text(_content(v)) for k, v in asked["parameters"].items()}
    xml = xml_digest(system.openmm_system.__getstate__())
    atoms = [atom.element.symbol if atom.element else "" for atom in system.topology.atoms()]
    bonds = sorted(sorted(bond) for bond in system.graph.edges)
    return physics | {"the system": digest([xml, system.temperature_k, atoms, bonds, *_isomer(system)])}


def _common(given: Dependencies) -> Inputs:
    return _physics(given) | {"seed": str(given.run.workflow.seed)}


def _sections(given: Dependencies, stage: Stage, *names: str) -> Inputs:
    settings = given.run.workflow.model_dump(mode="json")
    values = {f"{name}.{key}": _text(value) for name in names for key, value in settings[name].items()}
    return _as_recorded(values, stage, given.manifest)


def _stamps(given: Dependencies, *names: str) -> Inputs:
    return {name: given.manifest.stamp(MADE_FROM[name]) for name in names}


def _variables(given: Dependencies) -> Inputs:
    return {"collective variables": digest(repr(given.run.system.collective_variables))}


def _states(given: Dependencies) -> Inputs:
    return {"states": digest(repr(given.run.system.states))}


def _stored_reference(given: Dependencies) -> Inputs:
    """That of the system, where there is one."""
    from boltzgen.analyze.known_systems import reference_of

    found = reference_of(given.run.target)
    return {"the stored reference": digest(found.content)} if found else {}


def _biased(given: Dependencies) -> Inputs:
    """The variables that are made uniform, which may be those of the states."""
    simulate = given.run.workflow.simulate
    if simulate.method != "flat_histogram":
        return {}
    from boltzgen.simulate.bias import biased_variables

    return {"biased variables": digest(repr(biased_variables(given.run.system, simulate.bias)))}


def _isomer(system: MolecularSystem) -> list[object]:
    """Which isomer the reference structure is: signs of centres, and what is not trans or need not be held.

    Signs are of three neighbours in the order of atoms, as in records of before, so that these stay valid.
    """
    domain, x = domain_of(system), system.positions
    centres = [(e.atoms[0], sorted(e.substituents[0])[:3]) for e in domain.elements if e.kind == "centre"]
    chirality = [float(np.sign(np.linalg.det(x[others] - x[centre]))) for centre, others in centres]
    turned = [
        domain.name(e) for e in domain.elements if e.kind != "centre" and domain.arrangement(e) != "trans"
    ]
    return [chirality, *filter(None, (turned, list(system.free_isomers)))]


def _as_recorded(given: Inputs, stage: Stage, manifest: Manifest) -> Inputs:
    """Settings with what an earlier attempt resolved them to replaced by what it was asked for.

    Asking for the number of steps that a time limit gave is asking for the model already there.
    """
    recorded, done = manifest.recorded, manifest.stages.get(stage.name, {}).get("inputs", {})
    resolved: list[dict[str, Any]] = [
        {"train.steps": recorded.get("train_steps"), "train.minutes": None},
        {"train.compile": recorded.get("compile")},
        {"simulate.platform": recorded.get("platform")},
    ]
    for group in resolved:
        if all(given.get(key) == _text(value) for key, value in group.items()):
            given = given | {key: done[key] for key in group if key in done}
    return given


def _text(value: Any) -> str:
    """A setting as it is recorded and told."""
    return json.dumps(value, sort_keys=True, default=str)


def _content(value: Any) -> Any:
    """A setting with every name of a file replaced by a digest of what the file holds."""
    if isinstance(value, list):
        return [_content(item) for item in value]
    if isinstance(value, str) and Path(value).is_absolute() and Path(value).is_file():
        return file_digest(Path(value))
    return value
