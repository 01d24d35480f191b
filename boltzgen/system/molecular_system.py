"""MolecularSystem: what is sampled (an OpenMM System at a temperature) and what is looked at."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, field, replace
from functools import cached_property

import mdtraj
import networkx as nx
import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from boltzgen import geometry
from boltzgen.errors import MolecularSystemError
from boltzgen.system.collective_variables import CollectiveVariable, State
from boltzgen.system.labels import Labels
from boltzgen.units import thermal_energy

WITHOUT_ENERGY = frozenset(
    {
        "CMMotionRemover",
        "AndersenThermostat",
        "MonteCarloBarostat",
        "MonteCarloAnisotropicBarostat",
        "MonteCarloMembraneBarostat",
        "MonteCarloFlexibleBarostat",
    }
)
"""Forces of OpenMM that change momenta or the box and have no part in the energy."""


@dataclass(frozen=True, eq=False)
class MolecularSystem:
    """A molecule or cluster whose Boltzmann distribution is wanted.

    name
        How it is called in files and messages, Hamiltonian included (``alanine_dipeptide/B``).
    topology
        OpenMM topology; its bonds define the molecular graph.
    openmm_system
        The force field, without constraints, virtual sites or a periodic box.
    positions
        A reference configuration [nm] with shape ``(n_atoms, 3)``; it says which isomer is meant.
    temperature_k
        Temperature of the target [K].
    collective_variables, states
        What is reported, and free-energy differences of `state_pairs`.
    description
        One line for ``boltzgen systems``.
    free_isomers
        What need not be arranged as in the reference configuration: ``centres``, ``double bonds``,
        ``amides``, ``axes``, ``all``, or names that `boltzgen.system.stereochemistry.domain.Domain` gives
        them.
    names_in_file
        Residue and atom name of every atom as its file has them, where the topology has others; else none.
        Selections may use either.
    notices
        What was mended or chosen while it was built, a line each.
    """

    name: str
    topology: app.Topology
    openmm_system: openmm.System
    positions: NDArray[np.float64]
    temperature_k: float
    collective_variables: tuple[CollectiveVariable, ...] = ()
    states: tuple[State, ...] = ()
    description: str = ""
    parameters: dict[str, object] = field(default_factory=dict)
    free_isomers: tuple[str, ...] = ()
    names_in_file: tuple[tuple[str, str], ...] = ()
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _refuse_unsuitable(self)

    def at_temperature(self, temperature_k: float | None) -> MolecularSystem:
        """The same system at another temperature [K]; itself for None."""
        return self if temperature_k is None else replace(self, temperature_k=temperature_k)

    @property
    def state_pairs(self) -> tuple[tuple[State, State], ...]:
        """Whose free-energy difference is reported: the first two, and further neighbours of one variable."""
        pairs, k = [self.states[:2]] if len(self.states) > 1 else [], 2
        while k + 1 < len(self.states):
            a, b = self.states[k : k + 2]
            if a.cv == b.cv:
                pairs.append((a, b))
            k += 2 if a.cv == b.cv else 1
        return tuple((pair[0], pair[1]) for pair in pairs)

    @property
    def n_atoms(self) -> int:
        return self.openmm_system.getNumParticles()

    @property
    def dof(self) -> int:
        """``3 (n_atoms - 1)``."""
        return geometry.dof(self.n_atoms)

    @property
    def kT(self) -> float:
        """Thermal energy in kJ/mol."""
        return thermal_energy(self.temperature_k)

    @property
    def net_charge(self) -> float | None:
        """Sum of the charges [e] of the first NonbondedForce; None without one."""
        forces = [f for f in self.openmm_system.getForces() if isinstance(f, openmm.NonbondedForce)]
        if not forces:
            return None
        charges = (forces[0].getParticleParameters(atom)[0] for atom in range(self.n_atoms))
        return sum(charge.value_in_unit(unit.elementary_charge) for charge in charges)

    @cached_property
    def mdtraj_topology(self) -> mdtraj.Topology:
        """The topology for MDTraj; particles without a chemical element become its virtual-site element."""
        return mdtraj.Topology.from_openmm(self.topology)

    @cached_property
    def labels(self) -> Labels:
        """Names of the atoms as the file has them."""
        return Labels(self.topology, self.names_in_file)

    @cached_property
    def bonds(self) -> tuple[tuple[int, int], ...]:
        """Bonded pairs ``i < j`` of the topology, sorted."""
        return tuple(sorted({tuple(sorted((a.index, b.index))) for a, b in self.topology.bonds()}))

    @cached_property
    def graph(self) -> nx.Graph:
        """The molecular graph; node attribute ``label`` tells chemically different particles apart."""
        graph = nx.Graph()
        for atom, label in zip(self.topology.atoms(), _particle_labels(self), strict=True):
            graph.add_node(atom.index, label=label)
        graph.add_edges_from(self.bonds)
        return graph

    @cached_property
    def atom_classes(self) -> NDArray[np.int64]:
        """Class index of every atom; atoms that a graph automorphism exchanges share a class.

        Classes are Weisfeiler-Lehman colours after ``n_atoms`` refinements (networkx).
        """
        rounds = min(self.n_atoms, 2 * int(math.sqrt(self.n_atoms)) + 8)
        hashes = nx.weisfeiler_lehman_subgraph_hashes(
            self.graph, node_attr="label", iterations=rounds, digest_size=16, include_initial_labels=True
        )
        colours = [hashes[i][-1] for i in range(self.n_atoms)]
        order = {colour: k for k, colour in enumerate(dict.fromkeys(colours))}
        return np.array([order[colour] for colour in colours])

    @cached_property
    def topological_distances(self) -> NDArray[np.int64]:
        """Bonds on the shortest path between atoms, ``(n_atoms, n_atoms)``; 0 where there is none."""
        distances = np.zeros((self.n_atoms, self.n_atoms), dtype=np.int64)
        for i, lengths in nx.all_pairs_shortest_path_length(self.graph):
            for j, length in lengths.items():
                distances[i, j] = length
        return distances


def _particle_labels(system: MolecularSystem) -> list[str]:
    """Element, mass and non-bonded parameters of every particle: what the force field tells apart."""
    labels = []
    for atom in system.topology.atoms():
        symbol = atom.element.symbol if atom.element is not None else atom.name
        mass = system.openmm_system.getParticleMass(atom.index).value_in_unit(unit.dalton)
        labels.append(f"{symbol}:{mass:.4f}")
    for force in system.openmm_system.getForces():
        if isinstance(force, openmm.NonbondedForce):
            for i in range(force.getNumParticles()):
                charge, sigma, epsilon = (
                    q.value_in_unit_system(unit.md_unit_system) for q in force.getParticleParameters(i)
                )
                labels[i] += f":{charge:.5f}:{sigma:.5f}:{epsilon:.5f}"
    return labels


def _refuse_unsuitable(system: MolecularSystem) -> None:
    """Raise for what has no density on the zero-centroid space of all atoms."""
    n, name, system_ = system.openmm_system.getNumParticles(), system.name, system.openmm_system
    if not isinstance(system.positions, np.ndarray):
        raise MolecularSystemError(
            name,
            "positions are no NumPy array",
            "give one in nm, such as pdb.getPositions(asNumpy=True)._value",
        )
    if system.topology.getNumAtoms() != n or system.positions.shape != (n, 3):
        raise MolecularSystemError(
            name,
            f"topology has {system.topology.getNumAtoms()} atoms and positions have shape "
            f"{system.positions.shape}, but the OpenMM System has {n} particles",
            "take all three from one structure",
        )
    if len(system.names_in_file) not in (0, n):
        raise MolecularSystemError(
            name, f"names_in_file names {len(system.names_in_file)} of {n} atoms", "name each, or none"
        )
    if n < 2:
        raise MolecularSystemError(name, "has fewer than two particles", "give a molecule")
    if not np.isfinite(system.positions).all():
        raise MolecularSystemError(
            name, "the reference configuration has positions that are not finite", "give a relaxed structure"
        )
    if not isinstance(system.temperature_k, numbers.Real):
        raise MolecularSystemError(
            name, f"temperature_k is {system.temperature_k!r}", "give a number of K, without a unit"
        )
    if not 0 < system.temperature_k < math.inf:
        raise MolecularSystemError(
            name, f"temperature_k is {system.temperature_k:g}", "give a positive one, in K"
        )
    if system_.usesPeriodicBoundaryConditions():
        raise MolecularSystemError(
            name, "periodic boxes are not supported", "use NoCutoff or CutoffNonPeriodic"
        )
    if system_.getNumConstraints():
        i, j, _ = system_.getConstraintParameters(0)
        atoms = list(system.topology.atoms())
        raise MolecularSystemError(
            name,
            f"the bond {system.labels.bond(atoms[i], atoms[j])} is constrained and has no density in "
            "Cartesian space",
            "build the System with constraints=None and rigidWater=False",
        )
    if any(system_.isVirtualSite(i) for i in range(n)):
        raise MolecularSystemError(name, "virtual sites are not supported", "use a model without them")
    massless = [i for i in range(n) if not system_.getParticleMass(i)._value > 0]
    if massless:
        raise MolecularSystemError(
            name, f"particle {massless[0]} has no mass and would never move", "give it one"
        )
    _refuse_unsuitable_variables(system)


def _refuse_unsuitable_variables(system: MolecularSystem) -> None:
    """Raise for collective variables of atoms that there are not, and for names given twice."""
    for what, named in (("collective variable", system.collective_variables), ("state", system.states)):
        names = [item.name for item in named]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise MolecularSystemError(system.name, f"the {what} {twice} is there twice", "rename one")
    for cv in (*system.collective_variables, *(state.cv for state in system.states)):
        if cv.atoms and not 0 <= min(cv.atoms) <= max(cv.atoms) < system.n_atoms:
            raise MolecularSystemError(
                system.name,
                f"collective variable {cv.name}: {list(cv.atoms)} does not fit",
                f"there are atoms 0 to {system.n_atoms - 1}",
            )
        if cv.reference and not cv.atoms and len(cv.reference) != system.n_atoms:
            raise MolecularSystemError(
                system.name,
                f"collective variable {cv.name}: its reference has {len(cv.reference)} positions",
                f"there are {system.n_atoms} atoms",
            )
