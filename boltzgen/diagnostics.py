"""How a sampling run went, as numbers for the report and a verdict in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from boltzgen.ensemble import WeightedEnsemble, pareto_k
from boltzgen.estimates import effective_carriers
from boltzgen.sampler.islands import Combined
from boltzgen.sampler.ladder import Ladder
from boltzgen.sampler.paths import Paths, bar_log_z, jeffreys, surviving
from boltzgen.sampler.resampling import ess_fraction
from boltzgen.sampler.smc import Population
from boltzgen.sampler.verdict import Verdict, judge
from boltzgen.system import MolecularSystem


def summarise(
    system: MolecularSystem,
    samples: WeightedEnsemble,
    combined: Combined,
    populations: list[Population],
    tally: Mapping[str, int],
) -> dict[str, object]:
    """log Z, ancestors in all and per state, losses, and the history of the first island.

    ``samples`` are ``combined`` as an ensemble. Ancestors per state are effective numbers: one whose weight
    the bridge has taken away is none. ``tally`` counts mirror images folded (``wrong_hand``) and
    ``diastereomers`` removed.
    """
    alive = torch.isfinite(combined.log_weights)
    carriers = {
        state.name: effective_carriers(samples, state.members(samples.positions)) for state in system.states
    }
    history = [_json_ready(record) for record in populations[0].history]
    return {
        "log_z": combined.log_z,
        "log_z_error": combined.log_z_error,
        "log_z_islands": [p.log_z for p in populations],
        "genealogical_ess": combined.genealogical_ess,
        "n_particles": len(combined.x),
        "n_ancestors": len(combined.ancestors[alive].unique()),
        "ancestors_per_state": carriers,
        "non_finite": sum(p.n_non_finite for p in populations),
        "wrong_hand": tally.get("wrong_hand", 0),
        "diastereomers": tally.get("diastereomers", 0),
        "levels": [record for record in history if "sigma" in record],
        "bridge": [record for record in history if "lambda" in record],
    }


def path_diagnostics(
    ladder: Ladder, forward: Paths, reverse: Paths, shares: Mapping[str, list[float]]
) -> dict[str, object]:
    """What paths from noise and paths from data say of the network, level by level and at sigma_min.

    ``shares`` are the sampler's state populations at every level but the first.
    """
    divergence = jeffreys(forward, reverse)
    rows: list[dict[str, object]] = []
    for k, sigma in enumerate(ladder.sigmas):
        kept = surviving(reverse.log_weights[k])
        row: dict[str, object] = {
            "sigma": sigma,
            "sd_log_w": float(kept.std()),
            "sd_log_w_forward": float(surviving(forward.log_weights[k]).std()),
            "lost_paths": 1.0 - len(kept) / len(reverse.log_weights[k]),
            "ess": ess_fraction(reverse.log_weights[k]),
            "jeffreys": divergence[k],
            "bar_log_z_gap": _bar_gap(forward.log_weights[k].cpu(), reverse.log_weights[k].cpu()),
            "data_populations": {name: values[k] for name, values in forward.populations.items()},
        }
        if k > 0:
            row["populations"] = {name: values[k - 1] for name, values in shares.items()}
        rows.append(row)
    final = reverse.log_weights[-1]
    return {
        "paths": rows,
        "kish_ess_fraction": ess_fraction(final),
        "pareto_k": pareto_k(final.cpu().numpy()),
        "jeffreys": divergence[-1],
        "bar_log_z_gap": rows[-1]["bar_log_z_gap"],
    }


def judge_run(diagnostics: Mapping[str, Any], system: MolecularSystem, data: WeightedEnsemble) -> Verdict:
    """The verdict on a run from its diagnostics and the states that the data visit."""
    shares = {s.name: float(data.weights[s.members(data.positions)].sum()) for s in system.states}
    return judge(
        genealogical_ess=diagnostics["genealogical_ess"],
        log_z_error=diagnostics["log_z_error"],
        jeffreys=diagnostics["jeffreys"],
        ancestors_per_state=diagnostics["ancestors_per_state"],
        data_populations=shares,
        n_particles=diagnostics["n_particles"],
        n_lost=diagnostics["non_finite"] + diagnostics["diastereomers"],
    )


def _bar_gap(forward: Tensor, reverse: Tensor) -> float | None:
    """log Z by BAR of paths in both directions minus that of the mean weight of paths from noise."""
    by_bar = bar_log_z(forward, reverse)
    mean = float(torch.logsumexp(reverse, 0)) - math.log(len(reverse))
    return None if by_bar is None else by_bar - mean


def _json_ready(record: Mapping[str, float]) -> dict[str, object]:
    """A level's record without numbers that JSON cannot hold."""
    finite: dict[str, object] = {k: v for k, v in record.items() if math.isfinite(v)}
    return finite | {"resampled": bool(record["resampled"]), "acceptance": record.get("acceptance")}
