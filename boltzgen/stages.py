"""The stages of a run by name: their order, their files, and what the output of each depends on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from boltzgen import shipped
from boltzgen.config import Workflow
from boltzgen.domain import domain_of
from boltzgen.manifest import MADE_FROM, Manifest, digest, file_digest, xml_digest

if TYPE_CHECKING:
    from boltzgen.system import MolecularSystem

Stage = Literal["simulate", "train", "sample", "analyze", "export"]
STAGES: tuple[Stage, ...] = ("simulate", "train", "sample", "analyze", "export")

OUTPUTS: dict[Stage, tuple[str, ...]] = {
    "simulate": ("data/ensemble.h5",),
    "train": ("model/energy.safetensors", "model/energy.json"),
    "sample": ("samples/ensemble.h5", "samples/diagnostics.json"),
    "analyze": ("results/results.json",),
    "export": ("export",),
}
READS: dict[Stage, tuple[Stage, ...]] = {
    "simulate": (),
    "train": ("simulate",),
    "sample": ("simulate", "train"),
    "analyze": ("simulate", "sample"),
    "export": ("sample",),
}


def inputs_of(
    stage: Stage, workflow: Workflow, system: MolecularSystem, manifest: Manifest, data_files: list[str]
) -> dict[str, str]:
    """What a stage's output depends on, as name -> digest; the names appear in messages."""
    settings = workflow.model_dump(mode="json")

    def section(*names: str) -> dict[str, str]:
        given = {f"{name}.{key}": _text(value) for name in names for key, value in settings[name].items()}
        return _as_recorded(given, stage, manifest)

    def stamps(*names: str) -> dict[str, str]:
        return {name: manifest.stamp(MADE_FROM[name]) for name in names}

    given = settings["system"]
    physics = {"system.name": _text(_content(given["name"]))}
    physics |= {f"system.parameters.{k}": _text(_content(v)) for k, v in given["parameters"].items()}
    xml = xml_digest(system.openmm_system.__getstate__())
    atoms = [atom.element.symbol if atom.element else "" for atom in system.topology.atoms()]
    bonds = sorted(sorted(bond) for bond in system.graph.edges)
    physics |= {"the system": digest([xml, system.temperature_k, atoms, bonds, *_isomer(system)])}
    variables = {"collective variables": digest(repr(system.collective_variables))}
    states = {"states": digest(repr(system.states))}
    common = physics | {"seed": str(workflow.seed)}
    if workflow.pretrained and stage in ("simulate", "train"):
        return physics | {"the pretrained model": workflow.pretrained}
    if stage == "simulate" and workflow.data.trajectory:
        frames = {f"data.{key}": _text(settings["data"][key]) for key in ("stride", "skip_frames")}
        return physics | {"the trajectories": digest(data_files)} | frames
    if stage == "simulate":
        return common | section("simulate")
    if stage == "train":
        made_from = stamps("the data")
        if workflow.train.start is not None:
            network = shipped.network_directory(workflow.train.start) / "energy.safetensors"
            made_from["the network to start from"] = file_digest(network)
        return common | section("model", "train") | made_from | states
    if stage == "sample":
        made_from = stamps("the data", "the model")
        return common | section("sample") | made_from | states
    reported = variables | (states if stage == "analyze" else {})
    if stage == "analyze":
        own = [name.rpartition(":")[0] for name in settings["analyze"]["observables"] if ".py:" in name]
        reported |= {"the observables": digest([file_digest(Path(file)) for file in own])} if own else {}
    return common | section(stage) | stamps("the samples") | reported


def _isomer(system: MolecularSystem) -> list[object]:
    """Which isomer the reference structure is: signs of centres, and what is not trans or need not be held.

    Signs are of three neighbours in the order of atoms, as in records of before, so that these stay valid.
    """
    domain, x = domain_of(system), system.positions
    centres = [(e.atoms[0], sorted(e.substituents[0])[:3]) for e in domain.elements if e.kind == "centre"]
    hands = [float(np.sign(np.linalg.det(x[others] - x[centre]))) for centre, others in centres]
    turned = [
        domain.name(e) for e in domain.elements if e.kind != "centre" and domain.arrangement(e) != "trans"
    ]
    return [hands, *filter(None, (turned, list(system.free_isomers)))]


def _as_recorded(given: dict[str, str], stage: Stage, manifest: Manifest) -> dict[str, str]:
    """Settings with what an earlier attempt came to replaced by what it was asked for.

    Asking for the number of steps that a time limit came to is asking for the model already there.
    """
    recorded, done = manifest.recorded, manifest.stages.get(stage, {}).get("inputs", {})
    came_to: list[dict[str, Any]] = [
        {"train.steps": recorded.get("train_steps"), "train.minutes": None},
        {"train.compile": recorded.get("compile")},
        {"simulate.platform": recorded.get("platform")},
    ]
    for group in came_to:
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
