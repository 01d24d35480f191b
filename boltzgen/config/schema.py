"""The settings of a workflow: one frozen pydantic model per stage, units in the field names."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from boltzgen.config.base import Settings, StateSettings, VariableSettings
from boltzgen.config.choices import (
    DEFAULT_FORMATS,
    EXPORT_FORMAT_NAMES,
    KERNEL_NAMES,
    MOVE_NAMES,
    OBJECTIVE_NAMES,
    LevelChoice,
    Prior,
    Scheme,
    one_of,
)

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Several = Annotated[int, Field(ge=2)]
DEFAULT_MINUTES = 20.0
"""Of training."""


def known_objective(name: str) -> str:
    """The name of a training objective; ValueError for one that is not registered."""
    return one_of(name, OBJECTIVE_NAMES)


def known_kernel(name: str) -> str:
    """The name of a reverse kernel; ValueError for one that is not registered."""
    return one_of(name, KERNEL_NAMES)


def known_move(name: str) -> str:
    """The name of an MCMC move; ValueError for one that is not registered."""
    return one_of(name, MOVE_NAMES)


def known_format(name: str) -> str:
    """The name of a format of exported frames; ValueError for one that is not registered."""
    return one_of(name, EXPORT_FORMAT_NAMES)


class SystemSettings(Settings):
    """Which molecular system."""

    name: str = Field(
        description="registered name (`boltzgen systems`) or path/to/file.py with a build() function"
    )
    parameters: dict[str, object] = Field(
        default_factory=dict, description="keyword arguments of its build()"
    )
    free_isomers: tuple[str, ...] = Field(
        (),
        description="what need not be arranged as in the reference structure: centres, double bonds, amides, "
        "axes, all, or single ones as `boltzgen check` names them",
    )


class DataSettings(Settings):
    """The user's own MD, used instead of `simulate` when `trajectory` is given."""

    trajectory: tuple[str, ...] = Field(
        (), description="files that MDTraj reads, sampled at the target temperature"
    )
    weights: str | None = Field(
        None,
        description="name of a .npy file with one weight (not log) per frame of all files together; those of "
        "reweighting to the target's temperature and energy",
    )
    stride: Count = Field(1, description="keep every n-th frame")
    skip_frames: int = Field(0, ge=0, description="frames cut from the start of each file as equilibration")


class SimulateSettings(Settings):
    """Molecular dynamics that makes the training ensemble."""

    method: Literal["parallel_tempering", "flat_histogram", "langevin"] = Field(
        "parallel_tempering",
        description="replica exchange with hotter replicas, or with ones under a learned bias that makes "
        "every value of collective variables as likely (and hotter, with n_temperatures); or plain dynamics",
    )
    bias: tuple[str, ...] = Field(
        (),
        description="collective variables that flat_histogram makes uniform, each by itself; all torsions "
        "and those of states if none are named",
    )
    timestep_fs: float | None = Field(
        None,
        gt=0,
        le=100,
        description="bonds are not constrained. By default 1 fs by OpenMM (LangevinMiddle), and at most 2 fs "
        "by batched replicas, which give every atom the mean mass and accept or reject what steps lead to",
    )
    friction_per_ps: Positive = Field(1.0, description="Langevin friction")
    n_runs: Count = Field(
        2, description="independent runs, one process each; their spread gives the MD error"
    )
    n_temperatures: Count | None = Field(
        None,
        description="temperatures of replica exchange, the lowest is the target's; by default as many up to "
        "2.5 times that as the molecule's size needs, spaced by measured energies. flat_histogram: by "
        "default all replicas have that of the target; 1 gives all of them the whole bias",
    )
    temperature_ratio: float = Field(
        1.25, gt=1, description="ratio between neighbouring temperatures where n_temperatures is given"
    )
    equilibration_ps: Positive = Field(50.0, description="discarded at the start of each run")
    production_ps: Positive = Field(2000.0, description="kept length of each run (per temperature)")
    minutes: Positive | None = Field(
        None,
        description="batched runs go on beyond production_ps until every state is supported by n_visits, "
        "for at most so many minutes of all runs",
    )
    n_visits: Count = Field(200, description="effective independent visits to each state; see minutes")
    frame_interval_ps: Positive = Field(0.5, description="time between stored frames")
    swap_interval_ps: Positive = Field(0.5, description="time between exchange attempts")
    platform: Literal["auto", "batched", "Reference", "CPU", "OpenCL", "CUDA", "HIP"] = Field(
        "auto",
        description="OpenMM platform, or batched: many replicas (walkers) at once on energies in torch; auto "
        "is the fastest here, as timed, and recorded with the run",
    )
    n_replicas: Count | None = Field(
        None,
        description="sets of replicas, one at each temperature, that share the production of a batched run; "
        "by default as many as make 64 replicas",
    )


