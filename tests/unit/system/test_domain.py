"""Which isomers the domain of Z holds: centres, rings, double bonds, amides and axes, up to relabellings."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import networkx as nx
import numpy as np
import openmm
import pytest
import torch
from helpers.molecules import Tree, biaryl, ethene, grown, molecule, ring
from torch import Tensor

from boltzgen import load_system
from boltzgen.errors import MolecularSystemError
from boltzgen.geometry import gaussian_log_density, mirror, random_rotations, zero_centroid_noise
from boltzgen.smc.algorithm import Population
from boltzgen.smc.base import Particles
from boltzgen.smc.levels import BridgeStart
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.stereochemistry.domain import Domain
from boltzgen.system.stereochemistry.elements import element_graph

RIGHT: Tree = ("C", ["F", "Cl", "H"])
LEFT: Tree = ("C", ["Cl", "F", "H"])
METHYL: Tree = ("C", ["H", "H", "H"])


def relabelled(system: MolecularSystem, most: int = 300) -> Tensor:
    """The reference with its atoms relabelled by automorphisms of the graph, most of which networkx finds."""
    graph = element_graph(system)
    matcher = nx.isomorphism.GraphMatcher(graph, graph, node_match=lambda a, b: a == b)
    orders = [
        [mapping[k] for k in range(system.n_atoms)]
        for _, mapping in zip(range(most), matcher.isomorphisms_iter(), strict=False)
    ]
    return torch.as_tensor(system.positions[np.array(orders)])


def exchanged(system: MolecularSystem, i: int, j: int) -> Tensor:
    """The reference with two atoms in each other's place."""
    order = list(range(system.n_atoms))
    order[i], order[j] = j, i
    return torch.as_tensor(system.positions[order])[None]


LINEAR = [[0, 0, 0], [0.12, 0, 0], [0.24, 0.001, 0], [-0.05, 0.09, 0]]
MOLECULES: dict[str, tuple[MolecularSystem, int, bool]] = {
    "CHFClBr": (grown(("C", ["F", "Cl", "Br", "H"])), 1, True),
    "CHDFCl": (grown(("C", ["F", "Cl", "D", "H"])), 1, True),
    "CH2FCl": (grown(("C", ["F", "Cl", "H", "H"])), 0, False),
    "isopropyl fluoride": (grown(("C", ["F", "H", METHYL, METHYL])), 0, False),
    "two right": (grown(("C", ["F", "Cl", "H", LEFT])), 2, True),
    "meso": (grown(("C", ["F", "Cl", "H", RIGHT])), 2, False),
    "three of a kind": (grown(("C", ["H", RIGHT, RIGHT, RIGHT])), 3, True),
    "two and one": (grown(("C", ["H", RIGHT, RIGHT, LEFT])), 3, True),
    "pseudoasymmetric": (grown(("C", ["H", "F", RIGHT, LEFT])), 3, False),
    "cis ring": (ring(6, {0: ("F", "H"), 3: ("F", "H")}), 2, False),
    "trans ring": (ring(6, {0: ("F", "H"), 3: ("H", "F")}), 2, False),
    "chiral ring": (ring(3, {0: ("F", "H"), 1: ("H", "F")}), 2, True),
    "ring of three": (ring(3, {0: ("F", "H"), 1: ("F", "H"), 2: ("H", "F")}), 3, False),
    "E": (ethene("FH", "HF"), 1, False),
    "Z": (ethene("FH", "FH"), 1, False),
    "one end alike": (ethene("FF", "FH"), 0, False),
    "soft bond": (ethene("FH", "FH", barrier=30.0), 0, False),
    "sulfoxide": (grown(("S", ["O", "F", METHYL])), 1, True),
    "amine": (grown(("N", ["H", "F", METHYL])), 0, False),
    "atropisomer": (biaryl(("Br", "Cl", "Br", "Cl")), 1, True),
    "three beside": (biaryl(("I", "Cl", "Br", "H")), 1, True),
    "axis with one end alike": (biaryl(("Br", "Br", "Br", "Cl")), 0, False),
    "two beside": (biaryl(("Br", "H", "Br", "H")), 0, False),
    "fluorine beside": (biaryl(("F", "Cl", "F", "Cl")), 0, False),
    "linear": (molecule("NCOH", [(0, 1), (1, 2), (0, 3)], LINEAR, {(0, 1): 200.0}), 0, False),
}


