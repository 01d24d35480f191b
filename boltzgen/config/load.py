"""Workflow files: finding one, merging ``quick`` and ``--set``, and one-line errors for what is wrong."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from boltzgen.config.base import StateSettings, VariableSettings, first_problem, in_words
from boltzgen.config.consistency import contradictions
from boltzgen.config.plugins import load_plugins
from boltzgen.config.renamed import current_name, told_name, with_new_names, with_variables_on_top
from boltzgen.config.schema import Workflow
from boltzgen.config.yaml_problems import explained
from boltzgen.errors import ConfigError, UserError
from boltzgen.pretrained import shipped
from boltzgen.runtime.yaml_files import YAMLError, load, read_text

Document = dict[str, Any]

_NAMED: dict[str, type[BaseModel]] = {"collective_variables": VariableSettings, "states": StateSettings}
"""Sections whose keys are names that the user gives."""


def load_workflow(
    name_or_path: str | None,
    overrides: list[str] | None = None,
    quick: bool = False,
    seed: int | None = None,
    device: str | None = None,
) -> tuple[Workflow, Path]:
    """Read a workflow and return it with the directory that its relative paths start from.

    name_or_path
        Name of a workflow that comes with boltzgen, path of a ``.yaml`` file, or None for all defaults
        (the overrides must then name the system).
    overrides
        ``dotted.key=value`` strings; the value is YAML. They win over the file and over ``quick``.
    quick
        Merge the file's ``quick`` section: a run of minutes that shows the machinery, not a result.
    seed, device
        Replace the settings of the same names.

    Raises ConfigError, always one line naming the file and the dotted key.
    """
    load_plugins()
    document, source, base = _read(name_or_path)
    told = not _is_record(source)
    with_new_names(document, source, told)
    shortcuts = document.pop("quick", None) or {}
    if isinstance(shortcuts, dict):
        with_new_names(shortcuts, f"{source}: quick", told)
    merged = _merged(document, shortcuts, f"{source}: quick")
    if quick:
        document = merged
    else:
        _check_quick(merged, shortcuts, source)
    given = list(overrides or [])
    given += [] if seed is None else [f"seed={seed}"]
    given += [] if device is None else [f"device={device}"]
    for text in given:
        _set(document, text)
    with_variables_on_top(document, source, told)
    workflow = _validated(document, source, given)
    return _with_absolute_paths(workflow, base), base


@contextmanager
def naming_the_file(workflow: str | None, overrides: Sequence[str]) -> Iterator[None]:
    """Errors about a setting, found after reading, name the workflow file or the command line as well."""
    try:
        yield
    except UserError as error:
        key = error.where
        if re.split(r"[.:\[ ]", key)[0] not in Workflow.model_fields:
            raise
        source = _source(key, overrides, workflow)
        where = f"{source}: {key}" if source else key
        raise type(error)(where, error.what, error.remedy) from error


def available_workflows() -> dict[str, str]:
    """Name and description of every workflow that comes with boltzgen, sorted by name."""
    found = {}
    for entry in resources.files("boltzgen.workflows").iterdir():
        if entry.name.endswith(".yaml"):
            document = load(entry.read_text(encoding="utf-8"))
            found[entry.name.removesuffix(".yaml")] = str(document.get("description", ""))
    return dict(sorted(found.items()))


def _validated(document: Document, source: str, overrides: list[str]) -> Workflow:
    """The settings of a document; ConfigError for the first that is wrong or contradicts another."""
    try:
        workflow = Workflow.model_validate(document)
    except ValidationError as error:
        raise _invalid(first_problem(error), source, overrides) from None
    for problem in contradictions(workflow):
        where = f"{_source(str(problem), overrides, source)}: {problem.where}"
        raise ConfigError(where, problem.what, problem.remedy)
    return workflow


def _check_quick(merged: Document, shortcuts: Document, source: str) -> None:
    """ConfigError for what ``quick`` would change wrongly: told now, not on the day somebody asks for it."""
    try:
        Workflow.model_validate(merged)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            section, *rest = problem["loc"]
            values = shortcuts.get(str(section), {})
            if section in shortcuts and (not isinstance(values, dict) or not rest or rest[0] in values):
                raise _invalid(problem, f"{source}: quick", []) from None


def _read(name_or_path: str | None) -> tuple[Document, str, Path]:
    """The parsed file, how to call it in messages, and the directory of its relative paths."""
    if name_or_path is None:
        return {}, "defaults", Path.cwd()
    path = Path(name_or_path)
    if path.is_dir() and name_or_path not in available_workflows():  # as a run directory may be called
        hint = f"did you mean {path / 'config.yaml'}?" if (path / "config.yaml").is_file() else "name a file"
        raise ConfigError(path, "is a directory, not a workflow file", str(hint))
    if path.suffix not in (".yaml", ".yml"):
        return _parse(_packaged(name_or_path), name_or_path), f"workflow {name_or_path}", Path.cwd()
    if not path.is_file():
        raise ConfigError(path, "no such workflow file", "`boltzgen workflows` lists those that come along")
    document = _parse(_text(path), str(path))
    if path.name == "config.yaml":
        _replay(document, path.with_name("manifest.json"))
    return document, str(path), path.resolve().parent


def _packaged(name: str) -> str:
    names = list(available_workflows())
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        known = f"{hint}there are {', '.join(names)}, or give the path of a .yaml file"
        raise ConfigError(f"workflow {name}", "unknown", known)
    return resources.files("boltzgen.workflows").joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def _text(path: Path) -> str:
    """The text of a file; ConfigError for what is none."""
    try:
        return read_text(path)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        what, remedy = "cannot be read as UTF-8 text", "save it as plain text in UTF-8"
        raise ConfigError(f"{path}, line {line}", what, remedy) from None
    except OSError as error:
        raise ConfigError(path, f"cannot be read ({error.strerror})", "check its permissions") from None


def _parse(text: str, source: str) -> Document:
    try:
        document = load(text)
    except YAMLError as error:
        problem = explained(error, text)
        line = f", line {problem.line}" if problem.line else ""
        raise ConfigError(f"{source}{line}", problem.what, problem.remedy) from None
    if document is None:
        raise ConfigError(source, "is empty", "it needs at least `name:` and `system: {name: ...}`")
    if not isinstance(document, dict):
        found = "a list" if isinstance(document, list) else "text"
        raise ConfigError(source, f"is {found}, not a workflow", "write `key: value` lines")
    return document


def _replay(document: Document, manifest: Path) -> None:
    """What depended on the clock is replayed as it came out: steps, compiled or not, platform of MD."""
    try:
        recorded = json.loads(manifest.read_text(encoding="utf-8"))["recorded"]
        resolved = {key: recorded[key] for key in ("train_steps", "compile", "platform") if key in recorded}
    except (OSError, ValueError, KeyError, TypeError):
        return
    names = {
        "train_steps": ("train", "steps"),
        "compile": ("train", "compile"),
        "platform": ("simulate", "platform"),
    }
    for key, value in resolved.items():
        section, name = names[key]
        settings = document.get(section) or {}
        if isinstance(settings, dict):  # what else it may be, its validation will say
            document[section] = settings | {name: value} | ({"minutes": None} if name == "steps" else {})


def _is_record(source: str) -> bool:
    """Whether a file is the record of a run, which nobody is to edit."""
    path = Path(source)
    return path.name == "config.yaml" and path.with_name("manifest.json").is_file()


def _merged(document: Document, changes: object, where: str) -> Document:
    """``document`` with every section of ``changes`` laid over it."""
    if not isinstance(changes, dict):
        raise ConfigError(where, "is no list of settings by stage", "write them as `train: {steps: 300}`")
    result = dict(document)
    for section, values in changes.items():
        old = result.get(section)
        result[section] = {**old, **values} if isinstance(old, dict) and isinstance(values, dict) else values
    return result


def _set(document: Document, text: str) -> None:
    """Apply one ``dotted.key=value`` override in place."""
    dotted, equals, value = text.partition("=")
    keys = told_name(dotted.strip()).split(".")
    if not equals or not all(keys):
        raise ConfigError(
            f"--set {text}", "is not of the form key=value", "write it as --set train.steps=2000"
        )
    try:
        parsed = load(value)
    except YAMLError as error:
        problem = explained(error, value)
        raise ConfigError(f"--set {dotted}", f"{value}: {problem.what}", problem.remedy) from None
    section: Document = document
    for depth, key in enumerate(keys[:-1], start=1):
        inner = section.get(key)
        if inner is not None and not isinstance(inner, dict):
            raise ConfigError(
                f"--set {dotted}",
                f"{'.'.join(keys[:depth])} is a single value, it has no keys",
                "set it as a whole",
            )
        section[key] = dict(inner or {})
        section = section[key]
    section[keys[-1]] = parsed


def _with_absolute_paths(workflow: Workflow, base: Path) -> Workflow:
    """The same workflow, readable from any directory: its files are named by absolute paths."""
    system, data, analysis = workflow.system, workflow.data, workflow.analyze
    name = str((base / system.name).resolve()) if system.name.endswith(".py") else system.name
    parameters = {key: _absolute_files(value, base) for key, value in system.parameters.items()}
    trajectory = tuple(str((base / file).resolve()) for file in data.trajectory)
    weights = None if data.weights is None else str((base / data.weights).resolve())
    observables = tuple(str((base / o).resolve()) if ".py:" in o else o for o in analysis.observables)
    start = workflow.train.start
    if start is not None and start not in shipped.available():
        start = str((base / start).resolve())
    return workflow.model_copy(
        update={
            "train": workflow.train.model_copy(update={"start": start}),
            "analyze": analysis.model_copy(update={"observables": observables}),
            "system": system.model_copy(update={"name": name, "parameters": parameters}),
            "data": data.model_copy(update={"trajectory": trajectory, "weights": weights}),
        }
    )


def _absolute_files(value: object, base: Path) -> object:
    """A string naming an existing file under ``base`` as an absolute path; lists item by item."""
    if isinstance(value, list):
        return [_absolute_files(item, base) for item in value]
    if isinstance(value, str) and Path(value).suffix and len(value) < 4096 and (base / value).is_file():
        return str((base / value).resolve())
    return value


def _invalid(problem: Mapping[str, Any], source: str, overrides: list[str]) -> ConfigError:
    """One problem of a validation error, by file and dotted key."""
    dotted = ".".join(str(part) for part in problem["loc"])
    where = f"{_source(dotted, overrides, source)}: {dotted}"
    if problem["type"] == "extra_forbidden":
        return ConfigError(where, "unknown key", _suggestion(dotted))
    if problem["type"] == "missing" and dotted.partition(".")[0] not in _NAMED:
        return ConfigError(where, "missing", "every workflow needs it")
    return ConfigError(where, *in_words(problem))


def _source(said: str, overrides: Sequence[str], file: str | None) -> str | None:
    """Where a setting that a message is about came from: the command line, if it gave one that is named."""
    named = {part for word in re.findall(r"[\w.]+", said) for part in _above(word)}
    given = {current_name(text.partition("=")[0].strip()) for text in overrides}
    return "command line" if any(key in named and ("." in key or key == said) for key in given) else file


def _above(dotted: str) -> Iterator[str]:
    """A dotted key, and the sections it is in."""
    parts = dotted.split(".")
    return (".".join(parts[:n]) for n in range(1, len(parts) + 1))


def _suggestion(dotted: str) -> str:
    section, _, rest = dotted.partition(".")
    if section in _NAMED and rest:
        return f"known here: {', '.join(_NAMED[section].model_fields)}"
    known = list(_known_keys(Workflow))
    by_leaf: dict[str, str] = {}
    for key in known:
        by_leaf.setdefault(key.rpartition(".")[2], key)
    close = difflib.get_close_matches(dotted, known, n=1, cutoff=0.75)
    if not close:
        leaves = difflib.get_close_matches(dotted.rpartition(".")[2], by_leaf, n=1)
        close = [by_leaf[leaf] for leaf in leaves]
    if close:
        return f"did you mean {close[0]}?"
    section = dotted.rpartition(".")[0]
    siblings = [key for key in known if key.rpartition(".")[0] == section]
    known_here = ", ".join(key.rpartition(".")[2] for key in siblings)
    return f"known here: {known_here}" if siblings else "take it out"


def _known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _known_keys(field.annotation, f"{prefix}{name}.")
