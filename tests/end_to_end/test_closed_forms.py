"""The whole pipeline on systems whose partition function is known: MD, training, sampling, log Z."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from boltzgen.config.schema import ModelSettings, SampleSettings, SimulateSettings, TrainSettings
from boltzgen.runtime.context import Context
from boltzgen.sample.stage import sample
from boltzgen.simulate.stage import simulate
from boltzgen.smc.presence import Presence
from boltzgen.system.registry import load_system
from boltzgen.systems import harmonic
from boltzgen.train import train

BOND = {"stiffness": 10000.0, "length_nm": 0.2}
SIMULATE = SimulateSettings(
    method="langevin", n_runs=1, equilibration_ps=5.0, production_ps=150.0, frame_interval_ps=0.05
)
MODEL = ModelSettings(n_layers=1, n_channels=4, n_radial=4, hidden=16)
TRAIN = TrainSettings(steps=300, batch_size=64, compile="never", consistency_paths=0)
SAMPLE = SampleSettings(
    n_particles=1024, n_islands=4, n_levels=60, n_pilot=128, n_forward=128, chunk_size=256, level_moves=0
)


@pytest.mark.parametrize(
    ("name", "parameters", "log_z"),
    [
        pytest.param("harmonic_dimer", BOND, harmonic.dimer_log_z, marks=pytest.mark.slow),
        ("harmonic_chain", {"n": 4, **BOND}, harmonic.chain_log_z),
    ],
)
def test_log_z_of_the_whole_pipeline(
    name: str, parameters: dict[str, float], log_z: Callable[..., float], tmp_path: Path
) -> None:
    """At the temperature of the data and, with the same network, at others."""
    system = load_system(name, parameters)
    data = simulate(system, SIMULATE, Context(1))
    model = train(system, data, MODEL, TRAIN, tmp_path, Context(2)).model
    for seed, kelvin in enumerate((300.0, 250.0, 400.0)):
        ensemble, diagnostics = sample(system.at_temperature(kelvin), model, data, SAMPLE, Context(seed))
        assert ensemble.log_z is not None and ensemble.log_z_error is not None
        value, error = ensemble.log_z, ensemble.log_z_error
        exact = log_z(**parameters, temperature_k=kelvin)
        print(f"{name} at {kelvin:g} K: log Z {value:.3f} +- {error:.3f}, exact {exact:.3f}")
        assert error < 0.1
        assert abs(value - exact) < 3.5 * error
        assert diagnostics["verdict"]["level"] != "not trusted"  # type: ignore[index]
        in_energy = Presence(**diagnostics["regions"][-1])  # type: ignore[index]
        assert "U_theta - u" in in_energy.name
        assert in_energy.lacking(diagnostics["genealogical_ess"]) == 0.0  # type: ignore[arg-type]
