"""Both sides of a backbone torsion phi, as published comparisons divide them."""

from __future__ import annotations

import math

from boltzgen import CollectiveVariable, State


def both_sides(phi: CollectiveVariable, name: str | None = None) -> tuple[State, State]:
    """phi in (0, 2) rad, and everything else; called after the variable, or by another name."""
    name = name or phi.name
    return (
        State(f"{name}_positive", phi, ((0.0, 2.0),)),
        State(f"{name}_negative", phi, ((-math.pi, 0.0), (2.0, math.pi + 1e-6))),
    )
