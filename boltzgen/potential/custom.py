"""OpenMM's custom forces, and GBSAOBCForce as one of them, as terms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from torch import Tensor

from boltzgen.potential.coordinates import DISTANCE, Frame, Pairs, Rows
from boltzgen.potential.expressions import Expression, Function, names_in
from boltzgen.potential.forces import COULOMB, angle_vectors, global_parameters, pairs_without, split
from boltzgen.potential.tables import tabulated
from boltzgen.potential.terms import Bend, Index, Layout, Site, Stretch, Term, Twist, column, summed

Array = NDArray[np.float64]
Parameters = dict[str, Array | float]


def custom_bonds(force: openmm.CustomBondForce, layout: Layout) -> list[Term]:
    """An expression of r per bond."""
    atoms, constants = _custom_rows(force, 2, "Bond")
    expression = _expression(force, constants, DISTANCE, layout)
    return [Stretch(layout.pairs(*atoms.T), expression)]


def custom_angles(force: openmm.CustomAngleForce, layout: Layout) -> list[Term]:
    """An expression of theta per angle."""
    atoms, constants = _custom_rows(force, 3, "Angle")
    expression = _expression(force, constants, ("theta",), layout)
    return [Bend(*angle_vectors(atoms, layout), expression)]


def custom_torsions(force: openmm.CustomTorsionForce, layout: Layout) -> list[Term]:
    """An expression of the dihedral theta per torsion."""
    atoms, constants = _custom_rows(force, 4, "Torsion")
    expression = _expression(force, constants, ("theta",), layout)
    return [Twist(layout.bonds(atoms), expression)]


def custom_external(force: openmm.CustomExternalForce, layout: Layout) -> list[Term]:
    """An expression of x, y, z per atom."""
    rows = [force.getParticleParameters(k) for k in range(force.getNumParticles())]
    atoms = np.array([row[0] for row in rows], dtype=np.int64)
    constants = global_parameters(force) | per_row(force, "Particle", [row[1] for row in rows])
    expression = _expression(force, constants, ("x", "y", "z"), layout)
    return [Site(layout.rows(atoms), expression)]


def custom_nonbonded(force: openmm.CustomNonbondedForce, layout: Layout) -> list[Term]:
    """An expression of r and both atoms' parameters over pairs."""
    i, j = _interacting_pairs(force, layout.n_atoms)
    functions = tabulated_functions(force)
    particles = per_row(
        force, "Particle", [force.getParticleParameters(k) for k in range(force.getNumParticles())]
    )
    constants: Parameters = dict(global_parameters(force))
    for k in range(force.getNumComputedValues()):
        name, text = force.getComputedValueParameters(k)
        columns = {key: column(value) for key, value in (constants | particles).items()}
        computed = Expression(text, columns, (), torch.empty(0, dtype=torch.float64), functions)()
        particles[name] = np.broadcast_to(computed.flatten().numpy(), layout.n_atoms)
    text = force.getEnergyFunction()
    if force.getNonbondedMethod() == openmm.CustomNonbondedForce.CutoffNonPeriodic:
        cutoff = force.getCutoffDistance()._value
        constants["_cutoff"] = cutoff
        factor = "step(_cutoff-r)"
        if force.getUseSwitchingFunction():
            on = force.getSwitchingDistance()._value
            constants |= {"_on": on, "_width": cutoff - on}
            text += "; _t=max(0,r-_on)/_width"
            factor += "*(1+_t^3*(-10+_t*(15-6*_t)))"
        text = _times(factor, text)
    constants |= _of_pairs(particles, i, j)
    return [Stretch(layout.pairs(i, j), layout.expression(text, constants, DISTANCE, functions))]


def _times(factor: str, text: str) -> str:
    main, *definitions = text.split(";")
    return ";".join([f"{factor}*({main})", *definitions])


def _interacting_pairs(force: openmm.CustomNonbondedForce, n_atoms: int) -> tuple[Index, Index]:
    """Pairs of the interaction groups, or all of them, without the excluded ones."""
    excluded = _excluded(force)
    if not force.getNumInteractionGroups():
        return pairs_without(n_atoms, excluded)
    pairs: set[tuple[int, int]] = set()
    for k in range(force.getNumInteractionGroups()):
        first, second = force.getInteractionGroupParameters(k)
        pairs |= {(min(a, b), max(a, b)) for a in first for b in second if a != b}
    i, j = np.array(sorted(pairs - excluded), dtype=np.int64).reshape(-1, 2).T
    return i, j


