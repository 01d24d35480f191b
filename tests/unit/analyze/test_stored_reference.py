"""Runs beside stored references: which reference is whose, what it says of rows, and distances to it."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.chain import chain_ensemble, chain_system
from helpers.run_directory import SETTINGS, diagnostics, write_run
from rich.console import Console

from boltzgen.analyze import free_energy, known_systems
from boltzgen.analyze.distances import torsion_values
from boltzgen.analyze.known_systems import reference_of
from boltzgen.analyze.of_dynamics import write_md_results
from boltzgen.analyze.stage import analyze
from boltzgen.analyze.stored_reference import distance_to, stored_values
from boltzgen.cli.tables import closing_table
from boltzgen.geometry import mirror
from boltzgen.potential import make_potential
from boltzgen.references import reference as files
from boltzgen.references.reference import RADIANS, Reference, features, stored_references
from boltzgen.report.page import write_report
from boltzgen.system.collective_variables import State
from boltzgen.system.registry import load_system
from boltzgen.system.variables import with_variables


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reference:
    """A reference of the five-particle chain, the only one that there is."""
    system, data = chain_system(), chain_ensemble(4000, seed=7, p_positive=0.3)
    torsions = [cv for cv in system.collective_variables if cv.kind == "torsion"]
    angles = torsion_values(data, torsions)
    noise = 0.01 * torch.randn((3, 5, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    probes = torch.as_tensor(data.positions[:3], dtype=torch.float64) + noise
    energies = make_potential(system, "openmm", platform="Reference")(probes)
    a, b = system.states[:2]
    values = {
        "mean_reduced_energy": {"value": 0.0, "error": 0.02},
        f"population/{a.name}": {"value": 0.3, "error": 0.01, "probability": True},
        f"delta_f/{a.name}/{b.name}": {"value": float(np.log(7 / 3)), "error": 0.02},
    }
    profile = free_energy.potential_of_mean_force(data, torsions[0], 18, 30)
    content = {
        "system": system.name,
        "temperature_k": system.temperature_k,
        "command": "boltzgen simulate chain.yaml",
        "made": "2026-12-01",
        "cost": {"ns": 12.0, "minutes": 3.0},
        "n_frames": len(data),
        "n_blocks": len(data),
        "probes": {"positions": probes.tolist(), "reduced_energies": energies.tolist()},
        "torsions": [{"name": cv.name, "atoms": list(cv.atoms)} for cv in torsions],
        "n_compared": len(torsions),
        "states": [
            {"name": s.name, "atoms": list(s.cv.atoms), "intervals": [list(i) for i in s.intervals]}
            for s in (a, b)
        ],
        "values": values,
        "floors": {
            "energy_w2": {"100": 0.2, "1000": 0.08},
            "torsion_w2": {"100": 0.3},
            "tica_w2": {"100": 0.2},
        },
        "tica": {
            "mean": features(angles).mean(0).tolist(),
            "vectors": np.eye(2 * len(torsions))[:, 2:].tolist(),
        },
        "pmf": {
            torsions[0].name: {k: np.asarray(getattr(profile, k)).tolist() for k in ("bin_edges", "f", "df")}
        },
    }
    (tmp_path / "chain.json").write_text(json.dumps(content))
    whole = np.round(angles / RADIANS).astype(np.int16)
    np.savez(
        tmp_path / "chain.npz", torsions=whole, reduced_energies=data.reduced_energies.astype(np.float32)
    )
    monkeypatch.setattr(files, "REFERENCES", tmp_path)
    reference_of.cache_clear()
    (found,) = stored_references()
    return found


def test_a_system_is_known_by_its_energies_and_not_by_its_name(stored: Reference) -> None:
    system = chain_system()
    assert reference_of(replace(system, name="mine")) == stored
    assert reference_of(system.at_temperature(system.temperature_k + 10)) is None
    assert reference_of(replace(system, free_isomers=("all",))) is None
    other = chain_system()
    force = other.openmm_system.getForce(0)
    i, j, length, k = force.getBondParameters(0)
    force.setBondParameters(0, i, j, length, 1.1 * k)
    assert reference_of(other) is None


def test_the_other_enantiomer_is_another_system() -> None:
    alanine = load_system("alanine_dipeptide", {"hamiltonian": "A"})
    reflected = mirror(torch.from_numpy(alanine.positions)[None])[0].numpy()
    found = reference_of(alanine)
    assert found is not None and found.name == "aldp_a"
    assert reference_of(replace(alanine, positions=reflected)) is None


@pytest.mark.parametrize("reference", stored_references(), ids=lambda reference: reference.name)
def test_references_that_come_with_boltzgen_hold_together(reference: Reference) -> None:
    """Torsions of the stored frames have the populations of all frames, and energies their mean."""
    content, angles = reference.content, reference.torsions
    n = len(angles)
    assert n >= 10_000 and angles.shape[1] == content["n_compared"] and np.abs(angles).max() <= np.pi + 1e-3
    mean = content["values"]["mean_reduced_energy"]
    spread = reference.reduced_energies.std() / np.sqrt(min(n, content["n_blocks"]))
    assert abs(reference.reduced_energies.mean() - mean["value"]) < 5 * np.hypot(spread, mean["error"])
    column = {tuple(each["atoms"]): k for k, each in enumerate(content["torsions"])}
    for state in content["states"]:
        values = angles[:, column[tuple(state["atoms"])]]
        share = np.mean([any(low <= v < high for low, high in state["intervals"]) for v in values])
        whole = content["values"][f"population/{state['name']}"]
        noise = np.hypot(np.sqrt(share * (1 - share) / n), whole["error"])
        assert abs(share - whole["value"]) < 5 * noise
    slow = reference.slow(angles)
    assert np.abs(slow.mean(0)).max() < 0.3 and np.abs(slow.std(0) - 1.0).max() < 0.3


def test_states_are_known_by_what_they_are(stored: Reference) -> None:
    system = chain_system()
    a, b = system.states[:2]
    renamed = replace(system, states=(replace(a, name="up"), replace(b, name="down")))
    values = stored_values(stored, renamed)
    assert values["population/up"].value == 0.3 and values["delta_f"].value == pytest.approx(np.log(7 / 3))
    assert values["delta_f_kj_mol"].value == pytest.approx(system.kT * np.log(7 / 3))
    noted = {**stored.content["values"]["mean_reduced_energy"], "note": "the error is a lower bound"}
    values = {**stored.content["values"], "mean_reduced_energy": noted}
    doubtful = replace(stored, content={**stored.content, "values": values})
    assert stored_values(doubtful, system)["mean_reduced_energy"].error is None
    narrower = replace(system, states=(State(a.name, a.cv, ((0.0, 1.0),)), b))
    assert set(stored_values(stored, narrower)) == {"mean_reduced_energy"}


def test_distances_see_a_wrong_energy_and_a_wrong_population(stored: Reference) -> None:
    right, wrong = (chain_ensemble(4000, seed=8, p_positive=p) for p in (0.3, 0.7))
    for key in ("torsion_w2", "tica_w2"):
        near, far = (distance_to(stored, key, each, 100, 0) for each in (right, wrong))
        assert far > 1.5 * near, key
    shifted = replace(right, reduced_energies=right.reduced_energies + 1.0)
    broken = replace(shifted, log_weights=np.where(np.arange(4000) < 10, -np.inf, 0.0))
    broken.reduced_energies[:10] = np.inf
    assert distance_to(stored, "energy_w2", broken, 100, 0) == pytest.approx(1.0, abs=0.15)


def test_a_run_shows_the_reference_and_is_doubted_where_it_differs(stored: Reference) -> None:
    system, md = chain_system(), chain_ensemble(1500, seed=2, p_positive=0.3)
    results = {
        p: analyze(system, chain_ensemble(2000, seed=1, p_positive=p), md, diagnostics(), SETTINGS, 0)
        for p in (0.3, 0.6)
    }
    rows = {row["key"]: row for row in results[0.3]["rows"]}
    assert (
        rows["delta_f"]["stored"] == pytest.approx(np.log(7 / 3)) and rows["delta_f"]["stored_error"] == 0.02
    )
    assert rows["log_z"]["stored"] is None
    assert rows["stored/torsion_w2"]["stored"] == 0.3 and rows["stored/energy_w2"]["stored"] == 0.08
    assert results[0.3]["stored_reference"]["command"] == "boltzgen simulate chain.yaml"
    assert results[0.3]["verdict"]["level"] == "trusted"
    assert results[0.6]["verdict"]["level"] == "caution"
    assert any("in the stored reference" in reason for reason in results[0.6]["verdict"]["reasons"])


def test_terminal_and_page_show_the_reference(stored: Reference, tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run")
    results = json.loads((directory / "results" / "results.json").read_text())
    stream = io.StringIO()
    Console(file=stream, width=160).print(closing_table(results))
    assert "stored reference" in stream.getvalue() and "0.847 ± 0.020" in stream.getvalue()
    page = write_report(directory).read_text()
    assert "Distance to the stored reference" in page and "12 ns of MD in 3 minutes" in page
    assert "stored reference" in page.split("</svg>")[1] or ">stored reference<" in page


def test_md_alone_stands_beside_the_reference(stored: Reference, tmp_path: Path) -> None:
    lines = write_md_results(chain_system(), chain_ensemble(1500, seed=2), SETTINGS, tmp_path)
    (line,) = [line for line in lines if "Delta F" in line]
    assert line.endswith("; stored reference 0.8473 +- 0.02 kT")
    with (tmp_path / "md.csv").open(newline="") as file:
        rows = {row["quantity"]: row for row in csv.DictReader(file)}
    assert float(rows["population phi_positive"]["stored"]) == 0.3
    assert rows["population phi_negative"]["stored"] == ""


def test_a_run_without_a_reference_says_nothing_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_systems, "stored_references", list)
    reference_of.cache_clear()
    directory = write_run(tmp_path / "run")
    assert "stored reference" not in write_report(directory).read_text()


def test_free_energy_differences_of_every_pair_of_states_are_rows() -> None:
    system = with_variables(
        chain_system(), states={name: {"cv": "psi", "intervals": [ends]} for name, ends in HALVES.items()}
    )
    reference_of.cache_clear()
    sample = chain_ensemble(2000, seed=1)
    rows = {row["key"]: row for row in analyze(system, sample, sample, {}, SETTINGS, 0)["rows"]}
    assert rows["delta_f"]["quantity"] == "Delta F psi"
    assert rows["delta_f/phi_positive/phi_negative"]["quantity"] == "Delta F phi"


HALVES = {"low": [-3.1416, 0.0], "high": [0.0, 3.1416]}
