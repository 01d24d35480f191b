"""Finding molecular systems by name: installed entry points, or a Python file with a ``build`` function."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import sys
import traceback
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from boltzgen.errors import MolecularSystemError, UserError
from boltzgen.system.builders.file_kinds import IN_FILES
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.variables import with_variables

if TYPE_CHECKING:
    from boltzgen.config.schema import Workflow

GROUP = "boltzgen.systems"
"""Entry-point group in which packages announce their ``build`` functions."""

Build = Callable[..., MolecularSystem]
_OF_FILES = "boltzgen_user_system_"
"""What the names of modules begin with that are imported from system files."""
_SAID = (UserWarning, RuntimeWarning)
"""Warnings of libraries that become notices of the system that was built; others are for programmers."""
_WARNINGS = {
    "duplicate atom": "OpenMM left out atoms that share their name with another of their residue; "
    "boltzgen.from_pdb tells them apart",
    "two consecutive residues with same number": "",
    "Non-optimal GB parameters": "the radii are not those that the solvent model was fitted with",
}
"""What OpenMM's warnings mean."""
_PUBLIC_NAMES = (
    "take public names from boltzgen itself, as in `from boltzgen import MolecularSystem, from_amber`"
)
_VARIABLES = (
    "collective variables and states are those of the workflow",
    "give them as collective_variables and states, or in Python with boltzgen.with_variables",
)
_OTHER_NAMES = {
    **dict.fromkeys(("cvs", "states"), _VARIABLES),
    "smiles": (
        "structures and parameters are not made here",
        "give a file with parameters, such as a prmtop",
    ),
    **dict.fromkeys(("file", "trajectory"), ("files have another key", IN_FILES)),
}
"""What people give a system that is described by files."""


def load_system(
    name: str, parameters: Mapping[str, object] | None = None, base: Path | None = None
) -> MolecularSystem:
    """Build the system called ``name``.

    name
        A registered name, or the path of a ``.py`` file that defines ``build(**parameters)``.
    parameters
        Keyword arguments of the build function.
    base
        Directory that a relative ``.py`` path starts from, handed on to a build function that takes
        ``base`` so that it can resolve its own file parameters. Default: the current directory.

    Warnings of libraries become notices of the system. Raises MolecularSystemError for an unknown name, a
    file that cannot be used, wrong parameter names, and a build function that fails or returns something
    else.
    """
    base = Path.cwd() if base is None else base
    build = _build_from_file(base / name) if name.endswith(".py") else _build_from_entry_point(name)
    arguments = _checked_arguments(name, build, dict(parameters or {}), base)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("default")
            system = build(**arguments)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise MolecularSystemError(
            f"system {name}",
            f"cannot be built ({_told(error, name)})",
            "check the values in system.parameters",
        ) from error
    if not isinstance(system, MolecularSystem):
        raise MolecularSystemError(
            f"system {name}",
            _returned(system),
            "it must return a boltzgen.MolecularSystem",
        )
    told = {_in_words(str(warning.message)) for warning in said if warning.category in _SAID} - {""}
    return replace(system, notices=(*system.notices, *(f"system {name}: {x}" for x in sorted(told))))


def build_system(workflow: Workflow, base: Path) -> MolecularSystem:
    """The system of a workflow, with the collective variables and states that the workflow declares.

    Raises UserError as `load_system` and `boltzgen.system.variables.with_variables` do.
    """
    system = load_system(workflow.system.name, workflow.system.parameters, base)
    system = replace(system, free_isomers=workflow.system.free_isomers or system.free_isomers)
    return with_variables(system, workflow.collective_variables, workflow.states)


def available_systems() -> dict[str, str]:
    """Registered names with the first docstring line of their build functions, sorted by name."""
    return {name: _describe(entry) for name, entry in sorted(_entries().items())}


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _describe(entry: EntryPoint) -> str:
    """One line about an entry point; one that does not import is described by its error."""
    try:
        build = entry.load()
    except Exception as error:
        return f"cannot be imported ({type(error).__name__}: {_first_line(str(error))})"
    return _first_line(inspect.getdoc(build) or "")