@dataclass(frozen=True)
class Born:
    """Per-atom values computed one from another, and an energy of them (CustomGBForce).

    The first value may sum an expression over pairs, ``value_i = sum_j f(r, parameters_i, parameters_j)``:
    ``pair_value`` holds its name, the pairs, their ends (first atoms, then second ones), and f at either.
    """

    atoms: Rows
    pair_value: tuple[str, Pairs, Rows, Expression, Expression] | None
    values: list[tuple[str, Expression]]
    single_energies: list[Expression]
    pair_energies: list[tuple[Pairs, Rows, Expression]]

    def __call__(self, frame: Frame) -> Tensor:
        x, y, z = self.atoms.take(frame.x).unbind(1)
        known = {"x": x, "y": y, "z": z}
        if self.pair_value is not None:
            name, pairs, ends, *towards = self.pair_value
            distance = frame.separation(pairs)
            both = [expression(**distance).expand_as(distance["r"]) for expression in towards]
            known[name] = ends.add_up(torch.cat(both))
        for name, expression in self.values:
            known[name] = expression(**known).expand_as(x)
        energy = sum(summed(expression(**known), len(x), frame) for expression in self.single_energies)
        for pairs, ends, expression in self.pair_energies:
            used = names_in(expression.text)
            values: dict[str, Tensor] = {}
            for name in known:
                if used & {f"{name}1", f"{name}2"}:
                    values[f"{name}1"], values[f"{name}2"] = ends.take(known[name]).chunk(2)
            pair_energy = expression(**frame.separation(pairs), **values)
            energy = energy + summed(pair_energy, len(pairs), frame)
        return energy + frame.x.new_zeros(frame.x.shape[-1])


def custom_gb(force: openmm.CustomGBForce, layout: Layout) -> list[Term]:
    """Computed values and energy terms, over all pairs or all but the excluded ones."""
    cutoff = None
    if force.getNonbondedMethod() == openmm.CustomGBForce.CutoffNonPeriodic:
        cutoff = force.getCutoffDistance()._value
    particles = per_row(
        force, "Particle", [force.getParticleParameters(k) for k in range(force.getNumParticles())]
    )
    values = [tuple(force.getComputedValueParameters(k)) for k in range(force.getNumComputedValues())]
    energies = [tuple(force.getEnergyTermParameters(k)) for k in range(force.getNumEnergyTerms())]
    constants: Parameters = dict(global_parameters(force))
    return [
        born(
            BornNotation(
                values,
                energies,
                particles,
                constants,
                _excluded(force),
                cutoff,
                tabulated_functions(force),
            ),
            layout,
        )
    ]


@dataclass(frozen=True)
class BornNotation:
    """Computed values and energy terms, as text with their kinds, in CustomGBForce's notation."""

    values: list[tuple[str, str, int]]
    energies: list[tuple[str, int]]
    particles: Parameters
    constants: Parameters
    excluded: set[tuple[int, int]] = field(default_factory=set)
    cutoff: float | None = None
    functions: dict[str, Function] = field(default_factory=dict)


def born(given: BornNotation, layout: Layout) -> Born:
    """The term of a list of computed values and energy terms."""
    particles, constants, cutoff, functions = given.particles, given.constants, given.cutoff, given.functions
    single = openmm.CustomGBForce.SingleParticle
    with_exclusions = openmm.CustomGBForce.ParticlePair
    known: list[str] = []
    pair_value, chain = None, []
    in_pairs = {
        kind: pairs_without(layout.n_atoms, given.excluded if kind == with_exclusions else set())
        for kind in (with_exclusions, openmm.CustomGBForce.ParticlePairNoExclusions)
    }

    def of_pairs(text: str, kind: int, swapped: bool = False) -> tuple[Pairs, Rows, Expression]:
        i, j = in_pairs[kind]
        own = constants | (_of_pairs(particles, j, i) if swapped else _of_pairs(particles, i, j))
        if cutoff is not None:
            text, own = _times("step(_cutoff-r)", text), own | {"_cutoff": cutoff}
        variables = (*DISTANCE, *(f"{name}{k}" for name in known for k in "12"))
        expression = layout.expression(text, own, variables, functions)
        return layout.pairs(i, j), layout.rows(np.concatenate([i, j])), expression

    for name, text, kind in given.values:
        if kind == single:
            expression = layout.expression(text, constants | particles, ("x", "y", "z", *known), functions)
            chain.append((name, expression))
        else:
            pair_value = name, *of_pairs(text, kind), of_pairs(text, kind, swapped=True)[-1]
        known.append(name)
    variables = ("x", "y", "z", *known)
    return Born(
        layout.rows(np.arange(layout.n_atoms)),
        pair_value,
        chain,
        [
            layout.expression(text, constants | particles, variables, functions)
            for text, kind in given.energies
            if kind == single
        ],
        [of_pairs(text, kind) for text, kind in given.energies if kind != single],
    )


