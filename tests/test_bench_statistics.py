"""Statistics of the leaderboard against closed forms and simulation."""

from __future__ import annotations

import itertools
import math

import numpy
import pytest

from invsolve.bench.statistics import bootstrap_interval, holm, paired_test, pareto_front, rank_intervals


def test_bootstrap_intervals_cover_the_mean_about_as_often_as_they_say():
    rng = numpy.random.default_rng(0)
    hits = 0
    for _ in range(300):
        low, high = bootstrap_interval(rng.normal(2.0, 1.0, 40))
        hits += low <= 2.0 <= high
    assert 0.89 < hits / 300 < 0.98  # about 0.94; false alarm below 1e-3


def test_the_bootstrap_interval_has_the_normal_width_and_is_repeatable():
    values = numpy.random.default_rng(1).normal(0, 1, 400)
    low, high = bootstrap_interval(values)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.06)
    assert bootstrap_interval(values) == (low, high)
    assert math.isnan(bootstrap_interval([1.0])[0])
    assert math.isnan(bootstrap_interval([1.0, math.nan])[0])


def test_the_paired_test_counts_every_pattern_of_signs():
    d = [0.3, -0.1, 0.5, 0.2, 0.4]
    sums = [abs(sum(s * x for s, x in zip(signs, d, strict=True))) for signs in itertools.product((1, -1), repeat=5)]
    expected = sum(s >= abs(sum(d)) - 1e-12 for s in sums) / 32
    assert paired_test(d) == pytest.approx(expected)
    assert paired_test([1.0] * 6) == pytest.approx(2 / 64)
    assert paired_test([0.0, 0.0]) == 1.0
    assert math.isnan(paired_test([1.0]))


@pytest.mark.parametrize("size", [0.1, 0.3, 0.7])
def test_the_paired_test_counts_ties_for_many_items_despite_rounding(size):
    assert paired_test([0.0] * 65 + [size] * 3) == pytest.approx(0.25, abs=0.01)
    assert paired_test([size] * 13) == pytest.approx(2 / 2**13, abs=3e-4)
    assert paired_test([size] * 13) > 2 / 20_001


def test_the_paired_test_agrees_with_the_t_test_for_many_items():
    d = numpy.random.default_rng(2).normal(0.2, 1.0, 120)
    t = d.mean() / (d.std(ddof=1) / 120**0.5)
    assert paired_test(d) == pytest.approx(math.erfc(abs(t) / 2**0.5), abs=0.01)  # 119 degrees: normal to 0.002


def test_holm_is_his_procedure():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.01, math.nan])[0] == pytest.approx(0.01)


def test_ranks_are_certain_where_one_always_wins_and_open_where_none_does():
    rng = numpy.random.default_rng(3)
    item = rng.normal(0, 5, 50)
    clear = rank_intervals([item, item + 1, item + 2])
    assert clear == [(1, 1), (2, 2), (3, 3)]  # pairs: the items' own spread does not matter
    noise = rank_intervals([item + rng.normal(0, 1, 50), item + rng.normal(0, 1, 50)])
    assert noise == [(1, 2), (1, 2)]
    assert rank_intervals([[1.0], [2.0]]) == [(1, 1), (2, 2)]


def test_the_front_holds_what_nothing_beats():
    assert pareto_front([1, 2, 3, 2], [5, 3, 4, 3]) == [True, True, False, True]
