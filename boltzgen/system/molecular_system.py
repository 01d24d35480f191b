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
import torch
from numpy.typing import NDArray
from openmm import app, unit
from torch import Tensor

from boltzgen import geometry
from boltzgen.config.choices import CVKind
from boltzgen.errors import MolecularSystemError
from boltzgen.system.labels import Labels
from boltzgen.units import thermal_energy

LARGEST_ANGLE = 6.3
"""An interval of angles that reaches beyond this, a full turn, was meant in degrees."""
NEARLY_PI = 1e-3
"""How far beyond +-pi an end may be that was meant to be there."""
ATOMS_PER_KIND = {"torsion": 4, "angle": 3, "distance": 2}
"""The other kinds take any number of atoms from two, and all of them where none are named."""


@dataclass(frozen=True)
class CollectiveVariable:
    """A named function of the configuration: radians for torsions and angles, nm for the others.

    atoms
        Their indices from 0; none for all, where the kind takes any number.
    reference
        What an ``rmsd`` is measured from: positions [nm] of its atoms, one ``(x, y, z)`` each.
        `boltzgen.with_variables` takes them from the reference configuration of a system.
    """

    name: str
    kind: CVKind
    atoms: tuple[int, ...] = ()
    reference: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        number, wanted = len(self.atoms), ATOMS_PER_KIND.get(self.kind)
        if number != wanted and (wanted is not None or number == 1):
            article = "an" if self.kind in ("angle", "rmsd") else "a"
            raise MolecularSystemError(
                f"collective variable {self.name}",
                f"{article} {self.kind} takes {wanted or 'two or more'} atoms, not {number}",
                "name as many",
            )
        if (self.kind == "rmsd") != bool(self.reference) or number not in (0, len(self.reference) or number):
            raise MolecularSystemError(
                f"collective variable {self.name}",
                f"{len(self.reference)} reference positions do not fit",
                "give an rmsd one for each of its atoms, and other kinds none",
            )
        if len(set(self.atoms)) < len(self.atoms):
            raise MolecularSystemError(
                f"collective variable {self.name}",
                f"{list(self.atoms)} names an atom twice",
                "name each once",
            )

    @property
    def periodic(self) -> bool:
        """Whether values are equivalent modulo 2 pi."""
        return self.kind == "torsion"

    @property
    def unit(self) -> str:
        return "rad" if self.kind in ("torsion", "angle") else "nm"

    def evaluate(self, x: Tensor) -> Tensor:
        """Values with shape ``(n,)`` for configurations [nm] with shape ``(n, n_atoms, 3)``."""
        if self.kind not in ATOMS_PER_KIND:
            x = x[..., list(self.atoms), :] if self.atoms else x
            if self.kind == "rmsd":
                return geometry.rmsd(x, x.new_tensor(self.reference))
            return geometry.radius_of_gyration(x)
        function = {"torsion": geometry.torsion, "angle": geometry.angle, "distance": geometry.distance}
        return function[self.kind](x, self.atoms)

    def values(self, positions: NDArray[np.float32]) -> NDArray[np.float64]:
        """The same for a NumPy array."""
        return self.evaluate(torch.as_tensor(positions, dtype=torch.float64)).numpy()


@dataclass(frozen=True)
class State:
    """A named region: the union of half-open intervals ``[low, high)`` of one collective variable.

    Those of a torsion may reach across +-pi; they are kept as their parts in [-pi, pi).
    """

    name: str
    cv: CollectiveVariable
    intervals: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if not self.intervals:
            raise MolecularSystemError(
                f"state {self.name}", "has no intervals", "give at least one [low, high)"
            )
        for low, high in self.intervals:
            if not low < high:
                raise MolecularSystemError(
                    f"state {self.name}",
                    f"[{low:g}, {high:g}) is empty",
                    "give the lower end first, and let a region across +-pi go on beyond it, as [2.5, 3.8)",
                )
            if self.cv.unit == "rad" and any(LARGEST_ANGLE < abs(v) < math.inf for v in (low, high)):
                raise MolecularSystemError(
                    f"state {self.name}",
                    f"[{low:g}, {high:g}) is no region of an angle in radians",
                    "if degrees were meant, divide by 57.2958",
                )
        if self.cv.periodic:
            parts = [part for interval in self.intervals for part in _on_circle(*interval)]
            object.__setattr__(self, "intervals", tuple(parts))

    def contains(self, values: Tensor) -> Tensor:
        """Boolean ``(n,)`` for CV values ``(n,)``; torsions are compared in [-pi, pi)."""
        inside = torch.zeros_like(values, dtype=torch.bool)
        for low, high in self.intervals:
            inside |= (values >= low) & (values < high)
        return inside

    def members(self, positions: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Boolean ``(n,)`` for configurations [nm] with shape ``(n, n_atoms, 3)``."""
        return self.contains(self.cv.evaluate(torch.as_tensor(positions, dtype=torch.float64))).numpy()


def _on_circle(low: float, high: float) -> tuple[tuple[float, float], ...]:
    """``[low, high)`` of a torsion [rad] as its parts in [-pi, pi), or as given where it is one already."""
    below, beyond = (-math.inf < low < -math.pi - NEARLY_PI), (math.pi + NEARLY_PI < high < math.inf)
    turn = 2 * math.pi
    if below and beyond:
        return ((-math.pi, math.pi),)
    if below:
        return ((low + turn, high + turn),) if high <= -math.pi else ((low + turn, math.pi), (-math.pi, high))
    if beyond:
        return ((low - turn, high - turn),) if low >= math.pi else ((low, math.pi), (-math.pi, high - turn))
    return ((low, high),)


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
        What is reported. The first two states are those whose free-energy difference is printed.
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
