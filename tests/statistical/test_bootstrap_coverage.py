"""95 % intervals cover the truth 92 to 98 % of the time on clustered, weighted samples."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import norm

from boltzgen.analyze.free_energy import (
    PMF,
    Estimate,
    expectation,
    free_energy_difference,
    free_energy_surface,
    kernel_pmf,
    potential_of_mean_force,
)
from boltzgen.ensemble.correlation import with_blocks
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.system.collective_variables import CollectiveVariable, State
from boltzgen.system.registry import load_system

REPLICATES = 500
P_RIGHT, PROPOSAL, WIDTH = 0.2, 0.5, 0.18
DISTANCE = CollectiveVariable("r", "distance", (0, 1))
RIGHT, LEFT = State("right", DISTANCE, ((1.0, 9.0),)), State("left", DISTANCE, ((-1.0, 1.0),))
TRUTH = math.log((1 - P_RIGHT) / P_RIGHT)
LIMITS, N_BINS = (0.1, 1.9), 12


@dataclass(frozen=True)
class Ancestry:
    """Families of rows: a family shares a weight, a place in its state and a preference for a state.

    preference
        Sum of the parameters of the Beta distribution of a family's share on the right: small is strong.
    spread
        Standard deviation of the families' log weights.
    islands
        Number of islands; with ``island_preference`` each has its own share on the right.
    """

    families: int
    size: int
    preference: float
    spread: float = 0.5
    islands: int = 1
    island_preference: float | None = None

    def sample(self, rng: np.random.Generator) -> WeightedEnsemble:
        """Two Gaussians at 0.5 and 1.5, drawn evenly and weighted to a share of `P_RIGHT` on the right."""
        family = np.repeat(np.arange(self.families), 1 + rng.poisson(self.size - 1, self.families))
        island = np.arange(self.families) % self.islands
        share = self._shares(rng)[island]
        share = rng.beta(self.preference * share, self.preference * (1 - share))
        right = rng.random(len(family)) < share[family]
        place = 0.6 * rng.normal(size=self.families)[family] + 0.8 * rng.normal(size=len(family))
        other = 0.6 * rng.normal(size=self.families)[family] + 0.8 * rng.normal(size=len(family))
        x = np.zeros((len(family), 3, 3), dtype=np.float32)
        x[:, 2, 1] = 1.0 + WIDTH * other
        x[:, 1, 0] = np.clip(np.where(right, 1.5, 0.5) + WIDTH * place, 0.0, None)
        log_weights = self.spread * rng.normal(size=self.families)[family]
        log_weights += np.log(np.where(right, P_RIGHT / PROPOSAL, (1 - P_RIGHT) / (1 - PROPOSAL)))
        zero = np.zeros(len(family))
        return WeightedEnsemble(x, log_weights, zero, 300.0, lineages=family, islands=island[family])

    def _shares(self, rng: np.random.Generator) -> NDArray[np.float64]:
        if self.island_preference is None:
            return np.full(self.islands, PROPOSAL)
        return rng.beta(*[0.5 * self.island_preference] * 2, size=self.islands)


THIRTY = Ancestry(30, 40, preference=8.0)
CASES = {
    "30 ancestors": THIRTY,
    "30 ancestors of uneven weight": replace(THIRTY, spread=1.0),
    "60 ancestors": Ancestry(60, 20, preference=4.0),
    "250 ancestors": Ancestry(250, 6, preference=0.2),
    "36 ancestors in 4 islands": Ancestry(36, 40, preference=8.0, islands=4),
}


HEAVY = {
    "log weights of sd 2": Ancestry(800, 3, preference=2.0, spread=2.0),
    "log weights of sd 2.5": Ancestry(3000, 4, preference=2.0, spread=2.5),
    "log weights of sd 3": Ancestry(3000, 4, preference=2.0, spread=3.0),
}


def density(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return (1 - P_RIGHT) * norm.pdf(x, 0.5, WIDTH) + P_RIGHT * norm.pdf(x, 1.5, WIDTH)


def log_shares(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    cumulated = (1 - P_RIGHT) * norm.cdf(edges, 0.5, WIDTH) + P_RIGHT * norm.cdf(edges, 1.5, WIDTH)
    return np.log(np.diff(cumulated))


def differences(ancestry: Ancestry, by_row: bool = False, replicates: int = REPLICATES) -> list[Estimate]:
    rng, found = np.random.default_rng(20240), []
    for k in range(replicates):
        sample = ancestry.sample(rng)
        if by_row:  # in random order, since neighbours that are alike would be seen
            sample = replace(sample.select(rng.permutation(len(sample))), lineages=None)
        found.append(free_energy_difference(sample, RIGHT, LEFT, n_bootstrap=200, seed=k))
    return found


def coverage(found: list[Estimate], truth: float = TRUTH) -> float:
    intervals = [e.interval for e in found if e.interval is not None]
    assert len(intervals) > 0.9 * len(found)
    return float(np.mean([low < truth < high for low, high in intervals]))


def with_normal_quantiles(found: list[Estimate]) -> list[Estimate]:
    """The same errors with intervals of 1.96 of them."""
    return [replace(e, dof=math.inf) for e in found]


def profile_coverage(profile: PMF, f: NDArray[np.float64]) -> list[bool]:
    """Whether true differences to the bin found lowest lie inside; bins without error are left out."""
    low, high = profile.interval
    lowest = int(np.argmin(np.where(np.isfinite(profile.df), profile.f, np.inf)))
    known = np.isfinite(profile.df) & (np.arange(len(f)) != lowest)
    return list(((low < f - f[lowest]) & (f - f[lowest] < high))[known])


@pytest.mark.parametrize("case", CASES)
def test_state_differences_are_covered(case):
    found = differences(CASES[case])
    print(
        f"\n{case}: states {coverage(found):.3f}, by 1.96 errors {coverage(with_normal_quantiles(found)):.3f}"
    )
    assert 0.92 <= coverage(found) <= 0.98
    errors, values = np.array([e.error for e in found if e.error is not None]), [e.value for e in found]
    assert errors.max() < 1.0
    assert abs(np.mean(values) - TRUTH) < 3.5 * np.std(values, ddof=1) / math.sqrt(REPLICATES) + 0.02


@pytest.mark.parametrize("case", CASES)
def test_bins_of_a_profile_are_covered(case):
    rng, inside, inside_normal = np.random.default_rng(11), [], []
    for k in range(REPLICATES):
        profile = potential_of_mean_force(CASES[case].sample(rng), DISTANCE, N_BINS, 200, k, LIMITS)
        truth = -log_shares(profile.bin_edges)
        inside += profile_coverage(profile, truth)
        inside_normal += profile_coverage(replace(profile, dof=None), truth)
    print(f"\n{case}: bins {np.mean(inside):.3f}, by 1.96 errors {np.mean(inside_normal):.3f}")
    assert len(inside) > 5 * REPLICATES and 0.92 <= np.mean(inside) <= 0.98


@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=[pytest.mark.slow] * (k > 0)) for k, name in enumerate(HEAVY)]
)
def test_states_and_bins_of_heavy_weights_are_covered(case):
    """A few of many ancestors carry most of the weight. Bins of fewer than five by weight have no error."""
    rng, found, inside, marked = np.random.default_rng(21), [], [], []
    for k in range(400):
        sample = HEAVY[case].sample(rng)
        found.append(free_energy_difference(sample, RIGHT, LEFT, n_bootstrap=100, seed=k))
        profile = potential_of_mean_force(sample, DISTANCE, N_BINS, 100, k, LIMITS)
        covered = profile_coverage(profile, -log_shares(profile.bin_edges))
        inside += covered
        marked.append((profile.lower_bound.sum(), np.isfinite(profile.df).sum()))
    bound, known = np.sum(marked, axis=0)
    print(f"\n{case}: states {coverage(found):.3f}, bins {np.mean(inside):.3f} ({known / 400:.1f} of 12 have")
    print(f"errors, {bound / known:.2f} of them lower bounds)")
    assert 0.93 <= coverage(found) <= 0.97
    assert len(inside) > 2 * 400 and 0.93 <= np.mean(inside) <= 0.97


def test_cells_of_a_surface_are_covered():
    """Over r and a Gaussian distance that is independent of it: free energies add."""
    rng, inside, n = np.random.default_rng(14), [], 6
    across = CollectiveVariable("s", "distance", (0, 2))
    for k in range(200):
        surface = free_energy_surface(THIRTY.sample(rng), (DISTANCE, across), n, 200, k, (LIMITS, (0.5, 1.5)))
        f = -log_shares(surface.x_edges)[:, None] - np.log(np.diff(norm.cdf(surface.y_edges, 1.0, WIDTH)))
        flat = PMF(np.arange(n * n + 1.0), *(table.ravel() for table in (surface.f, surface.df, surface.dof)))
        inside += profile_coverage(flat, f.ravel())
    print(f"\ncells {np.mean(inside):.3f}")
    assert len(inside) > 10 * 200 and 0.92 <= np.mean(inside) <= 0.98


def test_means_are_covered_with_thirty_ancestors():
    rng = np.random.default_rng(12)
    samples = [THIRTY.sample(rng) for _ in range(REPLICATES)]
    found = [expectation(s, DISTANCE.values(s.positions), 200, k) for k, s in enumerate(samples)]
    truth = (1 - P_RIGHT) * 0.5 + P_RIGHT * 1.5
    assert 0.92 <= coverage(found, truth) <= 0.98


def test_a_kernel_profile_of_narrow_width_is_covered():
    """At a width whose smoothing is known, the smoothed density is what the interval is about."""
    rng, inside, width = np.random.default_rng(13), [], 0.06
    broad = math.hypot(WIDTH, width)
    for k in range(200):
        profile = kernel_pmf(THIRTY.sample(rng), DISTANCE, np.linspace(-0.5, 2.5, 73), width, 200, k)
        x = profile.centres
        f = -np.log((1 - P_RIGHT) * norm.pdf(x, 0.5, broad) + P_RIGHT * norm.pdf(x, 1.5, broad))
        seen = (x > 0.2) & (x < 1.9)  # r is a distance, cut at zero
        inside += profile_coverage(replace(profile, df=np.where(seen, profile.df, np.nan)), f)
    assert 0.92 <= np.mean(inside) <= 0.98


def test_islands_that_disagree_are_covered():
    """The islands' spread is all there is: three degrees of freedom, and 1.96 errors would not do."""
    found = differences(Ancestry(240, 10, preference=8.0, islands=4, island_preference=20.0))
    assert 0.92 <= coverage(found) <= 0.98
    assert np.median([e.dof for e in found]) < 10
    print(f"\nstates {coverage(found):.3f}, by 1.96 errors {coverage(with_normal_quantiles(found)):.3f}")
    assert coverage(with_normal_quantiles(found)) < 0.9


