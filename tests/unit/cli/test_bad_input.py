"""Wrong input of every kind: one line, exit status 2, no traceback, and nothing is written."""

from __future__ import annotations

import json
import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import mdtraj
import numpy as np
import pytest
import torch
import yaml
from helpers.stages import changed, none_started
from openmm import app, unit

from boltzgen.cli import main
from boltzgen.config.load import load_workflow
from boltzgen.errors import ConfigError
from boltzgen.potential.platforms import installed_platforms
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.registry import load_system
from boltzgen.workflow.stage import Run, Stage
from boltzgen.workflow.stages import stage_named

Refused = Callable[..., str]


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Refused]:
    """Run the command in ``tmp_path`` and return the one line it says; everything stays as it was."""

    def run(*arguments: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["boltzgen", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        errors = capfd.readouterr().err
        assert caught.value.code == 2, errors
        assert "Traceback" not in errors
        lines = errors.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("boltzgen: "), errors
        assert not (tmp_path / "runs").exists()
        assert sorted(tmp_path.rglob("*")) == before
        return lines[0]

    with none_started():
        yield run


def overrides(*assignments: str) -> list[str]:
    return [word for assignment in assignments for word in ("--set", assignment)]


# ---- settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("seed=-1", "seed: is -1; it should be greater than or equal to 0"),
        ("device=gpu", "device: is 'gpu'; it should be 'auto', 'cpu' or 'cuda'"),
        ("name=a/b", "name: "),
        ("system.parameters=[3]", "system.parameters: "),
        ("data.stride=0", "data.stride: "),
        ("data.skip_frames=-1", "data.skip_frames: "),
        ("data.trajectory=md.dcd", "data.trajectory: is 'md.dcd'; it should be a list in brackets"),
        ("simulate.method=metadynamics", "simulate.method: "),
        ("simulate.timestep_fs=0", "simulate.timestep_fs: is 0; it should be greater than 0"),
        (
            "simulate.timestep_fs=2000",
            "simulate.timestep_fs: is 2000; it should be less than or equal to 100",
        ),
        ("simulate.timestep_fs=.nan", "simulate.timestep_fs: "),
        ("simulate.timestep_fs=2 fs", "simulate.timestep_fs: is '2 fs'; it should be a valid number"),
        ("simulate.friction_per_ps=-1", "simulate.friction_per_ps: "),
        ("simulate.n_runs=0", "simulate.n_runs: "),
        ("simulate.n_temperatures=0", "simulate.n_temperatures: "),
        ("simulate.temperature_ratio=1", "simulate.temperature_ratio: is 1; it should be greater than 1"),
        ("simulate.equilibration_ps=-3", "simulate.equilibration_ps: "),
        ("simulate.production_ps=.inf", "simulate.production_ps: "),
        ("simulate.swap_interval_ps=0", "simulate.swap_interval_ps: "),
        ("model.n_layers=0", "model.n_layers: "),
        ("model.l_max=9", "model.l_max: "),
        ("model.prior=harmonic", "model.prior: "),
        ("model.sigma_min_nm=0", "model.sigma_min_nm: "),
        ("train.steps=0", "train.steps: "),
        ("train.steps=yes", "train.steps: is 'yes'; it should be a valid integer"),
        ("train.steps=true", "train.steps: is true; a number or a word is wanted"),
        ("train.minutes=-1", "train.minutes: "),
        ("train.batch_size=2.5", "train.batch_size: "),
        ("train.learning_rate=0", "train.learning_rate: "),
        ("train.levels_per_sample=1", "train.levels_per_sample: "),
        ("train.held_out_fraction=0.7", "train.held_out_fraction: is 0.7; it should be less than 0.5"),
        ("train.min_state_weight=2", "train.min_state_weight: "),
        ("train.stepz=3", "train.stepz: unknown key; did you mean train.steps?"),
        ("sample.n_particles=-5", "sample.n_particles: "),
        ("sample.n_levels=0", "sample.n_levels: "),
        ("sample.n_pilot=1", "sample.n_pilot: is 1; it should be greater than or equal to 2"),
        ("sample.n_forward=0", "sample.n_forward: "),
        ("sample.bridge_cess=1", "sample.bridge_cess: "),
        ("sample.resample_below=0", "sample.resample_below: "),
        ("sample.temperature_k=-10", "sample.temperature_k: "),
        ("sample.chunk_size=0", "sample.chunk_size: "),
        ("sample.kernel=ddmp", "sample.kernel: "),
        ("analyze.n_bootstrap=1", "analyze.n_bootstrap: "),
        ("analyze.n_bins=0", "analyze.n_bins: "),
        ("export.formats=[]", "export.formats: "),
        ("export.formats=[trr]", "export.formats.0: is 'trr'; it should be 'dcd', 'xtc', 'pdb'"),
        ("export.n_resampled=0", "export.n_resampled: "),
    ],
)
def test_settings_out_of_range(refused: Refused, assignment: str, expected: str) -> None:
    assert f"command line: {expected}" in refused("run", "harmonic_dimer", *overrides(assignment))


