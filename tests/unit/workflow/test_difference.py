"""The free energy between two runs of the same atoms, against a closed form."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from boltzgen.cli import main
from boltzgen.ensemble.storage import save_ensemble
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.errors import DataError
from boltzgen.rundir.finished_run import FinishedRun, load_run
from boltzgen.system.registry import load_system
from boltzgen.systems.harmonic import dimer_log_z
from boltzgen.units import thermal_energy
from boltzgen.workflow.difference import difference

LENGTH = 0.2
SOFT, STIFF = 10_000.0, 12_000.0
EXACT = dimer_log_z(SOFT, LENGTH) - dimer_log_z(STIFF, LENGTH)


def exact_samples(stiffness: float, n: int, rng: np.random.Generator, length: float) -> WeightedEnsemble:
    """Harmonic bonds at 300 K with their exact log Z."""
    width = math.sqrt(thermal_energy(300.0) / stiffness)
    r = rng.normal(length, width, 8 * n)
    r = r[rng.random(8 * n) < (r / (length + 8 * width)) ** 2][:n]
    direction = rng.normal(size=(n, 3))
    bond = direction / np.linalg.norm(direction, axis=1, keepdims=True) * r[:, None]
    u = 0.5 * ((r - length) / width) ** 2
    positions = np.stack([-bond / 2, bond / 2], axis=1).astype(np.float32)
    log_z = dimer_log_z(stiffness, length)
    return WeightedEnsemble(positions, np.zeros(n), u, 300.0, log_z=log_z, log_z_error=0.01)


def finished(directory: Path, stiffness: float, length: float = LENGTH, domain: str = "all") -> FinishedRun:
    """What a finished run of the dimer leaves for the difference to another."""
    parameters = {"stiffness": stiffness, "length_nm": length}
    system, rng = load_system("harmonic_dimer", parameters), np.random.default_rng(int(stiffness))
    for part in ("samples", "data", "results"):
        (directory / part).mkdir(parents=True)
    for part in ("samples", "data"):
        ensemble = exact_samples(stiffness, 2000, rng, length)
        save_ensemble(ensemble, system.mdtraj_topology, directory / part / "ensemble.h5")
    config = {"name": "x", "system": {"name": "harmonic_dimer", "parameters": parameters}}
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    (directory / "results" / "results.json").write_text(json.dumps({"diagnostics": {"z_domain": domain}}))
    return load_run(directory)


def test_three_estimators_of_a_stiffer_bond(tmp_path: Path) -> None:
    found = difference(finished(tmp_path / "soft", SOFT), finished(tmp_path / "stiff", STIFF))
    assert found["log Z of the samples"].value == pytest.approx(EXACT, abs=1e-9)
    assert found["log Z of the samples"].error == pytest.approx(math.hypot(0.01, 0.01))
    for name in ("BAR of the samples", "BAR of the MD"):
        error = found[name].error
        assert error is not None and 0 < error < 0.01
        assert abs(found[name].value - EXACT) < 3.5 * error


def test_what_does_not_overlap_still_has_its_log_z(tmp_path: Path) -> None:
    far = finished(tmp_path / "far", SOFT, length=1.0)
    found = difference(finished(tmp_path / "near", SOFT), far)
    exact = dimer_log_z(SOFT, LENGTH) - dimer_log_z(SOFT, 1.0)
    assert found["log Z of the samples"].value == pytest.approx(exact, abs=1e-9)
    assert found["BAR of the samples"].error is None
    assert "overlap" in found["BAR of the samples"].note


def test_domains_of_log_z_have_to_be_the_same(tmp_path: Path) -> None:
    runs = finished(tmp_path / "a", SOFT), finished(tmp_path / "b", STIFF, domain="one hand")
    with pytest.raises(DataError, match=r"first is over all, that of the second over one hand"):
        difference(*runs)


def test_isomers_of_the_same_atoms_are_two_domains(tmp_path: Path) -> None:
    """The key decides, and an older run without one is told how to get it."""
    runs = [finished(tmp_path / name, SOFT) for name in "abc"]
    for run, found in zip(runs, ("cis", "trans", None), strict=True):
        if found:
            run.results["diagnostics"] |= {"z_domain": f"all; C1-C2 {found}", "z_domain_key": found}
    with pytest.raises(
        DataError, match=r"first is over all; C1-C2 cis, that of the second over all; C1-C2 trans; give"
    ):
        difference(runs[0], runs[1])
    with pytest.raises(DataError, match=r"over all; `--force sample` says of .*c in full"):
        difference(runs[0], runs[2])


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path / "soft", SOFT), finished(tmp_path / "stiff", STIFF)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["boltzgen", "difference", "soft", "stiff"])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr().out
    assert caught.value.code == 0
    assert f"{EXACT:.3f} ± 0.014" in said and f"{EXACT * thermal_energy(300.0):.3f} ± 0.035" in said
    monkeypatch.setattr(sys, "argv", ["boltzgen", "difference", "soft", "nothing"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "not a run directory" in capsys.readouterr().err
