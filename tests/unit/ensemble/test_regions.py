"""Regions that data fall into: found without being told, and the same for every name of the atoms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import openmm
import pytest
import torch
from helpers.chain import chain_positions, chain_system
from openmm import app

from boltzgen.ensemble.regions import Unit, find_regions
from boltzgen.ensemble.torsion_units import torsion_units
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.ensemble.wells import find_wells
from boltzgen.geometry import mirror
from boltzgen.sample.coverage import energy_presence, region_presence
from boltzgen.sample.units_of_motion import distance_units, regions_of
from boltzgen.smc.presence import MISSING
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system


def values_unit() -> Unit:
    """The first coordinate of the first atom."""
    return Unit("x", lambda positions: positions[:, 0, :1].astype(float))


def at(values: np.ndarray, lineages: np.ndarray | None = None) -> WeightedEnsemble:
    x = np.zeros((len(values), 2, 3), dtype=np.float32)
    x[:, 0, 0] = values
    return WeightedEnsemble(x, np.zeros(len(x)), np.zeros(len(x)), 300.0, lineages=lineages)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_wells_of_an_angle_are_found_wherever_they_lie(shift: float) -> None:
    rng = np.random.default_rng(0)
    angles = np.concatenate([rng.normal(0.0, 0.3, 3000), rng.normal(2.0, 0.2, 500)]) + shift
    angles = (angles + math.pi) % (2 * math.pi) - math.pi
    wells = find_wells(angles, np.ones(len(angles)), True, 0.01)
    found = wells.of(angles)
    assert len(wells.peaks) == 2
    assert [len(set(part)) for part in (found[:3000], found[3000:])] == [1, 1] or (
        np.mean(found[:3000] == found[0]) > 0.99 and np.mean(found[3000:] == found[-1]) > 0.99
    )
    assert found[0] != found[-1]
    expected = (np.array([0.0, 2.0]) + shift + math.pi) % (2 * math.pi) - math.pi
    assert sorted(wells.peaks) == pytest.approx(sorted(expected), abs=0.15)


@pytest.mark.parametrize("n", [200, 1000, 20_000])
def test_noise_makes_no_wells(n: int) -> None:
    """Of one broad peak, and of a uniform angle, in 20 samples each."""
    rng = np.random.default_rng(1)
    counts = [
        len(find_wells(values, np.ones(n), periodic, 0.01).peaks)
        for _ in range(20)
        for values, periodic in ((rng.normal(size=n), False), (rng.uniform(-math.pi, math.pi, n), True))
    ]
    assert np.mean(np.array(counts) > 1) <= 0.05


def test_weights_count_and_regions_rest_on_blocks() -> None:
    rng = np.random.default_rng(0)
    sides = np.where(np.arange(2000) // 100 % 2, 1.0, -1.0)
    values = rng.normal(sides, 0.1)
    data = at(values, np.arange(2000) // 100)
    data = replace(data, log_weights=np.where(values > 0, math.log(0.25), 0.0))
    regions = find_regions([values_unit()], data)
    assert [r.population for r in regions.regions] == pytest.approx([0.8, 0.2])
    assert [r.n_blocks for r in regions.regions] == pytest.approx([10.0, 10.0], abs=2.5)
    assert regions.members(data.positions)[:, 0].tolist() == (sides < 0).tolist()
    thin = replace(data, log_weights=np.where(values > 0, math.log(0.005), 0.0))
    assert not find_regions([values_unit()], thin).regions  # one well, and so no regions


def test_one_long_visit_is_one_however_short_the_blocks_of_the_data() -> None:
    """Blocks made for what was declared say nothing of a slow coordinate that was not."""
    rng = np.random.default_rng(0)
    values = rng.normal(np.where((np.arange(4000) > 1000) & (np.arange(4000) < 1400), 1.0, -1.0), 0.1)
    regions = find_regions([values_unit()], at(values, np.arange(4000) // 10)).regions
    assert [r.population for r in regions] == pytest.approx([0.9, 0.1], abs=0.01)
    assert regions[1].n_blocks < 3


def bent_chains(n: int = 2000) -> tuple[WeightedEnsemble, np.ndarray]:
    """Chains with one torsion gauche or trans, the other trans, and which of them are gauche."""
    rng = np.random.default_rng(0)
    gauche = rng.random(n) < 0.2
    phi = np.where(gauche, rng.normal(1.0, 0.2, n), rng.normal(math.pi, 0.2, n))
    x = chain_positions(phi, rng.normal(math.pi, 0.2, n))
    return WeightedEnsemble(x, np.zeros(n), np.zeros(n), 300.0), gauche


def test_regions_of_a_chain_are_its_torsions() -> None:
    """Its two torsions are equivalent, as its ends are, and make one unit."""
    data, gauche = bent_chains()
    found = regions_of(chain_system(), data)
    assert [unit.size for unit in found.units] == [2]
    inside = found.members(data.positions)
    assert inside.shape[1] == 2
    shares = [inside[rows].mean(0).round(2).tolist() for rows in (gauche, ~gauche)]
    assert sorted(shares) == [[0.0, 1.0], [1.0, 0.0]]


def test_relabelled_and_mirrored_chains_are_in_the_same_region() -> None:
    data, _ = bent_chains(500)
    found = regions_of(chain_system(), data)
    cells = found.cells(data.positions)
    np.testing.assert_array_equal(found.cells(data.positions[:, ::-1].copy()), cells)
    np.testing.assert_array_equal(found.cells(mirror(torch.as_tensor(data.positions)).numpy()), cells)


def test_methyl_hydrogens_make_no_regions() -> None:
    system = load_system("alanine_dipeptide")
    names = [unit.name for unit in torsion_units(system)]
    assert {"phi", "psi"} <= set(names)
    elements = [atom.element.symbol for atom in system.topology.atoms()]
    rng = np.random.default_rng(0)
    x = np.repeat(system.positions[None].astype(np.float32), 20, 0)
    methyls = [
        [j for j in system.graph.neighbors(i) if elements[j] == "H"]
        for i in range(system.n_atoms)
        if sum(elements[j] == "H" for j in system.graph.neighbors(i)) == 3
    ]
    assert len(methyls) == 3
    turned = x.copy()
    for row in turned:
        for hydrogens in methyls:
            row[hydrogens] = row[rng.permutation(hydrogens)]
    for unit in torsion_units(system):
        np.testing.assert_allclose(unit.evaluate(turned), unit.evaluate(x), atol=1e-5)


def isopentane_like(order: list[int]) -> MolecularSystem:
    """Carbons 0-1-2-3 and a methyl 4 on atom 1, equivalent to atom 0; ``order`` of the two is free."""
    topology, system, force = app.Topology(), openmm.System(), openmm.HarmonicBondForce()
    residue = topology.addResidue("ISO", topology.addChain())
    atoms = [topology.addAtom(f"C{k}", app.element.carbon, residue) for k in range(5)]
    for _ in atoms:
        system.addParticle(12.0)
    for i, j in ((order[0], 1), (1, 2), (2, 3), (1, order[1])):
        topology.addBond(atoms[i], atoms[j])
        force.addBond(i, j, 0.15, 1e5)
    system.addForce(force)
    positions = np.random.default_rng(0).normal(size=(5, 3)) * 0.2
    return MolecularSystem("iso", topology, system, positions, 300.0)


def test_a_torsion_from_one_of_two_equal_neighbours_does_not_say_which() -> None:
    """Half a turn apart in the angle of two equal neighbours is the same configuration, relabelled."""
    system = isopentane_like([0, 4])
    (unit,) = torsion_units(system)
    rng = np.random.default_rng(1)
    torsion = rng.uniform(-math.pi, math.pi, 10)
    chain = chain_positions(torsion, np.zeros(10))[:, :4]  # 0-1-2-3
    axis = chain[:, 2] - chain[:, 1]
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    from_axis = chain[:, 0] - chain[:, 1]
    along = (from_axis * axis).sum(1, keepdims=True) * axis
    opposite = chain[:, 1] + 2 * along - from_axis  # turned by pi about the bond
    x = np.concatenate([chain, opposite[:, None]], 1).astype(np.float32)
    swapped = x[:, [4, 1, 2, 3, 0]]
    difference = (unit.evaluate(swapped) - unit.evaluate(x) + math.pi) % (2 * math.pi) - math.pi
    np.testing.assert_allclose(difference, 0.0, atol=1e-4)
    assert unit.name.startswith("2 x")


def test_clusters_of_unbonded_atoms_are_found_by_their_distances() -> None:
    """Three equal atoms in a row or in a triangle, atoms relabelled and configurations turned at random."""
    rng = np.random.default_rng(0)
    shapes = np.array([[[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 0, 0], [1, 0, 0], [0.5, 0.8, 0]]], float)
    which = (rng.random(1000) < 0.3).astype(int)
    x = shapes[which] + 0.05 * rng.normal(size=(1000, 3, 3))
    x = np.stack([row[rng.permutation(3)] for row in x]).astype(np.float32)
    data = WeightedEnsemble(x, np.zeros(1000), np.zeros(1000), 300.0)
    found = find_regions(distance_units(x, np.zeros((3, 3), dtype=int)), data)
    inside = found.members(x)[:, :2]
    first = inside[:, int(inside[which == 0].mean(0).argmax())]
    assert np.mean(first == (which == 0)) > 0.98 and np.mean(inside.any(1)) > 0.98


def test_what_the_sample_has_of_each_region() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(-1.0, 0.1, 700), rng.normal(1.0, 0.1, 300)])
    regions = find_regions([values_unit()], at(values))
    one, both = (region_presence(regions, at(sample)) for sample in (values[:700], values[::2]))
    assert [p.ancestors for p in one] == pytest.approx([700.0, 0.0])
    assert [p.data_population for p in both] == pytest.approx([0.7, 0.3])
    assert [p.population for p in both] == pytest.approx([0.7, 0.3])


def test_data_above_the_energies_of_the_sample_are_counted_by_blocks() -> None:
    of_data, blocks = np.concatenate([np.zeros(80), np.full(20, 8.0)]), np.arange(100) // 2
    sample, of_samples = at(np.zeros(1000)), np.linspace(-1.0, 1.0, 1000)
    found = energy_presence(of_data, blocks, of_samples, sample)
    assert found.data_population == pytest.approx(0.2) and found.n_blocks == pytest.approx(10.0)
    assert "8.0" in found.name and found.ancestors == found.population == 0.0
    assert found.lacking(1000.0) == MISSING and found.lacking(40.0) == 0.0
    of_samples[:300] = 9.0  # all of one ancestor
    cloned = replace(sample, lineages=np.arange(1000).clip(299))
    found = energy_presence(of_data, blocks, of_samples, cloned)
    assert found.ancestors == pytest.approx(1.0) and found.lacking(600.0) == MISSING
    assert energy_presence(of_data, blocks, of_samples, sample).lacking(1000.0) == 0.0
    broken = energy_presence(np.array([math.nan, 0.0]), np.arange(2), np.zeros(3), at(np.zeros(3)))
    assert broken.data_population == 0.5


@pytest.mark.parametrize("n", [100, 500])
def test_energies_of_data_and_sample_that_are_alike_miss_nothing(n: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        found = energy_presence(rng.normal(size=512), np.arange(512), rng.normal(size=n), at(np.zeros(n)))
        assert found.lacking(n) == 0.0