PT = "simulate.method=parallel_tempering"


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["sample.n_islands=8", "sample.n_particles=4"], "8 populations cannot share 4 particles"),
        (["model.sigma_min_nm=0.5", "model.sigma_max_nm=0.1"], "0.5 nm is not below model.sigma_max_nm"),
        (["simulate.timestep_fs=1.5"], "frame_interval_ps: 0.1 ps is no whole number of steps of 1.5 fs"),
        (
            ["simulate.frame_interval_ps=0.0004"],
            "no whole number of steps of 1 fs (simulate.timestep_fs); use",
        ),
        ([PT, "simulate.swap_interval_ps=0.0004"], "swap_interval_ps: 0.0004 ps is no whole number of steps"),
        ([PT, "simulate.frame_interval_ps=0.3"], "make one a multiple of the other"),
        (["simulate.production_ps=0.05"], "0.05 ps is shorter than the 0.1 ps between frames"),
        (["simulate.n_runs=1", "simulate.production_ps=0.5"], "leaves 5 frames to train on, at least 10"),
        ([PT, "simulate.n_temperatures=40"], "40 temperatures with temperature_ratio 1.25 reach 1.8"),
        ([PT, "simulate.n_temperatures=40000"], "40000 temperatures with temperature_ratio 1.25 reach"),
        (["simulate.frame_interval_ps=1e308", "simulate.timestep_fs=1e-9"], "no whole number of steps"),
        (["data.weights=w.npy"], "data.weights: is for trajectories of your own"),
        (["data.stride=5"], "data.stride: is for trajectories of your own"),
        (["data.trajectory=[a.dcd, a.dcd]"], "a.dcd is named 2 times"),
        (["data.trajectory=[a.dcd]", "pretrained=alanine_dipeptide_b"], "drop one of the two"),
        (["data.trajectory=[none.dcd]"], "data.trajectory[0]: no file"),
        (["pretrained=nowhere"], "pretrained: no model nowhere comes with boltzgen"),
        (
            ["pretrained=alanine_dipeptide_b"],
            "is a model of alanine_dipeptide/B at 300 K, not of harmonic_dimer",
        ),
        (["simulate.production_ps=1e13"], "most of it in simulate, where "),
        (["sample.n_particles=1000000000000", "export.formats=[xtc]"], "most of it in "),
        (["export.select=name =="], "export.select: MDTraj does not understand 'name =='"),
        (["export.align=name nothing"], "export.align: 'name nothing' selects no atom"),
    ],
)
def test_settings_that_cannot_work_together(refused: Refused, assignments: list[str], expected: str) -> None:
    assert expected in refused("run", "harmonic_dimer", *overrides(*assignments))


def test_a_step_that_is_too_long_for_a_bond(refused: Refused) -> None:
    by_openmm = ("simulate.method=parallel_tempering", "simulate.bias=[]", "simulate.timestep_fs=4")
    line = refused("run", "alanine_dipeptide", *overrides(*by_openmm))
    assert "alanine_dipeptide" in line or "command line" in line
    assert "simulate.timestep_fs: steps of 4 fs are too long for the bond N - H of NME 3" in line
    of_one_mass = ("simulate.method=flat_histogram", "simulate.timestep_fs=6.25")
    line = refused("run", "alanine_dipeptide", *overrides(*of_one_mass))
    assert "steps of 6.25 fs are too long for the bond C - O of" in line


