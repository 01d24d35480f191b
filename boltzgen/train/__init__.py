"""Training of the energy network."""

from boltzgen.train.loop import Trained, train

__all__ = ["Trained", "train"]
