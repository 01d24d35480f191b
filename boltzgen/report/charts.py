"""The charts of one run's report, in the sections that show them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh

from boltzgen.analyze.free_energy import PMF, Surface
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.report import panels
from boltzgen.report.sections import Fact, Panel, Section, register
from boltzgen.report.text import number
from boltzgen.rundir.finished_run import FinishedRun
from boltzgen.system.collective_variables import CollectiveVariable

BANDS = "Bands are one standard error."
WHAT_IS_DRAWN = f"Lines are kernel estimates, points histograms. {BANDS}"


def _maps(run: FinishedRun) -> list[Panel]:
    """Ramachandran maps over the first two torsions: model and MD."""
    torsions = [cv for cv in run.stored.variables if cv.kind == "torsion"]
    if len(torsions) < 2:
        return []
    pair = torsions[0], torsions[1]
    what = f"free energy over {pair[0].name} and {pair[1].name}"

    def draw(axis: Axes, ensemble: WeightedEnsemble) -> None:
        mesh = panels.ramachandran_map(axis, ensemble, pair)
        bar = axis.figure.colorbar(mesh, ax=axis, label="-ln P (kT above the minimum)", extend="max")
        if bar.solids is not None:
            bar.solids.set_rasterized(True)

    drawn = []
    for name, ensemble in (
        ("The model, reweighted", run.samples_if_there),
        ("The MD reference", run.stored_reference),
    ):
        if ensemble is not None:
            alt = f"Map of the {what}. {name}."
            caption = f"{name}. The pale ground was never visited."
            map_ = partial(draw, ensemble=ensemble)
            drawn.append(Panel(map_, alt, caption, "ramachandran", name, height=3.7))
    return drawn + _surface_maps(run, pair)


def _surface_maps(run: FinishedRun, pair: tuple[CollectiveVariable, CollectiveVariable]) -> list[Panel]:
    """Standard error of the model's surface, and where it differs from MD."""
    if run.stored.surfaces is None:
        return []
    model, reference = run.stored.surfaces

    def draw(axis: Axes, panel: Callable[..., QuadMesh], surfaces: tuple[Surface, ...]) -> None:
        bar = axis.figure.colorbar(panel(axis, pair, *surfaces), ax=axis, label="kT", extend="both")
        if bar.solids is not None:
            bar.solids.set_rasterized(True)

    over = f"over {pair[0].name} and {pair[1].name}"
    error = partial(draw, panel=panels.surface_error_map, surfaces=(model,))
    gap = partial(draw, panel=panels.surface_difference_map, surfaces=(model, reference))
    pale = "Cells of fewer than five effective samples are left pale."
    caption = " ".join(["Standard error of the model's map.", pale, *_notes(("Model", model))])
    difference = "-ln of the model's density over that of MD: red where the model finds less than MD."
    return [
        Panel(
            error,
            f"Map of the standard error {over}.",
            caption,
            image="surface",
            title="standard error",
            height=3.7,
        ),
        Panel(
            gap,
            f"Map of the difference between model and MD {over}.",
            difference,
            image="surface",
            title="model - MD reference",
            height=3.7,
        ),
    ]


def _profiles(run: FinishedRun) -> list[Panel]:
    """The potential of mean force along every collective variable."""
    known = {cv.name: cv for cv in run.stored.variables}
    drawn = []
    for name, pair in run.stored.profiles.items():
        label = variable_label(known.get(name), name)
        curves = panels.model_and_reference(*pair, run.stored.kernel_profiles.get(name))
        if name in run.stored.stored_profiles:
            curves.append(("stored reference", run.stored.stored_profiles[name], panels.RAW, ":"))
        draw = partial(panels.pmf, label=label, curves=curves)
        alt = f"Potential of mean force along {name} in kT: model reweighted and MD reference, with errors."
        what = WHAT_IS_DRAWN if name in run.stored.kernel_profiles else BANDS
        notes = _notes(*zip(("Model", "MD"), pair, strict=True))
        image = "pmf_" + "".join(c if c.isalnum() else "_" for c in name)
        drawn.append(Panel(draw, alt, " ".join([f"Along {name}. {what}", *notes]), image))
    return drawn


def _notes(*profiles: tuple[str, PMF | Surface]) -> list[str]:
    """A sentence for each profile or surface some of whose errors are lower bounds."""
    return [f"{name}: {profile.note}." for name, profile in profiles if profile.note]