def test_memory_that_is_not_there(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from boltzgen.workflow import preflight

    class Little:
        available = 1e5

    monkeypatch.setattr(preflight.psutil, "virtual_memory", Little)
    line = refused("run", "harmonic_dimer", *overrides("simulate.production_ps=10000"))
    assert "memory: simulate needs at least" in line and "lower simulate.production_ps" in line
    (tmp_path / "long.dcd").write_bytes(bytes(200_000))
    assert "give fewer frames" in refused("run", "harmonic_dimer", *overrides("data.trajectory=[long.dcd]"))
    Little.available = 1e6
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    line = refused("run", "harmonic_dimer", *overrides("simulate.production_ps=100", "model.n_channels=64"))
    assert "memory: train needs at least 10 MB" in line and "OMP_NUM_THREADS" in line


def test_a_training_step_needs_room_for_the_parts_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """55 particles: 2.6 GiB were measured on two cores; larger batches take more rounds but no more room."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    needed = {}
    for batch in (128, 4096):
        workflow, base = load_workflow("lj55", [f"train.batch_size={batch}"])
        system = load_system("lj55")
        needed[batch] = stage_named("train").memory(Run(workflow, base, base, "cpu", system, print))
    assert 1e9 < needed[128] < 2.6 * 2**30
    assert needed[4096] == needed[128]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_cuda(refused: Refused) -> None:
    assert "torch sees no CUDA device" in refused("run", "harmonic_dimer", "--device", "cuda")


# ---- workflow files ----------------------------------------------------------------------------------

MINIMAL = "name: mine\nsystem: {name: harmonic_dimer}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "mine.yaml: is empty"),
        ("# nothing\n", "mine.yaml: is empty"),
        ("just words\n", "is text, not a workflow"),
        ("- a\n- b\n", "is a list, not a workflow"),
        ("name: [\n", "mine.yaml, line 1: a bracket that opens here is not closed"),
        ("name: mine\n\tsystem: lj13\n", "mine.yaml, line 2: starts with a tab"),
        (MINIMAL + "seed: 1\nseed: 2\n", "mine.yaml, line 4: seed is given twice"),
        ("name: mine\n", "mine.yaml: system: missing"),
        ("name: mine\nsystem: harmonic_dimer\n", "mine.yaml: system: "),
        ("name: mine\nsystem: {name: harmonic_dimr}\n", "did you mean harmonic_dimer?"),
        (MINIMAL + "trian: {steps: 3}\n", "trian: unknown key; did you mean train?"),
        (MINIMAL + "1: 2\n", "mine.yaml: "),
        (MINIMAL + "quick: 3\n", "mine.yaml: quick: is no list of settings by stage"),
        (
            MINIMAL + "quick: {train: {setps: 3}}\n",
            "quick: train.setps: unknown key; did you mean train.steps?",
        ),
        (MINIMAL + "quick: {train: {steps: -3}}\n", "quick: train.steps: "),
        (MINIMAL + "quick: {tran: {steps: 3}}\n", "quick: tran: unknown key"),
        (MINIMAL + "states: {a: {cv: bond}}\n", "mine.yaml: states.a.intervals: missing"),
        (
            MINIMAL + "states: {a: {cvs: b}}\n",
            "mine.yaml: states.a.cvs: unknown key; known here: cv, intervals",
        ),
        (MINIMAL + "colective_variables: {}\n", "unknown key; did you mean collective_variables?"),
        (MINIMAL + "sample: {n_islands: 9, n_particles: 3}\n", "mine.yaml: sample.n_islands: "),
    ],
)
def test_workflow_files(refused: Refused, tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    assert expected in refused("run", "mine.yaml")


@pytest.mark.skipif("HIP" in installed_platforms(), reason="OpenMM has HIP here")
def test_a_platform_that_is_not_installed(refused: Refused) -> None:
    line = refused("run", "harmonic_dimer", "--set", "simulate.platform=HIP")
    assert "simulate.platform: OpenMM has no HIP on this machine; use auto" in line
    assert "use auto for the fastest, batched" in line
    assert "it should be 'auto', 'batched', 'Reference'" in refused(
        "run", "harmonic_dimer", "--set", "simulate.platform=cpu"
    )


def test_what_is_no_workflow_file(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00name")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.yaml").touch()
    assert "cannot be read as UTF-8" in refused("run", "binary.yaml")
    assert "folder.yaml: is a directory" in refused("run", "folder.yaml")
    assert "did you mean old/config.yaml?" in refused("run", "old")
    assert "no such workflow file" in refused("run", "nowhere.yaml")
    assert "did you mean harmonic_dimer?" in refused("run", "harmonic_dimr")
    assert "WORKFLOW: none given" in refused("run")


def test_a_run_directory_does_not_hide_the_workflow_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "harmonic_dimer").mkdir()
    monkeypatch.chdir(tmp_path)
    settings, _ = load_workflow("harmonic_dimer")
    assert settings.name == "harmonic_dimer"


# ---- systems in Python -------------------------------------------------------------------------------

SYSTEM = """
import numpy as np
import openmm
from boltzgen import CollectiveVariable, MolecularSystem, State
from boltzgen.systems.harmonic import build_chain


def build(temperature_k=300.0, required=None):
    chain = build_chain(3)
    system, positions, cvs, states = chain.openmm_system, chain.positions, (), ()
    {change}
    return MolecularSystem(
        name="mine", topology=chain.topology, openmm_system=system, positions=positions,
        temperature_k=temperature_k, collective_variables=cvs, states=states,
    )
"""


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("system.addConstraint(0, 1, 0.2)", "is constrained and has no density in Cartesian space"),
        ("system.setVirtualSite(2, openmm.TwoParticleAverageSite(0, 1, 0.5, 0.5))", "virtual sites"),
        ("system.setParticleMass(1, 0.0)", "particle 1 has no mass"),
        ("system.addParticle(12.0)", "topology has 3 atoms"),
        ("positions = positions.tolist()", "positions are no NumPy array; give one in nm"),
        ("positions = positions * np.nan", "positions that are not finite"),
        ("temperature_k = float('inf')", "temperature_k is inf; give a positive one"),
        (
            "cvs = (CollectiveVariable('r', 'distance', (0, 7)),)",
            "[0, 7] does not fit; there are atoms 0 to 2",
        ),
        ("cvs = (CollectiveVariable('r', 'distance', (1, 1)),)", "names an atom twice"),
        (
            "cvs = 2 * (CollectiveVariable('r', 'distance', (0, 1)),)",
            "the collective variable r is there twice",
        ),
        ("return None", "build() returned nothing; it must return a boltzgen.MolecularSystem"),
        (
            "return system",
            "build() returned another object (System); it must return a boltzgen.MolecularSystem",
        ),
        ("1 / 0", "cannot be built (ZeroDivisionError: division by zero; mine.py, line 11)"),
        ("raise KeyError('x')", "cannot be built (KeyError: 'x'; mine.py, line 11)"),
        ("raise SystemExit(1)", "cannot be built (SystemExit: 1; mine.py, line 11)"),
        ("openmm.HarmonicBondForce().getBondParameters(4)", "cannot be built (OpenMMException"),
    ],
)
def test_systems_that_cannot_be_sampled(refused: Refused, tmp_path: Path, change: str, expected: str) -> None:
    (tmp_path / "mine.py").write_text(SYSTEM.format(change=change))
    assert expected in refused("run", "--system", "mine.py")


FORCES = {
    "external": (
        "force = openmm.CustomExternalForce('100*x^2'); [force.addParticle(i, []) for i in range(3)]",
        "is moved",
    ),
    "periodic": (
        "force = openmm.NonbondedForce(); force.setNonbondedMethod(force.CutoffPeriodic); "
        "[force.addParticle(0.0, 0.1, 0.0) for i in range(3)]",
        "periodic boxes are not supported",
    ),
    "unbound": (
        "force = openmm.HarmonicBondForce(); system.removeForce(0)",
        "held by no force: C1 - C2 of HAR 1 and C2 - C3 of HAR 1",
    ),
    "overlap": (
        "force = openmm.NonbondedForce(); [force.addParticle(1.0, 0.1, 1.0) for i in range(3)]; "
        "positions = 0.0 * positions",
        "no finite energy at its reference configuration",
    ),
}


@pytest.mark.parametrize("name", FORCES)
def test_forces_that_cannot_be_sampled(refused: Refused, tmp_path: Path, name: str) -> None:
    change, expected = FORCES[name]
    (tmp_path / "mine.py").write_text(SYSTEM.format(change=f"{change}; system.addForce(force)"))
    assert expected in refused("run", "--system", "mine.py")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "defines no build() function"),
        ("build = 3\n", "defines no build() function"),
        ("def build(:\n", "cannot be imported (SyntaxError"),
        ("import nonsense_that_is_nowhere\n", "cannot be imported (ModuleNotFoundError"),
        ("x = {}['key']\n", "cannot be imported (KeyError: 'key'; mine.py, line 1)"),
        ("raise SystemExit\n", "cannot be imported (SystemExit; mine.py, line 1)"),
        ("def build(n):\n    pass\n", "parameter n is missing; set system.parameters.n"),
    ],
)
def test_files_that_are_no_system(refused: Refused, tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    assert expected in refused("run", "--system", "mine.py")


def test_a_switch_of_a_system_is_true_or_false(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def build(rigid=False, soft: 'bool' = True):\n    pass\n")
    for key, word in (("rigid", "no"), ("soft", "off")):
        line = refused("run", "--system", "mine.py", *overrides(f"system.parameters.{key}={word}"))
        assert f"system.parameters.{key}: is the word '{word}'; switch it by true or false" in line


def test_systems_by_name(refused: Refused) -> None:
    assert "nowhere.py: no such file" in refused("run", "--system", "nowhere.py")
    assert "did you mean lj13?" in refused("run", "--system", "lj14")
    wrong = "system.parameters.stifness=3"
    assert "did you mean stiffness?" in refused("run", "harmonic_dimer", "--set", wrong)
    hot = "system.parameters.temperature_k=hot"
    assert "check the values in system.parameters" in refused("run", "harmonic_dimer", "--set", hot)


# ---- molecules from a PDB file -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def alanine() -> MolecularSystem:
    return load_system("alanine_dipeptide")


@pytest.fixture(scope="module")
def folder(alanine: MolecularSystem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PDB files, good and bad."""
    folder = tmp_path_factory.mktemp("molecules")
    positions = alanine.positions * unit.nanometer
    modeller = app.Modeller(alanine.topology, positions)
    with (folder / "my.pdb").open("w") as stream:
        app.PDBFile.writeFile(alanine.topology, positions, stream)
    modeller.delete([atom for atom in modeller.topology.atoms() if atom.element.symbol == "H"])
    with (folder / "heavy.pdb").open("w") as stream:
        app.PDBFile.writeFile(modeller.topology, modeller.positions, stream)
    text = (folder / "my.pdb").read_text()
    (folder / "unknown.pdb").write_text(text.replace("ALA", "XYZ"))
    (folder / "empty.pdb").touch()
    (folder / "binary.pdb").write_bytes(b"\x00\xff" * 100)
    return folder


GOOD = {"pdb": "my.pdb"}
VARIABLES = {"phi": {"kind": "torsion", "atoms": [4, 6, 8, 14]}}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"prmtop": "my.prmtop"}, "my.prmtop: no file of this name"),
        ({"cif": "my.pdb"}, "my.pdb: describes a molecule as"),
        ({"implicit_solvent": "OBC2"}, "implicit_solvent: is for files that bring their parameters, and"),
        ({"smiles": "CC"}, "system.parameters.smiles: structures and parameters are not made here"),
        ({"temperature": 300}, "did you mean temperature_k?"),
        ({"pdb": "absent.pdb"}, "absent.pdb: no file of this name"),
        ({"pdb": "empty.pdb"}, "empty.pdb"),
        ({"pdb": "binary.pdb"}, "binary.pdb"),
        ({"pdb": "heavy.pdb"}, "addHydrogens()"),
        ({"pdb": "unknown.pdb"}, "unknown.pdb: the residue XYZ 2 is unknown to amber99sbildn.xml"),
        ({"forcefield": "absent.xml"}, "absent.xml"),
        ({"forcefield": "my.pdb"}, "my.pdb"),
        ({"temperature_k": 0}, "temperature_k is 0; give a positive one"),
        ({"temperature_k": "300 K"}, "temperature_k is '300 K'; give a number of K, without a unit"),
        ({"nonbonded_cutoff_nm": -1}, "nonbonded_cutoff_nm must be positive"),
        ({"nonbonded_cutoff_nm": 0.05}, "nonbonded_cutoff_nm is 0.05 nm, which is less than atoms are apart"),
        (
            {"collective_variables": [1]},
            "mine.yaml: collective_variables: cannot be used; it should be `key: value` lines",
        ),
        (
            {"collective_variables": {"phi": {"kind": "dihedral"}}},
            "collective_variables.phi.kind: is 'dihedral'; it should be 'torsion', 'angle'",
        ),
        (
            {"collective_variables": {"phi": {"kind": "torsion", "atoms": [4, 6, 8]}}},
            "a torsion takes 4 atoms, not 3",
        ),
        ({"collective_variables": {"phi": {"kind": "torsion", "atoms": [4, 6, 8, 99]}}}, "atoms 0 to 21"),
        ({"states": {"left": {"cv": "psi", "intervals": [[0, 2]]}}}, "psi is no collective variable"),
        (
            {"states": {"left": {"cv": "phi", "intervals": [[-180, 0]]}}},
            "is no region of an angle in radians",
        ),
        ({"states": {"left": {"cv": "phi", "intervals": [[2, 0]]}}}, "[2, 0) is empty"),
        ({"states": {"left": {"cv": "phi", "intervals": []}}}, "has no intervals"),
        (
            {"states": {"left": {"cv": "phi", "intervals": [0, 2]}}},
            "states.left.intervals.0: is 0; it should be a list in brackets",
        ),
    ],
)
def test_molecules(
    refused: Refused, tmp_path: Path, folder: Path, parameters: dict[str, object], expected: str
) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    declared = {"collective_variables": VARIABLES}
    declared |= {key: parameters[key] for key in ("collective_variables", "states") if key in parameters}
    own = {key: value for key, value in parameters.items() if key not in declared}
    system = {"name": "molecule", "parameters": {**GOOD, **own}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"name": "mine", "system": system, **declared}))
    assert expected in refused("run", "mine.yaml")


