"""Unlikeness: the papers' formulas written slowly, cut-offs, and what a percentile says."""

import dataclasses
import doctest
import math

import numpy as np
import pytest

from workbench.schema.errors import WorkbenchError
from workbench.schema.specs import UNLIKE_SCORES, PolicySpec
from workbench.uncertainty import out_of_distribution
from workbench.uncertainty.out_of_distribution import (
    NEIGHBOURS,
    Detector,
    Reference,
    Seen,
    cutoff_of,
    energy_of,
    halve_by_patient,
    held_out_scores,
    is_unlike,
    percentile_of,
    unlike_cutoffs,
)


def made(eyes=240, features=6, numbers=4, seed=0, grades=(0, 2, 4)):
    generator = np.random.default_rng(seed)
    grade = generator.choice(grades, eyes)
    mixing = generator.normal(size=(features, features))
    values = generator.normal(size=(eyes, features)) @ mixing + 3.0 * grade[:, None] * generator.normal(size=features)
    seen = Seen(values, generator.normal(size=eyes), generator.normal(size=(eyes, numbers)) * [1, 5, 0.1, 2])
    return Reference(seen, grade.astype(np.int64), np.arange(eyes) % 2 == 1, "head", False, "m", "d")


def slow_ledoit_wolf(x):
    """Ledoit, Wolf 2004, J. Multivariate Analysis 88: S* = (b²/d²) m I + (a²/d²) S, written by its sums."""
    n, p = x.shape
    sample = sum(np.outer(row, row) for row in x) / n
    m = np.trace(sample) / p
    d2 = ((sample - m * np.eye(p)) ** 2).sum() / p
    b2 = min(sum(((np.outer(row, row) - sample) ** 2).sum() / p for row in x) / n**2, d2)
    return (b2 / d2) * m * np.eye(p) + (1 - b2 / d2) * sample


def test_mahalanobis_is_lee_s_formula_written_slowly():
    reference = made()
    fit = ~reference.held_out
    x, grade = reference.seen.features[fit], reference.grade[fit]
    means = {k: x[grade == k].mean(axis=0) for k in (0, 2, 4)}
    covariance = slow_ledoit_wolf(np.stack([row - means[k] for row, k in zip(x, grade, strict=True)]))
    inverse = np.linalg.inv(covariance)
    asked = reference.seen.where(reference.held_out)
    slow = [min((row - mean) @ inverse @ (row - mean) for mean in means.values()) for row in asked.features]
    np.testing.assert_allclose(Detector(reference).scores(asked)["mahalanobis"], slow, rtol=1e-4)


def test_appearance_is_the_squared_distance_of_standardised_numbers():
    reference = made()
    x = reference.seen.appearance[~reference.held_out]
    standard = (x - x.mean(axis=0)) / x.std(axis=0)
    inverse = np.linalg.inv(slow_ledoit_wolf(standard))
    asked = reference.seen.where(reference.held_out)
    slow = [row @ inverse @ row for row in (asked.appearance - x.mean(axis=0)) / x.std(axis=0)]
    np.testing.assert_allclose(Detector(reference).scores(asked)["appearance"], slow, rtol=1e-4)


def test_the_neighbour_is_the_kth_nearest_on_the_unit_sphere():
    reference = made()
    unit = [row / math.sqrt((row**2).sum()) for row in reference.seen.features]
    fit = [row for row, held in zip(unit, reference.held_out, strict=True) if not held]
    slow = [
        sorted(math.dist(row, other) for other in fit)[NEIGHBOURS - 1]
        for row, held in zip(unit, reference.held_out, strict=True)
        if held
    ]
    found = held_out_scores(reference, Detector(reference))["nearest_neighbours"]
    np.testing.assert_allclose(found, slow, rtol=1e-6)


def test_energy_written_slowly_and_where_exp_would_overflow():
    logits = np.array([[1.0, -2.0, 0.5], [1000.0, 999.0, 0.0]])
    assert energy_of(logits)[0] == pytest.approx(-math.log(sum(math.exp(value) for value in logits[0])))
    assert energy_of(logits)[1] == pytest.approx(-1000 - math.log(1 + math.exp(-1)))


def test_far_away_is_more_unlike_and_a_training_eye_is_not():
    reference = made()
    detector = Detector(reference)
    near = reference.seen.where(reference.held_out)
    far = Seen(-near.features + 60, near.energy + 20, near.appearance + 50)
    cutoffs = unlike_cutoffs(held_out_scores(reference, detector), UNLIKE_SCORES, 90.0)
    assert is_unlike(detector.scores(far), cutoffs).all()
    assert is_unlike(detector.scores(near), cutoffs).mean() <= 0.1


