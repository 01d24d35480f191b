"""What is annealed: a trained network, an OpenMM target, and the data that say where levels belong."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from boltzgen.config.policy import network_chunk, will_compile
from boltzgen.config.schema import SampleSettings
from boltzgen.diffusion.process import EnergyAndScore, ZeroCentroidGaussian
from boltzgen.ensemble.state_balance import balanced
from boltzgen.ensemble.uncertainty import cluster_index
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.errors import NumericalError
from boltzgen.model.compiled import compile_energy_and_score, in_chunks
from boltzgen.model.energy import EnergyModel
from boltzgen.potential import Potential, make_potential
from boltzgen.potential.symmetries import check_translation_invariant
from boltzgen.runtime.allocator import keep_freed_memory
from boltzgen.runtime.context import Context
from boltzgen.sample.of_system import elastic_kernel, state_members
from boltzgen.smc.adaptation import NoParticleLeft, Plan, plan_schedule
from boltzgen.smc.bidirectional import StateMembers
from boltzgen.smc.levels import BridgeStart, Ends, Schedule, at_level
from boltzgen.smc.tempered import Tempered
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.stereochemistry.domain import COUNTS, Domain, domain_of


@dataclass
class Counter:
    """A network function that counts the configurations it was given."""

    function: EnergyAndScore
    evaluations: int = 0

    def __call__(self, x: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
        self.evaluations += len(x)
        return self.function(x, log_sigma)


@dataclass(frozen=True)
class Annealing:
    """The two ends of annealing and the energies between them.

    data
        The training ensemble, reweighted to the temperature of the target.
    x0, blocks
        Configurations [nm] drawn from it as the model was trained on it (rare states up-weighted), and the
        number of the block of correlated frames that each comes from ``(n,)``.
    sigma_max, sigma_min
        Ends of the noise levels [nm], of the tempered network.
    """

    system: MolecularSystem
    model: EnergyModel
    counter: Counter
    network: Tempered
    potential: Potential
    domain: Domain
    members: StateMembers
    data: WeightedEnsemble
    x0: Tensor
    blocks: Tensor

    @property
    def gaussian(self) -> ZeroCentroidGaussian:
        """Where particles start."""
        return self.network.gaussian(self.model.prior.gaussian)

    @property
    def sigma_max(self) -> float:
        return self.network.level(self.model.spec.sigma_max)

    @property
    def sigma_min(self) -> float:
        return self.network.level(self.model.spec.sigma_min)

    def information(self, sigma: np.ndarray) -> np.ndarray:
        """``F(sigma)``: the KL divergence between neighbouring levels is ``F (d log sigma)^2``."""
        values = torch.as_tensor(self.network.of_model(sigma), dtype=torch.float32, device=self.x0.device)
        return self.model.prior.level_information(values).cpu().numpy()

    def target(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``u`` and ``du/dx`` of the system, +inf outside the domain."""
        u, gradient = self.potential.reduced_energy_and_gradient(x)
        return torch.where(self.domain.contains(x), u, torch.inf), gradient

    def energy_gaps(self, x: Tensor) -> Tensor:
        """``U(x, sigma_min) - u(x)`` ``(n,)`` of configurations [nm], which the bridge has to make up for."""
        u, _ = at_level(self.network, x, self.sigma_min)
        return u - self.target(x)[0].double()

    def bridge_start(self, counts: collections.Counter[str] | None = None) -> BridgeStart:
        """From the last noise level into the domain; what is reflected or removed goes to ``counts``."""

        def reflected(x: Tensor) -> tuple[Tensor, Tensor]:
            if counts is not None:
                counts.update(self.domain.counts(x))
            return self.domain.reflected(x)

        return BridgeStart(self.network, self.sigma_min, self.target, reflected, self.domain.reflects)

    def ends(self, counts: collections.Counter[str]) -> Ends:
        """Both ends, with what is reflected or removed counted in ``counts``."""
        return Ends(self.gaussian, self.sigma_max, self.network, self.bridge_start(counts))


def annealing_of(
    system: MolecularSystem,
    model: EnergyModel,
    data: WeightedEnsemble,
    settings: SampleSettings,
    context: Context,
    generator: torch.Generator,
) -> Annealing:
    """Put together what `boltzgen.sample.stage.sample` anneals; it describes the arguments."""
    check_translation_invariant(system)
    keep_freed_memory()
    device = context.device
    model = model.to(device).eval()
    counter = Counter(_network(model, data, settings, context))
    network = Tempered(counter, data.temperature_k / system.temperature_k)
    data = data.at_temperature(system.temperature_k)
    as_trained = balanced(data, system, model.spec.min_state_weight)
    rows = as_trained.resampled_indices(
        settings.n_forward, int(torch.randint(2**31, (), generator=generator))
    )
    return Annealing(
        system,
        model,
        counter,
        network,
        make_potential(system),
        domain_of(system),
        state_members(system),
        data,
        torch.as_tensor(data.positions[rows]).to(device),
        torch.as_tensor(cluster_index(data)[0][rows]),
    )


def schedule_of(annealing: Annealing, settings: SampleSettings, generator: torch.Generator) -> Schedule:
    """Noise levels, bridge and moves, from a pilot run that is then thrown away."""
    wanted = Plan(
        n_levels=settings.n_levels,
        n_pilot=settings.n_pilot,
        level_moves=settings.level_moves,
        move_below=annealing.network.level(settings.move_sigma_nm or 0.5 * annealing.model.spec.sigma_data),
        bridge_moves=settings.bridge_moves,
        n_leapfrog=settings.leapfrog_steps,
        move=settings.move,
        bridge_cess=settings.bridge_cess,
        resample_below=settings.resample_below,
        kernel=elastic_kernel(annealing.system, settings.kernel, settings.ddim_eta),
        classes=annealing.model.classes,
    )
    counts = collections.Counter[str]()
    try:
        return plan_schedule(annealing.ends(counts), annealing.x0, annealing.information, wanted, generator)
    except NoParticleLeft:
        raise all_lost("the pilot run", settings.n_pilot, counts) from None


def all_lost(what: str, n: int, counts: Mapping[str, int]) -> NumericalError:
    """What is said of a run of ``n`` particles that have all got weight zero, and why."""
    isomers = counts.get("diastereomers", 0)
    elements = [f"{name}: {count}" for name, count in counts.items() if name not in COUNTS]
    of_isomers = f"{isomers} are other isomers ({', '.join(elements)})" if isomers else ""
    others = f"{n - isomers} have an energy that is not finite" if n > isomers else ""
    return NumericalError(
        "sampling",
        f"all {n} particles of {what} have weight zero: {' and '.join(filter(None, (of_isomers, others)))}",
        "train longer (train.minutes), use more levels (sample.n_levels)"
        + (", or let isomers be (system.free_isomers)" if isomers else ""),
    )


def _network(
    model: EnergyModel, data: WeightedEnsemble, settings: SampleSettings, context: Context
) -> EnergyAndScore:
    """The network in chunks, compiled where the run is long enough."""
    device = context.device
    size = network_chunk(settings, device)
    if not will_compile(settings):
        return in_chunks(model.energy_and_score, size)
    context.on_progress(0.0, 1.0, "compiling the network (about a minute)")
    rows = np.arange(size) % len(data)
    x = torch.as_tensor(data.positions[rows]).to(device)
    log_sigma = torch.linspace(*model.log_sigma_range, size, device=device)
    return compile_energy_and_score(model, x, log_sigma)
