"""What can be said of a partition function where too few independent weights support it for an error.

An unbiased estimate of Z that is not negative obeys Markov's inequality, ``P(Z_hat >= exp(t) Z) <= exp(-t)``,
whatever the weights. It bounds Z from below. Nothing bounds it from above: what was never reached is not in
the estimate.
"""

from __future__ import annotations

import math

MIN_INDEPENDENT = 30
"""Fewest independent samples that a standard error may rest on."""
CONFIDENCE = 0.95
MARGIN = -math.log(1.0 - CONFIDENCE)
"""How far [nats] below the estimate the bound of this confidence lies: 3.00."""


def log_z_note(effective_ancestors: float) -> str:
    """Why log Z has no standard error, and the bound that holds in its place."""
    return (
        f"on {effective_ancestors:.0f} effective ancestors: no standard error, but log Z >= estimate - t "
        f"with confidence 1 - exp(-t) ({CONFIDENCE:.0%} at t = {MARGIN:.1f})"
    )


def difference_note(first: str, second: str, thin: tuple[bool, bool]) -> str:
    """What is known of ``Delta F = -ln(P_first / P_second)``, one or both of which are thinly supported."""
    if all(thin):
        return f"Delta F is unknown: {first} and {second} both rest on too few effective ancestors"
    name, relation = (first, "<= estimate + t") if thin[0] else (second, ">= estimate - t")
    return (
        f"{name} rests on too few effective ancestors for a standard error: Delta F {relation} with "
        f"confidence 1 - exp(-t) ({CONFIDENCE:.0%} at t = {MARGIN:.1f})"
    )
