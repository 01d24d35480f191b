"""Names that settings choose among, for the settings and for what they choose."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

Prior = Literal["none", "bonded", "forcefield"]
"""Analytic part of the energy (`boltzgen.model.prior`)."""
LevelChoice = Literal["kl", "neighbouring", "uniform"]
"""Levels that a sample is noised to (`boltzgen.levels`)."""
Kernel = Literal["ddpm+cov", "ddpm+mse", "ddpm", "ei", "ddim"]
"""Steps from one noise level to the next (`boltzgen.sampler.kernels`)."""
Scheme = Literal["systematic", "multinomial"]
"""How particles are resampled (`boltzgen.sampler.resampling`)."""
CVKind = Literal["torsion", "angle", "distance", "radius_of_gyration", "rmsd"]
"""Collective variables (`boltzgen.system`)."""


def one_of(name: str, known: Collection[str]) -> str:
    """``name``; ValueError where it is none of those that are registered."""
    if name not in known:
        *others, last = (repr(each) for each in known)
        raise ValueError(f"it should be {', '.join(others)} or {last}")
    return name


def known_objective(name: str) -> str:
    """The name of a training objective; ValueError for one that is not registered."""
    from boltzgen.objective import HEIGHT_LOSSES  # imports torch, which the defaults do without

    return one_of(name, HEIGHT_LOSSES)


def known_format(name: str) -> str:
    """The name of a format of exported frames; ValueError for one that is not registered."""
    from boltzgen.export_formats import FORMATS

    return one_of(name, FORMATS)
