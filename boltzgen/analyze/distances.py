"""Distances between two weighted ensembles, each beside the distance that sampling noise alone would give."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import ot
from numpy.typing import NDArray

from boltzgen.analyze.free_energy import cluster_index, normalised_weights
from boltzgen.ensemble.weighted import Array, WeightedEnsemble
from boltzgen.errors import NumericalError
from boltzgen.system.collective_variables import CollectiveVariable
from boltzgen.system.molecular_system import MolecularSystem

N_SPLITS = 5
"""Random halvings of the reference that a noise floor is averaged over."""
N_FLOOR = 10_000
"""Configurations on either side of a noise floor, at most."""
MOST_DISTANCES = 10_000_000
"""Interatomic distances of an ensemble that are held and sorted at once."""

DistanceFunction = Callable[[WeightedEnsemble, WeightedEnsemble, int], float]


@dataclass(frozen=True)
class Distance:
    """A distance between model and reference.

    noise_floor
        The same distance between two independent halves of the reference, `N_FLOOR` configurations of each or
        as many as count there, whatever the size of the model sample: a poor sample has no higher floor. NaN
        if the reference cannot be halved.
    n_samples
        Rows of the model sample that the distance was computed from.
    n_floor, n_blocks
        Configurations of each half, and independent blocks of the whole reference, that the floor rests on.
    """

    value: float
    noise_floor: float
    n_samples: int
    n_floor: int = 0
    n_blocks: int = 0


def energy_w2(model: WeightedEnsemble, reference: WeightedEnsemble, seed: int = 0) -> Distance:
    """E-W2: Wasserstein-2 distance between the distributions of reduced energy, in kT.

    Exact in one dimension through the quantile functions (Villani, Topics in Optimal Transportation,
    2003, theorem 2.18).
    Rows with a non-finite energy have weight zero. Raises NumericalError if no weight is left.
    """
    model, reference = (with_finite_energy(e) for e in (model, reference))

    def distance(a: WeightedEnsemble, b: WeightedEnsemble, _: int) -> float:
        return wasserstein_2(a.reduced_energies, a.weights, b.reduced_energies, b.weights)

    return _with_noise_floor(distance, model, reference, max(len(model), N_FLOOR), seed)


def torsion_w2(
    model: WeightedEnsemble,
    reference: WeightedEnsemble,
    torsions: tuple[CollectiveVariable, ...],
    max_samples: int = 2000,
    seed: int = 0,
) -> Distance:
    """T-W2: Wasserstein-2 distance over torsions jointly, in radians, angles compared on the circle.

    Each ensemble is resampled by its weights to at most ``max_samples`` points; the transport between
    them is exact (POT ``emd2``).
    """

    def distance(a: WeightedEnsemble, b: WeightedEnsemble, draw: int) -> float:
        points = [
            torsion_values(e.resample(min(len(e), max_samples), draw + k), torsions)
            for k, e in enumerate((a, b))
        ]
        return torus_w2(*points)

    model, reference = _with_weight(model), _with_weight(reference)
    return _with_noise_floor(distance, model, reference, max_samples, seed)


def ramachandran_jsd(
    model: WeightedEnsemble,
    reference: WeightedEnsemble,
    torsions: tuple[CollectiveVariable, CollectiveVariable],
    n_bins: int = 36,
    seed: int = 0,
) -> Distance:
    """Jensen-Shannon divergence (nats, at most ln 2) of two-torsion histograms (Lin 1991, equation 4.1)."""

    def distance(a: WeightedEnsemble, b: WeightedEnsemble, _: int) -> float:
        p, q = (torsion_histogram(e, torsions, n_bins) for e in (a, b))
        middle = 0.5 * (p + q)
        return 0.5 * (_kullback_leibler(p, middle) + _kullback_leibler(q, middle))

    model, reference = _with_weight(model), _with_weight(reference)
    return _with_noise_floor(distance, model, reference, max(len(model), N_FLOOR), seed)


def interatomic_w2(
    model: WeightedEnsemble, reference: WeightedEnsemble, max_samples: int = 2000, seed: int = 0
) -> Distance:
    """Wasserstein-2 distance between the distributions of interatomic distances, in nm.

    The distances of all pairs of atoms are pooled into one distribution on the line, as the field does
    (Akhound-Sadegh et al., Iterated Denoising Energy Matching, ICML 2024, there in total variation): it sees
    a wrong density or bond length, and not which pair it is of. Each ensemble is resampled by its weights to
    at most ``max_samples`` configurations, fewer where they have more than `MOST_DISTANCES`.
    """
    pairs = np.triu_indices(model.n_atoms, 1)
    most = max(1, min(max_samples, MOST_DISTANCES // len(pairs[0])))

    def distance(a: WeightedEnsemble, b: WeightedEnsemble, draw: int) -> float:
        drawn = [e.resample(min(len(e), most), draw + k).positions for k, e in enumerate((a, b))]
        r, s = (np.linalg.norm(x[:, pairs[0]] - x[:, pairs[1]], axis=-1).astype(float).ravel() for x in drawn)
        return wasserstein_2(r, np.full(len(r), 1 / len(r)), s, np.full(len(s), 1 / len(s)))

    model, reference = _with_weight(model), _with_weight(reference)
    return _with_noise_floor(distance, model, reference, most, seed)


def torsion_pair(system: MolecularSystem) -> tuple[CollectiveVariable, CollectiveVariable] | None:
    """The first two torsions among the system's collective variables; None if it has fewer."""
    torsions = torsions_of(system)
    return (torsions[0], torsions[1]) if len(torsions) > 1 else None


