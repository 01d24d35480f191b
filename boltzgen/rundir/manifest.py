"""manifest.json: what a run directory was made from, and so which of its stages are still valid."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from boltzgen.config.renamed import current_names
from boltzgen.errors import ConfigError, DataError, UserError
from boltzgen.rundir.lock import LOCK_FILE
from boltzgen.runtime.files import nearest_existing, write_atomically
from boltzgen.runtime.yaml_files import YAMLError, dump, load

PACKAGES = ("boltzgen-diffclf", "torch", "openmm", "mdtraj", "e3nn", "torch-geometric", "lightning", "numpy")
MADE_FROM = {"the data": "simulate", "the model": "train", "the samples": "sample"}
"""Inputs of a stage that another stage made, by their names in the record."""
MANIFEST_FILE = "manifest.json"
_OWN_NAMES = {LOCK_FILE, ".manifest.partial.json"}
"""Files that a killed run may leave before its first record."""
MAX_NAMED = 3
"""Changes that a message names."""


class Manifest:
    """The record of one run directory; nothing is written before a stage runs.

    ``stages`` maps each finished stage to its ``inputs`` (name -> JSON text of a setting, digest, or time),
    its ``outputs`` (file -> digest), when it finished and how long it took. ``recorded`` holds what
    depended on the clock (the steps of training, whether it was compiled, OpenMM's platform),
    and ``in_progress`` the inputs of the stage that is running or was interrupted. ``usual`` are the defaults
    of settings, in the same text: a default that changes what a stage does needs another name.
    """

    def __init__(self, out: Path, config: Mapping[str, Any], usual: Mapping[str, str] | None = None) -> None:
        self.out, self.config, self.usual = out, config, usual or {}
        self.content = _read(out / MANIFEST_FILE)
        self.stages: dict[str, dict[str, Any]] = self.content.setdefault("stages", {})
        self.recorded: dict[str, Any] = self.content.setdefault("recorded", {})
        for made in (*self.stages.values(), self.content.get("in_progress") or {}):
            made["inputs"] = current_names(made.get("inputs", {}))

    def stamp(self, stage: str) -> str:
        """When a stage finished; empty if it never did. Stages downstream depend on it."""
        return str(self.stages.get(stage, {}).get("finished", ""))

    def why_run(self, stage: str, inputs: Mapping[str, str], outputs: list[Path]) -> str | None:
        """Why a stage has to run, in a few words, or None where its output is still valid."""
        if stage not in self.stages:
            return "resuming" if self.resumable(stage, inputs) else "not done yet"
        before = self.stages[stage]["inputs"]
        changed = self._changes(before, inputs)
        if changed:
            return changed
        missing = [path.name for path in outputs if not path.exists()]
        return f"{missing[0]} is missing" if missing else None

    def resumable(self, stage: str, inputs: Mapping[str, str]) -> bool:
        """Whether an interrupted attempt at this stage had the same inputs."""
        attempt = self.content.get("in_progress") or {}
        return attempt.get("stage") == stage and not self._changes(attempt.get("inputs", {}), inputs)

    def _changes(self, before: Mapping[str, str], now: Mapping[str, str]) -> str:
        """What differs, in words; a setting that the record is older than counts if it is not the default."""
        older = {name for name in now if name not in before and self.usual.get(name) == now[name]}
        return changes(before, {name: text for name, text in now.items() if name not in older})

    def abandon(self, stage: str) -> None:
        """Let the next attempt at a stage start anew, whatever an interrupted one has kept."""
        if (self.content.get("in_progress") or {}).get("stage") == stage:
            self.content["in_progress"] = None

    def check_outputs(self, stage: str) -> None:
        """DataError where a file of a finished stage is not as the stage wrote it."""
        for name, written in self.stages.get(stage, {}).get("outputs", {}).items():
            path = self.out / name
            if not path.is_file() or file_digest(path) != written:
                raise DataError(
                    path,
                    f"is not as the stage {stage} wrote it, damaged or changed since",
                    f"`--force {stage}` makes it again",
                )

    @contextmanager
    def running(
        self,
        stage: str,
        inputs: Mapping[str, str],
        outputs: Collection[Path] = (),
        clear: Callable[[], None] = lambda: None,
        records: Collection[str] = (),
    ) -> Iterator[dict[str, Any]]:
        """Record a stage: as in progress on entry, as finished with its files ``outputs`` on a clean exit.

        ``clear`` removes what an attempt with other inputs left, when the record no longer vouches for it
        and does not yet say that it can be resumed; what it recorded under the names in ``records`` goes as
        well. Yields a dictionary for what the stage wants recorded. A user error before any stage finished
        leaves no run directory behind, unless there is something in it.
        """
        new = not (self.out / MANIFEST_FILE).exists()
        self.out.mkdir(parents=True, exist_ok=True)
        resumable = self.resumable(stage, inputs)
        self.stages.pop(stage, None)
        if not resumable:
            self.content["in_progress"] = None
            for key in records:
                self.recorded.pop(key, None)
            self._write()
            clear()
        self.content["in_progress"] = {"stage": stage, "inputs": dict(inputs)}
        self._write()
        started = time.monotonic()
        try:
            yield self.recorded
        except UserError:
            if new:
                _discard(self.out)
            raise
        self.stages[stage] = {
            "inputs": dict(inputs),
            "outputs": {str(p.relative_to(self.out)): file_digest(p) for p in outputs if p.is_file()},
            "finished": datetime.now(UTC).isoformat(),
            "seconds": round(time.monotonic() - started, 1),
        }
        self.content["in_progress"] = None
        self._write()

    def _write(self) -> None:
        self.content.update(
            versions={name: _version(name) for name in PACKAGES},
            python=platform.python_version(),
            machine=f"{platform.system()} {platform.machine()}",
            seed=self.config.get("seed"),
        )
        # This file first: it is what makes a directory one of ours.
        write_atomically(self.out / MANIFEST_FILE, json.dumps(self.content, indent=2))
        config, path = dump(dict(self.config)), self.out / "config.yaml"
        if not path.is_file() or path.read_bytes() != config.encode():
            write_atomically(path, config)


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs between the inputs of two attempts, in words; empty where nothing does."""
    names = [name for name in now if before.get(name) != now[name]]
    names += [name for name in before if name.startswith("system.") and name not in now]
    if any(name.startswith("system.") for name in names):
        names = [name for name in names if name != "the system"]
    words = [_change(name, before.get(name), now.get(name)) for name in names[:MAX_NAMED]]
    if len(names) > MAX_NAMED:
        words.append(f"{len(names) - MAX_NAMED} more")
    return " and ".join(words)


def _change(name: str, before: str | None, now: str | None) -> str:
    """One change; old and new values where they are short and mean something."""
    told = ("." in name or name == "seed") and not any(
        value and (len(value) > 40 or re.fullmatch('"[0-9a-f]{16}"', value)) for value in (before, now)
    )
    if not told:
        return f"{name} changed"
    old, new = ("not given" if value is None else value for value in (before, now))
    return f"{name} changed from {old} to {new}"


def check_finished(out: Path, stage: str) -> None:
    """DataError where what ``stage`` left is not of the settings on record: a run was interrupted since.

    Directories without a record are taken as they are.
    """
    unfinished = _unfinished(_read(out / MANIFEST_FILE).get("stages"), stage)
    if unfinished:
        raise DataError(
            out,
            f"its files are older than its settings: the stage {unfinished} did not finish",
            f"`boltzgen run {out / 'config.yaml'} --out {out}` finishes the run",
        )


def _unfinished(stages: Mapping[str, Any] | None, stage: str) -> str | None:
    """The first stage, up to ``stage``, that did not finish after what it is made from; None if all did."""
    if stages is None:
        return None
    inputs = stages.get(stage, {}).get("inputs", {})
    for name, source in MADE_FROM.items():
        if name in inputs:
            before = _unfinished(stages, source)
            if before or inputs[name] != stages[source].get("finished"):
                return before or stage
    return None if stage in stages else stage


def check_output_directory(out: Path) -> None:
    """Raise unless ``out`` can be made, or is empty, or is a run directory; nothing is left behind."""
    try:
        parent = nearest_existing(out)
        foreign = parent == out and out.is_dir() and {path.name for path in out.iterdir()} - _OWN_NAMES
    except (OSError, ValueError) as error:
        raise ConfigError(f"--out {out}", f"cannot be looked at ({error})", "choose another") from None
    if not parent.is_dir():
        raise ConfigError(f"--out {out}", f"{parent} is a file", "choose a directory")
    if foreign and not (out / MANIFEST_FILE).exists():
        raise ConfigError(f"--out {out}", "has files but is no run directory", "choose a new or empty one")
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"--out {out}", f"cannot write in {parent} ({reason})", "choose another") from None


