"""The registry, the systems that come with the package, and the checks offered to plug-in authors."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from openmm import app
from scipy.integrate import quad

from boltzgen.errors import MolecularSystemError
from boltzgen.potential import make_potential
from boltzgen.system.collective_variables import State
from boltzgen.system.registry import available_systems, load_system
from boltzgen.systems import harmonic, lennard_jones
from boltzgen.testing import check_system, equivalent_pairs

SYSTEMS = sorted(set(available_systems()) - {"molecule", "peptide", "lj55", "chignolin"})


def test_every_registered_system_has_a_one_line_description() -> None:
    systems = available_systems()
    assert {"alanine_dipeptide", "lj13", "lj55", "harmonic_dimer", "molecule"} <= set(systems)
    assert all(line and "\n" not in line and "cannot be imported" not in line for line in systems.values())


@pytest.mark.parametrize("name", SYSTEMS)
def test_systems_pass_their_own_check(name: str) -> None:
    result = check_system(load_system(name))
    assert result.mirror_symmetric
    carboxylate = name in ("al3", "al6")  # impropers of Amber tell its oxygens apart a little
    assert carboxylate or result.exchange_error < 1e-6


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("alanine_dipeptid", {}, "did you mean alanine_dipeptide"),
        ("alanine_dipeptide", {"hamiltonan": "A"}, "did you mean hamiltonian"),
        ("alanine_dipeptide", {"hamiltonian": "D"}, "use one of A, A-vac, B, C"),
        ("molecule", {}, "system.parameters.files: names no file; give those of a molecule"),
        ("absent.py", {}, "no such file"),
    ],
)
def test_what_cannot_be_built_is_told_in_one_line(
    name: str, parameters: dict[str, object], message: str
) -> None:
    with pytest.raises(MolecularSystemError, match=message) as caught:
        load_system(name, parameters)
    assert "\n" not in str(caught.value)


def test_a_file_with_a_build_function_is_found_relative_to_base(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from boltzgen.systems.harmonic import build_chain\n\ndef build(n=3):\n    return build_chain(n)\n"
    )
    assert load_system("mine.py", {"n": 5}, base=tmp_path).n_atoms == 5
    (tmp_path / "wrong.py").write_text("def build():\n    return 3\n")
    with pytest.raises(MolecularSystemError, match=r"returned another object \(int\)"):
        load_system("wrong.py", base=tmp_path)
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(MolecularSystemError, match=r"defines no build\(\)"):
        load_system("empty.py", base=tmp_path)


def test_alanine_dipeptide_atoms_are_those_of_phi_and_psi() -> None:
    system = load_system("alanine_dipeptide")
    names = [f"{a.residue.name}:{a.name}" for a in system.topology.atoms()]
    phi, psi = system.collective_variables
    assert [names[i] for i in phi.atoms] == ["ACE:C", "ALA:N", "ALA:CA", "ALA:C"]
    assert [names[i] for i in psi.atoms] == ["ALA:N", "ALA:CA", "ALA:C", "NME:N"]
    angles = torch.linspace(-math.pi, math.pi, 1001, dtype=torch.float64)
    inside = torch.stack([state.contains(angles) for state in system.states]).sum(dim=0)
    assert bool((inside == 1).all())
    assert not any(isinstance(f, openmm.CMMotionRemover) for f in system.openmm_system.getForces())


def test_lennard_jones_reference_is_the_known_minimum() -> None:
    """Without the oscillator the 13- and 55-particle icosahedra have energies -44.3268 and -279.2485 eps."""
    for n, minimum in ((13, -44.326801), (55, -279.248470)):
        system = lennard_jones.build(n, oscillator=0.0)
        u = make_potential(system, backend="openmm")(torch.as_tensor(system.positions)[None])
        assert float(u) == pytest.approx(minimum, abs=2e-5)


def test_lennard_jones_energy_is_the_formula() -> None:
    system = lennard_jones.build(5, pair_factor=2.0, oscillator=0.5)
    x = np.random.default_rng(1).normal(size=(5, 3))
    context = openmm.Context(system.openmm_system, openmm.VerletIntegrator(0.001))
    context.setPositions(x)
    u = context.getState(energy=True).getPotentialEnergy()._value / system.kT
    r = np.linalg.norm(x[:, None] - x, axis=-1)[np.triu_indices(5, 1)]
    expected = 2 * (r**-12 - 2 * r**-6).sum() + 0.25 * np.square(x - x.mean(axis=0)).sum()
    assert u == pytest.approx(expected, rel=1e-5)


def test_closed_forms_agree_with_each_other_and_with_a_direct_integral() -> None:
    k, r0 = 500.0, 0.2
    beta = 1 / harmonic.thermal_energy(300.0)
    radial, _ = quad(lambda r: 4 * math.pi * r**2 * math.exp(-0.5 * beta * k * (r - r0) ** 2), 0, 2)
    assert harmonic.dimer_log_z(k, r0) == pytest.approx(math.log(radial / 2**1.5), abs=1e-8)
    assert harmonic.chain_log_z(4, k, r0) == pytest.approx(3 * math.log(radial) - 1.5 * math.log(4), abs=1e-8)
    # two atoms in a well are a dimer of zero length: k/2 (|x1 - c|^2 + |x2 - c|^2) = k/4 r^2
    assert harmonic.well_log_z(2, k) == pytest.approx(harmonic.dimer_log_z(k / 2, 0.0), abs=1e-6)


def test_molecule_from_a_workflow_alone(tmp_path: Path) -> None:
    reference = load_system("alanine_dipeptide")
    with open(tmp_path / "mine.pdb", "w") as file:
        app.PDBFile.writeFile(reference.topology, 10 * reference.positions, file)
    parameters: dict[str, object] = {"pdb": "mine.pdb"}
    system = load_system("molecule", parameters, base=tmp_path)
    assert system.bonds == reference.bonds
    np.testing.assert_array_equal(system.atom_classes, reference.atom_classes)
    assert check_system(system).reduced_energy == pytest.approx(
        check_system(reference).reduced_energy, abs=0.1
    )
    for broken, message in (
        ({"pdb": "absent.pdb"}, "no file"),
        ({"forcefield": "absent.xml"}, "absent.xml"),
        ({"cvs": {"phi": {"kind": "torsion"}}}, "those of the workflow; .*boltzgen.with_variables"),
    ):
        with pytest.raises(MolecularSystemError, match=message) as caught:
            load_system("molecule", {**parameters, **broken}, base=tmp_path)
        assert "\n" not in str(caught.value)


def test_check_system_finds_overlapping_states_and_broken_symmetry() -> None:
    system = load_system("harmonic_chain", {"n": 3})
    end = system.collective_variables[1]
    overlapping = (State("a", end, ((0.0, 0.3),)), State("b", end, ((0.2, 0.5),)))
    with pytest.raises(AssertionError, match="states a and b overlap"):
        check_system(replace(system, states=overlapping))
    assert equivalent_pairs(system) == [(0, 2)]
    lopsided = load_system("harmonic_chain", {"n": 3}).openmm_system
    lopsided.getForce(0).setBondParameters(0, 0, 1, 0.25, 10000.0)
    with pytest.raises(AssertionError, match="atoms 0 and 2 look equivalent"):
        check_system(replace(system, openmm_system=lopsided))