@pytest.mark.parametrize("broken", [0, 1])
def test_an_eye_that_is_not_finite_has_no_score_and_moves_no_other(broken):
    reference = made()
    detector = Detector(reference)
    asked = reference.seen.where(reference.held_out)
    before = detector.scores(asked)
    array = (asked.features, asked.appearance)[broken]
    array[3] = np.nan
    after = detector.scores(asked)
    for name in UNLIKE_SCORES:
        assert np.isnan(after[name][3])
        np.testing.assert_allclose(np.delete(after[name], 3), np.delete(before[name], 3), rtol=1e-9)
    assert not is_unlike(after, dict.fromkeys(UNLIKE_SCORES, -np.inf))[3]


def test_without_grades_there_is_one_class_and_a_constant_feature_is_no_fault():
    reference = made(grades=(-1,))
    reference.seen.features[:, 2] = 7.0
    detector = Detector(reference)
    assert detector.means.shape == (1, 6)
    assert np.isfinite(held_out_scores(reference, detector)["mahalanobis"]).all()


def test_features_that_both_eyes_share_count_once():
    alone = made(eyes=120)
    twice = {name: np.repeat(values, 2, axis=0) for name, values in vars(alone.seen).items()}
    rows = {"grade": np.repeat(alone.grade, 2), "held_out": np.repeat(alone.held_out, 2)}
    shared = dataclasses.replace(alone, seen=Seen(**twice), shared=True, **rows)
    asked = alone.seen.where(alone.held_out)
    for name in ("mahalanobis", "nearest_neighbours"):
        np.testing.assert_array_equal(Detector(shared).scores(asked)[name], Detector(alone).scores(asked)[name])


def test_another_length_is_refused():
    reference = made()
    other = Seen(np.zeros((1, 5)), np.zeros(1), np.zeros((1, 4)))
    with pytest.raises(WorkbenchError, match="length 5, the reference has 6"):
        Detector(reference).scores(other)


def test_one_eye_is_no_reference():
    with pytest.raises(WorkbenchError, match="1 eye"):
        Detector(made(eyes=2))


@pytest.mark.parametrize("percentile", [90.0, 99.0])
def test_the_cutoff_keeps_its_false_alarms_on_average(percentile):
    generator = np.random.default_rng(0)
    alarms = [
        np.mean(generator.normal(size=500) > cutoff_of(generator.normal(size=200), percentile)) for _ in range(200)
    ]
    # 200 splits: the mean lies within its standard error of the exact ⌊201 (1 − q)⌋ / 201.
    exact = 1 - math.ceil(201 * percentile / 100) / 201
    assert np.mean(alarms) == pytest.approx(exact, abs=4 * np.std(alarms) / math.sqrt(200))
    assert exact <= 1 - percentile / 100


def test_too_few_eyes_flag_nothing():
    assert cutoff_of(np.arange(98.0), 99.0) == math.inf
    assert cutoff_of(np.array([np.nan] * 5), 50.0) == math.inf


def test_several_scores_share_the_false_alarms():
    held_out = {name: np.random.default_rng(place).normal(size=999) for place, name in enumerate(UNLIKE_SCORES)}
    both = unlike_cutoffs(held_out, ["appearance", "energy"], 99.0)
    assert both["energy"] == cutoff_of(held_out["energy"], 99.5) > cutoff_of(held_out["energy"], 99.0)
    assert is_unlike(held_out, both).mean() <= 0.01


def test_percentiles():
    held_out = np.array([1.0, 2.0, 3.0, 4.0])
    found = percentile_of(np.array([[0.0, 2.5], [9.0, np.nan]]), held_out)
    np.testing.assert_array_equal(found, [[0, 50], [100, np.nan]])


def test_no_patient_is_in_both_halves():
    patients = ["a", "a", "b", "c", "b", "d", "c"]
    held = halve_by_patient(patients)
    assert held.tolist() == [False, False, True, False, True, True, False]


def test_a_policy_can_name_exactly_what_there_is():
    scores = PolicySpec.model_fields["unlike_training_scores"].annotation.__args__[0].__args__
    assert set(scores) == set(UNLIKE_SCORES)


def test_examples_hold():
    assert doctest.testmod(out_of_distribution, extraglobs={"np": np}).failed == 0
