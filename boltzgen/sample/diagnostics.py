"""How a sampling run went, as numbers for the report and a verdict in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from boltzgen.ensemble.tails import Tail, tail_of
from boltzgen.ensemble.uncertainty import cluster_weights, effective_independent
from boltzgen.ensemble.weighted import WeightedEnsemble, pareto_k
from boltzgen.sample.verdict import Evidence, Verdict, judge
from boltzgen.smc.algorithm import Population
from boltzgen.smc.bidirectional import Paths
from boltzgen.smc.bounds import log_z_note
from boltzgen.smc.combine import Combined
from boltzgen.smc.divergences import Measured, bar_gap, jeffreys_divergence, lost_share, surviving
from boltzgen.smc.levels import Schedule
from boltzgen.smc.presence import Presence
from boltzgen.smc.resampling import ess_fraction
from boltzgen.system.molecular_system import MolecularSystem


def summarise(
    system: MolecularSystem,
    samples: WeightedEnsemble,
    combined: Combined,
    populations: list[Population],
    counts: Mapping[str, int],
) -> dict[str, object]:
    """log Z, ancestors in all and per state, losses, and the history of the first island.

    ``samples`` are ``combined`` as an ensemble. Ancestors per state are effective numbers: one whose weight
    the bridge has taken away is none. ``weights_tail`` is of the weights that descend from each ancestor,
    which without resampling are those of the particles. ``counts`` has enantiomers reflected
    (``wrong_hand``) and ``diastereomers`` removed.
    """
    alive = torch.isfinite(combined.log_weights)
    independent = {
        state.name: effective_independent(samples, state.members(samples.positions))
        for state in system.states
    }
    history = [_json_ready(record) for record in populations[0].history]
    tail = tail_of_ancestors(samples)
    return {
        "log_z": combined.log_z,
        "log_z_error": combined.log_z_error,
        "log_z_note": "" if combined.log_z_error is not None else log_z_note(combined.genealogical_ess),
        "log_z_islands": [p.log_z for p in populations],
        "genealogical_ess": combined.genealogical_ess,
        "largest_share": float(cluster_weights(samples).max()),
        "weights_tail": tail and asdict(tail),
        "n_particles": len(combined.x),
        "n_ancestors": len(combined.ancestors[alive].unique()),
        "ancestors_per_state": independent,
        "non_finite": sum(p.n_non_finite for p in populations),
        "wrong_hand": counts.get("wrong_hand", 0),
        "diastereomers": counts.get("diastereomers", 0),
        "levels": [record for record in history if "sigma" in record],
        "bridge": [record for record in history if "lambda" in record],
    }


def tail_of_ancestors(samples: WeightedEnsemble) -> Tail | None:
    """The tail of what descends from each initial particle: these are independent where particles are not."""
    with np.errstate(divide="ignore"):
        return tail_of(np.log(cluster_weights(samples)))


def path_diagnostics(
    schedule: Schedule,
    forward: Paths,
    reverse: Paths,
    shares: Mapping[str, list[float]],
    blocks: Tensor | None = None,
) -> dict[str, object]:
    """What paths from noise and paths from data say of the network, level by level and at sigma_min.

    ``shares`` are the sampler's state populations at every level but the first; ``blocks`` ``(n,)`` number
    the correlated frames that forward paths begin at.
    """
    rows: list[dict[str, object]] = []
    for k, sigma in enumerate(schedule.sigmas):
        f, r = forward.log_weights[k].cpu(), reverse.log_weights[k].cpu()
        gap = bar_gap(f, r)
        row: dict[str, object] = {
            "sigma": sigma,
            "sd_log_w": float(surviving(r).std()),
            "sd_log_w_forward": float(surviving(f).std()),
            "lost_paths": lost_share(r),
            "lost_data_paths": lost_share(f),
            "ess": ess_fraction(r),
            "jeffreys": jeffreys_divergence(f, r).value,
            "bar_log_z_gap": gap and gap.value,
            "data_populations": {name: values[k] for name, values in forward.populations.items()},
        }
        if k > 0:
            row["populations"] = {name: values[k - 1] for name, values in shares.items()}
        rows.append(row)
    f, r = forward.log_weights[-1].cpu(), reverse.log_weights[-1].cpu()
    divergence, gap = jeffreys_divergence(f, r, blocks), bar_gap(f, r, blocks)
    return {
        "paths": rows,
        "kish_ess_fraction": ess_fraction(r),
        "pareto_k": pareto_k(r.numpy()),
        "jeffreys": divergence.value,
        "jeffreys_error": divergence.error,
        "bar_log_z_gap": gap and gap.value,
        "bar_log_z_gap_error": gap and gap.error,
        "lost_data_paths": lost_share(f),
    }


def judge_run(diagnostics: Mapping[str, Any], system: MolecularSystem, data: WeightedEnsemble) -> Verdict:
    """The verdict on a run from its diagnostics and the states that the data visit."""
    shares = {s.name: float(data.weights[s.members(data.positions)].sum()) for s in system.states}
    tempered = diagnostics.get("tempered", False)  # data are up-weighted anew: not what the network learned
    gap, tail = None if tempered else diagnostics.get("bar_log_z_gap"), diagnostics.get("weights_tail")
    evidence = Evidence(
        genealogical_ess=diagnostics["genealogical_ess"],
        log_z_error=diagnostics["log_z_error"],
        jeffreys=diagnostics["jeffreys"],
        ancestors_per_state=diagnostics["ancestors_per_state"],
        data_populations=shares,
        n_particles=diagnostics["n_particles"],
        n_lost=diagnostics["non_finite"] + diagnostics["diastereomers"],
        jeffreys_error=math.inf if tempered else diagnostics.get("jeffreys_error") or 0.0,
        bar_gap=None if gap is None else Measured(gap, diagnostics.get("bar_log_z_gap_error") or 0.0),
        lost_data_paths=diagnostics.get("lost_data_paths") or 0.0,
        tail=None if tail is None else Tail(**tail),
        regions=[Presence(**region) for region in diagnostics.get("regions") or ()],
    )
    return judge(evidence)


def _json_ready(record: Mapping[str, float]) -> dict[str, object]:
    """A level's record without numbers that JSON cannot hold."""
    finite: dict[str, object] = {k: v for k, v in record.items() if math.isfinite(v)}
    return finite | {"resampled": bool(record["resampled"]), "acceptance": record.get("acceptance")}
