"""One run of batched replicas: a hot start, a bias or temperatures from what it finds, then production."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from boltzgen.runtime.context import unheard
from boltzgen.simulate.batched_replicas import BatchedReplicas
from boltzgen.simulate.bias import Bias, biased_variables
from boltzgen.simulate.exchange_levels import ExchangeLevels
from boltzgen.simulate.flat_histogram import flatness, growth
from boltzgen.simulate.level_weights import target_log_weights
from boltzgen.simulate.recorder import Advance, Recorder, Task, joined
from boltzgen.simulate.run_plan import RunPlan
from boltzgen.simulate.temperature_ladder import evenly_spaced
from boltzgen.simulate.visits import Visits

SAVE_EVERY_SECONDS = 60.0
LEAST_MOVED = 0.1
"""Share of stretches of dynamics that are accepted; with fewer, steps are too long to get anywhere."""
ENOUGH_MOVES = 100
"""Stretches of all replicas from which this share is judged."""
MORE = 0.2
"""Of the production is added at a time until all states have been visited often enough."""


@dataclass
class BatchedRun:
    """Replicas at work for a task.

    series
        What is known of every replica of every frame so far, by name, in time order.
    """

    task: Task
    plan: RunPlan
    replicas: BatchedReplicas
    advance: Advance
    series: dict[str, list[Tensor]] = field(default_factory=dict)
    n_pieces: int = 0
    seconds_before: float = 0.0
    started: float = field(default_factory=time.monotonic)
    told: float = 0.0
    saved: float = field(default_factory=time.monotonic)

    # ---- before frames count ----------------------------------------------------------------------------

    def prepare(self) -> None:
        """Leave the reference configuration, find bias and temperatures, and equilibrate under them."""
        plan, replicas = self.plan, self.replicas
        bias = replicas.dynamics.bias
        wanted = plan.levels
        seen = self._moved(plan.n_hot, lambda: replicas.x)
        if plan.n_trial:
            replicas.set_levels(wanted)
            energies = self._moved(plan.n_trial, lambda: replicas.by_level(replicas.energy).mean(0))
            mean = torch.stack(energies[len(energies) // 2 :]).mean(0)
            wanted = ExchangeLevels.at(evenly_spaced(wanted.temperatures_k.numpy(), mean.numpy()))
        if bias is not None:
            replicas.set_levels(ExchangeLevels.at(wanted.temperatures_k[:1].numpy(), 1.0))
            self._learn(bias, torch.cat(seen[len(seen) // 2 :]))
        replicas.set_levels(wanted)
        self._moved(plan.n_equilibration)
        self._check_moves()
        replicas.count_anew()

    def _check_moves(self) -> None:
        """Raise FloatingPointError where steps are so long that replicas stay where they are."""
        if self.replicas.n_moves >= ENOUGH_MOVES and self.replicas.share_moved < LEAST_MOVED:
            raise FloatingPointError(f"only {self.replicas.share_moved:.0%} of moves are accepted")

    def _learn(self, bias: Bias, seen: Tensor) -> None:
        """Raise the bias where replicas are, until it has hardly an effect."""
        kT, interval = float(self.task.system.kT), self.plan.piece_ps
        parameters = bias.ranged(seen)
        for k in range(self.plan.n_learning):
            added = growth(bias, parameters, self.replicas.x, (k + 1) * interval, interval)
            parameters = parameters + kT * added
            self.replicas.set_bias(parameters)
            self._moved(1)

    # ---- production -------------------------------------------------------------------------------------

    def produce(self) -> str:
        """Record frames for as long as was asked for; says what ended it if that is not their number."""
        plan, settings = self.plan, self.task.settings
        self._record(plan.n_frames)
        self._check_moves()
        if settings.minutes is None:
            return ""
        while True:
            visits = Visits.of(self.task.system, joined(self.task.system, [self.frames()]))
            if visits.fewest >= settings.n_visits:
                return f"ended as every state has been visited: {visits}"
            spent = time.monotonic() - self.started + self.seconds_before
            if spent > 60.0 * settings.minutes:
                return f"ended as its time is used up: {visits}"
            self._record(len(self.series["energy"]) + max(1, round(MORE * plan.n_frames)))

    def _record(self, n_frames: int) -> None:
        """Go on until there are so many frames of each replica."""
        while len(self.series.get("energy", ())) < n_frames:
            self._moved(self.plan.pieces_per_frame)
            n_used, replicas = self.replicas.level.numel(), self.replicas
            x = replicas.x[:n_used]
            frame = {
                "x": (x - x.mean(1, keepdim=True)).float(),
                "energy": replicas.energy[:n_used],
                "bias": replicas.bias[:n_used],
                "level": replicas.level.flatten().clone(),
            }
            for name, values in frame.items():
                self.series.setdefault(name, []).append(values)
            if time.monotonic() - self.saved > SAVE_EVERY_SECONDS:
                self.save()

    def _moved(self, n_pieces: int, look: Callable[[], Tensor] | None = None) -> list[Tensor]:
        """Move on by so many pieces, exchanging where it is due, and look after each."""
        plan, replicas, found = self.plan, self.replicas, []
        for _ in range(n_pieces):
            for _ in range(plan.stretches_per_piece):
                replicas.move(plan.steps_per_stretch, plan.dt_ps, self.task.settings.friction_per_ps)
            if not (replicas.energy.isfinite().all() and replicas.bias.isfinite().all()):
                raise FloatingPointError("energy is not finite")
            self.n_pieces += 1
            if len(replicas.levels) > 1 and self.n_pieces % plan.pieces_per_swap == 0:
                replicas.exchange()
            if look is not None:
                found.append(look())
            if time.monotonic() - self.told > 0.2:
                self.tell()
        return found

    def tell(self) -> None:
        """Progress, with what one watches."""
        self.told = time.monotonic()
        settings, plan, replicas = self.task.settings, self.plan, self.replicas
        fraction = min(1.0, self.n_pieces / plan.n_pieces)
        words = f"{replicas.n} replicas"
        if len(replicas.levels) > 1:
            words = f"{replicas.n_sets} x {len(replicas.levels)} replicas, {_exchanges(replicas)}"
        self.advance(fraction * (settings.equilibration_ps + settings.production_ps), words)

    # ---- what is found ----------------------------------------------------------------------------------

    def frames(self) -> Recorder:
        """Replica by replica, with their weights at the target's temperature and without bias."""
        columns = {name: torch.stack(values, 1).numpy() for name, values in self.series.items()}
        flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in columns.items()}
        log_weights = target_log_weights(self.replicas.levels, flat["level"], flat["energy"], flat["bias"])
        found, n_frames = Recorder(), columns["energy"].shape[1]
        log_weights = log_weights + np.log(len(log_weights))
        for row, (x, energy, weight) in enumerate(zip(flat["x"], flat["energy"], log_weights, strict=True)):
            found.add(x, float(energy), float(weight), row // n_frames)
        found.remarks = self._remarks(torch.stack(self.series["x"]))
        return found

    def _remarks(self, x: Tensor) -> list[str]:
        replicas, bias = self.replicas, self.replicas.dynamics.bias
        lines = [
            f"steps of {1000 * self.plan.dt_ps:.3g} fs, {replicas.share_moved:.0%} of stretches accepted"
        ]
        if replicas.n_proposed:
            lines.append(f"{replicas.n_sets} sets of replicas at {replicas.levels}: {_exchanges(replicas)}")
        if bias is not None:
            strongest = torch.stack(self.series["level"]) == len(replicas.levels) - 1
            theta = bias.angles(replicas.dynamics.parameters, x[strongest]).numpy()
            flat = [flatness(values, cv.periodic) for values, cv in zip(theta, bias.variables, strict=True)]
            each = [f"{cv.name} {value:.2f}" for cv, value in zip(bias.variables, flat, strict=True)]
            lines.append(f"flatness of the histogram under the bias (at most 1): {', '.join(each)}")
        return lines

    # ---- going on after a kill --------------------------------------------------------------------------

    def save(self) -> None:
        """Keep what there is, to go on from."""
        self.saved = time.monotonic()
        series = {name: torch.stack(values) for name, values in self.series.items()}
        spent = self.saved - self.started + self.seconds_before
        state = {"replicas": self.replicas.state(), "series": series, "n_pieces": self.n_pieces}
        self.task.kept.save(self.task.unfinished, {"seed": self.task.seed, "seconds": spent, **state})

    def restored(self) -> bool:
        """Whether there was something to go on from."""
        state = self.task.kept.load(self.task.unfinished, unheard)
        if state is None or state["seed"] != self.task.seed:
            return False
        self.replicas.restore(state["replicas"])
        self.series = {name: list(values) for name, values in state["series"].items()}
        self.n_pieces, self.seconds_before = state["n_pieces"], state["seconds"]
        return True


def run_batched(task: Task, advance: Advance) -> Recorder:
    """One run of batched replicas: frames of all temperatures, with their weights.

    Raises FloatingPointError where the dynamics blow up, and UserError where the system cannot be batched.
    """
    system, settings = task.system, task.settings
    plan = RunPlan.of(settings, system)
    bias = None
    if settings.method == "flat_histogram":
        bias = Bias(biased_variables(system, settings.bias))
    start = ExchangeLevels.at(np.array([plan.hottest_k]))
    replicas = BatchedReplicas.at_reference(
        system, start, plan.n_replicas, task.seed, compiled=plan.compiled, bias=bias
    )
    run = BatchedRun(task, plan, replicas, advance)
    if not run.restored():
        run.prepare()
    ended = run.produce()
    found = run.frames()
    found.remarks += [ended] if ended else []
    run.tell()
    return found


def _exchanges(replicas: BatchedReplicas) -> str:
    accepted = replicas.n_accepted / max(replicas.n_proposed, 1)
    return f"swap acceptance {accepted:.2f}, {replicas.round_trips} round trips"
