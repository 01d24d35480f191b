"""What figures show, one function a panel, drawing on given axes; `pictures` and `inline` arrange them.

Colours stay apart under the common colour-vision deficiencies.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh

from boltzgen.analyze.distances import torsion_histogram
from boltzgen.analyze.free_energy import PMF, Surface, normalised_weights
from boltzgen.ensemble.weighted import Array, WeightedEnsemble
from boltzgen.system.collective_variables import CollectiveVariable

MODEL, REFERENCE, RAW = "#0072B2", "#D55E00", "#8C8C8C"
# Okabe and Ito, Color Universal Design (2008).
CATEGORICAL = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SIGMA = "\N{GREEK SMALL LETTER SIGMA}"
UNVISITED = "#EDEEF0"
"""Ground of a map where nothing was sampled."""

Records = Sequence[Mapping[str, Any]]
Curve = tuple[str, PMF, str, str]
"""Label, profile, colour and line style."""


def ramachandran_map(
    axis: Axes,
    ensemble: WeightedEnsemble,
    torsions: tuple[CollectiveVariable, CollectiveVariable],
    n_bins: int = 48,
    ceiling: float = 9.0,
) -> QuadMesh:
    """Map of ``-ln P`` in kT over two torsions, zero in its lowest cell."""
    with np.errstate(divide="ignore"):
        f = -np.log(torsion_histogram(ensemble, torsions, n_bins))
    edges = np.linspace(-math.pi, math.pi, n_bins + 1)
    return _torsion_mesh(axis, torsions, edges, f - f.min(), "viridis", (0.0, ceiling))


def surface_error_map(
    axis: Axes, torsions: tuple[CollectiveVariable, CollectiveVariable], surface: Surface
) -> QuadMesh:
    """Standard errors of a surface, in kT; cells without one are left pale."""
    return _torsion_mesh(axis, torsions, surface.x_edges, surface.df, "cividis", (0.0, 1.0))


def surface_difference_map(
    axis: Axes,
    torsions: tuple[CollectiveVariable, CollectiveVariable],
    model: Surface,
    reference: Surface,
    limit: float = 2.0,
) -> QuadMesh:
    """``-ln(P_model / P_reference)`` in kT where both have errors; surfaces have the same cells.

    Densities are compared, so that where the two are lowest plays no part.
    """
    with np.errstate(invalid="ignore"):
        p, q = (np.exp(-s.f) / np.exp(-s.f).sum() for s in (model, reference))
        known = np.isfinite(model.df) & np.isfinite(reference.df)
        gap = np.log(np.where(known, q, np.nan) / np.where(known, p, np.nan))
    return _torsion_mesh(axis, torsions, model.x_edges, gap, "RdBu_r", (-limit, limit))


def _torsion_mesh(
    axis: Axes,
    torsions: tuple[CollectiveVariable, CollectiveVariable],
    edges: Array,
    values: Array,
    colours: str,
    limits: tuple[float, float],
) -> QuadMesh:
    """Values ``(n, n)`` of cells of [-pi, pi]^2; what is not finite shows the ground."""
    axis.set_facecolor(UNVISITED)
    axis.set(xlabel=label_of(torsions[0]), ylabel=label_of(torsions[1]), aspect="equal")
    for side in (axis.xaxis, axis.yaxis):
        side.set_ticks([-math.pi, 0.0, math.pi], labels=["-π", "0", "π"])
    shown, (low, high) = np.ma.masked_invalid(values).T, limits
    return axis.pcolormesh(edges, edges, shown, cmap=colours, vmin=low, vmax=high, rasterized=True)


def pmf(axis: Axes, label: str, curves: Sequence[Curve]) -> None:
    """Potentials of mean force with bands of one standard error; ``label`` is that of the variable.

    A style of "." draws points alone; a curve without a name is not in the legend. Values without an error
    are left out: one row of next to no weight can put them anywhere.
    """
    for name, profile, colour, style in curves:
        f = np.where(np.isfinite(profile.df), profile.f, np.nan)
        df = np.nan_to_num(profile.df)
        line, marker = ("", ".") if style == "." else (style, "" if profile.bandwidth else ".")
        axis.plot(profile.centres, f, ls=line, color=colour, label=plain(name), lw=1.6, marker=marker, ms=4)
        if style == ".":
            axis.errorbar(profile.centres, f, df, ls="", color=colour, elinewidth=0.8, alpha=0.7)
        else:
            axis.fill_between(profile.centres, f - df, f + df, color=colour, alpha=0.22, lw=0)
    ends = [curve[1].bin_edges[k] for curve in curves for k in (0, -1)]
    axis.set(xlabel=label, ylabel="free energy (kT)", xlim=(min(ends), max(ends)))


def model_and_reference(model: PMF, reference: PMF, smooth: tuple[PMF, PMF] | None = None) -> list[Curve]:
    """The two curves of one run: of the kernel estimates ``smooth``, histograms as points, where given."""
    lines = [("MD reference", reference, REFERENCE, "--"), ("model, reweighted", model, MODEL, "-")]
    if smooth is None:
        return lines
    points: list[Curve] = [("", profile, colour, ".") for _, profile, colour, _ in lines]
    kernels = [
        (name, k, colour, style) for k, (name, _, colour, style) in zip(smooth[::-1], lines, strict=True)
    ]
    return kernels + points


def reduced_energies(axis: Axes, samples: WeightedEnsemble, reference: WeightedEnsemble) -> None:
    """Histograms of the reduced energy: particles as they are, reweighted, and MD."""
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


def weights(axis: Axes, samples: WeightedEnsemble) -> None:
    """Histogram of the weights that are not zero, in units of an equal share."""
    shares = len(samples) * normalised_weights(samples)
    logs = np.log10(shares[shares > 0])
    middle, span = float(np.median(logs)), max(float(np.ptp(logs)), 0.2)
    edges = np.linspace(max(logs.min(), middle - 4.0), logs.max(), 41) if np.ptp(logs) > 0.2 else None
    edges = np.linspace(middle - span, middle + span, 41) if edges is None else edges
    axis.stairs(np.histogram(logs, edges)[0], 10**edges, color=MODEL, fill=True, alpha=0.85, label="samples")
    axis.axvline(1.0, color=REFERENCE, ls="--", lw=1.4, label="equal weights")
    axis.set(xscale="log", xlabel="weight / equal share", ylabel="samples")


def effective_sizes(axis: Axes, levels: Records) -> None:
    """ESS of the run level by level, where it resampled, and the acceptance of its moves."""
    axis.plot(*series(levels, "ess"), color=MODEL, lw=1.6, label="ESS / n")
    resampled = [row for row in levels if row.get("resampled")]
    axis.plot(*series(resampled, "ess"), "v", color=REFERENCE, ms=5, label="resampled here")
    known = series(levels, "acceptance")
    if len(known[0]):
        axis.plot(*known, color=CATEGORICAL[2], ls="-.", lw=1.4, label="acceptance of moves")
    axis.set(ylabel="fraction", ylim=(0.0, 1.05))
    noise_axis(axis)


def agreement(axis: Axes, paths: Records) -> None:
    """sd(log w) of paths from noise (and from data) without resampling; J and BAR between the two."""
    axis.plot(*series(paths, "sd_log_w"), color=MODEL, lw=1.6, label="sd(log w), from noise")
    known = series(paths, "sd_log_w_forward")
    axis.plot(*known, color=RAW, ls=":", lw=1.6, label="sd(log w), from data")
    axis.plot(*series(paths, "bar_log_z_gap"), color=RAW, lw=1.0, label="log Z: BAR - annealing")
    axis.plot(*series(paths, "jeffreys"), color=REFERENCE, lw=1.6, ls="--", label="J")
    axis.set(ylabel="nats")
    lost = [
        f"{share:.1%} of paths from {source}"
        for source, key in (("noise", "lost_paths"), ("data", "lost_data_paths"))
        if (share := max((row.get(key) or 0.0 for row in paths), default=0.0)) > 0.0
    ]
    if lost:
        axis.set_title(f"up to {' and '.join(lost)} lost, and left out", fontsize=8)
    noise_axis(axis)
    axis.axhline(0.0, color="0.8", lw=0.8)


def offsets(axis: Axes, rows: Records) -> None:
    """Learned free energy of each level minus that by MBAR, with a band of two standard errors."""
    sigma, offset = series(rows, "offset")
    _, error = series(rows, "error")
    axis.plot(sigma, 0.0 * sigma, color=REFERENCE, lw=1.0, ls="--", label="exact energies")
    axis.plot(sigma, offset, color=MODEL, lw=1.6, label="learned - MBAR")
    axis.fill_between(sigma, offset - 2 * error, offset + 2 * error, color=MODEL, alpha=0.2, lw=0)
    axis.set(ylabel="free energy of the level (nats)")
    noise_axis(axis)


def populations(axis: Axes, paths: Records) -> None:
    """Population of every state at every level against noised data."""
    states = state_names(paths)
    for state, colour in zip(states, cycle(len(states)), strict=True):
        for key, style, label in (
            ("populations", "-", "annealed"),
            ("data_populations", "--", "noised data"),
        ):
            rows = [{"sigma": row.get("sigma"), "p": (row.get(key) or {}).get(state)} for row in paths]
            axis.plot(*series(rows, "p"), style, color=colour, lw=1.6, label=plain(f"{state}, {label}"))
    axis.set(ylabel="population", ylim=(0.0, 1.0))
    noise_axis(axis)


def state_names(paths: Records) -> list[str]:
    """States whose populations were recorded along the noise schedule."""
    return sorted({state for row in paths for state in row.get("populations") or {}})


def losses(axis: Axes, columns: Mapping[str, Array], names: Sequence[str]) -> None:
    """Columns of one loss against the training step, one shade a noise band, from low noise to high."""
    bands = [name for name in names if name.endswith("nm")]
    ramp = colormaps["viridis"](np.linspace(0.0, 0.8, max(len(bands), 1)))
    shades = dict(zip(bands, ramp, strict=False))
    others = dict(zip((n for n in names if n not in shades), CATEGORICAL[1:] * 9, strict=False))
    for name in names:
        known = np.isfinite(columns[name]) & np.isfinite(columns["step"])
        colour, width = (shades[name], 1.0) if name in shades else (others[name], 2.0)
        x, y = columns["step"][known], columns[name][known]
        axis.plot(x, y, color=colour, lw=width, label=_loss_label(name))
    axis.set(xlabel="step", ylabel="DSM loss" if "dsm" in names[0] else "loss that compares levels")


def loss_columns(columns: Iterable[str], kind: str) -> list[str]:
    """Columns of one loss; bands of the training batches only where there are none of held-out data."""
    names = [name for name in columns if kind in name]
    held_out = any(name.startswith("held_out") and name.endswith("nm") for name in names)
    return [name for name in names if not (held_out and name.endswith("nm") and name.startswith(kind))]


def read_columns(path: Path | None) -> dict[str, Array]:
    """Numeric columns of a CSV file; empty or unreadable cells are NaN. Nothing where there is no file."""
    if path is None or not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name]
    return {_now_called(name): np.array([_number(row.get(name)) for row in rows]) for name in names}


def _now_called(column: str) -> str:
    """A column's name today; version 0.1.0 had another for the loss that compares levels."""
    return column.replace("heights", "level_loss")


