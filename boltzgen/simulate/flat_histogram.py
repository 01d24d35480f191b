"""A bias under which every value of its variables is equally likely, learned by many replicas together.

All replicas raise the bias where they are, as in metadynamics with many walkers (Raiteri et al., J. Phys.
Chem. B 110, 3533, 2006), by Gaussians in a basis of harmonics. What they add falls as 1/t, so that the bias
converges (Belardinelli and Pereyra, Phys. Rev. E 75, 046701, 2007); it is kept fixed before frames count.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from boltzgen.ensemble.weighted import Array
from boltzgen.simulate.bias import HARMONICS, Bias

HILL_WIDTH = 0.2
"""Standard deviation [rad] of a Gaussian, where pi is the range of a variable that is not periodic."""
FASTEST = 1.0
"""Growth [kT/ps] of the bias where replicas are as dense as if all values were equally likely."""
SLOWING = 3.0
"""The growth is at most ``SLOWING / t`` [kT]; below 1, errors of the bias would outlive the learning."""
HIGHEST_HILL = 0.5
"""Growth [kT] of the bias at a time, by the same density."""
FLATNESS_BINS = 36


def growth(bias: Bias, parameters: Tensor, x: Tensor, elapsed_ps: float, interval_ps: float) -> Tensor:
    """What replicas at ``x`` ``(n, n_atoms, 3)`` add to the parameters [kT] in an interval."""
    order = torch.arange(1, HARMONICS + 1, dtype=torch.float64)
    damping = 2.0 * torch.exp(-0.5 * (HILL_WIDTH * order) ** 2)
    rate = min(FASTEST, HIGHEST_HILL / interval_ps, SLOWING / max(elapsed_ps, interval_ps))
    density = bias.basis(parameters, x).mean(-1)
    return torch.nn.functional.pad(rate * interval_ps * damping.repeat(2) * density, (0, 2))


def flatness(theta: Array, periodic: bool) -> float:
    """Share of the values of an angle that are visited alike: exp(entropy) of a histogram over its bins."""
    low = -math.pi if periodic else 0.0
    counts = np.histogram(theta, bins=FLATNESS_BINS, range=(low, math.pi))[0]
    share = counts[counts > 0] / counts.sum()
    return float(np.exp(-(share * np.log(share)).sum()) / FLATNESS_BINS)