def test_what_was_mended_is_said_once(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of alternate locations one is taken; OpenMM's own warnings come in words."""
    lines = [
        x[:16] + letter + x[17:]
        for x in (folder / "my.pdb").read_text().splitlines(keepends=True)
        for letter in ("AB" if x[12:16].strip() == "HB1" else x[16:17])
    ]
    (tmp_path / "my.pdb").write_text("".join(lines))
    system = {"name": "molecule", "parameters": GOOD}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"name": "mine", "system": system}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["boltzgen", "run", "mine.yaml"])
    with changed("simulate", work=_stop), pytest.raises(SystemExit):
        main()
    said = [line for text in capfd.readouterr() for line in text.splitlines() if "alternate" in line]
    assert len(said) == 1 and said[0].startswith("warning: ") and "my.pdb" in said[0]


def _stop(run: Run, stage: Stage, on_progress: object) -> None:
    raise ConfigError("stage", "stopped")


@pytest.mark.parametrize(
    ("warning", "expected"),
    [
        ("a doubtful thing", "a library warned, `a doubtful thing`"),
        ("WARNING: duplicate atom (HETATM 2)", "OpenMM left out atoms that share their name"),
        ("WARNING: two consecutive residues with same number (HETATM 2)", None),
    ],
)
def test_warnings_while_a_system_is_built_become_its_notices(
    tmp_path: Path, warning: str, expected: str | None
) -> None:
    text = SYSTEM.format(change=f"import warnings; warnings.warn({warning!r})")
    (tmp_path / "mine.py").write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        notices = load_system("mine.py", base=tmp_path).notices
    assert len(notices) == (expected is not None)
    assert all(f"system mine.py: {expected}" in notice for notice in notices)


