"""U_theta(x, sigma): the time-dependent, E(3)-invariant energy whose exp(-U) is the noised density."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from boltzgen.config.choices import Prior
from boltzgen.config.schema import ModelSettings
from boltzgen.diffusion.tables import between_levels
from boltzgen.errors import DataError
from boltzgen.geometry import dof
from boltzgen.model.force_field import SoftenedForceField
from boltzgen.model.graph import molecular_graph, stiff_pairs, stiffest_width
from boltzgen.model.layers import DensityLayer, EdgeBasis, NoiseEmbedding
from boltzgen.model.prior import PriorEnergy
from boltzgen.runtime.files import replaced, write_atomically
from boltzgen.system.molecular_system import MolecularSystem

N_TABULATED_LEVELS = 65
"""Entries of the table of level free energies of the prior."""


@dataclass(frozen=True)
class ModelSpec:
    """Everything that fixes the architecture; saved beside the parameters."""

    system: str
    n_atoms: int
    n_classes: int
    n_pairs: int
    sigma_min: float
    sigma_max: float
    sigma_data: float
    n_layers: int
    n_channels: int
    n_radial: int
    l_max: int
    hidden: int
    prior: Prior
    noise_width: int = 32
    min_state_weight: float = 0.0
    """Least weight of every state in the training data (`boltzgen.ensemble.state_balance`)."""


class EnergyModel(nn.Module):
    """The energy of a noised molecule.

    ``U_theta = prior + gate(sigma) E_theta + f_theta(sigma) - f_theta(sigma_max)`` with the closed-form
    prior of `PriorEnergy`, the network E_theta, and the learned free energy f of a level. The gate
    vanishes at sigma_max, where U is therefore the normalised Gaussian that the sampler starts from.
    """

    classes: Tensor
    level_table: Tensor
    log_sigma_bounds: Tensor

    def __init__(self, spec: ModelSpec, system: MolecularSystem | None = None) -> None:
        """``system`` is needed where the force field is part of the prior."""
        super().__init__()
        self.spec = spec
        n, width = spec.n_atoms, spec.noise_width
        self.register_buffer("classes", torch.zeros(n, dtype=torch.long))
        self.register_buffer("level_table", torch.zeros(N_TABULATED_LEVELS))
        self.register_buffer("log_sigma_bounds", torch.tensor([spec.sigma_min, spec.sigma_max]).log())
        low, high = self.log_sigma_range
        force_field = None
        if spec.prior == "forcefield":
            if system is None:
                raise ValueError("a model with the force field in its prior needs the molecular system")
            force_field = SoftenedForceField(system, (low, high))
        self.prior = PriorEnergy(n, spec.n_pairs, force_field)
        self.noise = NoiseEmbedding(low, high, width)
        self.embedding = nn.Embedding(spec.n_classes, spec.n_channels)
        self.basis = EdgeBasis(
            torch.zeros((n, n), dtype=torch.long), torch.ones((3, n, n)), spec.n_radial, spec.l_max, width
        )
        self.layers = nn.ModuleList(
            [
                DensityLayer(spec.n_channels, spec.n_radial, spec.l_max, spec.hidden, width)
                for _ in range(spec.n_layers)
            ]
        )
        self.level_noise = NoiseEmbedding(low, high, width)
        self.level = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.level.weight)

    @classmethod
    def from_data(
        cls,
        system: MolecularSystem,
        positions: Tensor,
        settings: ModelSettings | None = None,
        *,
        min_state_weight: float = 0.0,
    ) -> EnergyModel:
        """An untrained model whose scales and prior come from data [nm] ``(n, n_atoms, 3)``.

        By default sigma_max is ten times sigma_data (the root mean square of the data per degree of
        freedom) and sigma_min half the width of the stiffest bond or nearest-neighbour distance. Raises
        DataError where sigma_min is not below sigma_max.
        """
        sigma_data = float((positions.double().square().sum((1, 2)).mean() / dof(system.n_atoms)).sqrt())
        settings = settings or ModelSettings()
        sigma_min = settings.sigma_min_nm or 0.5 * stiffest_width(system, positions)
        sigma_max = settings.sigma_max_nm or 10.0 * sigma_data
        if not sigma_min < sigma_max:
            raise DataError(
                "model",
                f"sigma_min {sigma_min:.3g} nm is not below sigma_max {sigma_max:.3g} nm",
                "change model.sigma_min_nm or model.sigma_max_nm",
            )
        n_pairs = len(stiff_pairs(system))
        spec = ModelSpec(
            system=system.name,
            n_atoms=system.n_atoms,
            n_classes=int(system.atom_classes.max()) + 1,
            n_pairs=n_pairs if settings.prior != "none" else 0,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            sigma_data=sigma_data,
            n_layers=settings.n_layers,
            n_channels=settings.n_channels,
            n_radial=settings.n_radial,
            l_max=settings.l_max,
            hidden=settings.hidden,
            prior=settings.prior,
            min_state_weight=min_state_weight,
        )
        model = cls(spec, system)
        model.prior.fit(system, positions, sigma_max)
        graph = molecular_graph(system, positions)
        shape = (system.n_atoms, system.n_atoms)
        model.classes = graph.x
        model.basis.hops = graph.hops.view(shape)
        model.basis.statistics = torch.stack([graph.mean, graph.std, graph.contact]).view(3, *shape).float()
        return model

    def take_over(self, other: EnergyModel) -> None:
        """Learn what ``other`` has learned; prior and scales stay those of this model's own data.

        Raises DataError where atoms that are alike in one are not in the other.
        """
        if not other.classes.equal(self.classes):
            raise DataError(
                "train.start",
                f"its atoms have other classes than those of {self.spec.system}",
                "leave train.start out, or start from a network of the same molecule",
            )
        self.load_state_dict(dict(other.named_parameters()), strict=False)

    @property
    def log_sigma_range(self) -> tuple[float, float]:
        """Logs of the lowest and the highest noise level."""
        return math.log(self.spec.sigma_min), math.log(self.spec.sigma_max)

    def free_energy_of_level(self, log_sigma: Tensor) -> Tensor:
        """``f(sigma) - f(sigma_max)``, shape ``(n,)``: the prior's table plus a learned correction."""
        table = between_levels(self.level_table, log_sigma, self.log_sigma_bounds)
        high = self.log_sigma_bounds[1]
        learned = self.level(self.level_noise(log_sigma)) - self.level(self.level_noise(high.view(1)))
        return table + learned.squeeze(-1)

    def network_gate(self, sigma: Tensor) -> Tensor:
        """Weight of the network: near 1 below sigma_data, falling like 1/sigma, exactly 0 at sigma_max.

        It does not grow below sigma_data, as the c_out of Karras et al. 2022 would have it: the prior has the
        steep part there, and what is left is of the size of the system's own energies at any noise.
        """
        data, top = self.spec.sigma_data, self.spec.sigma_max
        return data * ((sigma.square() + data**2).rsqrt() - (top**2 + data**2) ** -0.5)

    def energy(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        """``U_theta`` ``(n,)`` of configurations [nm] ``(n, n_atoms, 3)`` at levels ``(n,)``."""
        sigma = log_sigma.exp()
        noise = self.noise(log_sigma)
        radial, angular = self.basis(x.permute(1, 2, 0).contiguous(), sigma, noise)
        h = self.embedding(self.classes).T.unsqueeze(-1).expand(-1, -1, len(x))
        network = torch.zeros_like(sigma)
        for layer in self.layers:
            h, atomic = layer(h, radial, angular, noise)
            network = network + atomic.sum(0)
        return (
            self.prior(x, sigma) + self.network_gate(sigma) * network + self.free_energy_of_level(log_sigma)
        )

    def forward(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        return self.energy(x, log_sigma)

    def energy_and_score(self, x: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Energies ``(n,)`` and scores ``-dU/dx`` ``(n, n_atoms, 3)`` [1/nm], projected to zero centroid."""
        u, score = derivatives(self.energy, x, log_sigma, create_graph=False)
        return u.detach(), score

    def save(self, directory: Path) -> None:
        """Write ``energy.safetensors`` and ``energy.json``; nothing pickled."""
        directory.mkdir(parents=True, exist_ok=True)
        state = {
            name: tensor.detach().cpu().contiguous().clone() for name, tensor in self.state_dict().items()
        }
        with replaced(directory / "energy.safetensors") as partial:
            save_file(state, partial)
        write_atomically(directory / "energy.json", json.dumps(asdict(self.spec), indent=2) + "\n")


def derivatives(
    energy: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    log_sigma: Tensor,
    d_log_sigma: bool = False,
    create_graph: bool = True,
) -> tuple[Tensor, ...]:
    """``U (n,)``, the score ``-dU/dx``, and with ``d_log_sigma`` also ``dU/dlog_sigma (n,)``.

    With ``create_graph`` all of them are differentiable in the parameters of ``energy``.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        variables = (x, log_sigma.detach().requires_grad_(True)) if d_log_sigma else (x,)
        u = energy(x, variables[-1] if d_log_sigma else log_sigma)
        gradient, *d_log_sigma_u = torch.autograd.grad(u.sum(), variables, create_graph=create_graph)
    return u, -gradient, *d_log_sigma_u


def load_model(
    directory: Path, device: torch.device | str = "cpu", system: MolecularSystem | None = None
) -> EnergyModel:
    """The model saved in a directory; raises DataError where files are missing or do not fit."""
    try:
        content = json.loads((directory / "energy.json").read_text())
        if "state_share" in content:  # its name in version 0.1.0
            content["min_state_weight"] = content.pop("state_share")
        spec = ModelSpec(**content)
        model = EnergyModel(spec, system)
        model.load_state_dict(load_file(directory / "energy.safetensors"))
    except (OSError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            directory, f"not a saved energy model ({reason})", "`--force train` makes it again"
        ) from error
    return model.to(device).eval()
