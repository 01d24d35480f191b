"""Exported files read back by MDTraj and MDAnalysis to the same coordinates, weights and units."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import chemfiles
import MDAnalysis
import mdtraj
import numpy as np
import openmm
import pytest
from helpers.chain import PHI, chain_ensemble, chain_system
from MDAnalysis.lib.distances import calc_bonds
from openmm import app
from pydantic import ValidationError

from boltzgen.config.choices import EXPORT_FORMAT_NAMES
from boltzgen.config.schema import ExportSettings
from boltzgen.ensemble.storage import load_ensemble
from boltzgen.errors import ConfigError, NumericalError
from boltzgen.export.formats import FORMATS, ExportedFrames, Format, register
from boltzgen.export.stage import export_samples, write_colvar
from boltzgen.runtime.files import atomic_directory

PRECISION = {"dcd": 1e-6, "xtc": 6e-4, "pdb": 6e-5, "nc": 1e-6, "h5": 1e-6}  # nm


def weighted_sample():
    sample = chain_ensemble(60, seed=1, p_positive=0.1, proposal=0.5)
    log_weights = sample.log_weights.copy()
    log_weights[[0, 7]], log_weights[3] = -np.inf, -900.0
    return replace(sample, log_weights=log_weights, log_z=-12.0)


@pytest.fixture(scope="module", params=[True, False], ids=["carbon", "beads"])
def exported(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run") / "export"
    system = chain_system(elements=request.param)
    files = export_samples(system, weighted_sample(), ExportSettings(n_resampled=200), directory, seed=3)
    return system, directory, files


def kept_rows() -> np.ndarray:
    return np.setdiff1d(np.arange(60), [0, 7])


def test_every_file_is_there(exported):
    _, directory, files = exported
    formats = {f"{stem}.{suffix}" for stem in ("weighted", "resampled") for suffix in PRECISION}
    others = {"topology.pdb", "weights.npy", "log_weights.npy", "COLVAR", "README.txt", "openmm"}
    assert {path.name for path in files} == formats | others == {path.name for path in directory.iterdir()}
    assert [path.name for path in directory.parent.iterdir()] == ["export"]


def test_the_readme_bounds_a_log_z_without_error(exported):
    _, directory, _ = exported
    assert "log Z of the sample: above -15.00 (95%" in (directory / "README.txt").read_text(encoding="utf-8")


def stored(directory: Path, stem: str) -> np.ndarray:
    """What a trajectory should hold [nm]: rows of the sample, resampled ones as in the HDF5 file."""
    if stem == "weighted":
        return weighted_sample().positions[kept_rows()]
    return load_ensemble(directory / "resampled.h5").positions


BOTH = pytest.mark.parametrize("stem", ["weighted", "resampled"])


@BOTH
@pytest.mark.parametrize("suffix", list(PRECISION))
def test_mdtraj_reads_the_same_nanometres(exported, stem, suffix):
    _, directory, _ = exported
    top = {} if suffix in ("pdb", "h5") else {"top": str(directory / "topology.pdb")}
    frames = mdtraj.load(str(directory / f"{stem}.{suffix}"), **top)
    assert frames.unitcell_lengths is None
    np.testing.assert_allclose(frames.xyz, stored(directory, stem), rtol=0, atol=PRECISION[suffix])


@BOTH
@pytest.mark.parametrize("suffix", ["dcd", "xtc", "pdb", "nc"])
def test_mdanalysis_reads_the_same_in_angstrom(exported, stem, suffix):
    _, directory, _ = exported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = MDAnalysis.Universe(str(directory / "topology.pdb"), str(directory / f"{stem}.{suffix}"))
        frames = np.array([step.positions.copy() for step in universe.trajectory])
    expected = 10 * stored(directory, stem)
    np.testing.assert_allclose(frames, expected, rtol=0, atol=10 * PRECISION[suffix] + 1e-6)


@BOTH
@pytest.mark.parametrize("suffix", ["dcd", "xtc", "pdb", "nc"])
def test_chemfiles_reads_the_same_in_angstrom(exported, stem, suffix):
    """A third library."""
    _, directory, _ = exported
    with warnings.catch_warnings(), chemfiles.Trajectory(str(directory / f"{stem}.{suffix}")) as trajectory:
        warnings.simplefilter("ignore")
        frames = [trajectory.read() for _ in range(trajectory.nsteps)]
    if suffix == "pdb":  # it takes the CONECT lines at the end for one more frame
        assert not len(frames.pop().atoms)
    assert all(frame.cell.shape == chemfiles.CellShape.Infinite for frame in frames)
    expected = 10 * stored(directory, stem)
    np.testing.assert_allclose(
        [frame.positions for frame in frames], expected, rtol=0, atol=10 * PRECISION[suffix] + 1e-6
    )


def test_every_resampled_frame_is_one_of_the_weighted(exported):
    _, directory, _ = exported
    known = {frame.tobytes() for frame in stored(directory, "weighted")}
    assert {frame.tobytes() for frame in stored(directory, "resampled")} <= known


def test_topology_keeps_names_and_bonds(exported):
    system, directory, _ = exported
    reference = mdtraj.load(str(directory / "topology.pdb"))
    np.testing.assert_allclose(reference.xyz[0], system.positions, atol=PRECISION["pdb"])
    names = [atom.name for atom in system.topology.atoms()]
    if len(set(names)) == 1:  # beads of one residue, which readers could not tell apart
        names = ["X", "X2", "X3", "X4", "X5"]
    assert [atom.name for atom in reference.topology.atoms] == names
    assert reference.topology.n_bonds == 4


def test_every_pdb_keeps_a_bond_that_standard_residues_do_not_have(tmp_path: Path):
    topology = app.Topology()
    residue = topology.addResidue("GLY", topology.addChain())
    atoms = [
        topology.addAtom(name, app.Element.getBySymbol(name[0]), residue)
        for name in ("N", "CA", "C", "O", "OXT")
    ]
    for i, j in ((0, 1), (1, 2), (2, 3), (2, 4), (4, 0)):
        topology.addBond(atoms[i], atoms[j])
    ring, settings = replace(chain_system(), topology=topology), ExportSettings(formats=("pdb",))
    files = export_samples(ring, weighted_sample(), settings, tmp_path / "export", seed=0)
    for path in (path for path in files if path.suffix == ".pdb"):
        assert app.PDBFile(str(path)).topology.getNumBonds() == 5 == mdtraj.load(str(path)).topology.n_bonds


def test_weights_match_the_frames_and_sum_to_one(exported):
    _, directory, _ = exported
    weights, log_weights = (np.load(directory / f"{name}.npy") for name in ("weights", "log_weights"))
    np.testing.assert_allclose(weights, weighted_sample().weights[kept_rows()], rtol=1e-12)
    assert weights.sum() == pytest.approx(1.0) and np.isfinite(log_weights).all()
    np.testing.assert_allclose(np.exp(log_weights), weights, rtol=1e-9)
    assert "Left out because their weight is zero: 2 configurations" in (directory / "README.txt").read_text()


def test_colvar_has_plumed_headers_and_the_right_columns(exported):
    system, directory, _ = exported
    lines = (directory / "COLVAR").read_text().splitlines()
    assert lines[0] == "#! FIELDS time phi psi end_to_end energy logweights"
    assert lines[1:5] == [
        "#! SET min_phi -pi",
        "#! SET max_phi pi",
        "#! SET min_psi -pi",
        "#! SET max_psi pi",
    ]
    table, sample = np.loadtxt(directory / "COLVAR"), weighted_sample()
    np.testing.assert_allclose(table[:, 1], PHI.values(sample.positions)[kept_rows()], atol=1e-7)
    np.testing.assert_allclose(table[:, 4], sample.reduced_energies[kept_rows()] * system.kT, rtol=1e-7)
    np.testing.assert_allclose(table[:, 5], np.load(directory / "log_weights.npy"), rtol=1e-7)
    assert table[:, 0].tolist() == list(range(58))


def test_colvar_columns_are_words_and_no_two_are_the_same(tmp_path: Path):
    names = ["energy", "end to end", "end.to.end", "time", "psi (C-N)"]
    variables = tuple(replace(PHI, name=name) for name in names)
    write_colvar(replace(chain_system(), collective_variables=variables), weighted_sample(), tmp_path / "C")
    header = (tmp_path / "C").read_text().splitlines()[0].split()
    assert header[2:] == [
        "time",
        "energy_",
        "end_to_end",
        "end_to_end_",
        "time_",
        "psi__C_N_",
        "energy",
        "logweights",
    ]


def test_resampled_frames_need_no_weights(exported):
    _, directory, _ = exported
    frames = mdtraj.load(str(directory / "resampled.dcd"), top=str(directory / "topology.pdb"))
    assert len(frames) == 200
    sample = weighted_sample()
    expected = sample.expectation(np.cos(PHI.values(sample.positions)))
    assert np.mean(np.cos(PHI.values(frames.xyz))) == pytest.approx(expected, abs=0.02)


def test_saved_ensemble_holds_the_weights(exported):
    _, directory, _ = exported
    loaded = load_ensemble(directory / "weighted.h5")
    np.testing.assert_allclose(loaded.weights, np.load(directory / "weights.npy"), rtol=1e-9)


def test_examples_of_the_readme_run_and_agree(exported, monkeypatch, capsys):
    _, directory, _ = exported
    monkeypatch.chdir(directory)
    names = {"mdtraj": mdtraj, "numpy": np, "MDAnalysis": MDAnalysis, "calc_bonds": calc_bonds}
    examples = (directory / "README.txt").read_text().split("MDTraj (")[1].split("PLUMED")[0].splitlines()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for line in examples:
            if line.startswith("    "):
                exec(line.strip(), names)
    nanometres, angstrom = (float(text) for text in capsys.readouterr().out.split()[-2:])
    assert nanometres == pytest.approx(0.15, abs=1e-3) and angstrom == pytest.approx(1.5, abs=1e-2)


def test_h5_alone_is_enough(tmp_path: Path):
    settings = ExportSettings(formats=("h5",), n_resampled=5)
    export_samples(chain_system(), weighted_sample(), settings, tmp_path / "export", seed=0)
    text = (tmp_path / "export" / "README.txt").read_text()
    assert 'mdtraj.load("weighted.h5")' in text and "Universe" not in text


def test_states_go_on_as_molecular_dynamics_of_the_ensemble(tmp_path: Path):
    system = chain_system()
    settings = ExportSettings(formats=("h5",), n_resampled=40, n_states=2)
    export_samples(system, weighted_sample(), settings, tmp_path / "export", seed=4)
    files = tmp_path / "export" / "openmm"
    assert sorted(p.name for p in files.iterdir()) == ["state_000.xml", "state_001.xml", "system.xml"]
    loaded = openmm.XmlSerializer.deserialize((files / "system.xml").read_text())
    frames = load_ensemble(tmp_path / "export" / "resampled.h5").positions
    integrator = openmm.LangevinMiddleIntegrator(300.0, 10.0, 0.001)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(loaded, integrator, openmm.Platform.getPlatformByName("Reference"))
    for k in range(2):
        state = openmm.XmlSerializer.deserialize((files / f"state_{k:03d}.xml").read_text())
        context.setState(state)
        start = context.getState(positions=True).getPositions(asNumpy=True)._value
        np.testing.assert_allclose(start, frames[k], atol=1e-6)
    energies = []
    for _ in range(400):
        integrator.step(50)
        energies.append(context.getState(energy=True).getPotentialEnergy()._value / system.kT)
    assert np.mean(energies[100:]) == pytest.approx(4 * 0.5, abs=0.35)  # four harmonic bonds


def test_frames_are_superposed_thinned_and_cut_to_a_selection(tmp_path: Path):
    system = chain_system()
    settings = ExportSettings(
        formats=("dcd", "h5"), n_resampled=10, stride=3, align="index 0 1 2", select="index 0 to 3"
    )
    export_samples(system, weighted_sample(), settings, tmp_path / "export", seed=0)
    top = mdtraj.load(str(tmp_path / "export" / "topology.pdb"))
    frames = mdtraj.load(str(tmp_path / "export" / "weighted.dcd"), top=top)
    assert frames.n_atoms == 4 and len(frames) == 20 == len(np.load(tmp_path / "export" / "weights.npy"))
    assert mdtraj.load(str(tmp_path / "export" / "weighted.h5")).n_atoms == 4
    rotated = mdtraj.rmsd(frames, frames[:1], atom_indices=[0, 1, 2], precentered=False)
    unsuperposed = np.sqrt(np.square(frames.xyz[:, :3] - frames.xyz[:1, :3]).sum((1, 2)) / 3)
    np.testing.assert_allclose(unsuperposed, rotated, atol=2e-3)
    expected = weighted_sample().positions[kept_rows()][::3]
    np.testing.assert_allclose(
        np.linalg.norm(frames.xyz[:, 3] - frames.xyz[:, 0], axis=1),
        np.linalg.norm(expected[:, 3] - expected[:, 0], axis=1),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("key", "selection", "says"),
    [("select", "name ==", "does not understand"), ("align", "name nothing", "selects no atom")],
)
def test_a_selection_that_cannot_be_is_a_user_error(tmp_path: Path, key: str, selection: str, says: str):
    settings = ExportSettings(formats=("dcd",), **{key: selection})
    with pytest.raises(ConfigError, match=rf"export\.{key}: .*{says}"):
        export_samples(chain_system(), weighted_sample(), settings, tmp_path / "export", seed=0)
    assert not list(tmp_path.iterdir())


def test_nothing_with_weight_is_a_user_error_and_writes_nothing(tmp_path: Path):
    sample = replace(weighted_sample(), log_weights=np.full(60, -np.inf))
    with pytest.raises(NumericalError, match="weight zero"):
        export_samples(chain_system(), sample, ExportSettings(), tmp_path / "export", seed=0)
    assert not list(tmp_path.iterdir())


def test_atomic_directory_replaces_whole_or_not_at_all(tmp_path: Path):
    target = tmp_path / "deep" / "results"
    with atomic_directory(target) as partial:
        (partial / "old").write_text("1")
        assert not target.exists()
    with pytest.raises(RuntimeError), atomic_directory(target) as partial:
        (partial / "new").write_text("2")
        raise RuntimeError
    assert [p.name for p in target.iterdir()] == ["old"]
    with atomic_directory(target) as partial:
        (partial / "new").write_text("2")
    assert [p.name for p in target.iterdir()] == ["new"]
    assert [p.name for p in target.parent.iterdir()] == ["results"]


def test_a_format_is_added_by_one_registration(tmp_path: Path) -> None:
    """As a third party would: no other file knows of it."""

    def write(exported: ExportedFrames, path: Path) -> None:
        np.savetxt(path, exported.frames.xyz.reshape(len(exported.ensemble), -1), fmt="%.4f")

    with pytest.raises(ValidationError, match="it should be 'dcd', 'xtc', 'pdb', 'nc' or 'h5'"):
        ExportSettings(formats=("txt",))
    system, samples = chain_system(), chain_ensemble(50, seed=0)
    register(Format("txt", write, rounding_nm=1e-4, unit="nm"))
    try:
        settings = ExportSettings(formats=("txt",), n_resampled=20)
        export_samples(system, samples, settings, tmp_path / "out", 0)
    finally:
        del FORMATS["txt"]
        EXPORT_FORMAT_NAMES.remove("txt")
    positions = np.loadtxt(tmp_path / "out" / "weighted.txt").reshape(50, -1, 3)
    np.testing.assert_allclose(positions, samples.positions, atol=1e-4)
    readme = (tmp_path / "out" / "README.txt").read_text()
    assert "Lengths: nm in .txt, as the formats ask; stored to 0.0001 nm in .txt." in readme