@pytest.mark.parametrize("name", MOLECULES)
def test_elements_and_enantiomers(name: str) -> None:
    system, n_elements, chiral = MOLECULES[name]
    domain = Domain(system)
    assert len(domain.elements) == n_elements
    assert domain.reflects == chiral
    reference = torch.as_tensor(system.positions)[None]
    assert domain.contains(reference).all()
    assert domain.contains(mirror(reference)).all() == (not chiral)


@pytest.mark.parametrize("name", MOLECULES)
def test_no_relabelling_is_another_isomer(name: str) -> None:
    system, _, _ = MOLECULES[name]
    domain, x = Domain(system), relabelled(system)
    assert domain.contains(x).all()
    keys = {Domain(replace(system, positions=row.numpy())).key for row in x[:: len(x) // 8 + 1]}
    assert keys == {domain.key}


@pytest.mark.parametrize("name", [name for name, (system, _, _) in MOLECULES.items() if system.n_atoms < 15])
def test_the_number_of_relabellings(name: str) -> None:
    system, _, _ = MOLECULES[name]
    everything = relabelled(system, 100_000)
    assert len(everything) < 100_000
    assert Domain(system).n_relabellings == len(everything)


@pytest.mark.parametrize(
    ("name", "i", "j"), [("cis ring", 12, 13), ("Z", 4, 5), ("two right", 5, 6), ("pseudoasymmetric", 0, 1)]
)
def test_isomers_are_two_domains(name: str, i: int, j: int) -> None:
    """The same atoms and bonds with two substituents exchanged, which no relabelling undoes."""
    system, _, _ = MOLECULES[name]
    if name == "pseudoasymmetric":  # the hydrogen and the fluorine of its middle
        i, j = (min(system.graph.neighbors(0), key=lambda k: (label(system, k) != s, k)) for s in "HF")
    x, domain = exchanged(system, i, j), Domain(system)
    assert not domain.contains(x).any() and domain.counts(x)["diastereomers"] == 1
    other = Domain(replace(system, positions=x[0].numpy()))
    assert other.key != domain.key
    assert other.contains(x).all() and not other.contains(torch.as_tensor(system.positions)[None]).any()


def label(system: MolecularSystem, atom: int) -> str:
    return str(element_graph(system).nodes[atom]["label"])


def test_a_wrong_centre_of_three_is_named() -> None:
    system = MOLECULES["three of a kind"][0]
    domain = Domain(system)
    labels = dict(element_graph(system).nodes(data="label"))
    f, cl = (next(k for k, label in labels.items() if label == symbol) for symbol in ("F", "Cl"))
    found = domain.counts(exchanged(system, f, cl))
    assert found["diastereomers"] == 1 and found["wrong_hand"] == 0
    assert [n for name, n in found.items() if name.startswith("centre")] == [1]


def test_charges_of_a_methyl_make_no_centre() -> None:
    """Unsymmetrised charges tell hydrogens apart in the energy, and not in the molecular graph."""
    system = load_system("alanine_dipeptide")
    uneven = copy.deepcopy(system.openmm_system)
    force = next(f for f in uneven.getForces() if isinstance(f, openmm.NonbondedForce))
    methyl = [k for k, atom in enumerate(system.topology.atoms()) if atom.name.startswith("HB")]
    for atom, shift in zip(methyl, (0.001, -0.001, 0.0), strict=True):
        charge, sigma, epsilon = force.getParticleParameters(atom)
        force.setParticleParameters(atom, charge._value + shift, sigma, epsilon)
    other = replace(system, openmm_system=uneven)
    assert len(set(other.atom_classes[methyl])) == 3
    assert Domain(other).key == Domain(system).key
    assert Domain(other).contains(relabelled(system)).all()


@pytest.mark.parametrize("force_field", ["ff14SB", "ff19SB"])
def test_torsion_maps_change_nothing(force_field: str) -> None:
    """Whether the target is symmetric says nothing of the particles that the network makes."""
    system = load_system("alanine_peptide", {"residues": 2, "force_field": force_field})
    domain, x = Domain(system), torch.as_tensor(system.positions)[None]
    back, inside = domain.reflected(mirror(x))
    assert domain.reflects and inside.all()
    torch.testing.assert_close(back, x)


def turned_amide(system: MolecularSystem) -> Tensor:
    """The reference with its last amide turned by half a turn."""
    carbon, nitrogen = 14, 16
    moving = [k for k in range(system.n_atoms) if k > nitrogen]
    x = system.positions.copy()
    axis = x[nitrogen] - x[carbon]
    axis /= np.linalg.norm(axis)
    v = x[moving] - x[nitrogen]
    x[moving] = x[nitrogen] + 2 * (v @ axis)[:, None] * axis - v
    return torch.as_tensor(x)[None]


def test_amides_stay_as_they_are_unless_asked() -> None:
    system = load_system("alanine_dipeptide")
    cis, domain = turned_amide(system), Domain(system)
    assert domain.description.count("trans") == 2
    assert not domain.contains(cis).any() and domain.counts(cis)["amide C(14)-N(16)"] == 1
    for asked in ("amides", "all", "C(14)-N(16)", "amide C(14)-N(16)"):
        free = Domain(replace(system, free_isomers=(asked,)))
        assert free.contains(cis).all()
        assert free.key != domain.key
        assert "amide C(14)-N(16)" in free.description.partition("either arrangement: ")[2]
    with pytest.raises(
        MolecularSystemError,
        match=r"free_isomers: omega names nothing here; there are all, amides, .*C\(14\)",
    ):
        Domain(replace(system, free_isomers=("omega",)))


def test_both_arrangements_of_amides_without_hydrogen() -> None:
    """As before proline: N carries two carbons that are not alike."""

    flat = [[0, 0, 0], [0.13, 0, 0], [-0.06, 0.1, 0], [-0.08, -0.12, 0], [0.2, 0.12, 0], [0.2, -0.12, 0]]
    symbols = [*"CNOCCCF", *"HHHHHHHH"]
    bonds = [(0, 1), (0, 2), (0, 3), (1, 4), (1, 5), (4, 6), (4, 7), (4, 8), (5, 9), (5, 10), (5, 11)]
    bonds += [(3, 12), (3, 13), (3, 14)]
    rng = np.random.default_rng(0)
    sketch = [*flat, *(np.array(flat[j]) + 0.1 * rng.normal(size=3) for j in (4, 4, 4, 5, 5, 5, 3, 3, 3))]
    domain = Domain(molecule(symbols, bonds, sketch, {(0, 1): 80.0}))
    assert domain.elements == [] and [e.kind for e in domain.free] == ["amide"]
    assert "either arrangement: amide C0(0)-N1(1)" in domain.description


def test_a_flat_centre_is_refused() -> None:
    system = grown(("C", ["F", "Cl", "Br", "H"]))
    flat = system.positions * np.array([1.0, 1.0, 0.0])
    flat[1:] += np.array([[0, 0, 0], [0.03, 0, 0], [0, 0.03, 0], [0, 0, 0]])
    with pytest.raises(MolecularSystemError, match=r"no arrangement at the centre C0\(0\)"):
        Domain(replace(system, positions=flat))


@pytest.mark.parametrize("tilt", [0.0, 1.5])
def test_reflected_particles_are_weighted_by_the_energy_itself(tilt: float) -> None:
    """Z of a Gaussian on one side of a plane, from particles of a density that may prefer either side."""
    n, g = 200_000, torch.Generator().manual_seed(4)

    def network(x: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Density of a Gaussian that is shifted across the plane, not symmetric unless ``tilt`` is zero."""
        shift = x.new_tensor([0.0, 0.0, 0.5 * tilt]) * torch.tensor([[1.0], [-1.0]], dtype=x.dtype)
        return -gaussian_log_density(x - shift, x.new_ones(())), shift - x

    def target(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.square().sum((1, 2)), 2 * x

    def above(x: Tensor) -> tuple[Tensor, Tensor]:
        wrong = x[:, 0, 2] < 0
        return torch.where(wrong.view(-1, 1, 1), mirror(x), x), torch.ones(len(x), dtype=torch.bool)

    shift = torch.tensor([[0.0, 0.0, 0.5 * tilt], [0.0, 0.0, -0.5 * tilt]], dtype=torch.float64)
    x = zero_centroid_noise((n, 2, 3), g, torch.float64) + shift
    level = BridgeStart(network, 1.0, target, above, reflects=True)
    population = Population(
        Particles(x, *(part.unsqueeze(1) for part in network(x, x[:, 0, 0])), torch.arange(n)),
        torch.zeros(n, dtype=torch.float64),
    )
    population.particles, increments = level.enter(population.particles, g)
    log_weights = increments + population.particles.energies[:, 0] - population.particles.energies[:, 1]
    z = torch.exp(log_weights)
    exact = 0.5 * (math.pi) ** 1.5
    error = float(z.std()) / math.sqrt(n)
    assert error < 0.005 * exact
    assert abs(float(z.mean()) - exact) < 3.5 * error


def test_bonds_that_turn_are_not_relabelled_as_ones_that_do_not() -> None:
    """A meso compound beside a ring of eight nitrogens with four stiff bonds: every order of atoms is one."""
    meso, ring_of_8 = MOLECULES["meso"][0], ring(8, {})
    n, elements = meso.n_atoms, [atom.element.symbol for atom in meso.topology.atoms()]
    symbols = [*elements, *"NNNNNNNN"]
    bonds = [*meso.bonds, *((n + k, n + (k + 1) % 8) for k in range(8))]
    positions = np.concatenate([meso.positions, ring_of_8.positions[:8] + 1.0])
    stiff = {(n + k, n + k + 1): 200.0 for k in range(0, 8, 2)}
    forward = Domain(molecule(symbols, bonds, positions, stiff))
    order = [*range(n, n + 8), *range(n)]
    place = {old: new for new, old in enumerate(order)}
    backward = Domain(
        molecule(
            [symbols[k] for k in order],
            [(place[a], place[b]) for a, b in bonds],
            positions[order],
            {(place[a], place[b]): barrier for (a, b), barrier in stiff.items()},
        )
    )
    assert not forward.reflects and not backward.reflects
    assert forward.n_relabellings == backward.n_relabellings == 2 * 8
    assert forward.contains(mirror(torch.as_tensor(positions)[None])).all()


def test_a_double_bond_between_rings_is_no_axis() -> None:
    """Two rings joined by a stiff bond, with four substituents beside it."""
    flat = biaryl(("Br", "Cl", "Br", "Cl"), angle=0.1)
    symbols = [atom.element.symbol for atom in flat.topology.atoms()]
    domain = Domain(molecule(symbols, flat.bonds, flat.positions, {(0, 6): 200.0}))
    assert [element.kind for element in domain.elements] == ["double bond"]


@pytest.mark.parametrize("symbols", [("H", "Cl", "Cl", "H"), ("H", "Cl", "H", "Cl")])
def test_equal_fragments_trade_places_in_any_order_of_their_atoms(symbols: tuple[str, ...]) -> None:
    two = molecule(symbols, [(0, 1), (2, 3)], [[0, 0, 0], [0.1, 0, 0], [1, 0, 0], [1.1, 0, 0]])
    assert Domain(two).n_relabellings == 2


def test_equivalent_elements_are_let_be_together() -> None:
    """Two equal double bonds at the ends of a chain: one alone cannot be named after relabelling."""
    positions = [[0, 0, 0], [0.15, 0, 0], [0.3, 0.1, 0], [0.45, 0, 0], [0.6, 0, 0]]
    positions += [[-0.08, 0.1, 0], [-0.08, -0.1, 0], [0.2, -0.1, 0], [0.3, 0.2, 0.1], [0.3, 0.2, -0.1]]
    positions += [[0.4, -0.1, 0], [0.68, 0.1, 0], [0.68, -0.1, 0]]
    bonds = [
        (0, 1),
        (1, 2),
        (2, 3),
        (3, 4),
        (0, 5),
        (0, 6),
        (1, 7),
        (2, 8),
        (2, 9),
        (3, 10),
        (4, 11),
        (4, 12),
    ]
    system = molecule([*"CCCCC", *"FHHHHHFH"], bonds, positions, {(0, 1): 200.0, (3, 4): 200.0})
    assert len(Domain(system).elements) == 2
    free = Domain(replace(system, free_isomers=("C0(0)-C1(1)",)))
    assert free.elements == [] and len(free.free) == 2


def test_many_equal_particles() -> None:
    domain = Domain(molecule(["Ar"] * 171, [], np.random.default_rng(0).random((171, 3))))
    assert "all 1.2e+309 relabellings" in domain.description


def test_flat_places_that_are_no_centres_are_no_trouble() -> None:
    system = ring(4, {0: ("F", "H")})
    assert Domain(replace(system, positions=system.positions * [1.0, 1.0, 0.0])).elements == []


def test_time_grows_gently() -> None:
    """Twenty equal rings: refinement stops where no class splits. (Ten seconds or more with all rounds.)"""
    rings, bonds = 12, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 5)]
    several = [(6 * k + a, 6 * k + b) for k in range(rings) for a, b in bonds]
    domain = Domain(molecule(["C"] * 6 * rings, several, np.random.default_rng(0).random((6 * rings, 3))))
    assert domain.n_relabellings == math.factorial(rings) * 12**rings


def test_systems_without_bonds_have_one_domain() -> None:
    system = load_system("lj13")
    domain, x = Domain(system), torch.as_tensor(system.positions)[None]
    assert domain.reflected(x)[1].all() and torch.equal(domain.reflected(x)[0], x)
    assert not domain.reflects and domain.n_relabellings == math.factorial(13)
    assert domain.counts(x) == {"wrong_hand": 0, "diastereomers": 0}
    assert domain.counts(torch.full_like(x, torch.nan)) == {"wrong_hand": 0, "diastereomers": 0}
    assert "both mirror images" in domain.description


@pytest.mark.parametrize("name", ["CHFClBr", "sulfoxide", "atropisomer", "Z"])
def test_signs_turn_with_the_molecule_and_change_under_reflection_alone(name: str) -> None:
    domain, g = Domain(MOLECULES[name][0]), torch.Generator().manual_seed(0)
    x = torch.randn((50, domain.system.n_atoms, 3), generator=g, dtype=torch.float64)
    (element,) = domain.elements
    rotated = x @ random_rotations(1, g, torch.float64)[0] + 0.3
    torch.testing.assert_close(element.value(rotated), element.value(x))
    torch.testing.assert_close(element.value(mirror(x)), (-1 if element.odd else 1) * element.value(x))
    for others in element.substituents:
        if len(others) > 1:
            order = list(range(domain.system.n_atoms))
            i, j = others[:2]
            order[i], order[j] = j, i
            torch.testing.assert_close(element.value(x[:, order]), -element.value(x))
