"""Atoms chosen in MDTraj's selection language, its failures told in one line."""

from __future__ import annotations

import mdtraj
import numpy as np

from boltzgen.errors import ConfigError


def selected_atoms(topology: mdtraj.Topology, key: str, selection: str) -> np.ndarray:
    """Indices of the atoms that ``selection`` selects, sorted.

    ``key`` is the dotted key of the setting it stands in. Raises ConfigError for what MDTraj does not
    understand and for a selection of nothing.
    """
    try:
        atoms: np.ndarray = topology.select(selection)
    except Exception as error:  # MDTraj raises whatever its parser comes upon
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            key,
            f"MDTraj does not understand {selection!r} ({reason})",
            "write it as in `name CA and resname ALA`",
        ) from error
    if not len(atoms):
        raise ConfigError(key, f"{selection!r} selects no atom", "name atoms that there are")
    return atoms
