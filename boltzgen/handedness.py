"""Which hand a configuration has, folding of mirror images, and the domain that Z covers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from boltzgen.geometry import mirror, signed_volume
from boltzgen.potential.symmetry import reflection_is_symmetry
from boltzgen.system import MolecularSystem


class Hand:
    """The stereocentres of a system and their hand in its reference structure.

    Where reflection is an exact symmetry of the energy and there are stereocentres, the wrong hand is
    folded onto the right one and Z covers one hand; mixed hands are another diastereomer and get
    weight zero.
    """

    def __init__(self, system: MolecularSystem) -> None:
        self.centres = system.stereocentres
        self.folds = bool(self.centres) and reflection_is_symmetry(system)
        reference = torch.as_tensor(system.positions)
        self.reference = torch.tensor([float(signed_volume(reference, c).sign()) for c in self.centres])

    @property
    def domain(self) -> str:
        """What an absolute log Z covers, in words."""
        hands = "one hand" if self.centres else "both mirror images"
        return (
            f"mean-free configurations [nm^dof], all rotations and relabellings of equivalent atoms, {hands}"
        )

    def agreement(self, x: Tensor) -> Tensor:
        """+1 or -1 for each stereocentre, ``(n, n_centres)``: whether it has the reference hand."""
        signs = [signed_volume(x, centre).sign() for centre in self.centres]
        if not signs:
            return x.new_ones((len(x), 0))
        return torch.stack(signs, dim=1) * self.reference.to(x)

    def allowed(self, x: Tensor) -> Tensor:
        """Whether every stereocentre has the reference hand, ``(n,)`` bool."""
        return (self.agreement(x) > 0).all(dim=1)

    def fold(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mirror images folded to the reference hand, with ``-log 2`` (or minus infinity), ``(n,)``."""
        right, wrong = self._hands(x)
        share = -math.log(2.0) if self.folds else 0.0
        lost = torch.full((len(x),), -torch.inf, dtype=torch.float64, device=x.device)
        folded = torch.where(wrong.view(-1, 1, 1), mirror(x), x)
        return folded, torch.where(right | wrong, share, lost)

    def tally(self, x: Tensor) -> dict[str, int]:
        """How many configurations `fold` mirrors (``wrong_hand``) and removes (``diastereomers``)."""
        right, wrong = self._hands(x)
        return {"wrong_hand": int(wrong.sum()), "diastereomers": int((~right & ~wrong).sum())}

    def _hands(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Which configurations have the reference hand, and which are mirror images to be folded."""
        agreement = self.agreement(x)
        right = (agreement > 0).all(dim=1)
        return right, ((agreement < 0).all(dim=1) & ~right if self.folds else torch.zeros_like(right))