class ModelSettings(Settings):
    """The energy network."""

    n_layers: Count = 2
    n_channels: Count = Field(16, description="channels of node features")
    n_radial: Count = Field(16, description="radial functions after mixing")
    l_max: int = Field(2, ge=1, le=3, description="highest spherical harmonic of the density projection")
    hidden: Count = Field(64, description="width of the per-atom networks")
    prior: Prior = Field(
        "bonded",
        description="analytic part of the energy at low noise: bonds and 1-3 distances, or those and the "
        "system's own force field softened by the noise",
    )
    sigma_min_nm: Positive | None = Field(None, description="lowest noise level; from the data if not given")
    sigma_max_nm: Positive | None = Field(None, description="highest noise level; from the data if not given")


class TrainSettings(Settings):
    """Training: denoising score matching plus the diffusive classification loss."""

    objective: Annotated[str, AfterValidator(known_objective)] = Field(
        "dsm+diffclf",
        description="score matching alone or with a term that compares noise levels: diffusive "
        "classification, time-score matching, noise-contrastive estimation",
    )
    start: str | None = Field(
        None,
        description="trained network to start from instead of random numbers: a run directory, or a model "
        "that comes with boltzgen; its sizes and atoms must be those of this run",
    )
    denoise_to: Literal["forces", "data"] = Field(
        "forces",
        description="target of score matching: the data with the system's forces there as a control variate, "
        "which is far less noisy at low noise levels, or the data alone",
    )
    level_loss_weight: float = Field(
        0.1,
        ge=0,
        description="w in L = L_DSM + w L_levels; the noise of classifying swamps score matching at 1",
    )
    levels_per_sample: int = Field(2, ge=2, le=16, description="K, noise levels that a sample is noised to")
    level_choice: LevelChoice = Field(
        "kl",
        description="levels of a sample: at a KL divergence of 0.05 to 10, neighbours of 512 levels, or any",
    )
    batch_size: Count = Field(128, description="configurations per step; each is noised to K levels")
    optimiser: Literal["muon", "adam"] = Field(
        "muon", description="Muon for matrices and Adam for the rest, or Adam for all parameters"
    )
    learning_rate: Positive = 1e-2
    gradient_clip: Positive = 1.0
    warmup_steps: int = Field(200, ge=0, description="linear learning-rate warm-up")
    steps: Count | None = Field(None, description="stop after this many steps")
    minutes: Positive | None = Field(
        None,
        description="stop after this wall-clock time (the sooner of the two); "
        f"{DEFAULT_MINUTES:g} where neither is given",
    )
    min_state_weight: float = Field(
        0.3,
        ge=0,
        le=0.5,
        description="least weight of every state of the system in the training data, so that rare "
        "ones are learned; samples stay exactly weighted; 0 leaves the data as they are",
    )
    held_out_fraction: float = Field(0.1, gt=0, lt=0.5, description="data kept for validation losses")
    compile: Literal["auto", "always", "never"] = Field(
        "auto", description="compile through the double backward"
    )
    consistency_paths: int = Field(
        128,
        ge=0,
        description="paths in each direction that show how the relative energies of noise levels agree in "
        "the end; 0 for none",
    )

    @model_validator(mode="before")
    @classmethod
    def _ends(cls, values: Any) -> Any:
        """Without a limit of either kind training takes the default time."""
        if isinstance(values, dict) and values.get("steps") is None and values.get("minutes") is None:
            return {**values, "minutes": DEFAULT_MINUTES}
        return values


