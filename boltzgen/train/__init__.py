"""Training of the energy network."""

from boltzgen.train.loop import train

__all__ = ["train"]
