"""Molecules out of their water, ions and boxes: the forces of what is left are those that it had."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmmtools.testsystems import get_data_filename

from boltzgen.errors import MolecularSystemError
from boltzgen.system.builders.build import from_files
from boltzgen.system.builders.inputs import InputOptions
from boltzgen.system.builders.parts import part_of_system, put_together
from boltzgen.system.builders.structures import Structure

FORMATS = Path(__file__).parents[2] / "data" / "formats"
EXPLICIT = "data/alanine-dipeptide-explicit/alanine-dipeptide"
WET = [Path(get_data_filename(f"{EXPLICIT}.{suffix}")) for suffix in ("prmtop", "crd")]
TOP, GRO = FORMATS / "amber.top", FORMATS / "amber.gro"
CHARMM = [FORMATS / f"charmm.{suffix}" for suffix in ("psf", "crd", "prm")]


def energies(system: openmm.System, positions: np.ndarray) -> dict[str, float]:
    """Energy [kJ/mol] of each kind of force."""
    for group, force in enumerate(system.getForces()):
        force.setForceGroup(group)
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(positions)
    found: dict[str, float] = defaultdict(float)
    for group, force in enumerate(system.getForces()):
        energy = context.getState(energy=True, groups={group}).getPotentialEnergy()
        found[type(force).__name__] += energy.value_in_unit(openmm.unit.kilojoule_per_mole)
    return dict(found)


@pytest.mark.parametrize("solvent", ["vacuum", "OBC2", "GBn2"])
def test_a_prmtop_with_water(solvent: str) -> None:
    """The same force field as the topology of the molecule alone, by another reader."""
    ours = from_files(WET, "wet", options=InputOptions(solvent))
    theirs = from_files([TOP, GRO], "dry", options=InputOptions(solvent))
    expected = energies(theirs.openmm_system, ours.positions)
    assert energies(ours.openmm_system, ours.positions) == pytest.approx(expected, rel=1e-5)
    told = " ".join(ours.notices)
    assert "749 molecules of water are left out" in told and "now there is none" in told
    assert ("radii are mbondi3, with which GBn2 was fitted" in told) == (solvent == "GBn2")


def test_water_needs_a_solvent_in_its_place() -> None:
    with pytest.raises(
        MolecularSystemError, match=r"749 molecules of water; name an implicit solvent \(vacuum"
    ):
        from_files(WET, "wet")


GB = InputOptions("GBn2", nonbonded_cutoff_nm=1.5)


@pytest.mark.parametrize("files", [[TOP, GRO], CHARMM])
def test_terms_keep_their_particles(files: list[Path]) -> None:
    """All atoms in another order: every kind of force that readers make, and the same energies."""
    whole = from_files(files, "whole", options=GB)
    order = np.random.default_rng(0).permutation(whole.n_atoms).tolist()
    part = part_of_system(whole.openmm_system, order)
    expected = energies(whole.openmm_system, whole.positions)
    assert len(expected) > 4 and energies(part, whole.positions[order]) == pytest.approx(expected, rel=1e-9)


def test_forces_of_which_no_part_is_known() -> None:
    system = openmm.System()
    system.addParticle(1.0)
    system.addForce(openmm.CustomManyParticleForce(3, "0"))
    with pytest.raises(ValueError, match="it has a CustomManyParticleForce, of which no part can be taken"):
        part_of_system(system, [0])


def test_virtual_sites_stay_a_reason() -> None:
    system = openmm.System()
    for mass in (1.0, 1.0, 0.0):
        system.addParticle(mass)
    system.setVirtualSite(2, openmm.TwoParticleAverageSite(0, 1, 0.5, 0.5))
    assert part_of_system(system, [0, 1]).getNumParticles() == 2
    with pytest.raises(ValueError, match="virtual sites"):
        part_of_system(system, [0, 1, 2])


@pytest.mark.parametrize(
    "box", [np.diag([2.0, 2.5, 3.0]), np.array([[3.0, 0, 0], [1.0, 2.8, 0], [-1.0, 1.2, 2.5]])]
)
def test_what_a_box_parts_is_put_together(box: np.ndarray) -> None:
    molecule = from_files([TOP, GRO], "my")
    x = molecule.positions + 0.1
    cells = np.random.default_rng(0).integers(-1, 2, size=x.shape)
    parted = Structure(molecule.topology, x + cells @ box)
    assert put_together(parted, box)
    apart = parted.positions - x
    assert np.abs(apart - apart[0]).max() < 1e-9
    assert not put_together(parted, box)


def test_a_parted_molecule_of_a_gro_file(tmp_path: Path) -> None:
    lines = GRO.read_text().splitlines()
    moved = [
        f"{line[:20]}{float(line[20:28]) + 3.0 * (k % 2):8.3f}{line[28:]}"
        for k, line in enumerate(lines[2:-1])
    ]
    path = tmp_path / "parted.gro"
    path.write_text("\n".join([*lines[:2], *moved, "   3.00000   3.00000   3.00000", ""]))
    parted = from_files([TOP, path], "my", options=InputOptions("vacuum"))
    assert "was parted by its periodic box and is put together" in " ".join(parted.notices)
    whole = from_files([TOP, GRO], "my", options=InputOptions("vacuum"))
    one, other = (sum(energies(s.openmm_system, s.positions).values()) for s in (parted, whole))
    assert one == pytest.approx(other, abs=0.01)
