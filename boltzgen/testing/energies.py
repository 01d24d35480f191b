"""The contract of an energy network: ``check_energy(model, system)``."""

from __future__ import annotations

import copy
import itertools
import warnings
from dataclasses import dataclass, fields

import networkx as nx
import torch
from torch import Tensor

from boltzgen.diffusion.process import perturb
from boltzgen.geometry import mirror, random_rotations, remove_centroid, zero_centroid_noise
from boltzgen.model.compiled import COMPILATION_FAILED, compile_energy_and_score, in_chunks
from boltzgen.model.energy import EnergyModel
from boltzgen.system.molecular_system import MolecularSystem

N_TESTED_LEVELS = 6
"""Noise levels from sigma_min to just below sigma_max that are tried."""
MOST_AUTOMORPHISMS = 40


@dataclass(frozen=True)
class EnergyCheck:
    """Errors of energies in kT, of scores and derivatives relative to the largest component of the score.

    rotation, reflection, translation
        Change of the energy, or failure of the score to move along (the larger of the two).
    automorphism
        Change of the energy when atoms trade places by a symmetry of the molecular graph.
    batching
        Difference between a row evaluated among others and in chunks.
    gradient
        Score against central finite differences of the energy.
    roughness
        How much half the step, in positions and noise level, changes the score by other than half, in units
        of the whole change.
    float32
        Difference between single and double precision.
    compiled
        Difference between compiled and eager evaluation on inputs other than those compiled for; None
        unless asked for. Where nothing could be compiled, that is raised.
    """

    rotation: float
    reflection: float
    translation: float
    automorphism: float
    batching: float
    gradient: float
    roughness: float
    float32: float
    compiled: float | None


ENERGY_BOUNDS = EnergyCheck(
    rotation=1e-5,
    reflection=1e-5,
    translation=1e-5,
    automorphism=1e-5,
    batching=1e-6,
    gradient=1e-4,
    roughness=0.05,
    float32=2e-2,
    compiled=1e-2,
)
"""Largest errors that pass."""


def check_energy(
    model: EnergyModel, system: MolecularSystem, *, compiled: bool = False, seed: int = 0
) -> EnergyCheck:
    """Check what the sampler relies on, at noised copies of the reference configuration.

    A reflection counts as a symmetry, as it is of every energy of distances. ``compiled`` takes a minute.
    Raises AssertionError naming the first property that fails.
    """
    generator = torch.Generator().manual_seed(seed)
    double, single = copy.deepcopy(model).double(), copy.deepcopy(model).float()
    low, high = model.log_sigma_range
    log_sigma = torch.linspace(low, high - 0.1, N_TESTED_LEVELS).double()
    clean = remove_centroid(torch.as_tensor(system.positions)).repeat(N_TESTED_LEVELS, 1, 1)
    x = perturb(clean, log_sigma.exp(), generator)
    u, score = double.energy_and_score(x, log_sigma)

    def moved(x_moved: Tensor, expected: Tensor) -> float:
        return _difference(double.energy_and_score(x_moved, log_sigma), (u, expected))

    turn = random_rotations(1, generator, torch.float64)[0]
    orders = automorphisms(system)
    in_single = single.energy_and_score(x.float(), log_sigma.float())
    result = EnergyCheck(
        rotation=moved(x @ turn, score @ turn),
        reflection=moved(mirror(x), mirror(score)),
        translation=moved(x + 0.7, score),
        automorphism=max(moved(x[:, order], score[:, order]) for order in orders),
        batching=_difference(
            in_chunks(double.energy_and_score, N_TESTED_LEVELS - 2)(x, log_sigma), (u, score)
        ),
        gradient=_gradient_error(double, x, log_sigma, score, generator),
        roughness=_roughness(double, x, log_sigma, score, generator),
        float32=_difference(in_single, (u, score)),
        compiled=_compiled_error(single, x.float(), log_sigma.float(), in_single) if compiled else None,
    )
    for field in fields(result):
        error, bound = getattr(result, field.name), getattr(ENERGY_BOUNDS, field.name)
        if error is not None and not error <= bound:
            raise AssertionError(f"{system.name}: {field.name} error {error:.2g}, allowed {bound:g}")
    return result


def _difference(values: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> float:
    """The larger of two errors: of energies [kT], and of scores relative to the largest component."""
    (u, score), (u_expected, score_expected) = values, expected
    scale = score_expected.abs().amax((1, 2)).clamp_min(1e-6)
    in_score = (score - score_expected).abs().amax((1, 2)) / scale
    return float(torch.maximum((u - u_expected).abs(), in_score).max())


def automorphisms(system: MolecularSystem) -> list[list[int]]:
    """Orders of the atoms that leave the molecular graph as it is, the trivial one first (40 at most).

    For every two atoms that some symmetry of the graph exchanges, one such symmetry.
    """
    orders = [list(range(system.n_atoms))]
    for i, j in itertools.combinations(range(system.n_atoms), 2):
        if len(orders) == MOST_AUTOMORPHISMS:
            break
        if system.atom_classes[i] == system.atom_classes[j]:
            matcher = nx.isomorphism.GraphMatcher(
                _marked(system, i), _marked(system, j), node_match=lambda a, b: a == b
            )
            found = itertools.islice(matcher.isomorphisms_iter(), 1)
            orders += [[mapping[atom] for atom in range(system.n_atoms)] for mapping in found]
    return orders


def _marked(system: MolecularSystem, atom: int) -> nx.Graph:
    """The molecular graph with one atom of a kind of its own."""
    graph = system.graph.copy()
    graph.nodes[atom]["marked"] = True
    return graph


def _directions(x: Tensor, log_sigma: Tensor, generator: torch.Generator, step: float) -> Tensor:
    """Random displacements of ``step`` sigma per coordinate."""
    noise = zero_centroid_noise(tuple(x.shape), generator, x.dtype)
    return step * log_sigma.exp().view(-1, 1, 1) * noise


def _gradient_error(
    model: EnergyModel, x: Tensor, log_sigma: Tensor, score: Tensor, generator: torch.Generator
) -> float:
    d = _directions(x, log_sigma, generator, 1e-4)
    with torch.no_grad():
        rise = 0.5 * (model.energy(x + d, log_sigma) - model.energy(x - d, log_sigma))
    size = d.square().sum((1, 2)).sqrt() * score.square().sum((1, 2)).sqrt()
    return float(((rise + (score * d).sum((1, 2))) / size.clamp_min(1e-12)).abs().max())


def _roughness(
    model: EnergyModel, x: Tensor, log_sigma: Tensor, score: Tensor, generator: torch.Generator
) -> float:
    d = _directions(x, log_sigma, generator, 1e-4)
    step = 1e-4 * torch.randn(log_sigma.shape, generator=generator, dtype=x.dtype)
    whole = model.energy_and_score(x + d, log_sigma + step)[1] - score
    half = model.energy_and_score(x + 0.5 * d, log_sigma + 0.5 * step)[1] - score
    size = whole.square().sum((1, 2)).sqrt().clamp_min(1e-9)
    return float(((2.0 * half - whole).square().sum((1, 2)).sqrt() / size).max())


def _compiled_error(
    model: EnergyModel, x: Tensor, log_sigma: Tensor, expected: tuple[Tensor, Tensor]
) -> float:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=COMPILATION_FAILED)
        function = compile_energy_and_score(model, x.roll(1, 0) * 1.01, log_sigma.roll(1, 0))
    return _difference(function(x, log_sigma), expected)
