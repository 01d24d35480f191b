"""How long the parts of a run of batched replicas are, and how many replicas it has."""

from __future__ import annotations

from dataclasses import dataclass

from boltzgen.config.schema import SimulateSettings
from boltzgen.simulate.exchange_levels import ExchangeLevels, levels_of
from boltzgen.simulate.sampling_masses import steps_in
from boltzgen.simulate.temperature_ladder import hottest_k
from boltzgen.system.molecular_system import MolecularSystem

REPLICAS = 64
"""Of a run by default, over all temperatures: what two cores move at full speed."""
STRETCH_PS = 0.5
"""Of dynamics that is accepted or rejected as a whole, at most. Errors of the energy do not grow with it, and
the shorter it is, the sooner replicas turn back."""
COMPILE_ENERGIES_FROM = 1_000_000
"""Evaluations from which compiling wins its time back. Never by the clock: rounding would depend on it."""
SHORTEST_REPLICA = 2.0
"""Times the equilibration, which every replica is given: shorter ones would be mostly that."""
_HOT, _TRIAL, _LEARNING, _LAST = 0.2, 0.3, 1.0, 0.5
"""Times of ``equilibration_ps``: all at the highest temperature; at temperatures to measure energies at;
under a bias that is learned; and at last with everything fixed."""


@dataclass(frozen=True)
class RunPlan:
    """Counts of pieces, each some stretches of dynamics after which replicas may exchange or leave a frame.

    n_frames
        Of each replica.
    """

    levels: ExchangeLevels
    hottest_k: float
    n_replicas: int
    piece_ps: float
    stretches_per_piece: int
    steps_per_stretch: int
    pieces_per_frame: int
    pieces_per_swap: int
    n_hot: int
    n_trial: int
    n_learning: int
    n_equilibration: int
    n_frames: int

    @classmethod
    def of(cls, settings: SimulateSettings, system: MolecularSystem) -> RunPlan:
        """What the settings come to for a system."""
        levels = levels_of(settings, system)
        n_sets = settings.n_replicas or _default_sets(settings, len(levels))
        frame, swap = settings.frame_interval_ps, settings.swap_interval_ps
        plain, biased = settings.method == "langevin", settings.method == "flat_histogram"
        piece = min(frame, swap) if biased or len(levels) > 1 else frame
        measured = len(levels) > 1 and settings.n_temperatures is None and not biased

        def pieces(share: float) -> int:
            return max(1, round(share * settings.equilibration_ps / piece))

        return cls(
            levels=levels,
            hottest_k=hottest_k(settings, system.n_atoms, system.temperature_k),
            n_replicas=n_sets * len(levels),
            piece_ps=piece,
            stretches_per_piece=(stretches := max(1, round(piece / STRETCH_PS))),
            steps_per_stretch=steps_in(piece / stretches, settings, system.n_atoms),
            pieces_per_frame=max(1, round(frame / piece)),
            pieces_per_swap=max(1, round(swap / piece)),
            n_hot=0 if plain else pieces(_HOT),
            n_trial=pieces(_TRIAL) if measured else 0,
            n_learning=pieces(_LEARNING) if biased else 0,
            n_equilibration=pieces(1.0 if plain else _LAST),
            n_frames=max(1, round(settings.production_ps / n_sets / frame)),
        )

    @property
    def dt_ps(self) -> float:
        """The time step."""
        return self.piece_ps / (self.stretches_per_piece * self.steps_per_stretch)

    @property
    def replica_ps(self) -> float:
        """Production of each replica."""
        return self.n_frames * self.pieces_per_frame * self.piece_ps

    @property
    def n_pieces(self) -> int:
        """In all, of each replica."""
        before = self.n_hot + self.n_trial + self.n_learning + self.n_equilibration
        return before + self.n_frames * self.pieces_per_frame

    @property
    def evaluations(self) -> float:
        """Target energies of one run."""
        return float(self.n_replicas * self.n_pieces * self.stretches_per_piece * self.steps_per_stretch)

    @property
    def compiled(self) -> bool:
        """Whether the dynamics are compiled."""
        return self.evaluations >= COMPILE_ENERGIES_FROM


def _default_sets(settings: SimulateSettings, n_levels: int) -> int:
    """As many sets as make `REPLICAS`, or fewer where their share of the production would be short."""
    long_enough = settings.production_ps / (SHORTEST_REPLICA * settings.equilibration_ps)
    return max(1, min(REPLICAS // n_levels, int(long_enough)))