def label_of(cv: CollectiveVariable) -> str:
    """``φ (rad)``."""
    greek = {"phi": "φ", "psi": "ψ", "omega": "ω"}
    return f"{greek.get(cv.name, plain(cv.name))} ({cv.unit})"


def plain(text: str) -> str:
    """A name as a label that is never read as a formula."""
    return text.replace("$", r"\$")


def noise_axis(axis: Axes) -> None:
    """Noise level on a logarithmic axis, decreasing to the right as in the annealing."""
    axis.set_xlabel(f"noise level {SIGMA} (nm)")
    sigmas = np.concatenate([np.asarray(line.get_xdata(), dtype=np.float64) for line in axis.lines])
    if len(sigmas):
        axis.set_xscale("log")
        axis.set_xlim(1.3 * sigmas.max(), sigmas.min() / 1.3)


def cycle(n: int) -> list[str]:
    """``n`` colours, repeating where there are more than there are names for."""
    return [CATEGORICAL[k % len(CATEGORICAL)] for k in range(n)]


def series(rows: Records, key: str) -> tuple[Array, Array]:
    """Positive noise levels and the finite values recorded at them, highest noise first."""
    points = [(row.get("sigma"), row.get(key)) for row in rows]
    known = sorted(((float(s), float(v)) for s, v in points if s is not None and v is not None), reverse=True)
    table = np.array([(s, v) for s, v in known if s > 0 and math.isfinite(v)]).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _loss_label(column: str) -> str:
    """``dsm_0.012nm`` is the band of noise levels about 0.012 nm."""
    if column.endswith("nm"):
        return f"{SIGMA} about {column.rpartition('_')[2].removesuffix('nm')} nm"
    held_out = "held-out" if column.startswith("held_out") else "training"
    return f"all levels, {held_out}"


def _energy_limits(reference: Array, model: Array) -> tuple[float, float]:
    """Axis limits that show MD and the bulk of the model, whatever outliers the model has."""
    reference = reference[np.isfinite(reference)]
    low, high = np.quantile(reference, [0.0005, 0.9995])
    span = max(high - low, 1e-6)
    if len(model):
        low = max(min(low, float(np.quantile(model, 0.01))), low - span)
        high = min(max(high, float(np.quantile(model, 0.99))), high + span)
    return float(low), float(high)


def _number(text: str | None) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError:
        return math.nan
