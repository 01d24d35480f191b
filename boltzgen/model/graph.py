"""The molecular graph as PyG data: atom classes, topological distances, distance statistics of pairs."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from boltzgen.diffusion.process import ZeroCentroidGaussian
from boltzgen.geometry import averaged_over
from boltzgen.system.molecular_system import MolecularSystem

MAX_TOPOLOGICAL_DISTANCE = 4
"""Pairs further apart than this (or not connected) share one type."""


def pair_orbits(system: MolecularSystem) -> NDArray[np.int64]:
    """Index of the orbit of every pair of atoms, ``(n_atoms, n_atoms)``, symmetric.

    Pairs with the same two atom classes and the same topological distance share an orbit, so every
    automorphism of the molecular graph maps an orbit onto itself.
    """
    classes, hops = system.atom_classes, system.topological_distances
    low = np.minimum(classes[:, None], classes[None, :])
    high = np.maximum(classes[:, None], classes[None, :])
    keys = np.stack([low, high, hops], axis=-1).reshape(-1, 3)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(hops.shape)


def molecular_graph(system: MolecularSystem, positions: Tensor) -> Data:
    """What the network knows of the atoms and of every ordered pair of them.

    positions
        Data [nm] with shape ``(n, n_atoms, 3)`` from which distance statistics are taken.

    Node data ``x``: atom class ``(n_atoms,)``. Edge data, one row per ordered pair (i, j) including i = j
    (so that rows reshape to ``(n_atoms, n_atoms)``): ``hops`` (0 for i = j, otherwise 1 to
    MAX_TOPOLOGICAL_DISTANCE), and averaged over the orbit of the pair [nm]: ``mean``, ``std``, and
    ``contact`` (2 % quantile) of the distance.
    """
    n_atoms = system.n_atoms
    orbits = torch.as_tensor(pair_orbits(system)).flatten()
    distances = _distances(positions)
    statistics = torch.zeros((n_atoms * n_atoms, 3), dtype=torch.float64)
    off_diagonal = ~torch.eye(n_atoms, dtype=torch.bool).flatten()
    for orbit in orbits.unique():
        members = (orbits == orbit) & off_diagonal
        if members.any():
            r = distances[:, members]
            contact = torch.quantile(r[: 100_000 // r.shape[1] + 1].flatten(), 0.02)
            statistics[members] = torch.stack([r.mean(), r.std(), contact])
    hops = torch.as_tensor(system.topological_distances).clone()
    hops[hops == 0] = MAX_TOPOLOGICAL_DISTANCE
    hops = hops.clamp_max(MAX_TOPOLOGICAL_DISTANCE).fill_diagonal_(0)
    return Data(
        x=torch.as_tensor(system.atom_classes),
        hops=hops.flatten(),
        mean=statistics[:, 0],
        std=statistics[:, 1],
        contact=statistics[:, 2],
    )


def stiff_pairs(system: MolecularSystem, n_bonds: int = 2) -> NDArray[np.int64]:
    """Pairs ``i < j`` one bond to ``n_bonds`` apart, shape ``(n_pairs, 2)``."""
    hops = np.triu(system.topological_distances)
    return np.argwhere((hops >= 1) & (hops <= n_bonds))


def orbits_of_pairs_of_pairs(system: MolecularSystem, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the orbit of every two pairs ((a, b), (c, d)), ``(n_pairs, n_pairs)``.

    Two pairs are told apart by their atoms' classes and all topological distances between them, in the
    smallest of the four ways of writing them down.
    """
    classes, hops = system.atom_classes, system.topological_distances
    written = []
    for ends, others in itertools.product((pairs, pairs[:, ::-1]), repeat=2):
        (a, b), (c, d) = ends.T[:, :, None], others.T[:, None, :]
        parts = [
            classes[a],
            classes[b],
            classes[c],
            classes[d],
            hops[a, c],
            hops[a, d],
            hops[b, c],
            hops[b, d],
        ]
        code = np.zeros((len(pairs), len(pairs)), dtype=np.int64)
        for part in parts:
            code = code * 200 + np.minimum(part, 199)
        written.append(code)
    smallest = np.min(written, axis=0)
    return np.unique(smallest, return_inverse=True)[1].reshape(smallest.shape)


def stiffest_width(system: MolecularSystem, positions: Tensor) -> float:
    """Standard deviation [nm] of the stiffest bond, or of nearest-neighbour distances without bonds."""
    distances = _distances(positions).view(len(positions), system.n_atoms, system.n_atoms)
    if system.bonds:
        i, j = np.array(system.bonds).T
        return float(distances[:, i, j].std(0).min())
    nearest = distances + torch.diag(torch.full((system.n_atoms,), torch.inf))
    return float(nearest.amin(-1).std())


def gaussian_approximation(system: MolecularSystem, positions: Tensor) -> ZeroCentroidGaussian:
    """The best rotation-invariant Gaussian of the data, averaged over orbits of pairs of atoms."""
    x = positions.double()
    covariance = torch.einsum("nid,njd->ij", x, x) / (3 * len(x))
    keys = 2 * torch.as_tensor(pair_orbits(system)) + torch.eye(system.n_atoms, dtype=torch.int64)
    return ZeroCentroidGaussian.from_covariance(averaged_over(keys, covariance))


def _distances(positions: Tensor) -> Tensor:
    """All pair distances, ``(n, n_atoms^2)``, float64."""
    x = positions.double()
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").flatten(1)
