"""Models that come with boltzgen: sampling at once, without simulating and training first."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from boltzgen.errors import ConfigError

ROOT = Path(__file__).parent
"""One directory a model: ``energy.*``, ``ensemble.h5`` (thinned MD for the pilot and J), ``model.json``."""
OWN_SECTIONS = ("system", "data", "simulate", "model", "train")
"""Settings that a shipped model stands for; who changes one wants a model of their own."""


def available() -> dict[str, dict[str, Any]]:
    """What ``model.json`` says of every shipped model: workflow, system, command, metrics."""
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(ROOT.glob("*/model.json"))}


def network_directory(start: str) -> Path:
    """Where the network lies that ``train.start`` names: a shipped one, or that of a run directory."""
    return ROOT / start if start in available() else Path(start) / "model"


def model_for(workflow: str | None, changed: list[str], pretrained_run: bool | None) -> str | None:
    """The shipped model that a command may sample with, if any.

    workflow
        What the command was given: a shipped model is for the workflow of that name which comes with
        boltzgen, and not for a file of the user's, whose settings may be others.
    changed
        Dotted keys of the settings given on the command line.
    pretrained_run
        Whether the run directory holds a run with a shipped model; None where there is no run yet.
    """
    if pretrained_run is False or any(key.split(".")[0] in OWN_SECTIONS for key in changed):
        return None
    return next((name for name, about in available().items() if about["workflow"] == workflow), None)


def check_fits(name: str, system: str, temperature_k: float) -> None:
    """ConfigError for an unknown name, and for a model of another system or temperature [K]."""
    known = available()
    if name not in known:
        raise ConfigError(
            "pretrained", f"no model {name} comes with boltzgen", f"there is {', '.join(known)}"
        )
    made_for = known[name]["system"], known[name]["temperature_k"]
    if made_for != (system, temperature_k):
        raise ConfigError(
            "pretrained",
            f"{name} is a model of {made_for[0]} at {made_for[1]:g} K, not of {system} at "
            f"{temperature_k:g} K",
            "leave pretrained out to train one",
        )


def copy(name: str, data: Path | None = None, model: Path | None = None) -> None:
    """Put the ensemble into ``data`` or the network into ``model``, both directories."""
    for directory, pattern in ((data, "ensemble.h5"), (model, "energy.*")):
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            for path in (ROOT / name).glob(pattern):
                shutil.copyfile(path, directory / path.name)
