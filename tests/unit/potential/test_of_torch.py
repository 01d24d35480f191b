"""Energies by a torch function: those of the same force field in OpenMM, in batches, in any process."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from openmm import app
from torch import Tensor

from boltzgen import MolecularSystem, UserError, load_system, make_potential, torch_force
from boltzgen.system.stereochemistry.elements import stereo_elements

LENGTH, STIFFNESS = 0.15, 1e5


def chain(x: Tensor) -> Tensor:
    """Springs between neighbours."""
    apart = (x[:, 1:] - x[:, :-1]).norm(dim=-1)
    return 0.5 * STIFFNESS * (apart - LENGTH).square().sum(-1)


def mixed(x: Tensor) -> Tensor:
    """What no energy may be: of other configurations too."""
    return chain(x) + chain(x).mean()


def of_openmm(state: openmm.State) -> tuple[float, np.ndarray]:
    return 0.0, np.zeros((4, 3))


class Module(torch.nn.Module):
    """The same with a parameter, in single precision."""

    def __init__(self) -> None:
        super().__init__()
        self.stiffness = torch.nn.Parameter(torch.tensor(STIFFNESS))

    def forward(self, x: Tensor) -> Tensor:
        return chain(x) * self.stiffness / STIFFNESS


def beads(force: openmm.Force) -> MolecularSystem:
    topology, system = app.Topology(), openmm.System()
    residue = topology.addResidue("BEA", topology.addChain())
    atoms = [topology.addAtom(f"C{k}", app.element.carbon, residue) for k in range(4)]
    for one, other in itertools.pairwise(atoms):
        topology.addBond(one, other)
    for _ in atoms:
        system.addParticle(12.0)
    system.addForce(force)
    positions = np.array([[0.0, 0.0, 0.0], [0.15, 0.0, 0.0], [0.2, 0.14, 0.0], [0.3, 0.2, 0.1]])
    return MolecularSystem("beads", topology, system, positions, 300.0)


def springs() -> openmm.Force:
    force = openmm.HarmonicBondForce()
    for k in range(3):
        force.addBond(k, k + 1, LENGTH, STIFFNESS)
    return force


@pytest.mark.parametrize("energy", [chain, Module()])
def test_the_energies_are_those_of_the_same_force_field(energy: object) -> None:
    ours, theirs = make_potential(beads(torch_force(energy))), make_potential(beads(springs()))
    assert ours.backend == "batched" and ours.agreement is not None and ours.agreement.ok
    generator = torch.Generator().manual_seed(0)
    x = torch.as_tensor(beads(springs()).positions) + 0.02 * torch.randn(50, 4, 3, generator=generator)
    for one, other in zip(ours.energy_and_forces(x), theirs.energy_and_forces(x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-8)
    one_at_a_time = make_potential(beads(torch_force(energy)), backend="openmm").energy_and_forces(x)
    torch.testing.assert_close(one_at_a_time[1], ours.energy_and_forces(x)[1], rtol=1e-9, atol=1e-8)


def test_it_may_be_of_some_atoms() -> None:
    force = torch_force(chain)
    force.setParticles([0, 1])
    x = torch.as_tensor(beads(springs()).positions)[None]
    expected = 0.5 * STIFFNESS * (float((x[0, 1] - x[0, 0]).norm()) - LENGTH) ** 2
    assert float(make_potential(beads(force)).energy_and_forces(x)[0]) == pytest.approx(expected, abs=1e-9)


def test_an_energy_that_mixes_configurations_is_found_out() -> None:
    assert make_potential(beads(torch_force(mixed))).backend == "openmm"
    with pytest.raises(UserError, match="batched energies deviate from OpenMM"):
        make_potential(beads(torch_force(mixed)), backend="batched")


def test_a_python_force_of_openmm_is_called_by_openmm() -> None:
    potential = make_potential(beads(openmm.PythonForce(of_openmm)))
    assert potential.backend == "openmm" and "none of boltzgen.torch_force" in potential.reason


def test_what_no_other_process_could_know_is_refused() -> None:
    with pytest.raises(UserError, match=r"cannot be pickled .*; make it a function or a class"):
        torch_force(lambda x: x.sum((1, 2)))


SYSTEM = f"""
import numpy as np, openmm
from openmm import app
from boltzgen import MolecularSystem, torch_force

def energy(x):
    return 0.5 * {STIFFNESS} * ((x[:, 1] - x[:, 0]).norm(dim=-1) - {LENGTH}).square()

def build():
    topology, system = app.Topology(), openmm.System()
    residue = topology.addResidue("TWO", topology.addChain())
    for name in ("C1", "C2"):
        topology.addAtom(name, app.element.carbon, residue)
        system.addParticle(12.0)
    topology.addBond(*topology.atoms())
    system.addForce(torch_force(energy))
    return MolecularSystem("two", topology, system, np.array([[0.0, 0, 0], [0.16, 0, 0]]), 300.0)
"""
ELSEWHERE = """
import pickle, sys
from pathlib import Path
import torch
from boltzgen import make_potential
from boltzgen.system.registry import import_files
import_files([Path(sys.argv[1])])
system = pickle.loads(Path(sys.argv[2]).read_bytes())
print(float(make_potential(system).energy_and_forces(torch.as_tensor(system.positions)[None])[0]))
"""


def test_a_system_file_is_known_to_other_processes(tmp_path: Path) -> None:
    path = tmp_path / "two.py"
    path.write_text(SYSTEM)
    system = load_system(str(path))
    load_system(str(path))  # a second time changes nothing about the first
    (tmp_path / "pickled").write_bytes(pickle.dumps(system))
    command = [sys.executable, "-c", ELSEWHERE, str(path), str(tmp_path / "pickled")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(0.5 * STIFFNESS * 0.01**2, rel=1e-9)


def test_bonds_that_do_not_turn_are_told_without_terms() -> None:
    """Amides and double bonds: those of the force field, told by elements and lengths."""
    known = load_system("alanine_dipeptide", {"hamiltonian": "B"})
    bare = openmm.System()
    for k in range(known.n_atoms):
        bare.addParticle(known.openmm_system.getParticleMass(k))
    bare.addForce(torch_force(chain))
    elements = [
        {(e.kind, e.atoms) for e in stereo_elements(s)[0]}
        for s in (known, replace(known, openmm_system=bare))
    ]
    assert elements[0] == elements[1] and any(kind == "amide" for kind, _ in elements[0])