class SampleSettings(Settings):
    """Annealed sampling from Gaussian noise to the OpenMM target."""

    temperature_k: Positive | None = Field(
        None, description="sample at another temperature than that of the data; the system's if not given"
    )
    sampler: Literal["ais", "smc"] = Field("smc", description="smc resamples, ais does not")
    n_particles: Count = Field(2048, description="in all, over the islands")
    n_islands: Count = Field(4, description="independent populations; their spread gives the errors")
    max_island: Count = Field(
        8192, description="particles of a population at most: where there are more, so are populations"
    )
    n_levels: Count = Field(300, description="noise levels")
    bridge_cess: float = Field(
        0.98,
        gt=0.1,
        lt=1,
        description="conditional ESS of each step of the bridge from sigma_min to the target",
    )
    resample_below: float = Field(
        0.5, gt=0, le=1, description="resample when ESS / n falls below; on the bridge only below 0.1"
    )
    resampling: Scheme = Field("systematic", description="scheme; systematic adds the least variance")
    n_pilot: Several = Field(256, description="particles of the pilot run that places levels and step sizes")
    n_forward: Count = Field(512, description="noised data paths for J, BAR and the state populations")
    level_moves: int = Field(1, ge=0, description="MCMC moves per level below move_sigma_nm")
    move_sigma_nm: Positive | None = Field(
        None, description="moves start below this level; default: sigma_data / 2"
    )
    bridge_moves: int = Field(4, ge=0, description="MCMC moves per bridge step")
    move: Annotated[str, AfterValidator(known_move)] = Field(
        "hmc", description="MCMC move: Hamiltonian Monte Carlo, or one that was registered"
    )
    leapfrog_steps: Count = Field(1, description="steps of a move: 1 is MALA, more are HMC")
    kernel: Annotated[str, AfterValidator(known_kernel)] = Field(
        "ddpm+cov",
        description="reverse move between noise levels: DDPM's posterior with the covariance of the "
        "denoiser's errors, with their mean square alone, or without either; exponential integrator; DDIM",
    )
    ddim_eta: float = Field(0.5, gt=0, le=1, description="stochasticity of ddim; 1 is ddpm")
    chunk_size: Count | None = Field(
        None, description="configurations evaluated at once; by default 256 on a CPU, 4096 on a GPU"
    )

    @property
    def populations(self) -> int:
        """Islands there will be, which follow one another: memory in use is that of one."""
        wanted = max(self.n_islands, math.ceil(self.n_particles / self.max_island))
        return min(wanted, self.n_particles)


class AnalyzeSettings(Settings):
    """Free energies, distances to the reference, figures."""

    n_bootstrap: Several = 200
    n_bins: Several = Field(36, description="bins of potentials of mean force")
    max_transport_samples: Count = Field(
        2000, description="points used for the torsional and interatomic Wasserstein distances"
    )
    observables: tuple[str, ...] = Field(
        (),
        description="what else to average: MDTraj functions of a trajectory (compute_rg), or "
        "path/to/file.py:function for one of your own that gives a number or a vector for each frame",
    )


class ExportSettings(Settings):
    """Trajectories for MD tools."""

    formats: tuple[Annotated[str, AfterValidator(known_format)], ...] = Field(
        DEFAULT_FORMATS, description="file formats, of those in `boltzgen.export.formats`"
    )
    n_resampled: Count = Field(1000, description="frames of the equally weighted trajectory")
    stride: Count = Field(1, description="keep every n-th weighted configuration, with its weight")
    select: str | None = Field(
        None, description="atoms that trajectories keep, in MDTraj's language (`not element H`); default: all"
    )
    align: str | None = Field(
        None,
        description="atoms that frames are superposed by onto the reference structure; default: none are",
    )
    n_states: int = Field(
        3, ge=0, le=1000, description="OpenMM State files of equally weighted frames, for MD to go on from"
    )


class Workflow(Settings):
    """One workflow file: a system and the settings of every stage."""

    name: str = Field(pattern=r"^\w[\w.+-]*$", description="name of the run directory")
    description: str = ""
    system: SystemSettings
    collective_variables: dict[str, VariableSettings] = Field(
        default_factory=dict, description="reported beside those of the system, by name"
    )
    states: dict[str, StateSettings] = Field(
        default_factory=dict,
        description="regions of collective variables, beside those of the system, by name; two or more "
        "declared here come first, and the first two give Delta F",
    )
    seed: int = Field(0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    pretrained: str | None = Field(
        None, description="a model that comes with boltzgen, taken instead of simulating and training"
    )
    data: DataSettings = DataSettings()
    simulate: SimulateSettings = SimulateSettings()
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()
    sample: SampleSettings = SampleSettings()
    analyze: AnalyzeSettings = AnalyzeSettings()
    export: ExportSettings = ExportSettings()
    quick: dict[str, dict[str, object]] = Field(
        default_factory=dict, description="settings that `--quick` overrides, by stage"
    )
