"""The two-eye metrics against slow loops, and under resamples against themselves."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from workbench.metrics import agreement, two_eyes
from workbench.metrics.bootstrap import clustered_interval
from workbench.metrics.sufficient import Sufficient

N = 40


@pytest.fixture
def pairs() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    grade = generator.integers(0, 5, (N, 2))
    p = np.clip(grade / 4 + generator.normal(0, 0.3, (N, 2)), 0, 1).round(1)  # rounded: ties
    return {"p": p, "grade": grade, "called": p >= 0.5, "given": np.rint(4 * p).astype(np.int64)}


def slow_correlation(x: np.ndarray, y: np.ndarray) -> float:
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    top = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return float(top / (sum((a - mean_x) ** 2 for a in x) * sum((b - mean_y) ** 2 for b in y)) ** 0.5)


def slow_ranks(x: np.ndarray) -> np.ndarray:
    return np.array([sum(other < value for other in x) + (sum(other == value for other in x) + 1) / 2 for value in x])


def test_correlations_written_slowly(pairs: dict[str, np.ndarray]) -> None:
    right, left = pairs["p"].T
    assert two_eyes.correlation(right, left) == pytest.approx(slow_correlation(right, left))
    assert two_eyes.rank_correlation(right, left) == pytest.approx(
        slow_correlation(slow_ranks(right), slow_ranks(left))
    )
    assert two_eyes.rank_correlation(right, left) == pytest.approx(scipy.stats.spearmanr(right, left).statistic)
    called = pairs["called"]
    table = np.histogram2d(called[:, 0], called[:, 1], bins=2)[0]
    phi = (table[0, 0] * table[1, 1] - table[0, 1] * table[1, 0]) / np.sqrt(np.prod([*table.sum(0), *table.sum(1)]))
    assert two_eyes.correlation(called[:, 0], called[:, 1]) == pytest.approx(phi)


def test_the_excess_is_the_difference_and_nothing_for_answers_that_are_the_truth(pairs: dict[str, np.ndarray]) -> None:
    p, truth, given = pairs["p"], pairs["grade"], pairs["given"]
    found = two_eyes.excess_correlation(p[:, 0], p[:, 1], truth[:, 0], truth[:, 1])
    assert found == pytest.approx(slow_correlation(*p.T) - slow_correlation(*truth.T))
    kappa = two_eyes.excess_kappa(given[:, 0], given[:, 1], truth[:, 0], truth[:, 1])
    between = agreement.quadratic_weighted_kappa
    assert kappa == pytest.approx(between(given[:, 0], given[:, 1]) - between(truth[:, 0], truth[:, 1]))
    for excess in (two_eyes.excess_correlation, two_eyes.excess_rank_correlation, two_eyes.excess_kappa):
        assert excess(truth[:, 0], truth[:, 1], truth[:, 0], truth[:, 1]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("metric", [two_eyes.correlation, two_eyes.rank_correlation])
def test_a_correlation_knows_its_bounds(metric) -> None:
    x = np.array([0.1, 0.4, 0.4, 0.9])
    assert metric(x, x) == pytest.approx(1)
    assert metric(x, 1e-9 * x) == pytest.approx(1)  # small numbers are no rounding
    assert metric(x, -x) == pytest.approx(-1)
    assert np.isnan(metric(x, np.full(4, 0.3)))
    assert np.isnan(metric(np.zeros(0), np.zeros(0)))


@pytest.mark.parametrize(
    ("metric", "names"),
    [
        (two_eyes.correlation, ("p",)),
        (two_eyes.rank_correlation, ("p",)),
        (two_eyes.excess_correlation, ("p", "grade")),
        (two_eyes.excess_rank_correlation, ("p", "grade")),
        (two_eyes.excess_kappa, ("given", "grade")),
    ],
)
def test_all_resamples_in_one_pass_are_those_one_by_one(metric, names, pairs: dict[str, np.ndarray]) -> None:
    columns = [column for name in names for column in pairs[name].T]
    reduced = two_eyes.IN_ONE_PASS[metric](*columns)
    same_as_drawn(metric, reduced, columns)


def same_as_drawn(metric, reduced: Sufficient, columns: list[np.ndarray]) -> None:
    drawn = np.random.default_rng(1).integers(0, len(columns[0]), (6, len(columns[0])))
    counts = np.stack([np.bincount(rows, minlength=len(columns[0])) for rows in drawn], axis=1).astype(float)
    fast = reduced.finish(reduced.sums @ counts)
    slow = [metric(*(column[rows] for column in columns)) for rows in drawn]
    assert fast == pytest.approx(slow)


def slow_rate_difference(called, fellow, stratum) -> float:
    top = bottom = 0.0
    for one in sorted(set(stratum)):
        beside = [c for c, f, s in zip(called, fellow, stratum, strict=True) if s == one and f]
        without = [c for c, f, s in zip(called, fellow, stratum, strict=True) if s == one and not f]
        if beside and without:
            weight = len(beside) * len(without) / (len(beside) + len(without))
            top += weight * (sum(beside) / len(beside) - sum(without) / len(without))
            bottom += weight
    return top / bottom if bottom else float("nan")


def test_the_rate_difference_written_slowly() -> None:
    generator = np.random.default_rng(5)
    fellow, stratum = generator.random(60) < 0.4, generator.integers(0, 3, 60)
    called = generator.random(60) < 0.2 + 0.3 * fellow + 0.1 * stratum
    for strata in (stratum, np.zeros(60, dtype=int)):
        assert two_eyes.rate_difference(called, fellow, strata) == pytest.approx(
            slow_rate_difference(called, fellow, strata)
        )
    assert two_eyes.rate_difference(called, fellow, np.zeros(60, dtype=int)) == pytest.approx(
        called[fellow].mean() - called[~fellow].mean()
    )
    reduced = two_eyes.IN_ONE_PASS[two_eyes.rate_difference](called, fellow, stratum)
    same_as_drawn(slow_rate_difference, reduced, [called, fellow, stratum])


def test_a_rise_that_is_only_the_own_grades_vanishes_within_grades() -> None:
    """Grade 1 is called oftener and oftener has a diseased fellow; the fellow itself changes nothing."""
    stratum = np.repeat([0, 0, 1, 1], 50)
    fellow = np.concatenate([np.arange(100) % 10 == 0, np.arange(100) % 10 != 0])
    called = stratum == 1
    assert two_eyes.rate_difference(called, fellow, np.zeros(200, dtype=int)) == pytest.approx(0.8)
    assert two_eyes.rate_difference(called, fellow, stratum) == 0


def test_no_rise_without_both_kinds_of_fellows() -> None:
    nothing = two_eyes.rate_difference(np.ones(3, dtype=bool), np.ones(3, dtype=bool), np.zeros(3, dtype=int))
    assert np.isnan(nothing)
    empty = np.zeros(0, dtype=bool)
    assert np.isnan(two_eyes.rate_difference(empty, empty, np.zeros(0, dtype=int)))


def test_which_eye_is_ranked_higher() -> None:
    p = np.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5], [0.2, 0.3], [np.nan, 0.3]])
    grade = np.array([[4, 0], [1, 0], [0, 2], [3, 3], [1, 0]])
    assert two_eyes.worse_eye_ranked(p, grade).tolist() == pytest.approx([1, 0, 0.5, np.nan, np.nan], nan_ok=True)


def test_intervals_go_through_the_one_pass(pairs: dict[str, np.ndarray]) -> None:
    right, left = pairs["p"].T
    found = clustered_interval(two_eyes.rank_correlation, np.arange(N), right, left, resamples=200, seed=0)
    assert found.value == two_eyes.rank_correlation(right, left)
    assert found.low < found.value < found.high
    assert found.undefined == 0
