"""The figures of a run, one function each; colours stay apart under the common colour-vision deficiencies."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from boltzgen.ensemble import Array, WeightedEnsemble
from boltzgen.free_energy import PMF, normalised_weights
from boltzgen.metrics import torsion_histogram
from boltzgen.system import CollectiveVariable

MODEL, REFERENCE, RAW = "#0072B2", "#D55E00", "#8C8C8C"
# Okabe and Ito, Color Universal Design (2008).
CATEGORICAL = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


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
        with np.errstate(divide="ignore"):
            f = -np.log(torsion_histogram(ensemble, torsions, n_bins))
        edges = np.linspace(-math.pi, math.pi, n_bins + 1)
        surface = np.ma.masked_invalid(f - f.min())
        mesh = axis.pcolormesh(
            edges, edges, surface.T, cmap="viridis", vmin=0.0, vmax=ceiling, rasterized=True
        )
        axis.set(title=title, xlabel=_label(torsions[0]), aspect="equal")
        for side in (axis.xaxis, axis.yaxis):
            side.set_ticks([-math.pi, 0.0, math.pi], labels=["-π", "0", "π"])
    axes[0].set_ylabel(_label(torsions[1]))
    figure.colorbar(mesh, ax=axes, label="-ln P (kT above the minimum)", extend="max")
    return _save(figure, path)


def pmf(cv: CollectiveVariable, model: PMF, reference: PMF, path: Path) -> Path:
    """Potentials of mean force of model and MD with bands of one standard error."""
    figure, (axis,) = _axes(1, 1, width=5.2, height=3.8)
    for label, profile, colour, style in (
        ("MD reference", reference, REFERENCE, "--"),
        ("model, reweighted", model, MODEL, "-"),
    ):
        f = np.where(np.isfinite(profile.f), profile.f, np.nan)
        df = np.nan_to_num(profile.df)
        axis.plot(profile.centres, f, style, color=colour, label=label, lw=1.6, marker=".", ms=4)
        axis.fill_between(profile.centres, f - df, f + df, color=colour, alpha=0.22, lw=0)
    axis.set(xlabel=_label(cv), ylabel="free energy (kT)", xlim=(model.bin_edges[0], model.bin_edges[-1]))
    axis.legend(frameon=False)
    return _save(figure, path)


def reduced_energies(samples: WeightedEnsemble, reference: WeightedEnsemble, path: Path) -> Path:
    """Histograms of the reduced energy: particles as they are, reweighted, and MD."""
    figure, (axis,) = _axes(1, 1, width=5.2, height=3.8)
    finite = np.isfinite(samples.reduced_energies)
    energies = samples.reduced_energies[finite]
    series = (
        ("model, unweighted", energies, np.full(len(energies), 1.0 / max(len(energies), 1)), RAW, ":"),
        ("model, reweighted", energies, normalised_weights(samples)[finite], MODEL, "-"),
        ("MD reference", reference.reduced_energies, normalised_weights(reference), REFERENCE, "--"),
    )
    edges = np.linspace(*_energy_limits(reference.reduced_energies, energies), 46)
    for label, values, weights, colour, style in series:
        density = np.histogram(values, edges, weights=weights)[0] / np.diff(edges)
        axis.stairs(density, edges, label=label, color=colour, ls=style, lw=1.6)
    beyond = float(np.mean((energies < edges[0]) | (energies > edges[-1]))) if len(energies) else 0.0
    note = f"  ({beyond:.0%} of the unweighted beyond the axis)" if beyond > 0.005 else ""
    axis.set(xlabel=f"u = U / kT{note}", ylabel="probability density")
    axis.set_ylim(0.0, 1.35 * axis.get_ylim()[1])
    axis.legend(frameon=False, loc="upper right")
    return _save(figure, path)


def annealing(levels: Sequence[Mapping[str, Any]], paths: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Per-level ESS of the run, and sd(log w) of annealing without resampling, against the noise level."""
    figure, axes = _axes(1, 2, width=9.0, height=3.6)
    axes[0].plot(*_series(levels, "ess"), color=MODEL, lw=1.6, label="ESS / n")
    resampled = [row for row in levels if row.get("resampled")]
    axes[0].plot(*_series(resampled, "ess"), "v", color=REFERENCE, ms=5, label="resampled here")
    axes[0].set(ylabel="effective sample size / n", ylim=(0.0, 1.05))
    axes[1].plot(*_series(paths, "sd_log_w"), color=MODEL, lw=1.6, marker=".", label="sd(log w)")
    axes[1].plot(*_series(paths, "jeffreys"), color=REFERENCE, lw=1.6, ls="--", marker=".", label="J")
    axes[1].set(ylabel="nats", ylim=(0.0, None))
    for axis in axes:
        _noise_axis(axis)
        axis.legend(frameon=False)
    return _save(figure, path)


