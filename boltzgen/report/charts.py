"""The charts of one run's page, drawn from its record; a chart that a run has no data for is left out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh

from boltzgen.ensemble import WeightedEnsemble
from boltzgen.free_energy import PMF, Surface
from boltzgen.report import panels
from boltzgen.report.inline import Chart, Ink
from boltzgen.report.record import Record
from boltzgen.report.text import number
from boltzgen.system import CollectiveVariable

BANDS = "Bands are one standard error."
WHAT_IS_DRAWN = f"Lines are kernel estimates, points histograms. {BANDS}"


def maps(record: Record, ink: Ink) -> list[Chart]:
    """Ramachandran maps over the first two torsions: model and MD."""
    torsions = [cv for cv in record.variables if cv.kind == "torsion"]
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
    for name, ensemble in (("The model, reweighted", record.samples), ("The MD reference", record.reference)):
        if ensemble is not None:
            alt = f"Map of the {what}. {name}."
            caption = f"{name}. The pale ground was never visited."
            drawn.append(ink.chart(partial(draw, ensemble=ensemble), alt, caption, height=3.7))
    return drawn + surface_maps(record, pair, ink)


def surface_maps(
    record: Record, pair: tuple[CollectiveVariable, CollectiveVariable], ink: Ink
) -> list[Chart]:
    """Standard error of the model's surface, and where it differs from MD."""
    if record.surfaces is None:
        return []
    model, reference = record.surfaces

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
        ink.chart(error, f"Map of the standard error {over}.", caption, height=3.7),
        ink.chart(gap, f"Map of the difference between model and MD {over}.", difference, height=3.7),
    ]


def profiles(record: Record, ink: Ink) -> list[Chart]:
    """The potential of mean force along every collective variable."""
    known = {cv.name: cv for cv in record.variables}
    drawn = []
    for name, pair in record.profiles.items():
        label = variable_label(known.get(name), name)
        curves = panels.model_and_reference(*pair, record.kernel_profiles.get(name))
        draw = partial(panels.pmf, label=label, curves=curves)
        alt = f"Potential of mean force along {name} in kT: model reweighted and MD reference, with errors."
        what = WHAT_IS_DRAWN if name in record.kernel_profiles else BANDS
        notes = _notes(*zip(("Model", "MD"), pair, strict=True))
        drawn.append(ink.chart(draw, alt, " ".join([f"Along {name}. {what}", *notes])))
    return drawn


def _notes(*profiles: tuple[str, PMF | Surface]) -> list[str]:
    """A sentence for each profile or surface some of whose errors are lower bounds."""
    return [f"{name}: {profile.note}." for name, profile in profiles if profile.note]


def energies(record: Record, ink: Ink) -> list[Chart]:
    """Histograms of the energy before and after reweighting, and the weights that lie between."""
    if record.samples is None:
        return []
    drawn = []
    if record.reference is not None:
        draw = partial(panels.reduced_energies, samples=record.samples, reference=record.reference)
        alt = "Histograms of the reduced energy: model before and after reweighting, and MD reference."
        caption = "The energy of the force field. After reweighting, model and MD should lie on each other."
        drawn.append(ink.chart(draw, alt, caption))
    alt = f"Histogram of the weights of {len(record.samples)} samples relative to equal weights."
    caption = "The weights as sampled, after resampling. A long tail to the right means few samples count."
    return [*drawn, ink.chart(partial(panels.weights, samples=record.samples), alt, caption)]


def ladder(record: Record, ink: Ink) -> list[Chart]:
    """ESS and acceptance, sd(log w) and J, and state populations along the noise levels."""
    levels, paths = record.diagnostics.get("levels") or [], record.diagnostics.get("paths") or []
    drawn = []
    if levels:
        draw = partial(panels.effective_sizes, levels=levels, acceptance=True)
        alt = "Effective sample size and acceptance of moves against the noise level, high noise to low."
        caption = "Effective sample size on the way from noise (left) to the molecule (right)."
        drawn.append(ink.chart(draw, alt, caption))
    if paths:
        last = number(paths[-1].get("jeffreys"))
        alt = f"Standard deviation of log weights and J against the noise level; J ends at {last} nats."
        caption = "Paths without resampling. Where a curve climbs, the network's levels disagree."
        drawn.append(ink.chart(partial(panels.agreement, paths=paths), alt, caption))
    if panels.state_names(paths):
        alt = "Population of each state against the noise level, annealed sample and noised data."
        caption = "Solid and dashed lines part where the sampler gains or loses a state."
        drawn.append(ink.chart(partial(panels.populations, paths=paths), alt, caption))
    return drawn


def training(record: Record, ink: Ink) -> list[Chart]:
    """Losses of the training log, by noise band."""
    columns = panels.read_columns(record.directory / "model" / "metrics.csv")
    drawn = []
    for kind, caption in (
        ("dsm", "Denoising score matching, which gives the energy its slopes."),
        ("heights", "The loss that compares noise levels, which gives the energy its heights."),
    ):
        names = panels.loss_columns(columns, kind)
        if names and "step" in columns:
            draw = partial(panels.losses, columns=columns, names=names, darkest=0.8)
            alt = f"Training loss against step, by noise band. {caption}"
            drawn.append(ink.chart(draw, alt, caption, height=4.3))
    return drawn


def variable_label(cv: CollectiveVariable | None, name: str) -> str:
    """The label of a variable's axis."""
    return panels.plain(name) if cv is None else panels.label_of(cv)
