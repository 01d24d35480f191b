"""`boltzgen new`: a workflow file for the files of a molecule, that runs as it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from boltzgen.config.load import load_workflow
from boltzgen.errors import UserError
from boltzgen.system.registry import build_system
from boltzgen.workflow.molecule_files import Wanted
from boltzgen.workflow.new import write_workflow

ROOT = Path(__file__).parents[3]
FORMATS = ROOT / "tests" / "data" / "formats"
PRMTOP = ROOT / "tests" / "cases" / "11-amber-prmtop" / "alanine-dipeptide.prmtop"
PDB = ROOT / "tests" / "cases" / "23-cmap-force-field" / "adp.pdb"
CHARMM = [FORMATS / f"charmm.{suffix}" for suffix in ("psf", "crd", "prm")]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "wanted", "told"),
    [
        ([PRMTOP, PRMTOP.with_suffix(".crd")], Wanted(), "implicit solvent: OBC2, as none was asked for"),
        ([FORMATS / "amber.gro", FORMATS / "amber.top"], Wanted(solvent="gbn2"), "implicit solvent: GBn2"),
        (CHARMM, Wanted(solvent="vacuum"), "implicit solvent: vacuum"),
        ([PDB], Wanted(), "force field: amber14-all.xml, implicit/obc2.xml"),
        ([PDB], Wanted(("amber99sbildn.xml",), temperature_k=310.0), "force field: amber99sbildn.xml"),
    ],
)
def test_a_file_that_runs_as_it_is(files: list[Path], wanted: Wanted, told: str) -> None:
    path, said = write_workflow("mine", files, wanted)
    assert said[0].startswith(told)
    workflow, base = load_workflow(str(path), quick=True)
    system = build_system(workflow, base)
    assert [cv.name for cv in system.collective_variables] == ["phi", "psi"]
    assert system.temperature_k == wanted.temperature_k and workflow.train.steps == 300
    with pytest.raises(UserError, match=r"mine.yaml: is there already; choose another name"):
        write_workflow("mine", files, wanted)


@pytest.mark.parametrize(
    ("name", "files", "wanted", "told"),
    [
        ("a/b", [PDB], Wanted(), "is no name"),
        ("a b", [PDB], Wanted(), "name"),
        ("mine", [PRMTOP], Wanted(), "comes without coordinates"),
        ("mine", [Path("absent.pdb")], Wanted(), "absent.pdb: no file of this name"),
        ("mine", [PDB], Wanted(solvent="tip3p"), "--solvent: unknown implicit_solvent tip3p; use one of"),
        ("mine", CHARMM, Wanted(("amber14-all.xml",)), "--forcefield: the files bring their parameters"),
        ("mine", [], Wanted(smiles="CCO", ph=3.0), "--ph: is for a PDB or a sequence; draw the molecule"),
        ("mine", [], Wanted(), "FILE: no file is given; give those of the molecule, --smiles or --sequence"),
        ("mine", [PDB], Wanted(sequence="ACE-NME"), "--sequence: and FILE both describe a molecule"),
    ],
)
def test_what_cannot_be_used_leaves_nothing(
    name: str, files: list[Path], wanted: Wanted, told: str, here: Path
) -> None:
    with pytest.raises(UserError) as caught:
        write_workflow(name, files, wanted)
    assert told in str(caught.value)
    assert list(here.iterdir()) == []


def test_the_command_writes_and_says(boltzgen: Callable[..., Any], here: Path) -> None:
    shutil.copy(PDB, here / "my.pdb")
    done = boltzgen(here, "new", "mine", "my.pdb", "--solvent", "gbn2", "--forcefield", "amber14-all.xml")
    assert done.returncode == 0
    assert "torsions found: phi, psi" in done.stdout and "next: boltzgen check mine.yaml" in done.stdout
    assert "files: [my.pdb]" in (here / "mine.yaml").read_text()
    assert "implicit/gbn2.xml" in (here / "mine.yaml").read_text()
    assert boltzgen(here, "new", "mine", "my.pdb").returncode == 2


def test_what_a_structure_lacks_is_put_in_and_said(here: Path) -> None:
    heavy = ROOT / "tests" / "cases" / "07-missing-hydrogens" / "heavy.pdb"
    path, said = write_workflow("mine", [heavy], Wanted())
    assert said[:2] == ["12 hydrogens put in at pH 7", "mine_prepared.pdb written"]
    assert build_system(*load_workflow(str(path))).n_atoms == 22
    path.unlink()
    with pytest.raises(UserError, match=r"mine_prepared.pdb: is there already"):
        write_workflow("mine", [heavy], Wanted())
    assert [file.name for file in here.iterdir()] == ["mine_prepared.pdb"]


def test_states_to_begin_with_are_of_the_first_torsion(here: Path) -> None:
    write_workflow("mine", [], Wanted(sequence="ACE-ALA-NME"))
    text = (here / "mine.yaml").read_text()
    assert "#   positive: {cv: phi, intervals: [[0.0, 3.1416]]}" in text
    states = text.split("# states:\n")[1].split("\n\n")[0].replace("#", "")
    (here / "mine.yaml").write_text(f"{text}\nstates:\n{states}\n")
    system = build_system(*load_workflow("mine.yaml"))
    assert [state.name for state in system.states] == ["positive", "negative"]


def test_names_of_files_that_yaml_would_read_otherwise(here: Path) -> None:
    shutil.copy(PDB, here / "no")
    shutil.copy(PDB, here / "my, #1: a.pdb")
    for number, name in enumerate(("no", "my, #1: a.pdb")):
        path, _ = write_workflow(f"mine{number}", [Path(name)])
        files = load_workflow(str(path))[0].system.parameters["files"]
        assert [Path(file).name for file in files] == [name]


def test_the_schema_is_that_of_workflow_files(boltzgen: Callable[..., Any], here: Path) -> None:
    schema = json.loads(boltzgen(here, "schema").stdout)
    assert {"system", "train", "sample", "quick"} <= schema["properties"].keys()
    assert schema["required"] == ["name", "system"]
