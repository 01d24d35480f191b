"""Every kind of force and expression that is compiled to torch, against OpenMM's Reference platform."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openmm
import pytest
import torch
from openmm import unit

from boltzgen.errors import UserError
from boltzgen.potential import potential_of_openmm
from boltzgen.potential.openmm import OpenMMEvaluator

N_ATOMS = 9
BOX = 0.6


def bare_system(*forces: openmm.Force) -> openmm.System:
    system = openmm.System()
    for _ in range(N_ATOMS):
        system.addParticle(12.0)
    for force in forces:
        system.addForce(force)
    return system


def configurations(n: int = 20) -> np.ndarray:
    """Random points at least 0.1 nm from each other, ``(n, N_ATOMS, 3)`` [nm]."""
    generator, frames = np.random.default_rng(3), []
    while len(frames) < n:
        frame = BOX * generator.random((N_ATOMS, 3))
        gaps = np.linalg.norm(frame[:, None] - frame, axis=-1) + np.eye(N_ATOMS)
        if gaps.min() > 0.1:
            frames.append(frame)
    return np.array(frames)


def assert_compiled(system: openmm.System) -> None:
    """The system is batched, and equals the Reference platform at random configurations."""
    x = torch.from_numpy(configurations())
    potential = potential_of_openmm(system, 300.0, configurations(1)[0])
    assert potential.backend == "batched", potential.reason
    energy, force = potential.energy_and_forces(x)
    exact_energy, exact_force = OpenMMEvaluator(system, "Reference").energy_and_forces(x)
    assert float(exact_energy.std()) > 0
    torch.testing.assert_close(energy, exact_energy, rtol=1e-9, atol=1e-6)
    scale = float(exact_force.abs().max())
    torch.testing.assert_close(force, exact_force, rtol=0, atol=1e-7 * scale)


def bonds(text: str, parameters: dict[str, float] | None = None) -> openmm.CustomBondForce:
    force = openmm.CustomBondForce(text)
    values = list((parameters or {}).values())
    for name in parameters or {}:
        force.addPerBondParameter(name)
    for i in range(N_ATOMS - 1):
        force.addBond(i, i + 1, [v * (1 + 0.1 * i) for v in values])
    return force


@pytest.mark.parametrize(
    "text",
    [
        "k*(r-or)^2; k=3; or=0.2",
        "-r^2 + 2^-r + r^3^0.5 - -r",
        "a^b; a=2*r; b=1+r",
        "(r-0.3)^3 + 1/(r+1)^5 + r^0.5 + (r-0.3)^0",
        "sqrt(r)+exp(r)+log(r)+sin(r)+cos(r)+tan(r)+asin(r/2)+acos(r/2)+atan(r)",
        "sec(r)+csc(r)+cot(r)+sinh(r)+cosh(r)+tanh(r)+erf(r)+erfc(r)+atan2(r,2*r)",
        "square(r)+cube(r)+recip(r)+min(r,0.3)+max(r,0.3)+abs(r-0.3)",
        "step(r-0.3)*r + floor(5*r) + ceil(5*r) + delta(r)",
        "select(step(r-0.3), sqrt(max(0,r-0.3)), r^2)",
        "select(0, 1, 2e-1*r) + 1.5E+1*r + .5*r",
        "c*r; c=d^2; d=e+1; e=3",
    ],
)
def test_the_expression_language_is_that_of_openmm(text: str) -> None:
    assert_compiled(bare_system(bonds(text)))


def test_a_branch_that_is_not_taken_does_not_spoil_the_forces() -> None:
    force = bonds("select(step(0.3-r), r^2, sqrt(r-0.3))")
    x = torch.from_numpy(configurations())
    _, forces = potential_of_openmm(bare_system(force), 300.0, backend="batched").energy_and_forces(x)
    assert float(forces.flatten(1).abs().sum(1).min()) > 0


@pytest.mark.parametrize(
    "text", ["r*unknown", "nothing(r)", "r +", "a; a=b; b=r r", "r if r else 2", "r.real"]
)
def test_what_cannot_be_read_falls_back_or_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match="expression") as caught:
        potential_of_openmm(bare_system(bonds(text)), 300.0, backend="batched")
    assert "\n" not in str(caught.value)


def table(dims: int, kind: str) -> openmm.TabulatedFunction:
    generator = np.random.default_rng(dims)
    sizes = [5, 6, 7][:dims]
    values = generator.random(sizes)
    if kind == "discrete":
        return getattr(openmm, f"Discrete{dims}DFunction")(
            *sizes[: dims if dims > 1 else 0], values.ravel("F")
        )
    periodic = kind == "periodic"
    if periodic:
        for axis in range(dims):
            values = np.concatenate([values, values.take([0], axis)], axis)
    limits = [v for _ in range(dims) for v in (0.05, 0.75)]
    shape = values.shape if dims > 1 else ()
    return getattr(openmm, f"Continuous{dims}DFunction")(*shape, values.ravel("F"), *limits, periodic)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("kind", ["discrete", "natural", "periodic"])
def test_tabulated_functions(dims: int, kind: str) -> None:
    arguments = ["r", "0.2+r/2", "0.7-r/3"][:dims]
    text = f"r^2 + f({','.join(f'4*({a})' if kind == 'discrete' else a for a in arguments)})"
    force = openmm.CustomNonbondedForce(text)
    force.addTabulatedFunction("f", table(dims, kind))
    for _ in range(N_ATOMS):
        force.addParticle()
    assert_compiled(bare_system(force))


def test_custom_angles_torsions_and_external_forces() -> None:
    angle = openmm.CustomAngleForce("k*(1-cos(theta-t0))")
    angle.addPerAngleParameter("k")
    angle.addGlobalParameter("t0", 1.9)
    torsion = openmm.CustomTorsionForce("k*min(dt,6.283185307-dt)^2; dt=abs(theta-0.5)")
    torsion.addPerTorsionParameter("k")
    external = openmm.CustomExternalForce("k*((x-0.1)^2+2*y^2+z^4)")
    external.addPerParticleParameter("k")
    for i in range(N_ATOMS - 3):
        angle.addAngle(i, i + 1, i + 2, [10.0 + i])
        torsion.addTorsion(i, i + 1, i + 2, i + 3, [5.0 + i])
        external.addParticle(i, [3.0 + i])
    assert_compiled(bare_system(angle, torsion, external))


def test_standard_bonded_forces_and_merged_torsions() -> None:
    bond, angle = openmm.HarmonicBondForce(), openmm.HarmonicAngleForce()
    torsion, rb = openmm.PeriodicTorsionForce(), openmm.RBTorsionForce()
    for i in range(N_ATOMS - 3):
        bond.addBond(i, i + 1, 0.15, 1000.0 + i)
        angle.addAngle(i, i + 1, i + 2, 1.9, 300.0 + i)
        for n, phase in ((1, 0.3), (2, np.pi), (6, -1.0)):
            torsion.addTorsion(i, i + 1, i + 2, i + 3, n, phase, 1.0 + n + i)
        rb.addTorsion(i, i + 1, i + 2, i + 3, *(0.5 * k - i for k in range(6)))
    assert_compiled(bare_system(bond, angle, torsion, rb, openmm.CMMotionRemover()))


def test_torsion_maps_of_two_sizes() -> None:
    force = openmm.CMAPTorsionForce()
    generator = np.random.default_rng(0)
    for size in (6, 8, 6):
        force.addMap(size, generator.random(size * size))
    for k, (i, j) in enumerate([(0, 1), (2, 4), (5, 3), (1, 5)]):
        force.addTorsion(k % 3, *range(i, i + 4), *range(j, j + 4))
    assert_compiled(bare_system(force))


def nonbonded(configure: Callable[[openmm.NonbondedForce], None]) -> openmm.NonbondedForce:
    force = openmm.NonbondedForce()
    for i in range(N_ATOMS):
        force.addParticle(0.2 * (i % 3 - 1), 0.12 + 0.005 * i, 0.3 + 0.1 * i)
    force.addException(0, 1, 0.0, 0.1, 0.0)
    force.addException(3, 2, 0.05, 0.11, 0.2)
    configure(force)
    return force


def with_cutoff(force: openmm.NonbondedForce) -> None:
    force.setNonbondedMethod(openmm.NonbondedForce.CutoffNonPeriodic)
    force.setCutoffDistance(0.4)
    force.setReactionFieldDielectric(50.0)


def with_switch(force: openmm.NonbondedForce) -> None:
    with_cutoff(force)
    force.setUseSwitchingFunction(True)
    force.setSwitchingDistance(0.25)


def with_offsets(force: openmm.NonbondedForce) -> None:
    force.addGlobalParameter("scale", 0.7)
    force.addParticleParameterOffset("scale", 4, 0.3, 0.02, 0.1)
    force.addExceptionParameterOffset("scale", 1, 0.1, 0.01, 0.2)


@pytest.mark.parametrize("configure", [lambda force: None, with_cutoff, with_switch, with_offsets])
def test_lennard_jones_and_coulomb(configure: Callable[[openmm.NonbondedForce], None]) -> None:
    assert_compiled(bare_system(nonbonded(configure)))


@pytest.mark.parametrize("variant", ["plain", "cutoff", "switch", "groups"])
def test_custom_nonbonded(variant: str) -> None:
    force = openmm.CustomNonbondedForce("scale*s*exp(-r/(a1+a2))*c1*c2; s=t(q1+q2)")
    force.addPerParticleParameter("a")
    force.addPerParticleParameter("q")
    force.addGlobalParameter("scale", 2.0)
    force.addComputedValue("c", "1+a*scale")
    force.addTabulatedFunction("t", openmm.Discrete1DFunction([1.0, 2.0, 4.0]))
    for i in range(N_ATOMS):
        force.addParticle([0.1 + 0.01 * i, i % 2])
    force.addExclusion(0, 1)
    force.addExclusion(5, 3)
    if variant in ("cutoff", "switch"):
        force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffNonPeriodic)
        force.setCutoffDistance(0.35)
    if variant == "switch":
        force.setUseSwitchingFunction(True)
        force.setSwitchingDistance(0.2)
    if variant == "groups":
        force.addInteractionGroup([0, 1, 2], [2, 3, 4, 5])
        force.addInteractionGroup([6], [7, 8])
    assert_compiled(bare_system(force))


@pytest.mark.parametrize("cutoff", [None, 0.4])
def test_gbsa_obc(cutoff: float | None) -> None:
    force = openmm.GBSAOBCForce()
    for i in range(N_ATOMS):
        force.addParticle(0.2 * (i % 3 - 1), 0.12 + 0.01 * (i % 4), 0.7 + 0.02 * i)
    if cutoff is not None:
        force.setNonbondedMethod(openmm.GBSAOBCForce.CutoffNonPeriodic)
        force.setCutoffDistance(cutoff)
    force.setSolventDielectric(60.0)
    assert_compiled(bare_system(force))


@pytest.mark.parametrize("cutoff", [None, 0.4])
def test_custom_gb_with_every_kind_of_value_and_term(cutoff: float | None) -> None:
    kinds = openmm.CustomGBForce
    force = kinds()
    force.addPerParticleParameter("q")
    force.addPerParticleParameter("s")
    force.addGlobalParameter("g", 0.8)
    force.addComputedValue("n", "s2*exp(-r/s1)", kinds.ParticlePair)
    force.addComputedValue("b", "1/(1+n*g)+0.1*x", kinds.SingleParticle)
    force.addComputedValue("d", "b^2+q", kinds.SingleParticle)
    force.addEnergyTerm("g*d*q + 3*z^2", kinds.SingleParticle)
    force.addEnergyTerm("q1*q2/sqrt(r^2+b1*b2)", kinds.ParticlePair)
    force.addEnergyTerm("d1*d2*exp(-r)", kinds.ParticlePairNoExclusions)
    for i in range(N_ATOMS):
        force.addParticle([0.3 * (i % 3 - 1), 0.1 + 0.01 * i])
    force.addExclusion(0, 1)
    if cutoff is not None:
        force.setNonbondedMethod(kinds.CutoffNonPeriodic)
        force.setCutoffDistance(cutoff)
    assert_compiled(bare_system(force))


def test_compound_bonds_of_distances_angles_dihedrals_and_coordinates() -> None:
    text = (
        "k*(distance(p1,p2)-0.2)^2 + t(angle(p1, p2, p3)) + cos(dihedral(p1,p2,p3,p4)) + y3^2*distance(p1,p4)"
    )
    force = openmm.CustomCompoundBondForce(4, text)
    force.addPerBondParameter("k")
    force.addTabulatedFunction("t", openmm.Continuous1DFunction([0.0, 1.0, 0.5, 2.0], 0.0, np.pi))
    for i in range(N_ATOMS - 3):
        force.addBond([i, i + 2, i + 1, i + 3], [2.0 + i])
    assert_compiled(bare_system(force))


def test_bonds_between_centroids_by_mass_and_by_given_weights() -> None:
    force = openmm.CustomCentroidBondForce(3, "k*distance(g1,g2)^2 + angle(g1,g2,g3) + x1*z2")
    force.addPerBondParameter("k")
    force.addGroup([0, 1, 2])
    force.addGroup([3, 4], [1.0, 3.0])
    force.addGroup([5, 6, 7, 8])
    force.addBond([0, 1, 2], [2.0])
    force.addBond([2, 0, 1], [3.0])
    system = bare_system(force)
    system.setParticleMass(1, 1.0)
    assert_compiled(system)


def test_several_forces_of_a_kind_and_forces_without_terms() -> None:
    empty = [openmm.HarmonicBondForce(), openmm.PeriodicTorsionForce(), openmm.CustomBondForce("r")]
    assert_compiled(bare_system(bonds("r^2"), bonds("k*r", {"k": 2.0}), *empty))


def virtual_site() -> openmm.System:
    system = bare_system(bonds("r^2"))
    system.setParticleMass(8, 0.0)
    system.setVirtualSite(8, openmm.TwoParticleAverageSite(0, 1, 0.5, 0.5))
    return system


def periodic() -> openmm.System:
    force = nonbonded(lambda force: force.setNonbondedMethod(openmm.NonbondedForce.PME))
    force.setCutoffDistance(0.9)
    return bare_system(force)


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (virtual_site, "virtual sites"),
        (periodic, "periodic NonbondedForce"),
        (lambda: bare_system(openmm.RMSDForce(configurations(1)[0])), "RMSDForce"),
    ],
)
def test_what_is_not_compiled_is_named_and_openmm_takes_over(
    build: Callable[[], openmm.System], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    system, x = build(), configurations(3)
    potential = potential_of_openmm(system, 300.0, x[0])
    assert potential.backend == "openmm"
    assert named in potential.reason
    assert named in caplog.text
    energy, _ = potential.energy_and_forces(torch.from_numpy(x))
    context = openmm.Context(system, openmm.VerletIntegrator(1 * unit.femtosecond))
    context.setPositions(x[0])
    expected = context.getState(energy=True).getPotentialEnergy()._value
    assert float(energy[0]) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(UserError, match=named):
        potential_of_openmm(system, 300.0, backend="batched")
