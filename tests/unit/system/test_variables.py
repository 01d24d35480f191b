"""Collective variables and states that a workflow declares, and the superposed RMSD."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import mdtraj
import numpy as np
import pytest
import torch
from helpers.chain import PHI, chain_ensemble, chain_system

from boltzgen import geometry, load_system, with_variables
from boltzgen.config.schema import Workflow
from boltzgen.ensemble.correlation import with_blocks
from boltzgen.errors import MolecularSystemError
from boltzgen.export.stage import export_samples
from boltzgen.rundir.stored_results import StoredResults
from boltzgen.system.collective_variables import CollectiveVariable, State
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import build_system

SEED = torch.Generator().manual_seed(5)


@pytest.fixture(scope="module")
def alanine() -> MolecularSystem:
    return load_system("alanine_dipeptide")


@pytest.fixture(scope="module")
def shaken(alanine: MolecularSystem) -> torch.Tensor:
    """Configurations near the reference, turned and moved at will: ``(50, 22, 3)``."""
    noise = 0.02 * torch.randn((50, 22, 3), generator=SEED, dtype=torch.float64)
    rotations = geometry.random_rotations(50, SEED, dtype=torch.float64)
    return (torch.as_tensor(alanine.positions) + noise) @ rotations + 0.7


# ---- rmsd --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("atoms", ["all", "not element H", "index 4 6 8"])
def test_rmsd_is_that_of_mdtraj(alanine: MolecularSystem, shaken: torch.Tensor, atoms: str) -> None:
    system = with_variables(alanine, {"fold": {"kind": "rmsd", "atoms": atoms}})
    fold = system.collective_variables[-1]
    topology = mdtraj.Topology.from_openmm(system.topology)
    frames = mdtraj.Trajectory(shaken.numpy(), topology)
    reference = mdtraj.Trajectory(system.positions, topology)
    expected = mdtraj.rmsd(frames, reference, atom_indices=topology.select(atoms))
    np.testing.assert_allclose(fold.values(shaken.numpy()), expected, atol=2e-6)
    np.testing.assert_allclose(fold.evaluate(shaken.float()), expected, atol=2e-6)
    assert fold.values(system.positions[None])[0] < 2e-6


def test_no_other_rotation_is_closer(alanine: MolecularSystem, shaken: torch.Tensor) -> None:
    """RMSD does not depend on how the reference is turned, and is no larger than without superposing."""
    reference = torch.as_tensor(alanine.positions)
    found = geometry.rmsd(shaken, reference)
    for scale in (0.01, 0.1, 1.0):
        for axis in range(3):
            generator = torch.zeros((3, 3), dtype=torch.float64)
            generator[axis, (axis + 1) % 3], generator[(axis + 1) % 3, axis] = scale, -scale
            turned = geometry.remove_centroid(reference) @ torch.linalg.matrix_exp(generator)
            assert bool((geometry.rmsd(shaken, turned) - found).abs().max() < 1e-12)
            plain = geometry.squared_norm(geometry.remove_centroid(shaken) - turned).div(22).sqrt()
            assert bool((plain >= found - 1e-12).all())


def test_rmsd_never_reflects(alanine: MolecularSystem) -> None:
    x = torch.as_tensor(alanine.positions)
    image = geometry.mirror(x)
    proper = float(geometry.rmsd(image[None], x)[0])
    topology = mdtraj.Topology.from_openmm(alanine.topology)
    expected = mdtraj.rmsd(mdtraj.Trajectory(image.numpy(), topology), mdtraj.Trajectory(x.numpy(), topology))
    assert proper == pytest.approx(float(expected[0]), abs=1e-6) and proper > 0.05


def test_rmsd_of_what_is_not_finite_is_nan(shaken: torch.Tensor, alanine: MolecularSystem) -> None:
    x = shaken.clone()
    x[3, 5, 1], x[7, 0, 0] = float("nan"), float("inf")
    values = geometry.rmsd(x, torch.as_tensor(alanine.positions))
    assert values.isnan().nonzero().flatten().tolist() == [3, 7]


@pytest.mark.parametrize(
    ("kind", "atoms", "reference"),
    [
        ("rmsd", (0, 1, 2), ()),
        ("rmsd", (0, 1, 2), ((0.0, 0.0, 0.0),) * 2),
        ("distance", (0, 1), ((0.0, 0.0, 0.0),) * 2),
    ],
)
def test_a_reference_belongs_to_an_rmsd(kind: str, atoms: tuple[int, ...], reference: tuple) -> None:
    with pytest.raises(
        MolecularSystemError, match="reference positions do not fit; give an rmsd one for each of its atoms"
    ):
        CollectiveVariable("r", kind, atoms, reference)  # type: ignore[arg-type]


def test_a_reference_of_another_molecule_is_refused(alanine: MolecularSystem) -> None:
    whole = CollectiveVariable("r", "rmsd", (), ((0.0, 0.0, 0.0), (0.1, 0.0, 0.0)))
    with pytest.raises(MolecularSystemError, match="its reference has 2 positions; there are 22 atoms"):
        replace(alanine, collective_variables=(whole,))


# ---- declarations ------------------------------------------------------------------------------------


def test_atoms_by_index_and_by_selection_are_the_same(alanine: MolecularSystem) -> None:
    named = {
        "by index": {"kind": "torsion", "atoms": [4, 6, 8, 14]},
        "one by one": {
            "kind": "torsion",
            "atoms": ["resname ACE and name C", 6, "name CA", "resname ALA and name C"],
        },
        "at once": {"kind": "torsion", "atoms": "index 4 6 8 14"},
    }
    system = with_variables(alanine, named)
    assert [cv.name for cv in system.collective_variables] == ["phi", "psi", *named]
    assert {cv.atoms for cv in system.collective_variables[2:]} == {(4, 6, 8, 14)}


def test_radius_of_gyration_of_a_selection(alanine: MolecularSystem, shaken: torch.Tensor) -> None:
    system = with_variables(alanine, {"heavy": {"kind": "radius_of_gyration", "atoms": "not element H"}})
    heavy = system.collective_variables[-1]
    frames = mdtraj.Trajectory(shaken.numpy(), mdtraj.Topology.from_openmm(system.topology))
    expected = mdtraj.compute_rg(frames.atom_slice(list(heavy.atoms)), masses=np.ones(10))
    np.testing.assert_allclose(heavy.values(shaken.numpy()), expected, rtol=1e-5)


def test_two_states_come_before_those_of_the_system_and_one_after(alanine: MolecularSystem) -> None:
    own = [state.name for state in alanine.states]
    near, far = {"cv": "psi", "intervals": [[0, 1]]}, {"cv": "psi", "intervals": [[1, 3]]}
    one, two = (with_variables(alanine, states=s) for s in ({"near": near}, {"near": near, "far": far}))
    assert [state.name for state in one.states] == [*own, "near"]
    assert [state.name for state in two.states] == ["near", "far", *own]
    assert two.states[0].intervals == ((0.0, 1.0),) and two.states[0].cv == alanine.collective_variables[1]


def test_nothing_declared_changes_nothing(alanine: MolecularSystem) -> None:
    assert with_variables(alanine) is alanine


def test_a_workflow_declares_them(tmp_path: Path) -> None:
    document = {
        "name": "mine",
        "system": {"name": "lj13"},
        "collective_variables": {"fold": {"kind": "rmsd"}},
        "states": {"solid": {"cv": "fold", "intervals": [[0.0, 0.2]]}},
    }
    workflow = Workflow.model_validate(document)
    system = build_system(workflow, tmp_path)
    assert system.states[-1].members(system.positions[None]).tolist() == [True]
    assert Workflow.model_validate(workflow.model_dump(mode="json")) == workflow


# ---- where they go -----------------------------------------------------------------------------------


def test_they_come_back_from_the_results_and_stand_in_colvar(tmp_path: Path) -> None:
    states = {"stretched": {"cv": "fold", "intervals": [[0.02, float("inf")]]}}
    system = with_variables(chain_system(), {"fold": {"kind": "rmsd", "atoms": [0, 1, 2, 3]}}, states)
    results = {
        "collective_variables": [asdict(cv) for cv in system.collective_variables],
        "states": [asdict(state) for state in system.states],
    }
    stored = StoredResults(json.loads(json.dumps(results)))
    assert tuple(stored.variables) == system.collective_variables
    assert tuple(stored.states) == system.states
    sample = chain_ensemble(20, seed=2)
    settings = Workflow.model_fields["export"].default.model_copy(update={"formats": ("h5",)})
    export_samples(system, sample, settings, tmp_path / "export", seed=0)
    table = np.loadtxt(tmp_path / "export" / "COLVAR")
    np.testing.assert_allclose(
        table[:, 4], system.collective_variables[-1].values(sample.positions), atol=1e-8
    )


def test_blocks_are_as_long_as_the_slowest_variable() -> None:
    """A torsion that turns over every 50 frames, and energies that forget at once."""
    sample = chain_ensemble(4000, seed=3, frames_per_lineage=50)
    sample = replace(sample, islands=np.repeat([0, 1], 2000), lineages=np.arange(4000))
    fast = with_blocks(replace(chain_system(), collective_variables=(), states=()), sample)
    slow = with_blocks(replace(chain_system(), collective_variables=(PHI,), states=()), sample)
    counts = [len(np.unique(ensemble.lineages)) for ensemble in (fast, slow)]
    assert counts[0] >= 2000 and 10 < counts[1] < 50
    assert not set(slow.lineages[:2000]) & set(slow.lineages[2000:])


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ((2.5, 3.8), (2.6, 3.1, -3.1, -2.5), (2.4, -2.4, 0.0)),
        ((-4.0, -2.0), (-3.0, 2.4, 3.1), (2.2, -1.9, 0.0)),
        ((3.5, 4.5), (-2.7, -1.8), (2.7, -1.7, 3.1)),
        ((-6.0, 6.0), (-3.0, 0.0, 3.0), ()),
        ((0.0, 3.1416), (0.1, 3.1), (-0.1, -3.1415926)),
        ((0.0, math.inf), (0.1, 3.1), (-0.1, -3.1)),
    ],
)
def test_a_region_of_a_torsion_may_reach_across_pi(
    interval: tuple[float, float], inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    state = State("region", PHI, (interval,))
    assert state.contains(torch.tensor(inside)).all()
    assert not state.contains(torch.tensor(outside)).any()
    assert State("region", PHI, state.intervals) == state


def test_indices_that_name_no_chain_of_bonds_are_doubted() -> None:
    def doubts(atoms: list[object], kind: str = "torsion") -> tuple[str, ...]:
        return with_variables(peptide, {"t": {"kind": kind, "atoms": atoms}}).notices

    peptide = load_system("alanine_dipeptide")
    assert doubts([4, 6, 8, 14]) == () and doubts([4, 6, 8], "angle") == ()
    (from_one,) = doubts([5, 7, 9, 15])
    assert "collective_variables.t.atoms: O of ACE 1 and H of ALA 2 are not bonded" in from_one
    assert "counted from 0, is [4, 6, 8, 14] meant?" in from_one
    (heavy,) = doubts([2, 3, 4, 6])
    assert "is this torsion meant? atoms are counted from 0" in heavy
    by_name = [f"name {name} and resname {residue}" for name, residue in (("C", "ACE"), ("C", "ALA"))]
    assert doubts([*by_name, "name CB", "name HA"]) == ()
    assert doubts([0, 21], "distance") == ()