def pretrained_run(out: Path) -> bool | None:
    """Whether a run directory holds a run with a model that comes with boltzgen; None without a run."""
    try:
        record = load((out / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, YAMLError):
        return None
    return bool(record.get("pretrained")) if isinstance(record, dict) else None


def digest(value: object) -> str:
    """Short hash of anything JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Short hash of a file's content; DataError where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", "check the path") from None


def xml_digest(xml: str) -> str:
    """Short hash of a serialized OpenMM System, whichever OpenMM version wrote it."""
    return digest(re.sub(r'openmmVersion="[^"]*"', "", xml))


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not _is_manifest(content):
        raise DataError(path, "cannot be read as a manifest", "remove the directory or choose another --out")
    return dict(content)


def _is_manifest(content: Any) -> bool:
    """Whether everything that is looked at later is there and is what it should be."""
    if not (isinstance(content, dict) and isinstance(content.get("in_progress") or {}, dict)):
        return False
    stages, recorded = content.get("stages", {}), content.get("recorded", {})
    return (
        isinstance(stages, dict)
        and isinstance(recorded, dict)
        and all(isinstance(s, dict) and isinstance(s.get("inputs"), dict) for s in stages.values())
        and all(isinstance(s.get("outputs", {}), dict) for s in stages.values())
        and isinstance((content.get("in_progress") or {}).get("inputs", {}), dict)
    )


def _discard(out: Path) -> None:
    """Remove a run directory that holds nothing but its record and empty directories."""
    if any(path.is_file() for path in out.glob("*/**/*")):
        return
    for name in (MANIFEST_FILE, "config.yaml"):
        (out / name).unlink(missing_ok=True)
    with suppress(OSError):
        for path in sorted(out.glob("**/"), reverse=True):
            path.rmdir()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
