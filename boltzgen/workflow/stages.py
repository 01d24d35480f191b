"""The stages of a run in their order: this tuple is the workflow."""

from __future__ import annotations

from boltzgen.config.schema import Workflow
from boltzgen.rundir.finished_run import DATA, SAMPLES
from boltzgen.workflow import forecast, stage_functions, stage_inputs
from boltzgen.workflow.stage import Stage


def _fewer_frames(workflow: Workflow) -> str:
    if workflow.data.trajectory:
        return "give fewer frames"
    return "raise simulate.frame_interval_ps or lower simulate.production_ps"


STAGES = (
    Stage(
        name="simulate",
        stream=0,
        reads=(),
        writes=(DATA,),
        inputs=stage_inputs.of_simulation,
        work=stage_functions.simulate,
        records=("platform", "data_remarks", "frames_left_out"),
        starts_without="data",
        prepare=stage_functions.read_own_data,
        shared=lambda run: not run.workflow.pretrained and run.own_data is None,
        forecast=lambda run, trained: forecast.of_simulation(run),
        disk=forecast.disk_of_data,
        memory=forecast.memory_of_data,
        takes_less=_fewer_frames,
    ),
    Stage(
        name="train",
        stream=1,
        reads=("simulate",),
        writes=("model/energy.safetensors", "model/energy.json"),
        inputs=stage_inputs.of_training,
        work=stage_functions.train,
        records=("train_steps", "compile"),
        starts_without="model",
        shared=lambda run: not run.workflow.pretrained,
        forecast=lambda run, trained: forecast.of_training(run),
        memory=forecast.memory_of_training,
        takes_less=lambda workflow: (
            "lower model.n_channels, use fewer cores (OMP_NUM_THREADS), or give fewer frames"
        ),
    ),
    Stage(
        name="sample",
        stream=2,
        reads=("simulate", "train"),
        writes=(SAMPLES, "samples/diagnostics.json"),
        inputs=stage_inputs.of_sampling,
        work=stage_functions.sample,
        prepare=stage_functions.check_network,
        shared=lambda run: True,
        forecast=forecast.of_sampling,
        disk=forecast.disk_of_sample,
        memory=forecast.memory_of_sample,
        takes_less=lambda workflow: "lower sample.n_particles",
    ),
    Stage(
        name="analyze",
        stream=3,
        reads=("simulate", "sample"),
        writes=("results/results.json",),
        inputs=stage_inputs.of_analysis,
        work=stage_functions.analyze,
    ),
    Stage(
        name="export",
        stream=4,
        reads=("sample",),
        writes=("export",),
        inputs=stage_inputs.of_export,
        work=stage_functions.export,
        disk=forecast.disk_of_export,
        takes_less=lambda workflow: "lower sample.n_particles or shorten export.formats",
    ),
)
NAMES = tuple(stage.name for stage in STAGES)


def stage_named(name: str) -> Stage:
    """The stage of that name."""
    return STAGES[NAMES.index(name)]
