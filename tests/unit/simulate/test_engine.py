"""Many replicas side by side: when they are taken and what they share."""

from __future__ import annotations

from typing import Any

import numpy as np
import openmm
import pytest

from boltzgen.config.schema import SimulateSettings
from boltzgen.errors import UserError
from boltzgen.runtime.context import Context
from boltzgen.simulate import engine
from boltzgen.simulate.engine import choose_platform
from boltzgen.simulate.stage import simulate
from boltzgen.system.registry import load_system

SHORT = SimulateSettings(friction_per_ps=5.0, equilibration_ps=2.0, production_ps=20.0, frame_interval_ps=0.1)


def test_replicas_share_the_production_and_stay_apart() -> None:
    """Frames come replica by replica, each a trajectory of its own from the same start."""
    settings = SHORT.model_copy(update={"n_runs": 1, "n_replicas": 4, "method": "langevin"})
    run = simulate(load_system("harmonic_dimer"), settings, Context(), "batched")
    assert len(run) == 200
    by_replica = run.reduced_energies.reshape(4, 50)
    correlations = np.corrcoef(by_replica)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 0.9
    more_than_frames = settings.model_copy(update={"n_replicas": 300, "equilibration_ps": 0.1})
    assert len(simulate(load_system("harmonic_dimer"), more_than_frames, Context(), "batched")) == 300


@pytest.mark.parametrize(
    ("openmm_s", "batched_s", "chosen"),
    [(100.0, 40.0, True), (100.0, 60.0, False), (50.0, 1.0, False), (100.0, float("inf"), False)],
)
def test_batched_replicas_are_taken_where_they_are_much_faster(
    openmm_s: float, batched_s: float, chosen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_openmm_seconds", lambda *_: openmm_s)
    monkeypatch.setattr(engine, "_batched_seconds", lambda *_: batched_s)
    system = load_system("harmonic_dimer")
    assert (choose_platform(system, SimulateSettings()) == "batched") == chosen
    asked = SimulateSettings(platform="Reference")
    assert choose_platform(system, asked) == "Reference"
    assert engine.expected(system, SimulateSettings(platform="batched"))[1] == batched_s


def test_what_openmm_does_slowly_is_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generalised Born by custom forces at speeds as measured once: hours for minutes of batched replicas."""
    monkeypatch.setattr(engine, "steps_per_second", lambda _: 1000.0)
    monkeypatch.setattr(engine, "configurations_per_second", lambda *_, **__: 29_600 / engine._COMPILED_GAIN)
    system = load_system("alanine_dipeptide", {"hamiltonian": "A"})
    assert engine.by_batched_replicas(system, SimulateSettings())
    assert not engine.by_batched_replicas(system, SimulateSettings(production_ps=1.0, equilibration_ps=0.01))
    longer_than_half_of_all = SimulateSettings(equilibration_ps=1001.0)
    assert not engine.by_batched_replicas(system, longer_than_half_of_all)


@pytest.mark.parametrize("given", [{"method": "flat_histogram"}, {"minutes": 1.0}])
def test_what_only_batched_replicas_do_is_left_to_them(given: dict[str, Any]) -> None:
    assert choose_platform(load_system("harmonic_dimer"), SimulateSettings(**given)) == "batched"


def test_a_system_that_cannot_be_batched_is_left_to_openmm() -> None:
    system = load_system("harmonic_dimer")
    system.openmm_system.addForce(openmm.CustomHbondForce("distance(a1,d1)"))
    settings = SHORT.model_copy(update={"production_ps": 1e6})
    assert not engine.by_batched_replicas(system, settings)
    with pytest.raises(UserError, match="not batched: a CustomHbondForce"):
        simulate(system, settings, Context(), "batched")
