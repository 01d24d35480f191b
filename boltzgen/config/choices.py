"""Names that settings choose among, for the settings and for what they choose."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

Prior = Literal["none", "bonded", "forcefield"]
"""Analytic part of the energy (`boltzgen.model.prior`)."""
OBJECTIVE_NAMES = ["dsm", "dsm+diffclf", "dsm+tsm", "dsm+nce"]
"""Losses of a training; `boltzgen.diffusion.losses.register` adds to those that it defines."""
LevelChoice = Literal["kl", "neighbouring", "uniform"]
"""Levels that a sample is noised to (`boltzgen.diffusion.noise_levels`)."""
KERNEL_NAMES = ["ddpm+cov", "ddpm+mse", "ddpm", "ei", "ddim"]
"""Steps from one noise level to the next; `boltzgen.smc.kernels.register` adds to them."""
DEFAULT_FORMATS = ("dcd", "xtc", "pdb", "nc", "h5")
EXPORT_FORMAT_NAMES = list(DEFAULT_FORMATS)
"""File formats of exported frames; `boltzgen.export.formats.register` adds to them."""
MOVE_NAMES = ["hmc"]
"""MCMC moves at a level; `boltzgen.smc.moves.register` adds to them."""
Scheme = Literal["systematic", "multinomial"]
"""How particles are resampled (`boltzgen.smc.resampling`)."""
CVKind = Literal["torsion", "angle", "distance", "radius_of_gyration", "rmsd"]
"""Collective variables (`boltzgen.system.collective_variables`)."""


def one_of(name: str, known: Collection[str]) -> str:
    """``name``; ValueError where it is none of those that are registered."""
    if name not in known:
        *others, last = (repr(each) for each in known)
        before = f"{', '.join(others)} or " if others else ""
        raise ValueError(f"it should be {before}{last}")
    return name