def gbsa_obc(force: openmm.GBSAOBCForce, layout: Layout) -> list[Term]:
    """Onufriev-Bashford-Case implicit solvent (OBC2) with OpenMM's surface-area term.

    Source: Onufriev, Bashford, Case, Proteins 55, 383 (2004); surface area: Schaefer, Bartels, Karplus,
    J. Mol. Biol. 284, 835 (1998).
    """
    rows = [force.getParticleParameters(k) for k in range(force.getNumParticles())]
    _, columns = split(rows, 0)
    charge, radius, scale = columns.T
    offset_radius = radius - 0.009
    particles: Parameters = {
        "charge": charge,
        "radius": radius,
        "or": offset_radius,
        "sr": scale * offset_radius,
    }
    constants: Parameters = {
        "prefactor": -COULOMB * (1 / force.getSoluteDielectric() - 1 / force.getSolventDielectric()),
        "surface": 4 * np.pi * force.getSurfaceAreaEnergy()._value,
    }
    cutoff = None
    if force.getNonbondedMethod() == openmm.GBSAOBCForce.CutoffNonPeriodic:
        cutoff = force.getCutoffDistance()._value
    shift = "" if cutoff is None else f"-1/{cutoff!r}"
    single = openmm.CustomGBForce.SingleParticle
    pair = openmm.CustomGBForce.ParticlePairNoExclusions
    values = [
        (
            "I",
            "0.5*(l-u)*(1-0.25*(r-sr2^2/r)*(l+u)) + 0.25*log(L/U)/r + step((sr2-or1)-r)*(1/or1-l);"
            "l=1/L; u=1/U; U=max(or1,r+sr2); L=max(or1,abs(r-sr2))",
            pair,
        ),
        ("C", "1/or-tanh(psi-0.8*psi^2+4.85*psi^3)/radius; psi=I*or", single),
    ]
    energies = [
        ("0.5*prefactor*charge^2*C + surface*(radius+0.14)^2*(radius*C)^6", single),
        (f"prefactor*charge1*charge2*(1/f{shift}); f=sqrt(r^2+exp(-0.25*r^2*s)/s); s=C1*C2", pair),
    ]
    return [born(BornNotation(values, energies, particles, constants, cutoff=cutoff), layout)]


def _custom_rows(force: openmm.Force, n_atoms: int, kind: str) -> tuple[Index, Parameters]:
    count = getattr(force, f"getNum{kind}s")()
    rows = [getattr(force, f"get{kind}Parameters")(k) for k in range(count)]
    atoms = np.array([row[:n_atoms] for row in rows], dtype=np.int64)
    return atoms, global_parameters(force) | per_row(force, kind, [row[n_atoms] for row in rows])


def per_row(force: openmm.Force, kind: str, values: Iterable[tuple[float, ...]]) -> Parameters:
    """Per-row parameters by name."""
    count = getattr(force, f"getNumPer{kind}Parameters")()
    names = [getattr(force, f"getPer{kind}ParameterName")(k) for k in range(count)]
    return dict(zip(names, np.array(list(values), dtype=np.float64).T, strict=False))


def _of_pairs(particles: Parameters, i: Index, j: Index) -> Parameters:
    """Both atoms' parameters for each pair, under the names with 1 and 2 appended."""
    first: Parameters = {f"{name}1": np.asarray(value)[i] for name, value in particles.items()}
    return first | {f"{name}2": np.asarray(value)[j] for name, value in particles.items()}


def _excluded(force: openmm.CustomNonbondedForce | openmm.CustomGBForce) -> set[tuple[int, int]]:
    pairs = [force.getExclusionParticles(k) for k in range(force.getNumExclusions())]
    return {(min(a, b), max(a, b)) for a, b in pairs}


def tabulated_functions(force: openmm.Force) -> dict[str, Function]:
    """The force's tabulated functions by name."""
    if not hasattr(force, "getNumTabulatedFunctions"):
        return {}
    count = force.getNumTabulatedFunctions()
    names = [force.getTabulatedFunctionName(k) for k in range(count)]
    return {name: tabulated(force.getTabulatedFunction(k)) for k, name in enumerate(names)}


def _expression(
    force: openmm.Force, constants: Parameters, variables: tuple[str, ...], layout: Layout
) -> Expression:
    return layout.expression(force.getEnergyFunction(), constants, variables, tabulated_functions(force))
