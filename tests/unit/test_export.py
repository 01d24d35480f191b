"""Exported files read back by MDTraj and MDAnalysis to the same coordinates, weights and units."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import MDAnalysis
import mdtraj
import numpy as np
import pytest
from helpers.chain import PHI, chain_ensemble, chain_system
from MDAnalysis.lib.distances import calc_bonds

from boltzgen.config import ExportSettings
from boltzgen.errors import NumericalError
from boltzgen.export import export_samples
from boltzgen.files import atomic_directory
from boltzgen.storage import load_ensemble

PRECISION = {"dcd": 1e-6, "xtc": 6e-4, "pdb": 6e-5, "h5": 1e-6}  # nm


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
    others = {"topology.pdb", "weights.npy", "log_weights.npy", "COLVAR", "README.txt"}
    assert {path.name for path in files} == formats | others == {path.name for path in directory.iterdir()}
    assert [path.name for path in directory.parent.iterdir()] == ["export"]


@pytest.mark.parametrize("suffix", ["dcd", "xtc", "pdb", "h5"])
def test_mdtraj_reads_the_same_nanometres(exported, suffix):
    _, directory, _ = exported
    top = {} if suffix in ("pdb", "h5") else {"top": str(directory / "topology.pdb")}
    frames = mdtraj.load(str(directory / f"weighted.{suffix}"), **top)
    assert frames.unitcell_lengths is None
    np.testing.assert_allclose(frames.xyz, weighted_sample().positions[kept_rows()], atol=PRECISION[suffix])


@pytest.mark.parametrize("suffix", ["dcd", "xtc", "pdb"])
def test_mdanalysis_reads_the_same_in_angstrom(exported, suffix):
    _, directory, _ = exported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = MDAnalysis.Universe(str(directory / "topology.pdb"), str(directory / f"weighted.{suffix}"))
        frames = np.array([step.positions.copy() for step in universe.trajectory])
    np.testing.assert_allclose(
        frames, 10 * weighted_sample().positions[kept_rows()], atol=10 * PRECISION[suffix] + 1e-6
    )


def test_topology_keeps_names_and_bonds(exported):
    system, directory, _ = exported
    reference = mdtraj.load(str(directory / "topology.pdb"))
    np.testing.assert_allclose(reference.xyz[0], system.positions, atol=PRECISION["pdb"])
    assert [atom.name for atom in reference.topology.atoms] == [atom.name for atom in system.topology.atoms()]
    assert reference.topology.n_bonds == 4


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
