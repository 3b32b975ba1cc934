from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from workbench.metrics.reader_agreement import MISSING, SCHEMES, cohen_kappa, fleiss_kappa, krippendorff_alpha
from workbench.metrics.reader_resampling import patient_intervals
from workbench.metrics.sufficient import once
from workbench.schema.errors import WorkbenchError

FLEISS_1971 = np.array(
    [
        [0, 0, 0, 6, 0],
        [0, 3, 0, 0, 3],
        [0, 1, 4, 0, 1],
        [0, 0, 0, 0, 6],
        [0, 3, 0, 3, 0],
        [2, 0, 4, 0, 0],
        [0, 0, 4, 0, 2],
        [2, 0, 3, 1, 0],
        [2, 0, 0, 4, 0],
        [0, 0, 0, 0, 6],
        [1, 0, 0, 5, 0],
        [1, 1, 0, 4, 0],
        [0, 3, 3, 0, 0],
        [1, 0, 0, 5, 0],
        [0, 2, 0, 3, 1],
        [0, 0, 5, 0, 1],
        [3, 0, 0, 1, 2],
        [5, 1, 0, 0, 0],
        [0, 2, 0, 4, 0],
        [1, 0, 2, 0, 3],
        [0, 0, 0, 0, 6],
        [0, 1, 0, 5, 0],
        [0, 2, 0, 1, 3],
        [2, 0, 0, 4, 0],
        [1, 0, 0, 4, 1],
        [0, 5, 0, 1, 0],
        [4, 0, 0, 0, 2],
        [0, 2, 0, 4, 0],
        [1, 0, 5, 0, 0],
        [0, 0, 0, 0, 6],
    ]
)
"""Fleiss 1971, table 1: 30 patients, each given one of 5 diagnoses by 6 psychiatrists."""

NONE = MISSING + 1
KRIPPENDORFF_2011 = (
    np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, NONE, NONE, NONE],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NONE, 3],
            [NONE, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NONE],
        ]
    ).T
    - 1
)
"""Krippendorff 2011, section C: 4 observers, 12 units, 5 values, some left out."""


def test_fleiss_psychiatric_diagnoses() -> None:
    ratings = np.stack([np.repeat(np.arange(5), row) for row in FLEISS_1971])
    assert once(fleiss_kappa(ratings, 5)) == pytest.approx(0.430, abs=5e-4)


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorffs_reliability_data(level: str, published: float) -> None:
    assert once(krippendorff_alpha(KRIPPENDORFF_2011, 5, level)) == pytest.approx(published, abs=5e-4)


def test_cohens_kappa_of_fleiss_cohen_and_everitts_table_with_its_standard_error() -> None:
    # Fleiss, Cohen, Everitt 1969, Psychological Bulletin 72(5): 200 cases, kappa = 0.429.
    table = np.array([[106, 10, 4], [22, 28, 10], [2, 12, 6]])
    first, second = (np.repeat(index.ravel(), table.ravel()) for index in np.indices((3, 3)))
    kappa = cohen_kappa(first, second, 3)
    assert once(kappa) == pytest.approx(0.429, abs=5e-4)
    p = table / table.sum()
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    value, chance = once(kappa), float(rows @ columns)
    a = sum(p[i, i] * (1 - (rows[i] + columns[i]) * (1 - value)) ** 2 for i in range(3))
    b = sum(p[i, j] * (columns[i] + rows[j]) ** 2 for i, j in permutations(range(3), 2)) * (1 - value) ** 2
    error = np.sqrt((a + b - (value - chance * (1 - value)) ** 2) / (200 * (1 - chance) ** 2))
    found = patient_intervals({"kappa": kappa}, np.arange(200), seed=1)["kappa"]
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(error, rel=0.1)


@given(st.integers(0, 10_000), st.sampled_from(["none", "linear", "quadratic"]))
@settings(max_examples=30, deadline=None)
def test_cohens_kappa_is_scikit_learns(seed: int, scheme: str) -> None:
    generator = np.random.default_rng(seed)
    first = generator.integers(5, size=40)
    second = np.where(generator.random(40) < 0.5, first, generator.integers(5, size=40))
    expected = cohen_kappa_score(first, second, labels=range(5), weights=None if scheme == "none" else scheme)
    assert once(cohen_kappa(first, second, 5, scheme)) == pytest.approx(expected)


