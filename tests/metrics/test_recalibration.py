"""Calibration slope and intercept: a published example, scikit-learn without penalty, closed forms, boundaries."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from workbench.metrics import recalibration
from workbench.metrics.bootstrap import clustered_interval
from workbench.metrics.catalogue import SUFFICIENT
from workbench.metrics.recalibration import (
    calibration_in_the_large,
    calibration_intercept,
    calibration_line,
    calibration_slope,
)


@pytest.fixture
def forecast():
    generator = np.random.default_rng(0)
    p = generator.beta(0.6, 2, 600)
    return generator.random(600) < expit(0.4 + 0.6 * logit(np.clip(p, 1e-5, 1))), p


def test_a_published_example():
    """Hours of study and passing an exam, twenty students: coefficients -4.0777 and 1.5046 in the textbooks."""
    hours = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 1.75, 2, 2.25, 2.5, 2.75, 3, 3.25, 3.5, 4, 4.25, 4.5, 4.75, 5, 5.5]
    passed = np.array([0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1, 1, 1, 1, 1])
    line = calibration_line(passed, expit(np.array(hours)))
    assert line == pytest.approx((1.5046, -4.0777), abs=5e-5)


def test_equals_scikit_learn_without_penalty(forecast):
    y, p = forecast
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(recalibration.log_odds(p)[:, None], y)
    line = calibration_line(y, p)
    assert line == pytest.approx((theirs.coef_[0, 0], theirs.intercept_[0]), abs=1e-5)
    assert (calibration_slope(y, p), calibration_intercept(y, p)) == line


def test_two_probabilities_have_a_closed_form():
    p = np.repeat([0.2, 0.6], 10)
    y = np.array([1] + [0] * 9 + [1] * 8 + [0] * 2)
    slope = (logit(0.8) - logit(0.1)) / (logit(0.6) - logit(0.2))
    assert calibration_line(y, p) == pytest.approx((slope, logit(0.1) - slope * logit(0.2)))
    assert calibration_in_the_large(y[:10], p[:10]) == pytest.approx(logit(0.1) - logit(0.2))


def test_in_the_large_makes_the_mean_right(forecast):
    y, p = forecast
    moved = expit(calibration_in_the_large(y, p) + recalibration.log_odds(p))
    assert moved.mean() == pytest.approx(y.mean(), abs=1e-9)


def test_a_recalibrated_forecast_has_slope_one(forecast):
    y, p = forecast
    line = calibration_line(y, p)
    again = expit(line.intercept + line.slope * recalibration.log_odds(p))
    assert calibration_line(y, again) == pytest.approx((1, 0), abs=1e-6)


def test_where_there_is_no_line():
    p = np.array([0.1, 0.2, 0.6, 0.9])
    for y in ([0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0]):
        assert np.isnan(calibration_line(np.array(y), p)).all(), y
    assert np.isnan(calibration_slope(np.array([0, 1, 0, 1]), np.full(4, 0.3)))
    assert np.isnan(calibration_slope(np.array([], dtype=int), np.array([])))
    assert np.isnan(calibration_in_the_large(np.ones(4, dtype=int), p))
    assert expit(calibration_in_the_large(np.array([0, 0, 1, 1]), p) + logit(p)).sum() == pytest.approx(2)
    assert np.isfinite(calibration_line(np.array([0, 1, 0, 1]), np.array([0.0, 0.0, 1.0, 1.0]))).all()


@pytest.mark.parametrize("metric", recalibration.IN_ONE_PASS)
@pytest.mark.parametrize("eyes", [40, 600])
def test_every_resample_in_one_pass_equals_fitting_each(forecast, metric, eyes):
    y, p = forecast[0][:eyes], forecast[1][:eyes]
    patients = np.arange(eyes) // 2
    assert metric in SUFFICIENT
    fast = clustered_interval(metric, patients, y, p, resamples=80, seed=3)
    slow = clustered_interval(lambda *arrays: metric(*arrays), patients, y, p, resamples=80, seed=3)
    assert fast.value == slow.value
    assert fast.undefined == slow.undefined
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), rel=5e-3, abs=5e-3)