def _energies(run: FinishedRun) -> list[Panel]:
    """Histograms of the energy before and after reweighting, and the weights that lie between."""
    if run.samples_if_there is None:
        return []
    drawn = []
    if run.stored_reference is not None:
        draw = partial(panels.reduced_energies, samples=run.samples_if_there, reference=run.stored_reference)
        alt = "Histograms of the reduced energy: model before and after reweighting, and MD reference."
        caption = "The energy of the force field. After reweighting, model and MD should lie on each other."
        drawn.append(Panel(draw, alt, caption, "reduced_energies"))
    alt = f"Histogram of the weights of {len(run.samples_if_there)} samples relative to equal weights."
    caption = "The weights as sampled, after resampling. A long tail to the right means few samples count."
    return [*drawn, Panel(partial(panels.weights, samples=run.samples_if_there), alt, caption, "weights")]


def _schedule(run: FinishedRun) -> list[Panel]:
    """ESS and acceptance, sd(log w) and J, and state populations along the noise levels."""
    levels, paths = run.stored.diagnostics.get("levels") or [], run.stored.diagnostics.get("paths") or []
    drawn = []
    if levels:
        draw = partial(panels.effective_sizes, levels=levels)
        alt = "Effective sample size and acceptance of moves against the noise level, high noise to low."
        caption = "Effective sample size on the way from noise (left) to the molecule (right)."
        drawn.append(Panel(draw, alt, caption, "annealing"))
    if paths:
        last = number(paths[-1].get("jeffreys"))
        alt = f"Standard deviation of log weights and J against the noise level; J ends at {last} nats."
        caption = "Paths without resampling. Where a curve climbs, the network's levels disagree."
        drawn.append(Panel(partial(panels.agreement, paths=paths), alt, caption, "annealing"))
    if panels.state_names(paths):
        alt = "Population of each state against the noise level, annealed sample and noised data."
        caption = "Solid and dashed lines part where the sampler gains or loses a state."
        drawn.append(Panel(partial(panels.populations, paths=paths), alt, caption, "level_populations"))
    return drawn


def _training(run: FinishedRun) -> list[Panel]:
    """Losses of the training log, by noise band."""
    columns = panels.read_columns(run.path / "model" / "metrics.csv")
    drawn = []
    for kind, caption in (
        ("dsm", "Denoising score matching, which gives the energy its gradient."),
        ("level_loss", "The loss that compares noise levels, which gives them their relative energies."),
    ):
        names = panels.loss_columns(columns, kind)
        if names and "step" in columns:
            draw = partial(panels.losses, columns=columns, names=names)
            alt = f"Training loss against step, by noise band. {caption}"
            drawn.append(Panel(draw, alt, caption, "training", height=4.3))
    return drawn


def variable_label(cv: CollectiveVariable | None, name: str) -> str:
    """The label of a variable's axis."""
    return panels.plain(name) if cv is None else panels.label_of(cv)


def _weight_facts(run: FinishedRun) -> list[Fact]:
    """What the weights amount to: name, number and what it means."""
    facts, samples, diagnostics = [], run.samples_if_there, run.stored.diagnostics
    tail = diagnostics.get("weights_tail") or {}
    shapes = (
        (tail.get("k"), tail.get("error"), "of the weights used, as they descend from each ancestor"),
        (diagnostics.get("pareto_k"), None, "of the weights without resampling"),
    )
    for k, error, of_what in shapes:
        if isinstance(k, float):
            sense = (
                "below 0.7: well behaved" if k < 0.7 else "above 0.7: the tail is too heavy for plain means"
            )
            facts.append(("Pareto k̂", number(round(k, 2), error), f"{of_what}; {sense}"))
    if samples is not None:
        shares = samples.weights
        top = float(np.sort(shares)[-max(1, len(shares) // 100) :].sum())
        ess = samples.ess
        facts.append(("Kish ESS", number(round(ess)), f"of {len(shares):,d} samples, blind to ancestry"))
        facts.append(("Heaviest 1 %", f"{top:.1%}", "of all weight is theirs"))
    return facts


def _without_training(run: FinishedRun) -> str:
    pretrained = run.config.get("pretrained")
    if pretrained:
        return f"The network is {pretrained}, which comes with boltzgen; nothing was trained in this run."
    return "There is no training log in this run."


register(Section("surfaces", "Free energy surfaces", lambda run: [*_maps(run), *_profiles(run)]))
register(Section("weights", "Energies and weights", _energies, facts=_weight_facts))
register(
    Section(
        "schedule",
        "Noise schedule",
        _schedule,
        "Samples start as noise, on the left, and are carried down the noise levels to the molecule, on the "
        "right.",
    )
)
register(Section("training", "Training", _training, without=_without_training))
