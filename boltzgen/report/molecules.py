"""One typical configuration of every state, for the molecules that a page lets its reader turn."""

from __future__ import annotations

from typing import Any

import mdtraj
import numpy as np
from numpy.typing import NDArray

from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.rundir.finished_run import FinishedRun
from boltzgen.system.collective_variables import State

MAX_COMPARED = 200
"""Samples of a state among which the typical one is sought."""


def structures(run: FinishedRun, seed: int = 0) -> dict[str, Any] | None:
    """Elements, bonds, a configuration [Angstrom] of every state, states without one; None without samples.

    The configuration is the medoid of a state's weighted samples: the one whose heavy atoms are nearest
    to those of all others, in RMSD. The states are superposed on the first, which lies with its longest
    direction along x and its shortest along z. A system without states gives the medoid of all samples.
    """
    samples, topology = run.samples_if_there, run.topology
    if samples is None or topology is None:
        return None
    heavy = [a.index for a in topology.atoms if _symbol(a) != "H"] or list(range(topology.n_atoms))
    found, absent, first = [], [], None
    states: list[State | None] = [*run.stored.states] or [None]
    for state in states:
        rows = _drawn(samples, state, seed)
        name = "all samples" if state is None else state.name
        if not len(rows):
            absent.append(name)
            continue
        frames = mdtraj.Trajectory(samples.positions[rows], topology)
        frame = frames[_medoid(frames, heavy)]
        first = _laid_flat(frame) if first is None else first
        x = 10.0 * frame.superpose(first, atom_indices=heavy).xyz[0].astype(np.float64)
        share = 1.0 if state is None else float(samples.weights[state.members(samples.positions)].sum())
        found.append({"name": name, "share": share, "x": x.round(3).tolist()})
    if not found:
        return None
    elements = [_symbol(atom) for atom in topology.atoms]
    bonds = [[a.index, b.index] for a, b in topology.bonds]
    return {"elements": elements, "bonds": bonds, "states": found, "absent": absent}


def formula(topology: mdtraj.Topology) -> str:
    """Atoms by element in Hill's order: ``C6H12N2O2``; particles without an element count as X."""
    symbols = [_symbol(atom) for atom in topology.atoms]
    order = sorted(set(symbols), key=lambda s: (s != "C", s != "H", s))
    return "".join(f"{s}{symbols.count(s) if symbols.count(s) > 1 else ''}" for s in order)


def _drawn(samples: WeightedEnsemble, state: State | None, seed: int) -> NDArray[np.int64]:
    """Rows of a state, drawn by their weights, without repetition."""
    weights = samples.weights
    if state is not None:
        weights = np.where(state.members(samples.positions), weights, 0.0)
    weighty = np.flatnonzero(weights)
    n = min(MAX_COMPARED, len(weighty))
    if not n:
        return weighty
    p = weights[weighty] / weights[weighty].sum()
    return np.random.default_rng(seed).choice(weighty, n, replace=False, p=p)


def _medoid(frames: mdtraj.Trajectory, atoms: list[int]) -> int:
    """The frame with the smallest mean RMSD to the others."""
    distances = [mdtraj.rmsd(frames, frames, k, atom_indices=atoms).mean() for k in range(len(frames))]
    return int(np.argmin(distances))


def _laid_flat(frame: mdtraj.Trajectory) -> mdtraj.Trajectory:
    """The same configuration, centred, with its principal axes along x, y and z."""
    x = frame.xyz[0] - frame.xyz[0].mean(0)
    axes = np.linalg.svd(x, full_matrices=True)[2]
    axes[2] *= np.sign(np.linalg.det(axes))
    return mdtraj.Trajectory((x @ axes.T)[None], frame.topology)


def _symbol(atom: mdtraj.core.topology.Atom) -> str:
    """The element; X for a particle without one."""
    element = atom.element
    return "X" if element is None or element.symbol in ("VS", "") else str(element.symbol)
