"""BAR and MBAR of weighted ensembles against closed forms, pymbar, and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.wells import N_ATOMS, well_energy, well_ensemble

from boltzgen import bar, log_z_difference, mbar
from boltzgen.errors import DataError, NumericalError
from boltzgen.systems.harmonic import well_log_z

SOFT, MIDDLE, STIFF = (150.0, 300.0), (250.0, 300.0), (400.0, 350.0)


def delta_f(a: tuple[float, float], b: tuple[float, float]) -> float:
    return well_log_z(N_ATOMS, *a) - well_log_z(N_ATOMS, *b)


def ensembles(*targets: tuple[float, float], families: int = 300, **options):
    rng = np.random.default_rng(1)
    return [well_ensemble(rng, *target, families, **options) for target in targets]


def test_bar_finds_the_difference_of_force_field_and_temperature():
    a, b = ensembles(MIDDLE, STIFF, size=3)
    found = bar(a, b, well_energy(*MIDDLE), well_energy(*STIFF))
    low, high = found.interval
    assert low < delta_f(MIDDLE, STIFF) < high and found.error < 0.05
    assert "256 and 257 effective independent samples, overlap 0.45" in found.note
    known = log_z_difference(a, b)
    assert known.value == pytest.approx(-delta_f(MIDDLE, STIFF))
    back = bar(b, a, well_energy(*STIFF), well_energy(*MIDDLE), seed=3)
    assert back.value == pytest.approx(-found.value, abs=1e-6)


def test_on_independent_equal_weights_it_is_pymbars_bar():
    from pymbar.other_estimators import bar as pymbar_bar

    rng = np.random.default_rng(2)
    a, b = (well_ensemble(rng, *t, n, wide=1.0) for t, n in ((MIDDLE, 2000), (STIFF, 500)))
    u_a, u_b = well_energy(*MIDDLE), well_energy(*STIFF)
    x, y = (torch.as_tensor(e.positions) for e in (a, b))
    theirs = pymbar_bar((u_b(x) - u_a(x)).numpy(), (u_a(y) - u_b(y)).numpy())
    ours = bar(a, b, u_a, u_b)
    assert ours.value == pytest.approx(theirs["Delta_f"], abs=1e-5)
    assert ours.error == pytest.approx(theirs["dDelta_f"], rel=0.03)


@pytest.mark.parametrize(("families", "islands"), [((35, 60), 1), ((60, 60), 4)])
def test_intervals_cover(families, islands):
    rng, energies, inside = np.random.default_rng(4), (well_energy(*MIDDLE), well_energy(*STIFF)), []
    for seed in range(300):
        a, b = (
            well_ensemble(rng, *target, n, 6, islands=islands)
            for target, n in zip((MIDDLE, STIFF), families, strict=True)
        )
        low, high = bar(a, b, *energies, seed).interval
        inside.append(low < delta_f(MIDDLE, STIFF) < high)
    assert 0.92 <= np.mean(inside) <= 0.985


def test_copies_of_rows_change_neither_value_nor_error():
    a, b = ensembles(MIDDLE, STIFF)
    rows = np.repeat(np.arange(len(a)), 5)
    energies = well_energy(*MIDDLE), well_energy(*STIFF)
    once, copied = bar(a, b, *energies), bar(a.select(rows), b, *energies)
    assert copied.value == pytest.approx(once.value, abs=1e-6)
    assert copied.error == pytest.approx(once.error, rel=1e-6)


def test_mbar_joins_three_states():
    targets = (SOFT, MIDDLE, STIFF)
    found = mbar(ensembles(*targets, size=2), [well_energy(*t) for t in targets])
    assert found.Delta_f[0, 2] == pytest.approx(found.Delta_f[0, 1] + found.Delta_f[1, 2])
    np.testing.assert_allclose(found.overlap.sum(axis=1), 1.0)
    for i, j in ((0, 1), (1, 2), (0, 2)):
        low, high = found.difference(i, j).interval
        assert low < delta_f(targets[i], targets[j]) < high
    assert found.dDelta_f[0, 2] > found.dDelta_f[0, 1] > 0 and found.dDelta_f[0, 0] == 0


def test_the_middle_state_links_ends_that_hardly_overlap():
    ends, middle = ((60.0, 300.0), (1200.0, 300.0)), (270.0, 300.0)
    a, m, b = ensembles(ends[0], middle, ends[1])
    apart = bar(a, b, well_energy(*ends[0]), well_energy(*ends[1]))
    assert apart.error is None and "not linked by overlaps" in apart.note
    joined = mbar([a, m, b], [well_energy(*t) for t in (ends[0], middle, ends[1])]).difference(0, 2)
    low, high = joined.interval
    assert low < delta_f(*ends) < high


def test_few_lineages_leave_the_value_and_no_error():
    a, b = ensembles(MIDDLE, STIFF, families=20, size=10)
    found = bar(a, b, well_energy(*MIDDLE), well_energy(*STIFF))
    assert found.error is None and "fewer than 30 independent samples" in found.note and abs(found.value) < 5


def test_what_does_not_fit_is_one_line():
    a, b = ensembles(MIDDLE, STIFF)
    energies = well_energy(*MIDDLE), well_energy(*STIFF)
    with pytest.raises(DataError, match=r"potential 0 gives energies .* in the order of the ensembles"):
        bar(a, b, *energies[::-1])
    with pytest.raises(DataError, match="one each"):
        mbar([a, b], energies[:1])
    with pytest.raises(DataError, match="let it give one reduced energy for each"):
        bar(a, b, energies[0], lambda x: x.sum())
    pairs = well_ensemble(np.random.default_rng(0), *STIFF, 300)
    fewer = pairs.select(np.arange(300))
    object.__setattr__(fewer, "positions", fewer.positions[:, :3])
    with pytest.raises(DataError, match="common Z"):
        bar(a, fewer, *energies)
    everything_lost = a.select(np.arange(10))
    object.__setattr__(everything_lost, "log_weights", np.full(10, -np.inf))
    with pytest.raises(NumericalError, match="zero"):
        bar(everything_lost, b, *energies)
