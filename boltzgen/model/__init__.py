"""The E(3)-invariant energy network and its compilation."""

from boltzgen.model.energy import EnergyModel, ModelSpec, load_model

__all__ = ["EnergyModel", "ModelSpec", "load_model"]