def torsions_of(system: MolecularSystem) -> tuple[CollectiveVariable, ...]:
    """All torsions among the system's collective variables."""
    return tuple(cv for cv in system.collective_variables if cv.kind == "torsion")


def torsion_histogram(
    ensemble: WeightedEnsemble, torsions: tuple[CollectiveVariable, CollectiveVariable], n_bins: int
) -> Array:
    """Probabilities ``(n_bins, n_bins)`` of the cells of [-pi, pi]^2, first torsion along the first axis."""
    x, y = (cv.values(ensemble.positions) for cv in torsions)
    edges = np.linspace(-math.pi, math.pi, n_bins + 1)
    return np.histogram2d(x, y, bins=(edges, edges), weights=normalised_weights(ensemble))[0]


def wasserstein_2(x: Array, weights_x: Array, y: Array, weights_y: Array) -> float:
    """Wasserstein-2 distance of two weighted samples on the line; weights of each sum to one."""
    (x, cumulated_x), (y, cumulated_y) = _sorted_quantiles(x, weights_x), _sorted_quantiles(y, weights_y)
    levels = np.sort(np.concatenate([[0.0], cumulated_x, cumulated_y]))
    middle, width = 0.5 * (levels[1:] + levels[:-1]), np.diff(levels)
    quantile_x = x[np.minimum(np.searchsorted(cumulated_x, middle), len(x) - 1)]
    quantile_y = y[np.minimum(np.searchsorted(cumulated_y, middle), len(y) - 1)]
    return float(np.sqrt(np.dot(width, np.square(quantile_x - quantile_y))))


def torus_w2(a: Array, b: Array) -> float:
    """Wasserstein-2 distance of equally weighted angles ``(n, d)`` and ``(m, d)``, circular in each angle."""
    cost = np.zeros((len(a), len(b)))
    for k in range(a.shape[1]):
        gap = np.abs(a[:, k, None] - b[None, :, k])
        cost += np.square(np.minimum(gap, 2 * math.pi - gap))
    return transport_w2(cost)


def transport_w2(cost: Array) -> float:
    """Wasserstein-2 distance of equally weighted points from their squared distances ``(n, m)``."""
    return math.sqrt(max(float(ot.emd2([], [], cost, numItermax=10_000_000)), 0.0))


def _with_noise_floor(
    distance: DistanceFunction,
    model: WeightedEnsemble,
    reference: WeightedEnsemble,
    max_samples: int,
    seed: int,
) -> Distance:
    """The distance, with its noise floor averaged over `N_SPLITS` halvings of the reference."""
    value = distance(model, reference, seed)
    rng, floors, n = np.random.default_rng(seed), [], 0
    for split in range(N_SPLITS):
        both = halves(reference, rng)
        if both is None:
            break
        n = max(1, round(min(N_FLOOR, max_samples, *(half.ess for half in both))))
        a, b = (half.resample(n, seed + 2 * split + k + 1) for k, half in enumerate(both))
        floors.append(distance(a, b, seed + split))
    floor = float(np.mean(floors)) if floors else math.nan
    n_blocks = len(cluster_index(reference)[1])
    return Distance(value, floor, min(len(model), max_samples), n, n_blocks)


def halves(
    ensemble: WeightedEnsemble, rng: np.random.Generator
) -> tuple[WeightedEnsemble, WeightedEnsemble] | None:
    """Two random halves that share no cluster; None if there is but one."""
    cluster, island = cluster_index(ensemble)
    if len(island) < 2:
        return None
    first = rng.permutation(len(island)) < len(island) // 2
    rows = first[cluster]
    return ensemble.select(np.flatnonzero(rows)), ensemble.select(np.flatnonzero(~rows))


def _with_weight(ensemble: WeightedEnsemble) -> WeightedEnsemble:
    """The rows whose weight is not zero."""
    return ensemble.select(np.flatnonzero(normalised_weights(ensemble) > 0))


def with_finite_energy(ensemble: WeightedEnsemble) -> WeightedEnsemble:
    """The rows that have a weight and a finite energy; NumericalError without any."""
    kept = ensemble.select(np.flatnonzero(np.isfinite(ensemble.reduced_energies)))
    if not len(kept):
        raise NumericalError(
            "ensemble", "no configuration has a finite energy", "give frames of this molecule"
        )
    return _with_weight(kept)


def torsion_values(ensemble: WeightedEnsemble, torsions: Sequence[CollectiveVariable]) -> Array:
    """Torsions [rad] ``(n, len(torsions))``."""
    return np.stack([cv.values(ensemble.positions) for cv in torsions], axis=1)


def _sorted_quantiles(x: Array, weights: Array) -> tuple[Array, Array]:
    order: NDArray[np.int64] = np.argsort(x)
    return x[order], np.cumsum(weights[order])


def _kullback_leibler(p: Array, q: Array) -> float:
    """Sum of ``p ln(p / q)`` over the cells where p is positive; q must be positive there."""
    inside = p > 0
    return float(np.sum(p[inside] * np.log(p[inside] / q[inside])))
