"""Each metric against scikit-learn or a slow formula, and at its boundaries."""

import doctest

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from workbench.metrics import agreement, bootstrap, calibration, discrimination, referral
from workbench.metrics.catalogue import METRICS
from workbench.schema.errors import WorkbenchError


@pytest.fixture(params=["untied", "tied"])
def binary(request):
    generator = np.random.default_rng(3)
    p = generator.random(200)
    y = generator.random(200) < p
    return y, np.round(p, 1) if request.param == "tied" else p


@pytest.fixture
def grades():
    generator = np.random.default_rng(4)
    truth = generator.integers(0, 5, 150)
    return truth, np.clip(truth + generator.integers(-1, 2, 150), 0, 4)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (discrimination.roc_auc, sklearn_metrics.roc_auc_score),
        (discrimination.average_precision, sklearn_metrics.average_precision_score),
        (calibration.brier, sklearn_metrics.brier_score_loss),
    ],
)
def test_probability_metrics_equal_scikit_learn(binary, ours, theirs):
    y, p = binary
    assert ours(y, p) == pytest.approx(theirs(y, p), abs=1e-12)
    assert ours(y.astype(int), p) == ours(y, p)


def test_grade_metrics_equal_scikit_learn(grades):
    truth, answer = grades
    kappa = sklearn_metrics.cohen_kappa_score(truth, answer, weights="quadratic")
    assert agreement.quadratic_weighted_kappa(truth, answer) == pytest.approx(kappa, abs=1e-12)
    assert agreement.accuracy(truth, answer) == sklearn_metrics.accuracy_score(truth, answer)
    np.testing.assert_array_equal(
        agreement.confusion_matrix(truth, answer), sklearn_metrics.confusion_matrix(truth, answer)
    )


def test_sensitivity_and_specificity_are_the_two_recalls(binary):
    y, p = binary
    called = p >= 0.5
    assert discrimination.sensitivity(y, called) == pytest.approx(sklearn_metrics.recall_score(y, called))
    assert discrimination.specificity(y, called) == pytest.approx(sklearn_metrics.recall_score(~y, ~called))


def test_perfect_useless_and_inverted_orders():
    y = np.array([0, 0, 1, 1])
    assert discrimination.roc_auc(y, np.array([0.1, 0.2, 0.8, 0.9])) == 1
    assert discrimination.roc_auc(y, np.full(4, 0.5)) == 0.5
    assert discrimination.roc_auc(y, np.array([0.9, 0.8, 0.2, 0.1])) == 0
    assert agreement.quadratic_weighted_kappa(y, y) == 1


def test_what_cannot_be_measured_is_nan():
    one_class, p = np.zeros(3, dtype=int), np.array([0.1, 0.2, 0.3])
    assert np.isnan(discrimination.roc_auc(one_class, p))
    assert np.isnan(discrimination.average_precision(one_class, p))
    assert np.isnan(discrimination.sensitivity(one_class, one_class))
    assert discrimination.specificity(one_class, one_class) == 1
    assert np.isnan(agreement.quadratic_weighted_kappa(one_class, one_class))
    for name in ("roc_auc", "average_precision", "brier"):
        assert np.isnan(METRICS[name](np.array([0, 1, 1]), np.array([0.1, np.nan, 0.3]))), name
        assert np.isnan(METRICS[name](np.array([], dtype=int), np.array([]))), name
    assert np.isnan(calibration.expected_calibration_error(np.array([], dtype=int), np.array([])))


def test_an_ungraded_eye_is_refused():
    with pytest.raises(WorkbenchError, match="true grade of -1"):
        agreement.quadratic_weighted_kappa(np.array([0, -1]), np.array([0, 1]))
    with pytest.raises(WorkbenchError, match="predicted grade of 5"):
        agreement.confusion_matrix(np.array([0, 1]), np.array([0, 5]))


def test_reliability_bins_have_equal_mass_and_give_back_every_case():
    generator = np.random.default_rng(5)
    p = generator.random(1000)
    y = generator.random(1000) < p
    table = calibration.reliability_table(y, p, bins=10)
    assert table.n.tolist() == [100] * 10
    for index, rows in enumerate(np.array_split(np.argsort(p), 10)):
        assert table.mean_p[index] == pytest.approx(p[rows].mean())
        assert table.observed[index] == pytest.approx(y[rows].mean())
    slow = np.mean([abs(p[rows].mean() - y[rows].mean()) for rows in np.array_split(np.argsort(p), 10)])
    assert calibration.expected_calibration_error(y, p) == pytest.approx(slow)


def test_reliability_keeps_ties_together_and_leaves_nan_out():
    p = np.array([0.2, 0.2, 0.2, 0.8, np.nan])
    y = np.array([0, 0, 1, 1, 1])
    shuffled = np.array([4, 2, 3, 0, 1])
    for rows in (np.arange(5), shuffled):
        table = calibration.reliability_table(y[rows], p[rows], bins=4)
        assert table.n.tolist() == [3, 1]
        np.testing.assert_allclose(table.observed, [1 / 3, 1])
    assert calibration.expected_calibration_error(np.array([0, 1]), np.array([0.0, 1.0])) == 0


@pytest.mark.parametrize("module", [discrimination, referral, bootstrap])
def test_examples_in_docstrings_hold(module):
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0
