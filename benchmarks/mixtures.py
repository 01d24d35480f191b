"""What the diffusive classification loss buys over score matching alone, on mixtures known exactly.

    python benchmarks/mixtures.py [--targets two forty-8 forty-32 forty-128] [--objectives dsm dsm+diffclf]
        [--seeds 5] [--steps 2000] [--quick] [--json FILE] [--figure FILE]

Every objective trains the same network for the same number of steps. Each result is a median over seeds with
its range; nothing asserts the numbers. The columns:

- clf: classification loss of the learned energies minus that of the exact ones, on the same points, in one
  softmax over 512 levels [nats]; clf*: the same once every level's constant is refitted to the points, which
  leaves what no free energy per level can repair;
- Fisher: E|s - s_exact|^2 per degree of freedom with the weight of score matching, so that it is the loss in
  excess of the exact score's; mean over log-uniform levels;
- ESS: of exp(-U + U_exact) on exact samples of a level, median over levels; and at the lowest one;
- weights: total variation between the mode weights of exp(-U) at the lowest level and the true ones;
- MMD: between reverse diffusion with the learned score and exact samples of the lowest level (Gaussian kernel
  as wide as the median distance); about 0.03 for two exact samples of this size.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import time
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from boltzgen.config.choices import OBJECTIVE_NAMES
from boltzgen.diffusion.losses import dsm, level_loss, noised
from boltzgen.diffusion.noise_levels import LevelChoice, draw_levels

TARGETS = {"two": (5e-3, 4.0), "forty-8": (2e-3, 4.0), "forty-32": (1e-3, 1.0), "forty-128": (1e-3, 1.0)}
"""Learning rate, and weight of the loss that compares levels; the same for every objective."""
N_LEVELS = 512
POINTS_PER_LEVEL = 2
ESS_LEVELS = 12
COLUMNS = ("clf", "clf*", "Fisher", "ESS", "ESS low", "weights", "MMD")


@dataclass(frozen=True)
class Mixture:
    """Gaussians of one width; in units that make the data's root mean square per degree of freedom one."""

    means: Tensor
    weights: Tensor
    width: float

    @property
    def dof(self) -> int:
        return self.means.shape[1]

    @property
    def log_sigma_range(self) -> tuple[float, float]:
        return math.log(0.5 * self.width), math.log(10.0)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        mode = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        return self.means[mode] + self.width * torch.randn((n, self.dof), generator=generator)

    def log_joint(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        """``log w_k N(x; m_k, width^2 + sigma^2)``, ``(..., k)``; levels broadcast against points."""
        variance = (self.width**2 + (2.0 * log_sigma).exp())[..., None]
        distance2 = torch.cdist(x, self.means, compute_mode="donot_use_mm_for_euclid_dist").square()
        normaliser = 0.5 * self.dof * (2.0 * math.pi * variance).log()
        return self.weights.log() - 0.5 * distance2 / variance - normaliser

    def energy(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        return -self.log_joint(x, log_sigma).logsumexp(-1)

    def score(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        variance = self.width**2 + (2.0 * log_sigma).exp()
        centre = self.log_joint(x, log_sigma).softmax(-1) @ self.means
        return (centre - x) / variance[:, None]

    def information(self, sigma: Tensor) -> Tensor:
        """``F(sigma)`` of the Gaussian with the mixture's covariance."""
        sigma2 = sigma.square()[..., None]
        return (sigma2 / (sigma2 + self.variances)).square().sum(-1)

    @cached_property
    def variances(self) -> Tensor:
        """Eigenvalues of the data's covariance."""
        scatter = (self.weights[:, None] * self.means).T @ self.means
        return torch.linalg.eigvalsh(scatter).clamp_min(0.0) + self.width**2


def make_target(name: str) -> Mixture:
    """``two``: weights 0.2 and 0.8, 20 widths apart. ``forty-d``: means uniform in [-40, 40]^d, width 1.

    The latter is the usual benchmark, except that the weights of its modes are spread from 1 to 10: were they
    equal, an energy that knows nothing of relative energies could get them right.
    """
    if name == "two":
        means, weights, width = torch.tensor([[-3.0, 0.0], [3.0, 0.0]]), torch.tensor([0.2, 0.8]), 0.3
    else:
        generator = torch.Generator().manual_seed(0)
        means = 80.0 * torch.rand((40, int(name.split("-")[1])), generator=generator) - 40.0
        weights, width = torch.logspace(0.0, 1.0, 40), 1.0
    weights = weights / weights.sum()
    means = means - weights @ means
    scale = float((weights @ means.square().mean(1) + width**2).sqrt())
    return Mixture(means / scale, weights, width / scale)


class Network(nn.Module):
    """A learned energy per level, exactly the Gaussian of variance ``sigma^2 + 1`` at the highest level.

    ``U = |x - c|^2 / (2 v) + (dof/2) log(2 pi (sigma^2 + 1)) + h + f(sigma) - f(sigma_max)``: a Gaussian with
    a centre ``c(x, sigma)`` that moves with the point. An unstructured output would have to cancel ``|x|^2``
    at low noise to one part in 10^4. Heights ``h(x, sigma)`` and ``f(sigma)`` are free: score matching sees
    ``h`` only through its gradient and ``f`` not at all.
    """

    def __init__(self, target: Mixture, depth: int = 3, n_radial: int = 24) -> None:
        super().__init__()
        hidden = 128 + target.dof
        low, self.high = target.log_sigma_range
        self.dof = target.dof
        self.register_buffer("centres", torch.linspace(low, self.high, n_radial))
        self.first = nn.Linear(self.dof, hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(depth - 1))
        self.conditions = nn.ModuleList(nn.Linear(n_radial, 2 * hidden) for _ in range(depth))
        self.last = nn.Linear(hidden, self.dof + 1)
        self.levels = nn.Linear(n_radial, 2, bias=False)
        for layer in (self.last, self.levels, *self.conditions):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.last.bias)

    def embedding(self, log_sigma: Tensor) -> Tensor:
        spacing = self.centres[1] - self.centres[0]
        return torch.exp(-0.5 * ((log_sigma[:, None] - self.centres) / spacing).square())

    def forward(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        """``(n, dof), (n,) -> U (n,)``."""
        sigma2 = (2.0 * log_sigma).exp()
        gate = 1.0 - sigma2 / math.exp(2.0 * self.high)
        level = self.embedding(log_sigma)
        top = self.embedding(torch.full_like(log_sigma[:1], self.high))
        hidden: Tensor = self.first(x / (sigma2 + 1.0).sqrt()[:, None])
        for k, condition in enumerate(self.conditions):
            scale, shift = condition(level).chunk(2, 1)
            new = nn.functional.silu((1.0 + scale) * (self.layers[k - 1](hidden) if k else hidden) + shift)
            hidden = hidden + new if k else new
        output = gate[:, None] * self.last(hidden)
        log_width2, free_energy = (self.levels(level) - self.levels(top)).T
        variance = sigma2 + torch.exp(gate * 4.0 * log_width2)
        square = (x - output[:, :-1]).square().sum(1)
        normaliser = 0.5 * self.dof * (2.0 * math.pi * (sigma2 + 1.0)).log()
        return 0.5 * square / variance + normaliser + output[:, -1] + self.dof * free_energy

    def derivatives(self, x: Tensor, log_sigma: Tensor, slope: bool, train: bool) -> tuple[Tensor, ...]:
        """``U``, ``-dU/dx`` and, if asked for, ``dU/dlog_sigma``."""
        with torch.enable_grad():
            inputs = [x.detach().requires_grad_()]
            if slope:
                inputs.append(log_sigma.detach().requires_grad_())
            energy = self(inputs[0], inputs[-1] if slope else log_sigma)
            gradient, *rest = torch.autograd.grad(energy.sum(), inputs, create_graph=train)
        return energy, -gradient, *rest


@dataclass(frozen=True)
class Settings:
    """How to train."""

    steps: int
    batch: int
    k: int
    levels: LevelChoice
    rate: float
    weight: float


def train(target: Mixture, objective: str, seed: int, settings: Settings) -> Network:
    """Exponential moving average of a network trained by Adam with cosine decay."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = Network(target)
    average = copy.deepcopy(network).requires_grad_(False)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    range_, shape = target.log_sigma_range, (settings.k, settings.batch)

    def model(x: Tensor, log_sigma: Tensor) -> tuple[Tensor, ...]:
        return network.derivatives(x, log_sigma, slope=objective == "dsm+tsm", train=True)

    for step in range(settings.steps):
        log_sigmas = draw_levels(settings.levels, *shape, range_, target.information, generator)
        x0 = target.sample(settings.batch, generator)
        noise = torch.randn((*shape, target.dof), generator=generator)
        batch = noised(model, x0, log_sigmas, noise, target.dof)
        score_loss = dsm(batch, sigma_data=1.0).mean()
        level_losses = level_loss(objective, batch, network)
        loss = score_loss if level_losses is None else score_loss + settings.weight * level_losses.mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        decay = 1.0 - 0.01 * 0.1 ** (step / settings.steps)
        for mean, value in zip(average.parameters(), network.parameters(), strict=True):
            mean.lerp_(value.detach(), 1.0 - decay)
    return average


@torch.no_grad()
def classification(target: Mixture, network: Network, generator: torch.Generator) -> dict[str, float]:
    """Loss of one softmax over N_LEVELS in excess of the exact energies' [nats], as is and refitted."""
    table = torch.linspace(*target.log_sigma_range, N_LEVELS)
    level = torch.arange(N_LEVELS).repeat(POINTS_PER_LEVEL)
    x = _noised_sample(target, table[level], generator)
    exact = torch.cat([-target.energy(part[:, None], table) for part in x.split(256)])
    learned = torch.cat(
        [
            -network(part.repeat_interleave(N_LEVELS, 0), table.repeat(len(part))).view(-1, N_LEVELS)
            for part in x.split(16)
        ]
    )
    floor = nn.functional.cross_entropy(exact, level)
    loss = nn.functional.cross_entropy(learned, level)
    refitted = _refitted(learned.double(), level)
    return {"clf": float(loss - floor), "clf*": refitted - float(floor), "clf exact": float(floor)}


@torch.enable_grad()
def _refitted(logits: Tensor, level: Tensor, n_knots: int = 64) -> float:
    """Least loss over one constant per level, piecewise linear in log sigma with few knots for the points."""
    position = torch.linspace(0.0, n_knots - 1.0, N_LEVELS, dtype=logits.dtype)
    hats = (1.0 - (position[:, None] - torch.arange(n_knots)).abs()).clamp_min(0.0)
    level_losses = torch.zeros(n_knots, dtype=logits.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS([level_losses], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(logits + hats @ level_losses, level)
        loss.backward()
        return loss

    optimiser.step(closure)
    return float(closure().detach())


def densities(target: Mixture, network: Network, generator: torch.Generator) -> dict[str, Any]:
    """Fisher divergence and effective sample size at ESS_LEVELS, mode weights at the lowest."""
    levels = torch.linspace(*target.log_sigma_range, ESS_LEVELS)
    fisher, ess = [], []
    for k, level in enumerate(levels):
        log_sigma = level.expand(8000 if k == 0 else 2000)
        x = _noised_sample(target, log_sigma, generator)
        energy, score, *_ = network.derivatives(x, log_sigma, slope=False, train=False)
        weight = torch.softmax((target.energy(x, log_sigma) - energy.detach()).double(), 0)
        error = (score - target.score(x, log_sigma)).square().mean(1)
        sigma2 = log_sigma.mul(2.0).exp()
        fisher.append(float((sigma2 * (1.0 + sigma2) * error).mean()))
        ess.append(float(1.0 / (weight.square().sum() * len(weight))))
        if k == 0:
            distance = 0.5 * float((_mode_weights(target, x, log_sigma, weight) - target.weights).abs().sum())
    return {
        "Fisher": statistics.mean(fisher),
        "ESS": statistics.median(ess),
        "ESS low": ess[0],
        "weights": distance,
        "sigma": levels.exp().tolist(),
        "ESS by level": ess,
    }


def _mode_weights(target: Mixture, x: Tensor, log_sigma: Tensor, weight: Tensor) -> Tensor:
    """Mode weights under importance weights of exact samples, with each mode's mean weight its own."""
    mode = target.log_joint(x, log_sigma).argmax(1)
    total = torch.zeros(len(target.weights), dtype=weight.dtype).index_add(0, mode, weight)
    found = target.weights * total / torch.bincount(mode, minlength=len(total)).clamp_min(1)
    return found / found.sum()


def discrepancy(target: Mixture, network: Network, generator: torch.Generator, n: int = 1000) -> float:
    """MMD between reverse diffusion (DDPM posterior, 100 steps) and exact samples of the lowest level."""
    low, high = target.log_sigma_range
    levels = torch.linspace(high, low, 101)
    x = math.sqrt(math.exp(2.0 * high) + 1.0) * torch.randn((n, target.dof), generator=generator)
    for a, b in pairwise(levels):
        _, score = network.derivatives(x, a.expand(n), slope=False, train=False)
        gap = (2.0 * a).exp() - (2.0 * b).exp()
        spread = (gap * (2.0 * (b - a)).exp()).sqrt()
        x = x + gap * score + spread * torch.randn(x.shape, generator=generator)
    exact = _noised_sample(target, levels[-1:].expand(n), generator)
    distance2 = torch.cdist(both := torch.cat([x, exact]), both).square()
    kernel = torch.exp(-0.5 * distance2 / distance2.median())
    within, between = kernel[:n, :n].mean() + kernel[n:, n:].mean(), kernel[:n, n:].mean()
    return float((within - 2.0 * between).clamp_min(0.0).sqrt())


def _noised_sample(target: Mixture, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
    x0 = target.sample(len(log_sigma), generator)
    return x0 + log_sigma.exp()[:, None] * torch.randn(x0.shape, generator=generator)


def measure(target: Mixture, network: Network, seed: int) -> dict[str, Any]:
    """All figures of merit of one trained network."""
    generator = torch.Generator().manual_seed(10_000 + seed)
    return {
        **classification(target, network, generator),
        **densities(target, network, generator),
        "MMD": discrepancy(target, network, generator),
    }


def row(label: str, runs: list[dict[str, Any]]) -> str:
    """Median over seeds of every column, and its range."""
    cells = []
    for column in COLUMNS:
        values = [run[column] for run in runs]
        spread = f"[{min(values):.2g}, {max(values):.2g}]" if len(values) > 1 else ""
        cells.append(f"{statistics.median(values):.3g} {spread}".rjust(26))
    return f"{label:12s}" + "".join(cells)


def run_target(name: str, options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Train and measure every objective with every seed; print a line for each objective."""
    target = make_target(name)
    settings = Settings(options.steps, options.batch, options.k, options.levels, *TARGETS[name])
    print(f"\n{name}: width {target.width:.3g}, sigma {math.exp(target.log_sigma_range[0]):.3g} to 10")
    print(" " * 12 + "".join(column.rjust(26) for column in COLUMNS), flush=True)
    results: dict[str, list[dict[str, Any]]] = {}
    for objective in options.objectives:
        runs = results[objective] = []
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            start = time.perf_counter()
            network = train(target, objective, seed, settings)
            runs.append({"seconds": time.perf_counter() - start, **measure(target, network, seed)})
        print(row(objective, runs), flush=True)
    print(f"one training took {statistics.median(run['seconds'] for run in runs):.0f} s")
    return results


def draw(results: dict[str, dict[str, list[dict[str, Any]]]], title: str, path: Path) -> None:
    """Mode-weight error, excess classification loss, and effective sample size against sigma."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from boltzgen.report.panels import CATEGORICAL

    figure = Figure(figsize=(13.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    names = list(results)
    objectives = list(results[names[0]])
    styles = list(zip(names, ("-", "--", "-.", ":"), strict=False))
    for k, (objective, colour) in enumerate(zip(objectives, CATEGORICAL, strict=False)):
        place = [i + 0.18 * (k - 0.5 * (len(objectives) - 1)) for i in range(len(names))]
        for axis, column in ((left, "weights"), (middle, "clf")):
            values = [[run[column] for run in results[name][objective]] for name in names]
            axis.bar(place, [statistics.median(v) for v in values], 0.16, color=colour, label=objective)
            for x, seeds in zip(place, values, strict=True):
                axis.plot([x] * len(seeds), seeds, "k.", markersize=3)
        for name, style in styles:
            runs = results[name][objective]
            ess = [statistics.median(level) for level in zip(*(r["ESS by level"] for r in runs), strict=True)]
            right.loglog(runs[0]["sigma"], ess, style, color=colour)
    for axis in (left, middle):
        axis.set_xticks(range(len(names)), names)
    left.set(ylabel="error of mode weights")
    middle.set(yscale="log", ylabel="excess classification loss (nats)")
    right.set(xlabel="sigma", ylabel="effective sample size (fraction)", ylim=(1e-4, 1.5))
    right.legend(handles=[Line2D([], [], color="k", linestyle=s, label=n) for n, s in styles])
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(objectives))
    for axis in (left, middle, right):
        axis.grid(alpha=0.3, which="both")
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVE_NAMES, default=list(OBJECTIVE_NAMES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=100, help="default settings were chosen on 0 and 1")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=256, help="samples per step, each noised to k levels")
    parser.add_argument("--k", type=int, default=2, help="levels per sample")
    parser.add_argument("--levels", choices=get_args(LevelChoice), default="kl")
    parser.add_argument(
        "--quick", action="store_true", help="two and forty-8, without and with DiffCLF, one seed"
    )
    parser.add_argument("--json", type=Path, help="write every result to this file")
    parser.add_argument("--figure", type=Path, help="draw the results")
    options = parser.parse_args()
    if options.quick:
        options.targets, options.objectives = ["two", "forty-8"], ["dsm", "dsm+diffclf"]
        options.seeds, options.steps = 1, 1000
    title = (
        f"{options.steps} steps of {options.batch} samples, {options.k} levels each ({options.levels}); "
        f"median over {options.seeds} seeds; torch {torch.__version__}"
    )
    print(title)
    results = {name: run_target(name, options) for name in options.targets}
    if options.json:
        options.json.write_text(json.dumps({"title": title, "targets": results}, indent=1))
    if options.figure:
        draw(results, title, options.figure)


if __name__ == "__main__":
    main()