def test_errors_are_the_spread_between_replicates():
    found = differences(CASES["250 ancestors"], replicates=200)
    errors = np.array([e.error for e in found], dtype=float)
    assert abs(errors.mean() / np.std([e.value for e in found], ddof=1) - 1) < 0.15


def test_bootstrapping_rows_instead_of_families_would_fail():
    assert coverage(differences(CASES["250 ancestors"], by_row=True, replicates=200)) < 0.85


@pytest.mark.parametrize("memory", [0.0, 3.0, 20.0])
def test_means_of_correlated_trajectories_are_covered(memory):
    """Autoregressive lengths of a bond, forgotten over ``memory`` frames, in two trajectories of 3,000."""
    dimer, rng, found = load_system("harmonic_dimer"), np.random.default_rng(15), []
    n, decay = 3000, math.exp(-1.0 / memory) if memory else 0.0
    for k in range(REPLICATES):
        noise = rng.normal(size=(2, n)) * np.where(np.arange(n) > 0, math.sqrt(1 - decay**2), 1.0)
        series = lfilter([1.0], [1.0, -decay], noise).ravel()
        x = np.zeros((2 * n, 2, 3), dtype=np.float32)
        x[:, 1, 0] = 1.0 + 0.1 * series
        zero = np.zeros(2 * n)
        sample = WeightedEnsemble(x, zero, zero, 300.0, islands=np.repeat([0, 1], n))
        found.append(expectation(with_blocks(dimer, sample), series, 200, k))
    errors = np.array([e.error for e in found if e.error is not None])
    assert 0.92 <= coverage(found, 0.0) <= 0.98
    assert np.median(errors) == pytest.approx(np.std([e.value for e in found]), rel=0.12)