# ---- collective variables and states -----------------------------------------------------------------

RMSD = "collective_variables.fold={kind: rmsd}"


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["collective_variables=3"], "collective_variables: is 3; it should be `key: value` lines"),
        (
            ["collective_variables.r=3"],
            "collective_variables.r: is 3; it should be `key: value` lines",
        ),
        (
            ["collective_variables.r={kind: dihedral}"],
            "collective_variables.r.kind: is 'dihedral'; it should be 'torsion'",
        ),
        (["collective_variables.r={atoms: [0, 1]}"], "collective_variables.r.kind: missing"),
        (
            ["collective_variables.r={kind: rmsd, atom: name C}"],
            "collective_variables.r.atom: unknown key; known here: kind, atoms",
        ),
        (
            ["collective_variables.r={kind: distance, atoms: [0.5, 1]}"],
            "collective_variables.r.atoms: cannot be used; give 0-based indices, or selections",
        ),
        (
            ["collective_variables.r={kind: distance, atoms: [true, 1]}"],
            "r.atoms: cannot be used; give 0-based indices",
        ),
        (["collective_variables.r={kind: distance}"], "a distance takes 2 atoms, not 0"),
        (["collective_variables.r={kind: distance, atoms: [0, 1, 2]}"], "a distance takes 2 atoms, not 3"),
        (["collective_variables.r={kind: rmsd, atoms: 3}"], "an rmsd takes two or more atoms, not 1"),
        (
            ["collective_variables.r={kind: rmsd, atoms: [0, 22]}"],
            "[0, 22] is out of range; there are atoms 0 to 21",
        ),
        (["collective_variables.r={kind: distance, atoms: [-1, 3]}"], "[-1, 3] is out of range"),
        (
            ["collective_variables.r={kind: radius_of_gyration, atoms: [name CA, 8]}"],
            "[8, 8] names an atom twice",
        ),
        (
            ["collective_variables.r={kind: distance, atoms: [name ==, 3]}"],
            "collective_variables.r.atoms: MDTraj does not understand 'name =='",
        ),
        (["collective_variables.r={kind: rmsd, atoms: name XX}"], "r.atoms: 'name XX' selects no atom"),
        (
            ["collective_variables.r={kind: distance, atoms: [name C, 3]}"],
            "collective_variables.r.atoms: 'name C' selects 3 atoms; select one atom",
        ),
        (
            ["collective_variables.r={kind: distance, atoms: name C}"],
            "'name C' selects 3 atoms; select the 2 atoms of a distance",
        ),
        (
            ["collective_variables.phi={kind: rmsd}"],
            "collective_variables.phi: alanine_dipeptide/B has one of that name already; choose another",
        ),
        (
            ["states.phi_positive={cv: phi, intervals: [[0, 1]]}"],
            "states.phi_positive: alanine_dipeptide/B has one of that name already",
        ),
        (["states.far={cv: fold, intervals: [[0, 1]]}"], "fold is no collective variable; defined: phi, psi"),
        (
            [RMSD, "states.far={cv: fold, interval: [[0, 1]]}"],
            "states.far.interval: unknown key; known here: cv, intervals",
        ),
        ([RMSD, "states.far={cv: fold}"], "states.far.intervals: missing"),
        (
            [RMSD, "states.far={cv: fold, intervals: [0, 1]}"],
            "states.far.intervals.0: is 0; it should be a list",
        ),
        ([RMSD, "states.far={cv: fold, intervals: []}"], "states.far.intervals: has no intervals"),
        ([RMSD, "states.far={cv: fold, intervals: [[0.2, 0.1]]}"], "intervals: [0.2, 0.1) is empty"),
        ([RMSD, "states.far={cv: fold, intervals: [[.nan, 0.1]]}"], "is empty"),
        (["states.far={cv: phi, intervals: [[-180, 0]]}"], "is no region of an angle in radians"),
    ],
)
def test_declarations(refused: Refused, assignments: list[str], expected: str) -> None:
    assert expected in refused("run", "alanine_dipeptide", *overrides(*assignments))


