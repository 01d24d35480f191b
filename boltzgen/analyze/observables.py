"""Weighted means of anything that can be computed from an MDTraj trajectory."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np

from boltzgen.analyze.free_energy import Estimate, expectation
from boltzgen.ensemble.trajectory import trajectory
from boltzgen.ensemble.weighted import Array, WeightedEnsemble
from boltzgen.errors import ConfigError, DataError, UserError
from boltzgen.system.molecular_system import MolecularSystem

Observable = Callable[[mdtraj.Trajectory], Any]
"""One number, or a vector, for each frame of a trajectory [nm]: ``(n,)`` or ``(n, k)``."""

_FRAMES_AT_ONCE = 10_000
_ANGLES = {"compute_phi", "compute_psi", "compute_omega", *(f"compute_chi{k}" for k in range(1, 6))}


def find_observable(name: str, base: Path | None = None) -> Observable:
    """The function that a workflow file names: of MDTraj, or ``path/to/file.py:function``.

    Raises ConfigError for a name that is unknown (with the closest one) or a function that needs more than
    the trajectory.
    """
    function = _from_file(name, base or Path()) if ".py:" in name else _from_mdtraj(name)
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise ConfigError(
            f"observable {name}",
            f"takes more than a trajectory ({error})",
            "write a function of a trajectory that calls it",
        ) from None
    return function


def frame_values(name: str, function: Observable, frames: mdtraj.Trajectory) -> Array:
    """What an observable gives, ``(n, k)``; DataError unless it is one number or a vector for each frame."""
    try:
        found = function(frames)
    except Exception as error:  # whatever a function of somebody else's comes upon
        said = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
        raise DataError(f"observable {name}", f"the function fails ({said})", "mend it") from error
    wanted = f"a number or a vector for each of {frames.n_frames} frames is wanted"
    values = _numbers(_without_indices(found, frames.n_frames))
    if values.ndim not in (1, 2) or len(values) != frames.n_frames or 0 in values.shape:
        raise DataError(f"observable {name}", f"returns {_told(found)}", str(wanted))
    return values.reshape(frames.n_frames, -1)


def observable(
    source: Any,
    what: str | Observable,
    system: MolecularSystem | None = None,
    n_bootstrap: int = 200,
    seed: int = 0,
) -> Estimate | list[Estimate]:
    """Weighted mean of an observable with its standard error, one for each component of a vector.

    source
        An opened run (`boltzgen.load_run`), or an ensemble together with its ``system``.
    what
        The name of an MDTraj function (``"compute_rg"``), or a function of an MDTraj trajectory [nm] that
        returns ``(n,)`` or ``(n, k)`` values, in whatever unit. Rows of weight zero may give NaN.

    Raises ConfigError for an unknown name, DataError for a function that does not give such values.
    """
    ensemble = source if isinstance(source, WeightedEnsemble) else source.samples
    system = system or getattr(source, "system", None)
    if system is None:
        raise DataError("observable", "an ensemble knows no atoms", "give its system as well")
    name = what if isinstance(what, str) else getattr(what, "__name__", "function")
    function = find_observable(what) if isinstance(what, str) else what
    found = weighted_means(ensemble, system, name, function, n_bootstrap, seed)
    return found[0] if len(found) == 1 else found


def weighted_means(
    ensemble: WeightedEnsemble,
    system: MolecularSystem,
    name: str,
    function: Observable,
    n_bootstrap: int = 200,
    seed: int = 0,
) -> list[Estimate]:
    """Weighted means of the components of an observable. DataError where a row that counts has no value."""
    starts = range(0, len(ensemble), _FRAMES_AT_ONCE)
    blocks = [ensemble.positions[start : start + _FRAMES_AT_ONCE] for start in starts]
    values = np.concatenate([frame_values(name, function, trajectory(system, x)) for x in blocks])
    lost = ~np.isfinite(values).all(axis=1) & (ensemble.log_weights > -np.inf)
    if lost.any():
        raise DataError(
            f"observable {name}",
            f"is not finite in frame {int(np.argmax(lost))}",
            "look at that frame, or let the function give a number there",
        )
    return [expectation(ensemble, column, n_bootstrap, seed) for column in values.T]


def check_observables(names: tuple[str, ...], system: MolecularSystem) -> None:
    """Raise for an observable that cannot be found, or computed at the reference configuration."""
    frames = trajectory(system, np.repeat(system.positions[None], 2, axis=0).astype(np.float32))
    for name in names:
        try:
            frame_values(name, find_observable(name), frames)
        except UserError as error:
            raise type(error)(f"analyze.observables: {error.where}", error.what, error.remedy) from error


def _from_mdtraj(name: str) -> Observable:
    known = {n: getattr(mdtraj, n) for n in dir(mdtraj) if _takes_trajectory(getattr(mdtraj, n))}
    if name in _ANGLES:
        raise ConfigError(
            f"observable {name}", "an angle on a circle has no mean", "average its cosine and sine"
        )
    if name not in known:
        alone = [n for n, function in known.items() if _takes_nothing_else(function) and n not in _ANGLES]
        close = difflib.get_close_matches(name, alone, n=1)
        hint = f"did you mean {close[0]}?" if close else "compute_rg is one"
        raise ConfigError(
            f"observable {name}",
            "no function of a trajectory in MDTraj",
            f"{hint} (file.py:function names one of your own)",
        )
    function: Observable = known[name]
    return function


def _takes_trajectory(item: Any) -> bool:
    """Whether this is a function whose first argument MDTraj calls a trajectory."""
    try:
        named = "traj" in list(inspect.signature(item).parameters)[:1]
    except (TypeError, ValueError):
        return False
    return named and not inspect.isclass(item)


def _takes_nothing_else(function: Any) -> bool:
    required = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    return len(required) == 1


def _from_file(name: str, base: Path) -> Observable:
    file, _, attribute = name.rpartition(":")
    path = base / file
    if not path.is_file():
        raise ConfigError(
            f"observable {name}", f"no file {path}", "paths start from the workflow file's directory"
        )
    spec = importlib.util.spec_from_file_location(f"boltzgen_user_observables_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        says = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigError(
            f"observable {name}", f"{path} cannot be imported ({says})", "mend the file"
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        known = [n for n, item in vars(module).items() if inspect.isfunction(item)]
        close = difflib.get_close_matches(attribute, known, n=1)
        remedy = f"did you mean {close[0]}?" if close else "name one that it defines"
        raise ConfigError(f"observable {name}", f"{path} defines no function {attribute}", remedy)
    return function


def _without_indices(found: Any, n_frames: int) -> Any:
    """The values alone where MDTraj returns atom indices with them, as for couplings and contacts."""
    if isinstance(found, tuple) and len(found) == 2:
        values = [
            a for a in found if isinstance(a, np.ndarray) and a.dtype.kind == "f" and len(a) == n_frames
        ]
        return values[0] if len(values) == 1 else found
    return found


def _numbers(found: Any) -> Array:
    """An array of numbers; one without dimensions for anything else."""
    try:
        values = np.asarray(found)
        return values.astype(np.float64) if values.dtype.kind in "biuf" else np.empty(())
    except (TypeError, ValueError):
        return np.empty(())


def _told(found: Any) -> str:
    """A value in words."""
    if isinstance(found, np.ndarray):
        return f"an array of {found.dtype} with shape {found.shape}"
    if isinstance(found, list | tuple):
        return f"a list of {len(found)}"
    if found is None:
        return "nothing"
    return "a single number" if np.isscalar(found) and not isinstance(found, str) else "no numbers"
