"""A plain-language verdict on a run: whether its weights can be trusted, and what speaks against it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from boltzgen.ensemble import MIN_CARRIERS


@dataclass(frozen=True)
class Verdict:
    """``level`` is "trusted", "caution" or "not trusted"; one sentence per reason."""

    level: str
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        return {"level": self.level, "reasons": list(self.reasons)}


def judge(
    *,
    genealogical_ess: float,
    log_z_error: float,
    jeffreys: float,
    ancestors_per_state: dict[str, float],
    data_populations: dict[str, float],
    n_particles: int,
    n_lost: int,
) -> Verdict:
    """Weigh the diagnostics of a run.

    genealogical_ess
        Effective number of independent ancestors that carry the final weight.
    ancestors_per_state
        The same for the weight of each state.
    jeffreys
        J between forward and reverse paths at sigma_min, without moves or resampling [nat].
    n_lost
        Particles removed for non-finite energies or as a wrong diastereomer.
    """
    numbers = {"genealogical ESS": genealogical_ess, "error of log Z": log_z_error, "J": jeffreys}
    bad = [
        f"{name} is not a number: energies broke down" for name, x in numbers.items() if not math.isfinite(x)
    ]
    warn: list[str] = []
    (bad if genealogical_ess < 20 else warn if genealogical_ess < 100 else []).append(
        f"the weight descends from only {genealogical_ess:.0f} effectively independent ancestors: "
        "more particles (sample.n_particles), or a network trained longer"
    )
    (bad if log_z_error > 1.0 else warn if log_z_error > 0.3 else []).append(
        f"log Z has a standard error of {log_z_error:.2f}: more particles (sample.n_particles)"
    )
    (bad if jeffreys > 30.0 else warn if jeffreys > 8.0 else []).append(
        f"noised data and the sampler disagree along the ladder (J = {jeffreys:.1f} nat): "
        "the energy network needs more training, or the ladder more levels"
    )
    for state, share in data_populations.items():
        carriers = ancestors_per_state.get(state, 0)
        if share > 0.0 and carriers == 0:
            bad.append(
                f"the state {state} ({share:.1%} of the data) is missing from the sample: more particles "
                "(sample.n_particles), or raise rare states in training (train.state_share)"
            )
        elif share > 0.0 and carriers < MIN_CARRIERS:
            warn.append(
                f"the weight of the state {state} rests on {carriers:.0f} effective ancestors only: "
                "an error of it is a lower bound, if there is one"
            )
    if n_lost > 0.05 * n_particles:
        warn.append(f"{n_lost} of {n_particles} particles were lost to non-finite energies or a wrong hand")
    level = "not trusted" if bad else "caution" if warn else "trusted"
    if level == "trusted":
        warn = ["no diagnostic speaks against the weights"]
    return Verdict(level, (*bad, *warn))