def heights(paths: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """How a network's heights agree across levels: sd(log w) from noise and from data, J, populations."""
    states = sorted({state for row in paths for state in row.get("populations") or {}})
    figure, axes = _axes(1, 2 if states else 1, width=9.6 if states else 5.2, height=3.8)
    for key, label, colour, style in (
        ("sd_log_w", "sd(log w), from noise", MODEL, "-"),
        ("sd_log_w_forward", "sd(log w), from data", RAW, ":"),
        ("jeffreys", "J", REFERENCE, "--"),
    ):
        axes[0].plot(*_series(paths, key), color=colour, ls=style, lw=1.6, label=label)
    axes[0].set(ylabel="nats", ylim=(0.0, None), title="agreement of heights")
    if states:
        _populations(axes[1], states, paths)
    for axis in axes:
        _noise_axis(axis)
        axis.legend(frameon=False, fontsize=8)
    return _save(figure, path)


def level_populations(paths: Sequence[Mapping[str, Any]], path: Path) -> Path | None:
    """Population of every state at every level against noised data; None if nothing was recorded."""
    states = sorted({state for row in paths for state in row.get("populations") or {}})
    if not states:
        return None
    figure, (axis,) = _axes(1, 1, width=5.6, height=3.8)
    _populations(axis, states, paths)
    _noise_axis(axis)
    axis.legend(frameon=False, fontsize=8)
    return _save(figure, path)


def _populations(axis: Axes, states: Sequence[str], paths: Sequence[Mapping[str, Any]]) -> None:
    for state, colour in zip(states, _cycle(len(states)), strict=True):
        for key, style, label in (
            ("populations", "-", "annealed"),
            ("data_populations", "--", "noised data"),
        ):
            rows = [{"sigma": row.get("sigma"), "p": (row.get(key) or {}).get(state)} for row in paths]
            axis.plot(*_series(rows, "p"), style, color=colour, lw=1.6, label=f"{state}, {label}")
    axis.set(ylabel="population", ylim=(0.0, 1.0))


def training(metrics_csv: Path | None, path: Path) -> Path | None:
    """Losses of the metrics file against step, noise bands of held-out data where given; None without any."""
    columns = _read_columns(metrics_csv) if metrics_csv is not None and metrics_csv.is_file() else {}
    groups = [_training_columns(list(columns), kind) for kind in ("dsm", "heights")]
    groups = [names for names in groups if names]
    if not groups or "step" not in columns:
        return None
    figure, axes = _axes(1, len(groups), width=4.8 * len(groups), height=3.8)
    for axis, names in zip(axes, groups, strict=True):
        bands = [name for name in names if name.endswith("nm")]
        shades = dict(
            zip(bands, colormaps["viridis"](np.linspace(0.0, 0.92, max(len(bands), 1))), strict=False)
        )
        others = dict(zip((n for n in names if n not in shades), CATEGORICAL[1:] * 9, strict=False))
        for name in names:
            known = np.isfinite(columns[name]) & np.isfinite(columns["step"])
            colour, width = (shades[name], 1.0) if name in shades else (others[name], 2.0)
            axis.plot(
                columns["step"][known],
                columns[name][known],
                color=colour,
                lw=width,
                label=_training_label(name),
            )
        axis.set(xlabel="step", ylabel="DSM loss" if "dsm" in names[0] else "loss that compares levels")
    axes[0].legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _save(figure, path)


def _training_columns(columns: list[str], kind: str) -> list[str]:
    """Columns of one loss; bands of the training batches only where there are none of held-out data."""
    names = [name for name in columns if kind in name]
    held_out = any(name.startswith("held_out") and name.endswith("nm") for name in names)
    return [name for name in names if not (held_out and name.endswith("nm") and name.startswith(kind))]


def _training_label(column: str) -> str:
    """``dsm_0.012nm`` is the band of noise levels about 0.012 nm."""
    if column.endswith("nm"):
        return f"sigma about {column.rpartition('_')[2].removesuffix('nm')} nm"
    held_out = "held-out" if column.startswith("held_out") else "training"
    return f"all levels, {held_out}"


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


def _label(cv: CollectiveVariable) -> str:
    greek = {"phi": "φ", "psi": "ψ", "omega": "ω"}
    return f"{greek.get(cv.name, cv.name)} ({cv.unit})"


def _noise_axis(axis: Axes) -> None:
    """Noise level on a logarithmic axis, decreasing to the right as in the annealing."""
    axis.set_xlabel(r"noise level $\sigma$ (nm)")
    sigmas = np.concatenate([np.asarray(line.get_xdata(), dtype=np.float64) for line in axis.lines])
    if len(sigmas):
        axis.set_xscale("log")
        axis.set_xlim(1.3 * sigmas.max(), sigmas.min() / 1.3)


def _cycle(n: int) -> Iterable[str]:
    return [CATEGORICAL[k % len(CATEGORICAL)] for k in range(n)]


def _series(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[Array, Array]:
    """Positive noise levels and the finite values recorded at them, highest noise first."""
    points = [(row.get("sigma"), row.get(key)) for row in rows]
    known = sorted(((float(s), float(v)) for s, v in points if s is not None and v is not None), reverse=True)
    table = np.array([(s, v) for s, v in known if s > 0 and math.isfinite(v)]).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _energy_limits(reference: Array, model: Array) -> tuple[float, float]:
    """Axis limits that show MD and the bulk of the model, whatever outliers the model has."""
    reference = reference[np.isfinite(reference)]
    low, high = np.quantile(reference, [0.0005, 0.9995])
    span = max(high - low, 1e-6)
    if len(model):
        low = max(min(low, float(np.quantile(model, 0.01))), low - span)
        high = min(max(high, float(np.quantile(model, 0.99))), high + span)
    return float(low), float(high)


def _read_columns(path: Path) -> dict[str, Array]:
    """Numeric columns of a CSV file; empty or unreadable cells are NaN."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name]
    return {name: np.array([_number(row.get(name)) for row in rows]) for name in names}


def _number(text: str | None) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError:
        return math.nan
