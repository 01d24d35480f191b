"""Training of the energy network."""

from boltzgen.train.stage import Trained, train

__all__ = ["Trained", "train"]
