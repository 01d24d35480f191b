"""The whole pipeline on systems whose partition function is known: MD, training, sampling, log Z."""

from __future__ import annotations

from pathlib import Path

import pytest

from boltzgen.config import ModelSettings, SampleSettings, SimulateSettings, TrainSettings
from boltzgen.registry import load_system
from boltzgen.sampling import sample
from boltzgen.simulate import simulate
from boltzgen.systems import harmonic
from boltzgen.train import train

BOND = {"stiffness": 10000.0, "length_nm": 0.2}
SIMULATE = SimulateSettings(
    method="langevin", n_runs=1, equilibration_ps=5.0, production_ps=150.0, frame_interval_ps=0.05
)
MODEL = ModelSettings(n_layers=1, n_channels=8, hidden=32)
TRAIN = TrainSettings(steps=300, batch_size=64, compile="never")
SAMPLE = SampleSettings(
    n_particles=1024, n_islands=4, n_levels=80, n_pilot=128, n_forward=128, chunk_size=256, ladder_moves=0
)


@pytest.mark.parametrize(
    ("name", "parameters", "exact"),
    [
        ("harmonic_dimer", BOND, harmonic.dimer_log_z(**BOND)),
        ("harmonic_chain", {"n": 4, **BOND}, harmonic.chain_log_z(4, **BOND)),
    ],
)
def test_log_z_of_the_whole_pipeline(name, parameters, exact, tmp_path: Path) -> None:
    system = load_system(name, parameters)
    data = simulate(system, SIMULATE, tmp_path / "data", seed=1)
    model = train(system, data, MODEL, TRAIN, tmp_path / "model", seed=2)
    ensemble, diagnostics = sample(system, model, data, SAMPLE, seed=3)
    assert ensemble.log_z is not None and ensemble.log_z_error is not None
    print(f"{name}: log Z {ensemble.log_z:.3f} +- {ensemble.log_z_error:.3f}, exact {exact:.3f}")
    assert ensemble.log_z_error < 0.1
    assert abs(ensemble.log_z - exact) < 3.5 * ensemble.log_z_error
    assert diagnostics["verdict"]["level"] != "not trusted"  # type: ignore[index]