# ---- the user's own MD -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frames(alanine: MolecularSystem) -> np.ndarray:
    """Something like dynamics: the reference configuration with every atom shaken."""
    noise = np.random.default_rng(0).normal(scale=0.003, size=(40, alanine.n_atoms, 3))
    return (alanine.positions + noise).astype(np.float32)


def write(
    path: Path,
    system: MolecularSystem,
    x: np.ndarray,
    box_nm: float | None = None,
    renamed: tuple[str, str] | None = None,
) -> None:
    trajectory = mdtraj.Trajectory(x, mdtraj.Topology.from_openmm(system.topology))
    if renamed is not None:
        for atom, symbol in zip(trajectory.topology.atoms, renamed, strict=False):
            atom.element, atom.name = mdtraj.element.Element.getBySymbol(symbol), f"{symbol}9"
    if box_nm is not None:
        trajectory.unitcell_lengths = np.full((len(x), 3), box_nm)
        trajectory.unitcell_angles = np.full((len(x), 3), 90.0)
    trajectory.save(str(path))


def with_rigid_bond(x: np.ndarray) -> np.ndarray:
    bond = x[:, 7] - x[:, 6]
    x = x.copy()
    x[:, 7] = x[:, 6] + 0.1 * bond / np.linalg.norm(bond, axis=-1, keepdims=True)
    return x