def _build_from_entry_point(name: str) -> Build:
    entries = _entries()
    if name not in entries:
        close = difflib.get_close_matches(name, entries, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise MolecularSystemError(
            f"system {name}",
            "no such system",
            f"{hint}registered: {', '.join(sorted(entries)) or 'none'} (or give the path of a .py "
            "file with a build() function)",
        )
    try:
        build = entries[name].load()
    except (Exception, SystemExit) as error:
        raise MolecularSystemError(
            f"system {name}",
            f"{entries[name].value} cannot be imported ({_told(error, name)})",
            _PUBLIC_NAMES if _of_boltzgen(error) else "reinstall the package that registers it",
        ) from error
    return _checked_build(name, build)


def _build_from_file(path: Path) -> Build:
    if not path.is_file():
        raise MolecularSystemError(
            f"system {path}", "no such file", "give the path of a .py file with a build() function"
        )
    # One name for each content: what a file defines can be pickled, whatever is imported later.
    written = f"{path.resolve()} {path.stat().st_mtime_ns}"
    name = f"{_OF_FILES}{path.stem}_{zlib.crc32(written.encode()):08x}"
    module = sys.modules.get(name) or _imported(name, path)
    return _checked_build(str(path), getattr(module, "build", None))


def _imported(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise MolecularSystemError(
            f"system {path}",
            "cannot be imported as a module",
            "give the path of a .py file with a build() function",
        )
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, UserError) or not isinstance(error, Exception | SystemExit):
            raise
        raise MolecularSystemError(
            f"system {path}",
            f"cannot be imported ({_told(error, str(path))})",
            _PUBLIC_NAMES if _of_boltzgen(error) else "mend the file",
        ) from error
    return module


def imported_files() -> list[Path]:
    """System files that were imported in this process: what they define is known to no other yet."""
    return [Path(str(m.__file__)) for name, m in sys.modules.items() if name.startswith(_OF_FILES)]


def import_files(paths: Sequence[Path]) -> None:
    """Import system files as building their systems does."""
    for path in paths:
        _build_from_file(path)


def _checked_build(name: str, build: object) -> Build:
    if not callable(build):
        raise MolecularSystemError(
            f"system {name}", "defines no build() function", "add one that returns a MolecularSystem"
        )
    return build


def _checked_arguments(
    name: str, build: Build, arguments: dict[str, object], base: Path
) -> dict[str, object]:
    """Arguments for ``build``, ``base`` added where it is taken; wrong or missing names are errors."""
    declared = inspect.signature(build).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in declared.values())
    valid = [
        k for k, p in declared.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and k != "base"
    ]
    for key in arguments:
        if key in valid or (takes_any and key != "base"):
            continue
        if key in _OTHER_NAMES and "files" in valid:
            what, remedy = _OTHER_NAMES[key]
            raise MolecularSystemError(f"system.parameters.{key}", what, remedy)
        close = difflib.get_close_matches(key, valid, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise MolecularSystemError(
            f"system {name}", f"unknown parameter {key}", f"{hint}valid: {', '.join(valid) or 'none'}"
        )
    for key, value in arguments.items():
        wanted = declared.get(key)
        if isinstance(value, str) and wanted and bool in (type(wanted.default), _named(wanted.annotation)):
            raise MolecularSystemError(
                f"system.parameters.{key}", f"is the word {value!r}", "switch it by true or false"
            )
    missing = [k for k in valid if declared[k].default is inspect.Parameter.empty and k not in arguments]
    if missing:
        raise MolecularSystemError(
            f"system {name}", f"parameter {missing[0]} is missing", f"set system.parameters.{missing[0]}"
        )
    return {**arguments, "base": base} if "base" in declared else arguments


def _of_boltzgen(error: BaseException) -> bool:
    """Whether an import from inside boltzgen failed: modules move there, public names stay."""
    return isinstance(error, ImportError) and (error.name or "").startswith("boltzgen")


def _returned(value: object) -> str:
    """What a build function returned where it should be a molecular system."""
    return "build() returned " + ("nothing" if value is None else f"another object ({type(value).__name__})")


def _named(annotation: object) -> object:
    """An annotation, that of a switch also where it is a string."""
    return bool if annotation == "bool" else annotation


def _told(error: BaseException, name: str) -> str:
    """An exception in one line: its type, what it says, and where in the system's own file."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((f for f in reversed(frames) if f.filename.endswith(Path(name).name)), frames[-1])
    says = f"{type(error).__name__}: {_first_line(str(error))}".removesuffix(": ")
    where = "" if isinstance(error, SyntaxError) else f"; {Path(frame.filename).name}, line {frame.lineno}"
    return says + where


def _in_words(warning: str) -> str:
    """A warning of a library while a system was built, or nothing where it does no harm."""
    for words, meaning in _WARNINGS.items():
        if words in warning:
            return meaning
    return f"a library warned, `{_first_line(warning)}`"


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0] if lines else ""
