"""Random numbers of one of many numbered pieces of work, whoever does it and whenever."""

from __future__ import annotations

import numpy as np
import torch


def numbered_generator(seed: int, number: int) -> torch.Generator:
    """A CPU generator that depends on the seed and the number alone; numbers are independent streams."""
    words = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> 1))