def with_nan(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[4, 3] = np.nan
    return x


def repeated(x: np.ndarray) -> np.ndarray:
    return np.repeat(x[:20], 2, axis=0)


def swapped(x: np.ndarray) -> np.ndarray:
    """A methyl hydrogen and the carbon beside it trade places: every bond stays short."""
    order = np.arange(x.shape[1])
    order[[4, 5]] = order[[5, 4]]
    return x[:, order]


@pytest.mark.parametrize(
    ("change", "suffix", "options", "expected"),
    [
        (with_rigid_bond, "dcd", {}, "the bond N - H of ALA 2 does not vibrate"),
        (with_rigid_bond, "xtc", {}, "the bond N - H of ALA 2 does not vibrate"),
        (with_nan, "dcd", {}, "frame 4 has positions that are not finite"),
        (repeated, "dcd", {}, "20 of 40 frames repeat the one before"),
        (swapped, "dcd", {}, "into the order of alanine_dipeptide/B"),
        (lambda x: x[:, ::-1], "dcd", {}, "atoms are in another order"),
        (lambda x: x[:5], "dcd", {}, "leave 5 frames to train on"),
        (lambda x: 10 * x, "dcd", {}, "Angstrom stand where nm belong"),
        (lambda x: x, "pdb", {"renamed": ("C", "H")}, "bring the atoms into the order of"),
        (lambda x: x, "dcd", {"box_nm": 3.0}, "has a periodic box"),
        (lambda x: x, "xtc", {"box_nm": 3.0}, "has a periodic box"),
    ],
)
def test_trajectories(
    refused: Refused,
    tmp_path: Path,
    alanine: MolecularSystem,
    frames: np.ndarray,
    change: Callable[[np.ndarray], np.ndarray],
    suffix: str,
    options: dict[str, object],
    expected: str,
) -> None:
    write(tmp_path / f"md.{suffix}", alanine, change(frames), **options)  # type: ignore[arg-type]
    arguments = overrides(f"data.trajectory=[md.{suffix}]")
    assert expected in refused("run", "--system", "alanine_dipeptide", *arguments)


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["data.trajectory=[text.dcd]"], "is no .dcd file"),
        (["data.trajectory=[empty.dcd]"], "is an empty file"),
        (["data.trajectory=[other.dcd]"], "has 4 atoms, alanine_dipeptide/B has 22"),
        (["data.trajectory=[other.h5]"], "has 4 atoms, alanine_dipeptide/B has 22"),
        (["data.trajectory=[folder]"], "data.trajectory[0]: no file"),
        (["data.trajectory=[md.dcd]", "data.skip_frames=40"], "skip_frames leaves none"),
        (["data.trajectory=[md.dcd]", "data.stride=20"], "leave 2 frames to train on"),
        (["data.trajectory=[md.dcd]", "data.weights=none.npy"], "data.weights: no file"),
        (["data.trajectory=[md.dcd]", "data.weights=few.npy"], "the trajectories have 40 frames in all"),
        (["data.trajectory=[md.dcd]", "data.weights=logs.npy"], "the weight of frame 0 is -1"),
        (["data.trajectory=[md.dcd]", "data.weights=text.dcd"], "is no NumPy .npy file"),
    ],
)
def test_trajectory_files_and_weights(
    refused: Refused,
    tmp_path: Path,
    alanine: MolecularSystem,
    frames: np.ndarray,
    assignments: list[str],
    expected: str,
) -> None:
    other = load_system("harmonic_chain")
    write(tmp_path / "md.dcd", alanine, frames)
    for suffix in ("dcd", "h5"):
        write(tmp_path / f"other.{suffix}", other, np.repeat(other.positions[None], 20, axis=0))
    (tmp_path / "text.dcd").write_text("no trajectory")
    (tmp_path / "empty.dcd").touch()
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "few.npy", np.ones(39))
    np.save(tmp_path / "logs.npy", -np.ones(40))
    assert expected in refused("run", "--system", "alanine_dipeptide", *overrides(*assignments))


