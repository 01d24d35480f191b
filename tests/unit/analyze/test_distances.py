"""Distances against closed forms and brute force."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from helpers.chain import PHI, PSI, chain_ensemble, chain_positions, chain_system

from boltzgen.analyze.distances import (
    energy_w2,
    interatomic_w2,
    ramachandran_jsd,
    torsion_histogram,
    torsion_pair,
    torsion_w2,
    torus_w2,
    wasserstein_2,
)
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.errors import NumericalError


def test_wasserstein_2_of_sorted_pairs_and_of_weights_written_as_copies():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=50), rng.normal(1.0, 2.0, size=50)
    equal = np.full(50, 0.02)
    paired = math.sqrt(np.mean((np.sort(x) - np.sort(y)) ** 2))
    assert wasserstein_2(x, equal, y, equal) == pytest.approx(paired)
    counts = rng.integers(1, 6, 50)
    copies = np.repeat(x, counts)
    of_copies = wasserstein_2(copies, np.full(len(copies), 1 / len(copies)), y, equal)
    assert wasserstein_2(x, counts / counts.sum(), y, equal) == pytest.approx(of_copies)
    assert wasserstein_2(x, equal, x + 3.0, equal) == pytest.approx(3.0)


def test_energy_w2_uses_weights_and_drops_non_finite_energies():
    reference = chain_ensemble(4000, seed=1)
    sample = chain_ensemble(4000, seed=2)
    shifted = replace(sample, reduced_energies=sample.reduced_energies + 0.5)
    broken = shifted.reduced_energies.copy()
    broken[:100] = np.nan
    distance = energy_w2(replace(shifted, reduced_energies=broken), reference)
    assert distance.value == pytest.approx(0.5, abs=0.06) and distance.n_samples == 3900
    assert 0 < distance.noise_floor < 0.15
    tilted = replace(sample, log_weights=0.5 * sample.reduced_energies)  # N(0, 1) tilted to N(1/2, 1)
    assert energy_w2(tilted, reference).value == pytest.approx(0.5, abs=0.1)
    with pytest.raises(NumericalError, match="finite energy"):
        energy_w2(replace(sample, reduced_energies=np.full(4000, np.inf)), reference)


def test_noise_floor_is_that_of_ten_thousand_frames_whatever_the_sample():
    reference = chain_ensemble(20000, seed=3)
    poor = replace(chain_ensemble(4000, seed=4), log_weights=np.linspace(0.0, 50.0, 4000))
    few, many, bad = (energy_w2(sample, reference) for sample in (poor.select(slice(100)), poor, poor))
    assert poor.ess < 200
    assert few.noise_floor == many.noise_floor == bad.noise_floor
    assert few.n_floor == 10_000 and few.n_blocks == 20_000
    perfect = [energy_w2(chain_ensemble(10_000, seed=k), reference).value for k in range(5, 11)]
    assert 0.5 < np.mean(perfect) / few.noise_floor < 1.3


def test_noise_floor_of_fewer_frames_says_how_many():
    reference = replace(chain_ensemble(3000, seed=3), lineages=np.arange(3000) // 100)
    distance = torsion_w2(chain_ensemble(500, seed=4), reference, (PHI, PSI), max_samples=200)
    assert distance.n_floor == 200 and distance.n_blocks == 30
    assert energy_w2(chain_ensemble(500, seed=4), reference).n_floor == 1500


def test_halves_never_share_a_lineage():
    """All rows of a lineage in one half: with one lineage per value the halves differ as families do."""
    base = chain_ensemble(2000, seed=5)
    lineages = np.arange(2000) // 100
    energies = np.random.default_rng(0).normal(size=20)[lineages]
    families = replace(base, lineages=lineages, reduced_energies=energies)
    independent = replace(families, lineages=None)
    assert energy_w2(base, families).noise_floor > 3 * energy_w2(base, independent).noise_floor
    one = replace(base, lineages=np.zeros(2000, dtype=np.int64))
    assert math.isnan(energy_w2(base, one).noise_floor)


def test_interatomic_w2_of_gaussian_bonds_is_the_closed_form():
    """Two atoms: ``W2^2 = (difference of means)^2 + (difference of standard deviations)^2``."""

    def bonds(mean: float, sd: float, seed: int) -> WeightedEnsemble:
        x = np.zeros((4000, 2, 3), dtype=np.float32)
        x[:, 1, 0] = np.random.default_rng(seed).normal(mean, sd, 4000)
        return WeightedEnsemble(x, np.zeros(4000), np.zeros(4000), 300.0)

    reference = bonds(0.20, 0.010, 1)
    moved = interatomic_w2(bonds(0.23, 0.020, 2), reference, max_samples=4000)
    assert moved.value == pytest.approx(math.hypot(0.03, 0.01), rel=0.03) and moved.n_samples == 4000
    same = interatomic_w2(bonds(0.20, 0.010, 3), reference)
    assert same.n_samples == 2000 and same.value < 3 * same.noise_floor < 0.1 * moved.value


def test_interatomic_w2_is_exact_for_a_swollen_molecule_and_uses_weights():
    reference = chain_ensemble(3000, seed=1)
    swollen = replace(reference, positions=1.1 * reference.positions)
    pairs = np.triu_indices(5, 1)
    r = np.linalg.norm(reference.positions[:, pairs[0]] - reference.positions[:, pairs[1]], axis=-1)
    assert interatomic_w2(swollen, reference).value == pytest.approx(0.1 * math.sqrt(np.mean(r**2)), rel=0.03)
    weighted = chain_ensemble(3000, seed=2, p_positive=0.3, proposal=0.9)
    raw = replace(weighted, log_weights=np.zeros(3000))
    assert interatomic_w2(weighted, reference).value < 0.4 * interatomic_w2(raw, reference).value


def test_large_molecules_are_compared_on_fewer_configurations(monkeypatch):
    monkeypatch.setattr("boltzgen.analyze.distances.MOST_DISTANCES", 500)
    samples = chain_ensemble(300, seed=1), chain_ensemble(300, seed=2)
    assert interatomic_w2(*samples).n_samples == 50


def test_torus_distance_is_periodic_in_two_pi_and_not_in_pi():
    a = np.array([[math.pi - 0.1, 0.0]])
    assert torus_w2(a, np.array([[-math.pi + 0.1, 0.0]])) == pytest.approx(0.2)
    assert torus_w2(np.zeros((1, 2)), np.array([[math.pi, math.pi]])) == pytest.approx(math.pi * math.sqrt(2))


def test_torus_w2_is_the_best_assignment():
    rng = np.random.default_rng(1)
    a, b = rng.uniform(-math.pi, math.pi, (2, 6, 2))
    gap = np.abs(a[:, None] - b[None])
    cost = np.square(np.minimum(gap, 2 * math.pi - gap)).sum(-1)
    best = min(sum(cost[i, p[i]] for i in range(6)) for p in permutations(range(6)))
    assert torus_w2(a, b) == pytest.approx(math.sqrt(best / 6))


def test_torsion_w2_of_a_rotated_sample_and_its_floor():
    reference = chain_ensemble(2000, seed=6)
    moved = replace(
        reference,
        positions=chain_positions(PHI.values(reference.positions) + 1.0, PSI.values(reference.positions)),
    )
    distance = torsion_w2(moved, reference, (PHI, PSI), max_samples=400)
    assert distance.value == pytest.approx(1.0, abs=0.25) and distance.n_samples == 400
    same = torsion_w2(chain_ensemble(2000, seed=7), reference, (PHI, PSI), max_samples=400)
    assert same.value < 2 * same.noise_floor < distance.value


def test_torsion_w2_repeats_with_its_seed():
    samples = chain_ensemble(300, seed=1), chain_ensemble(300, seed=2)
    first, again, other = (torsion_w2(*samples, (PHI, PSI), max_samples=100, seed=s) for s in (1, 1, 2))
    assert first == again and first != other


def test_reweighting_brings_the_ramachandran_divergence_to_its_floor():
    reference = chain_ensemble(20000, seed=8, p_positive=0.05)
    sample = chain_ensemble(20000, seed=9, p_positive=0.05, proposal=0.5)
    reweighted = ramachandran_jsd(sample, reference, (PHI, PSI), n_bins=12)
    raw = ramachandran_jsd(replace(sample, log_weights=np.zeros(20000)), reference, (PHI, PSI), n_bins=12)
    assert reweighted.value < 2 * reweighted.noise_floor < 0.1 * raw.value
    assert raw.value <= math.log(2)


def test_histogram_is_a_distribution_and_the_pair_is_the_systems():
    histogram = torsion_histogram(chain_ensemble(500, seed=0), (PHI, PSI), 20)
    assert histogram.sum() == pytest.approx(1.0)
    system = chain_system()
    assert torsion_pair(system) == (PHI, PSI)
    assert torsion_pair(replace(system, collective_variables=(PHI,))) is None