def slow_alpha(ratings: np.ndarray, level: str) -> float:
    """Krippendorff 2004, 11.3: every pair of values within a unit against every pair of values at all."""
    units = [[int(value) for value in unit if value != MISSING] for unit in ratings]
    units = [unit for unit in units if len(unit) > 1]
    pool = [value for unit in units for value in unit]
    count = {value: pool.count(value) for value in set(pool)}

    def distance(one: int, other: int) -> float:
        if level == "nominal":
            return float(one != other)
        if level == "interval":
            return float((one - other) ** 2)
        low, high = min(one, other), max(one, other)
        between = sum(count.get(value, 0) for value in range(low, high + 1))
        return (between - (count[one] + count[other]) / 2) ** 2

    within = sum(sum(distance(a, b) for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in units) / len(pool)
    by_chance = sum(distance(a, b) for a, b in permutations(pool, 2)) / (len(pool) * (len(pool) - 1))
    return 1 - within / by_chance


@given(st.integers(0, 10_000), st.sampled_from(["nominal", "ordinal", "interval"]))
@settings(max_examples=30, deadline=None)
def test_alpha_is_the_slow_count_of_pairs(seed: int, level: str) -> None:
    generator = np.random.default_rng(seed)
    ratings = np.where(generator.random((10, 3)) < 0.25, MISSING, generator.integers(4, size=(10, 3)))
    kept = ratings[(ratings != MISSING).sum(axis=1) > 1]
    if len(kept) == 0 or len(np.unique(kept[kept != MISSING])) < 2:
        assert np.isnan(once(krippendorff_alpha(ratings, 4, level)))
    else:
        assert once(krippendorff_alpha(ratings, 4, level)) == pytest.approx(slow_alpha(ratings, level))


def test_perfect_agreement_is_one_and_one_grade_for_all_has_no_kappa() -> None:
    same = np.array([0, 1, 2, 3, 4, 0])
    three = np.stack([same] * 3, axis=1)
    for scheme in SCHEMES:
        assert once(cohen_kappa(same, same, 5, scheme)) == 1
    assert once(fleiss_kappa(three)) == pytest.approx(1)
    assert once(krippendorff_alpha(three)) == 1
    flat = np.full((6, 3), 2)
    assert np.isnan(once(cohen_kappa(flat[:, 0], flat[:, 1])))
    assert np.isnan(once(fleiss_kappa(flat)))
    assert np.isnan(once(krippendorff_alpha(flat)))


def test_one_reader_and_no_case_have_no_agreement() -> None:
    alone = np.array([[0], [3], [4]])
    nobody = np.full((4, 2), MISSING)
    empty = np.zeros((0, 2), dtype=np.int64)
    for ratings in (alone, nobody, empty):
        assert np.isnan(once(fleiss_kappa(ratings)))
        assert np.isnan(once(krippendorff_alpha(ratings)))
    assert np.isnan(once(cohen_kappa(empty[:, 0], empty[:, 1])))


def test_a_case_graded_once_changes_nothing() -> None:
    generator = np.random.default_rng(3)
    ratings = generator.integers(5, size=(12, 3))
    more = np.concatenate([ratings, [[4, MISSING, MISSING]]])
    for metric in (fleiss_kappa, krippendorff_alpha):
        assert once(metric(more)) == pytest.approx(once(metric(ratings)))


@pytest.mark.parametrize("wrong", [5, -2])
def test_a_grade_outside_the_scale_is_refused(wrong: int) -> None:
    ratings = np.array([[0, 1], [wrong, 2]])
    for act in (
        lambda: fleiss_kappa(ratings),
        lambda: krippendorff_alpha(ratings),
        lambda: cohen_kappa(ratings[:, 0], ratings[:, 1]),
    ):
        with pytest.raises(WorkbenchError, match=str(wrong)):
            act()


def test_two_eyes_of_one_patient_are_one_witness() -> None:
    generator = np.random.default_rng(5)
    first = generator.integers(5, size=60)
    second = np.where(generator.random(60) < 0.6, first, generator.integers(5, size=60))
    twice, patient = np.repeat([first, second], 2, axis=1), np.repeat(np.arange(60), 2)
    single = patient_intervals({"k": cohen_kappa(first, second)}, np.arange(60), seed=2)["k"]
    doubled = patient_intervals({"k": cohen_kappa(*twice)}, patient, seed=2)["k"]
    assert doubled.value == pytest.approx(single.value)
    assert doubled.high - doubled.low == pytest.approx(single.high - single.low, rel=0.1)
