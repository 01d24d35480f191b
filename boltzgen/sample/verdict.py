"""A plain-language verdict on a run: whether its weights can be trusted, and what speaks against it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from boltzgen.ensemble.tails import FINITE_VARIANCE, LARGEST_K, Tail
from boltzgen.ensemble.uncertainty import SURE
from boltzgen.smc.bounds import MIN_INDEPENDENT
from boltzgen.smc.divergences import Measured
from boltzgen.smc.presence import FEW, MISSING, Presence

MOST_REGIONS = 3
"""Regions of each kind that a verdict names."""


@dataclass(frozen=True)
class Verdict:
    """``level`` is "trusted", "caution" or "not trusted"; one sentence per reason."""

    level: str
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        return {"level": self.level, "reasons": list(self.reasons)}


@dataclass
class _Reasons:
    bad: list[str]
    warn: list[str]

    def add(self, value: float, caution: float, refusal: float, reason: str) -> None:
        """A reason against the run where ``value`` is above either threshold."""
        (self.bad if value > refusal else self.warn if value > caution else []).append(reason)


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on.

    genealogical_ess
        Effective number of independent ancestors that support the final weight.
    log_z_error
        Standard error of log Z; None where there are too few ancestors to have one.
    ancestors_per_state
        The same for the weight of each declared state.
    data_populations
        Weight of each declared state in the data.
    jeffreys, bar_gap
        Between forward and reverse paths at sigma_min, without moves or resampling [nats]: J, and log Z by
        BAR minus log Z by the mean weight.
    n_lost
        Particles, of ``n_particles``, removed for non-finite energies or as other isomers.
    lost_data_paths
        Share of the paths from data that are lost, and left out of J.
    tail
        Of the weights that results rest on.
    regions
        What of the data lies where, beside the declared states.
    """

    genealogical_ess: float
    log_z_error: float | None
    jeffreys: float
    ancestors_per_state: dict[str, float]
    data_populations: dict[str, float]
    n_particles: int
    n_lost: int
    jeffreys_error: float = 0.0
    bar_gap: Measured | None = None
    lost_data_paths: float = 0.0
    tail: Tail | None = None
    regions: Sequence[Presence] = ()


def judge(given: Evidence) -> Verdict:
    """Weigh the diagnostics of a run."""
    found = _Reasons([], [])
    _judge_weights(found, given.genealogical_ess, given.log_z_error, given.tail)
    _judge_paths(found, given)
    _judge_states(found, given.ancestors_per_state, given.data_populations)
    _judge_regions(found, given.regions, given.genealogical_ess)
    if given.n_lost > 0.05 * given.n_particles:
        found.warn.append(
            f"{given.n_lost} of {given.n_particles} particles were lost to non-finite energies or as other "
            "isomers"
        )
    level = "not trusted" if found.bad else "caution" if found.warn else "trusted"
    reasons = (*found.bad, *found.warn) or ("no warnings",)
    return Verdict(level, reasons)


def _judge_weights(found: _Reasons, ess: float, error: float | None, tail: Tail | None) -> None:
    if not math.isfinite(ess):
        found.bad.append("genealogical ESS is not a number: energies broke down")
    bound = "" if error is not None else ", and log Z is a lower bound without an error"
    found.add(
        -ess,
        -100.0,
        -20.0,
        f"the weight descends from only {ess:.0f} effectively independent ancestors{bound}: "
        "more particles (sample.n_particles), or a network trained longer",
    )
    if error is not None and not math.isfinite(error):
        found.bad.append("error of log Z is not a number: energies broke down")
    elif error is not None:
        found.add(
            error,
            0.3,
            0.6,
            f"log Z has a standard error of {error:.2f}: more particles (sample.n_particles)",
        )
    if tail is None:
        return
    if tail.k > LARGEST_K + tail.error:
        found.warn.append(
            f"a few weights dominate: Pareto k-hat is {tail.k:.2f} +- {tail.error:.2f}, above {LARGEST_K}: "
            "means and their errors may be far off; train longer, or resample (sample.sampler: smc)"
        )
    elif tail.wide_k > FINITE_VARIANCE + 0.5 * tail.wide_error:
        found.warn.append(
            f"the weights may have no variance (Pareto k-hat of the largest fifth is {tail.wide_k:.2f}, "
            f"above {FINITE_VARIANCE}): errors may be too small; train longer"
        )


def _judge_paths(found: _Reasons, given: Evidence) -> None:
    j, j_error, gap, lost_data_paths = (
        given.jeffreys,
        given.jeffreys_error,
        given.bar_gap,
        given.lost_data_paths,
    )
    if not math.isfinite(j):
        found.bad.append("J is not a number: energies broke down")
    found.add(
        j,
        8.0,
        30.0,
        f"noised data and the sampler disagree along the noise schedule (J = {j:.1f} nats): "
        "the energy network needs more training, or the schedule more levels",
    )
    found.add(
        -j,
        1.0 + j_error,
        1.0 + SURE * j_error,
        f"J is negative ({j:.1f} +- {j_error:.1f} nats): energies are too high where data lie that the "
        "sampler does not reach",
    )
    if gap is not None and abs(gap.value) > SURE * gap.error:
        found.add(
            abs(gap.value),
            0.2,
            2.0,
            f"log Z by BAR, which has paths from data, is {gap.value:+.2f} +- {gap.error:.2f} from log Z by "
            "paths from noise alone: these do not reach all of the data",
        )
    found.add(
        lost_data_paths,
        0.01,
        0.05,
        f"{lost_data_paths:.1%} of the paths from data are lost (left out of J): the network's energies are "
        "too high there by 100 nats or more, or not finite",
    )


def _judge_states(found: _Reasons, ancestors: dict[str, float], populations: dict[str, float]) -> None:
    for state, share in populations.items():
        independent = ancestors.get(state, 0)
        if share > 0.0 and independent == 0:
            found.bad.append(
                f"the state {state} ({share:.1%} of the data) is missing from the sample: more particles "
                "(sample.n_particles), or up-weight rare states in training (train.min_state_weight)"
            )
        elif share > 0.0 and independent < MIN_INDEPENDENT:
            found.warn.append(
                f"the weight of the state {state} rests on {independent:.0f} effective ancestors only: "
                "an error of it is a lower bound, if there is one"
            )


def _judge_regions(found: _Reasons, regions: Sequence[Presence], ess: float) -> None:
    """Regions with a real share of the data count where the sample should have them and does not.

    The largest `MOST_REGIONS` that are missing are named, and of those with little in them.
    """
    largest = sorted(regions, key=lambda region: -region.data_population)
    missing, few = ([r for r in largest if r.lacking(ess) == part] for part in (MISSING, FEW))
    for region in missing[:MOST_REGIONS]:
        found.bad.append(
            f"missing from the sample but for {_there(region)}; more particles, or a network trained longer"
        )
    for region in few[: MOST_REGIONS - min(len(missing), MOST_REGIONS)]:
        found.warn.append(f"the sample has little, {_there(region)}")


def _there(region: Presence) -> str:
    return (
        f"{region.population:.1%} of its weight on {region.ancestors:.0f} effective ancestors: "
        f"{region.name} ({region.data_population:.1%} of the data)"
    )
