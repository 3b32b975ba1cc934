"""The three rates by hand, and curves over what the model keeps."""

import numpy as np
import pytest

from workbench.metrics.agreement import accuracy
from workbench.metrics.discrimination import roc_auc
from workbench.metrics.referral import referral_curve, silent, three_rates


def test_three_rates_by_hand():
    #                 wrong+referred, wrong+kept, right+kept, unknown+referred
    wrong = np.array([1.0, 1.0, 0.0, np.nan])
    referred = np.array([True, False, False, True])
    assert three_rates(wrong, referred) == pytest.approx((2 / 3, 2 / 4, 1 / 3))
    np.testing.assert_array_equal(silent(wrong, referred), [0, 1, 0, np.nan])
    assert three_rates(np.array([True, False]), np.array([False, False])) == (0.5, 0.0, 0.5)


def test_referring_all_leaves_no_silent_failure_and_none_leaves_all():
    wrong = np.array([1.0, 0.0, 1.0])
    assert three_rates(wrong, np.ones(3, dtype=bool)).silent_failure == 0
    nobody = three_rates(wrong, np.zeros(3, dtype=bool))
    assert nobody.silent_failure == nobody.error


def test_nothing_known_is_nan():
    rates = three_rates(np.array([np.nan]), np.array([True]))
    assert np.isnan(rates.error)
    assert np.isnan(rates.silent_failure)
    assert rates.referral == 1


def test_an_oracle_score_refers_the_wrong_first():
    truth = np.array([0, 1, 1, 0])
    answer = np.array([0, 1, 0, 1])
    curve = referral_curve(accuracy, np.array([0.1, 0.2, 0.8, 0.9]), truth, answer, points=4)
    np.testing.assert_allclose(curve.retained, [1, 0.75, 0.5, 0.25])
    np.testing.assert_allclose(curve.value, [0.5, 2 / 3, 1, 1])
    assert curve.n.tolist() == [4, 3, 2, 1]


def test_ties_stay_together_and_nan_never_ranks():
    truth = np.array([0, 1, 1, 0, 1])
    score = np.array([0.5, 0.5, 0.5, 0.9, np.nan])
    curve = referral_curve(accuracy, score, truth, truth, points=4)
    assert curve.n.tolist() == [4, 3]
    np.testing.assert_allclose(curve.retained, [1, 0.75])


def test_a_curve_of_auc_starts_with_the_whole():
    generator = np.random.default_rng(0)
    p = generator.random(60)
    y = generator.random(60) < p
    curve = referral_curve(roc_auc, -np.abs(p - 0.5), y, p)
    assert curve.value[0] == roc_auc(y, p)
    assert len(curve.n) == 21
    kept = np.argsort(-np.abs(p - 0.5))[: curve.n[10]]
    assert curve.value[10] == pytest.approx(roc_auc(y[kept], p[kept]))


def test_no_score_no_curve():
    assert referral_curve(accuracy, np.array([np.nan]), np.array([1]), np.array([1])).n.size == 0
