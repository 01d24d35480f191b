"""Inputs of the kinds that people report (tests/cases): each is used, or told for what it is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from boltzgen.config.load import load_workflow, naming_the_file
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.errors import UserError
from boltzgen.simulate.own_trajectories import load_trajectories
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system
from boltzgen.system.stereochemistry.domain import domain_of
from boltzgen.workflow.runner import check_input
from boltzgen.workflow.stage import EVERYTHING

CASES = Path(__file__).resolve().parents[1] / "cases"
Examined = tuple[MolecularSystem, WeightedEnsemble | None, list[str]]


def examined(case: str, tmp_path: Path) -> Examined:
    """What a run finds before its first stage: the system, own frames, and what is said."""
    workflow, base = load_workflow(str(CASES / case), quick=True)
    with naming_the_file(case, []):
        _, _, system = check_input(workflow, base, tmp_path / "run", EVERYTHING, 1)
        said = list(system.notices)
        frames = workflow.data.trajectory
        data = load_trajectories(system, workflow.data, base, said.append) if frames else None
    return system, data, said


REFUSED = {
    "05-duplicate-names/ethane_noconect.yaml": r"noconect.pdb: the file has no bonds of ETA 1.*; add",
    "07-missing-hydrogens/heavy.yaml": r"heavy.pdb: there are no hydrogens in ACE 1, ALA 2 and NME 3; add",
    "08-cyclic-d-residue/aaad_noconect.yaml": r"N of ALA 1 and C of ALA 4 are 0.134 nm apart and not",
    "11-amber-prmtop/prmtop_as_pdb.yaml": r"dipeptide.crd: is a file of Amber coordinates; .*\(prmtop\)",
    "12-trajectories/angstrom_in_xtc_xtc.yaml": r"_xtc.xtc: .*Angstrom stand where nm belong; divide",
    "12-trajectories/t400_dcd.yaml": r"t400.dcd: frames fit a temperature of (39|40)\d .*at 300 K; set",
    "12-trajectories/xtc_precision_100_xtc.yaml": r"xtc: positions are rounded to 0.01 nm.*lost",
    "20-distance-in-angstrom/angstrom.yaml": r"angstrom.yaml: states.bonded.intervals: .*if Angstrom",
    "20-distance-in-angstrom/angstrom2.yaml": r"angstrom2.yaml: states.bonded.intervals: .*if Angstrom",
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_line_that_names_the_cause(case: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=REFUSED[case]) as caught:
        examined(case, tmp_path)
    assert caught.value.remedy and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


SAID = {
    "02-names-of-the-file/indices.yaml": [],
    "05-duplicate-names/ethane.yaml": [r"atoms of ETA 1 share their names and are told apart"],
    "05-duplicate-names/ethane_unique.yaml": [],
    "08-cyclic-d-residue/aaad.yaml": [],
    "11-amber-prmtop/prmtop.yaml": [],
    "12-trajectories/good_dcd.yaml": [],
    "12-trajectories/models_misaligned_pdb.yaml": [r"as names agree"],
    "12-trajectories/restart_overlap_dcd.yaml": [r"100 of 700 frames were written twice .*; used once"],
    "12-trajectories/third_mirrored_dcd.yaml": [r"200 of 600 frames are mirror images .* reflected back"],
    "12-trajectories/weights_w_npy.yaml": [],
    "12-trajectories/weights_w_zeros_npy.yaml": [r"12 frames have weight zero and are left out"],
    "23-cmap-force-field/ff14.yaml": [],
    "23-cmap-force-field/ff19.yaml": [],
}


@pytest.mark.parametrize("case", SAID)
def test_what_is_used_and_said(case: str, tmp_path: Path) -> None:
    _, _, said = examined(case, tmp_path)
    assert len(said) == len(SAID[case])
    for line, pattern in zip(said, SAID[case], strict=True):
        assert re.search(pattern, line)


@pytest.mark.slow
def test_charmm36_takes_the_protein_and_says_so(tmp_path: Path) -> None:
    system, _, said = examined("23-cmap-force-field/charmm36.yaml", tmp_path)
    assert "fits ALAD and AANM of the force field; ALAD is taken" in said[0]
    assert "centre CA(8) -" in domain_of(system).description


def test_selections_by_the_names_of_the_file(tmp_path: Path) -> None:
    by_name, _, _ = examined("02-names-of-the-file/selection.yaml", tmp_path)
    atoms = list(by_name.topology.atoms())
    ends = next(cv for cv in by_name.collective_variables if cv.name == "ends")
    assert [(atoms[k].residue.name, by_name.names_in_file[k][1]) for k in ends.atoms] == [
        ("ACE", "CH3"),
        ("NME", "CH3"),
    ]
    hydrogen, _, _ = examined("02-names-of-the-file/selection_h.yaml", tmp_path)
    k = next(cv for cv in hydrogen.collective_variables if cv.name == "h").atoms[0]
    assert hydrogen.names_in_file[k][1] == "1HB"


def test_populations_of_mirrored_frames_are_those_of_the_good_ones(tmp_path: Path) -> None:
    system, good, _ = examined("12-trajectories/good_dcd.yaml", tmp_path)
    _, mirrored, _ = examined("12-trajectories/third_mirrored_dcd.yaml", tmp_path)
    _, overlapping, _ = examined("12-trajectories/restart_overlap_dcd.yaml", tmp_path)
    assert good is not None and mirrored is not None and overlapping is not None
    phi = system.collective_variables[0]
    expected = phi.values(good.positions)
    np.testing.assert_allclose(phi.values(mirrored.positions), expected, atol=1e-4)
    np.testing.assert_allclose(phi.values(overlapping.positions), expected, atol=1e-4)


def test_weights_are_used(tmp_path: Path) -> None:
    _, data, _ = examined("12-trajectories/weights_w_npy.yaml", tmp_path)
    weights = np.load(CASES / "12-trajectories" / "w.npy")
    assert data is not None
    np.testing.assert_allclose(np.exp(data.log_weights), weights)


@pytest.mark.parametrize(
    ("cases", "words"),
    [
        (
            [f"18-double-bond-and-ring-isomers/{name}14.yaml" for name in ("cis", "trans")],
            ["C2(1) -, centre C5(4) -", "C2(1) -, centre C5(4) +"],
        ),
        (
            [f"18-double-bond-and-ring-isomers/{name}_butene.yaml" for name in ("z", "e")],
            ["C2(1)-C3(2) cis", "C2(1)-C3(2) trans"],
        ),
        (
            [f"19-meso-and-symmetric/{name}.yaml" for name in ("rrr", "rrs")],
            ["C2(1) -, centre C4(4) +, centre C6(7) +", "C2(1) +, centre C4(4) +, centre C6(7) +"],
        ),
    ],
)
def test_isomers_are_named_and_are_two(cases: list[str], words: list[str], tmp_path: Path) -> None:
    domains = [domain_of(examined(case, tmp_path)[0]) for case in cases]
    for domain, named in zip(domains, words, strict=True):
        assert named in domain.description
    assert domains[0].key != domains[1].key


@pytest.mark.parametrize("coordinates", ["alanine-dipeptide.crd", "adp.rst7", "adp.ncrst"])
def test_amber_files_by_a_module(coordinates: str) -> None:
    path = str(CASES / "11-amber-prmtop" / "amber.py")
    system = load_system(path, {"coordinates": coordinates})
    assert system.n_atoms == 22 and system.notices == ()


def test_radii_of_another_solvent_model_are_told() -> None:
    system = load_system(str(CASES / "11-amber-prmtop" / "amber.py"), {"implicit_solvent": "GBn2"})
    assert "mbondi" in system.notices[0]
