"""The sampler and a short run on a GPU agree with the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from boltzgen.config.schema import ModelSettings, SampleSettings, SimulateSettings, TrainSettings
from boltzgen.runtime.context import Context
from boltzgen.sample.stage import sample
from boltzgen.simulate.stage import simulate
from boltzgen.system.registry import load_system
from boltzgen.systems import harmonic
from boltzgen.train import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

SIMULATE = SimulateSettings(
    method="langevin", n_runs=1, equilibration_ps=5.0, production_ps=100.0, frame_interval_ps=0.05
)
SAMPLE = SampleSettings(n_particles=512, n_islands=2, n_levels=60, n_pilot=64, n_forward=64)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_short_run_gives_the_closed_form(device: str, tmp_path: Path) -> None:
    """The same seeds on either device: log Z of the harmonic dimer within its error."""
    system = load_system("harmonic_dimer")
    data = simulate(system, SIMULATE, Context(1))
    settings = TrainSettings(steps=200, batch_size=64, compile="never")
    model_settings = ModelSettings(n_layers=1, n_channels=8, hidden=32)
    model = train(system, data, model_settings, settings, tmp_path, Context(2, device)).model
    ensemble, _ = sample(system, model, data, SAMPLE, Context(3, device))
    assert ensemble.log_z is not None and ensemble.log_z_error is not None
    assert ensemble.log_z_error < 0.1
    assert abs(ensemble.log_z - harmonic.dimer_log_z(10000.0, 0.2)) < 3.5 * ensemble.log_z_error


def test_sampler_on_gpu_agrees_with_cpu(tmp_path: Path) -> None:
    """Random numbers are drawn on the CPU, so both devices follow the same paths up to float32 drift."""
    system = load_system("harmonic_dimer")
    data = simulate(system, SIMULATE, Context(1))
    settings = TrainSettings(steps=50, batch_size=32, compile="never")
    model = train(system, data, ModelSettings(), settings, tmp_path, Context(2)).model
    log_z = [sample(system, model, data, SAMPLE, Context(3, d))[0].log_z for d in ("cpu", "cuda")]
    assert log_z[0] is not None and log_z[1] is not None
    assert log_z[1] == pytest.approx(log_z[0], abs=0.1)
