"""The figures of a run as image files, one function each; what they show is in `panels`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from boltzgen.ensemble import WeightedEnsemble
from boltzgen.free_energy import PMF, Surface
from boltzgen.report import panels
from boltzgen.system import CollectiveVariable


def ramachandran(
    model: WeightedEnsemble,
    reference: WeightedEnsemble,
    torsions: tuple[CollectiveVariable, CollectiveVariable],
    path: Path,
    n_bins: int = 48,
    ceiling: float = 9.0,
) -> Path:
    """Maps of ``-ln P`` in kT over two torsions, reweighted model beside MD, on one colour scale."""
    figure, axes = _axes(1, 2, width=9.0, height=4.2)
    for axis, title, ensemble in zip(
        axes, ("model, reweighted", "MD reference"), (model, reference), strict=True
    ):
        mesh = panels.ramachandran_map(axis, ensemble, torsions, n_bins, ceiling)
        axis.set_title(title)
    axes[1].set_ylabel("")
    figure.colorbar(mesh, ax=axes, label="-ln P (kT above the minimum)", extend="max")
    return _save(figure, path)


def surface(
    torsions: tuple[CollectiveVariable, CollectiveVariable], model: Surface, reference: Surface, path: Path
) -> Path:
    """The model's free energy over two torsions, its standard error, and its difference from MD."""
    figure, axes = _axes(1, 3, width=13.0, height=4.0)
    drawn = (
        panels.surface_map(axes[0], torsions, model),
        panels.surface_error_map(axes[1], torsions, model),
        panels.surface_difference_map(axes[2], torsions, model, reference),
    )
    titles = ("free energy", "standard error", "model - MD reference")
    for axis, mesh, title in zip(axes, drawn, titles, strict=True):
        axis.set_title(title)
        figure.colorbar(mesh, ax=axis, label="kT", extend="both" if axis is axes[2] else "max")
    return _save(figure, path)


def pmf(
    cv: CollectiveVariable,
    model: PMF,
    reference: PMF,
    path: Path,
    smooth: tuple[PMF, PMF] | None = None,
) -> Path:
    """Potentials of mean force of model and MD with bands of one standard error.

    Histograms are points where there are kernel estimates ``smooth`` of model and MD to draw as lines.
    """
    figure, (axis,) = _axes(1, 1, width=5.2, height=3.8)
    panels.pmf(axis, panels.label_of(cv), panels.model_and_reference(model, reference, smooth))
    axis.legend(frameon=False)
    return _save(figure, path)


def reduced_energies(samples: WeightedEnsemble, reference: WeightedEnsemble, path: Path) -> Path:
    """Histograms of the reduced energy: particles as they are, reweighted, and MD."""
    figure, (axis,) = _axes(1, 1, width=5.2, height=3.8)
    panels.reduced_energies(axis, samples, reference)
    axis.set_ylim(0.0, 1.35 * axis.get_ylim()[1])
    axis.legend(frameon=False, loc="upper right")
    return _save(figure, path)


def annealing(levels: Sequence[Mapping[str, Any]], paths: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Per-level ESS of the run, and sd(log w) of annealing without resampling, against the noise level."""
    figure, axes = _axes(1, 2, width=9.0, height=3.6)
    panels.effective_sizes(axes[0], levels)
    panels.agreement(axes[1], paths, forward=False)
    for axis in axes:
        axis.legend(frameon=False)
    return _save(figure, path)


def heights(paths: Sequence[Mapping[str, Any]], offsets: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """How a network's heights agree across levels: sd(log w), J, constants against MBAR, populations."""
    with_states = bool(panels.state_names(paths))
    n = 3 if with_states else 2
    figure, axes = _axes(1, n, width=4.6 * n, height=3.8)
    panels.agreement(axes[0], paths)
    panels.offsets(axes[1], offsets)
    if with_states:
        panels.populations(axes[2], paths)
    for axis in axes:
        axis.legend(frameon=False, fontsize=8)
    return _save(figure, path)


def level_populations(paths: Sequence[Mapping[str, Any]], path: Path) -> Path | None:
    """Population of every state at every level against noised data; None if nothing was recorded."""
    if not panels.state_names(paths):
        return None
    figure, (axis,) = _axes(1, 1, width=5.6, height=3.8)
    panels.populations(axis, paths)
    axis.legend(frameon=False, fontsize=8)
    return _save(figure, path)


def training(metrics_csv: Path | None, path: Path) -> Path | None:
    """Losses of the metrics file against step, noise bands of held-out data where given; None without any."""
    columns = panels.read_columns(metrics_csv)
    groups = [panels.loss_columns(columns, kind) for kind in ("dsm", "heights")]
    groups = [names for names in groups if names]
    if not groups or "step" not in columns:
        return None
    figure, axes = _axes(1, len(groups), width=4.8 * len(groups), height=3.8)
    for axis, names in zip(axes, groups, strict=True):
        panels.losses(axis, columns, names)
    axes[0].legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _save(figure, path)


def _axes(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes: list[Axes] = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=150)
    return path