# ---- the run directory -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        ("file", "file is a file; choose a directory"),
        ("file/run", "file is a file; choose a directory"),
        ("full", "has files but is no run directory"),
        ("x" * 300, "cannot be looked at"),
        ("damaged", "cannot be read as a manifest"),
        ("odd", "cannot be read as a manifest"),
        ("hollow", "cannot be read as a manifest"),
        ("unreadable", "is no record of a run"),
        ("other", "holds a run of the system lj13"),
        ("busy", "process 12 on node7 has been at work since"),
        pytest.param(
            "closed/run",
            "cannot write in",
            marks=pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere"),
        ),
    ],
)
def test_run_directories(refused: Refused, tmp_path: Path, out: str, expected: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "closed").mkdir(mode=0o500)
    for name in ("full", "damaged", "odd", "hollow", "unreadable", "other", "busy"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    (tmp_path / "damaged" / "manifest.json").write_text("{")
    (tmp_path / "odd" / "manifest.json").write_text('{"stages": []}')
    (tmp_path / "hollow" / "manifest.json").write_text('{"stages": {"train": {"finished": "today"}}}')
    (tmp_path / "unreadable" / "manifest.json").write_text("{}")
    (tmp_path / "unreadable" / "config.yaml").write_text("- a\n")
    (tmp_path / "other" / "manifest.json").write_text("{}")
    (tmp_path / "other" / "config.yaml").write_text("system: {name: lj13}\n")
    holder = {"host": "node7", "pid": 12, "since": "2026-01-01 00:00:00 UTC", "process_started": 0.0}
    (tmp_path / "busy" / "run.lock").write_text(json.dumps(holder))
    assert socket.gethostname() != "node7"
    assert expected in refused("run", "harmonic_dimer", "--out", out)


def test_own_data_in_the_run_directory(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "run" / "data").mkdir(parents=True)
    (tmp_path / "run" / "manifest.json").write_text("{}")
    (tmp_path / "run" / "data" / "md.dcd").touch()
    arguments = overrides("data.trajectory=[run/data/md.dcd]")
    assert "lies in the run directory" in refused("run", "harmonic_dimer", *arguments, "--out", "run")


@pytest.mark.parametrize(
    ("start", "changes", "expected"),
    [
        ("nowhere", [], "no trained network in"),
        ("alanine_dipeptide_b", ["model.n_layers=3"], "has n_layers 2, this run needs 3"),
        ("alanine_dipeptide_b", [], "has n_atoms 22, this run needs 2"),
    ],
)
def test_networks_to_start_from(refused: Refused, start: str, changes: list[str], expected: str) -> None:
    given = overrides(f"train.start={start}", *changes)
    assert expected in refused("run", "harmonic_dimer", *given, "--out", "run")


def test_a_network_of_another_hamiltonian(tmp_path: Path, alanine: MolecularSystem) -> None:
    from boltzgen.errors import DataError
    from boltzgen.workflow.preflight import check_model

    path = tmp_path / "energy.json"
    for text, expected in (
        (json.dumps({"system": "alanine_dipeptide/C", "n_atoms": 22}), "is a network of alanine_dipeptide/C"),
        (json.dumps({"system": alanine.name, "n_atoms": 21}), r"\(21 atoms\)"),
        ("{", "not the record of a trained network"),
        ("[]", "not the record of a trained network"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=expected) as caught:
            check_model(tmp_path, alanine)
        assert "\n" not in str(caught.value)
    path.write_text(json.dumps({"system": alanine.name, "n_atoms": 22}))
    check_model(tmp_path, alanine)
