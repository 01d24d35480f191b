"""Names that settings choose among, for the settings and for what they choose."""

from __future__ import annotations

from typing import Literal

Prior = Literal["none", "bonded", "forcefield"]
"""Analytic part of the energy (`boltzgen.model.prior`)."""
Objective = Literal["dsm", "dsm+diffclf", "dsm+tsm", "dsm+nce"]
"""Losses of a training (`boltzgen.objective`)."""
LevelChoice = Literal["kl", "neighbouring", "uniform"]
"""Levels that a sample is noised to (`boltzgen.levels`)."""
Kernel = Literal["ddpm+cov", "ddpm+mse", "ddpm", "ei", "ddim"]
"""Steps from one noise level to the next (`boltzgen.sampler.kernels`)."""
Scheme = Literal["systematic", "multinomial"]
"""How particles are resampled (`boltzgen.sampler.resampling`)."""
CVKind = Literal["torsion", "angle", "distance", "radius_of_gyration", "rmsd"]
"""Collective variables (`boltzgen.system`)."""
