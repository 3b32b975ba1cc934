"""The Brier score's parts and the binned calibration error: Murphy's sums written slowly, identities, boundaries."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from workbench.metrics import brier_parts, calibration
from workbench.metrics.bootstrap import clustered_interval
from workbench.metrics.catalogue import SUFFICIENT

PARTS = (
    brier_parts.brier_reliability,
    brier_parts.brier_resolution,
    brier_parts.brier_uncertainty,
    brier_parts.brier_within_bins,
)


@pytest.fixture
def forecast():
    generator = np.random.default_rng(0)
    p = generator.beta(0.5, 2, 400)
    y = generator.random(400) < p**1.5
    return y, p, calibration.equal_mass_bins(p)


def slow_parts(y, p, bin_of):
    n, rate = len(p), y.mean()
    reliability = resolution = variance = covariance = 0.0
    for number in set(bin_of.tolist()):
        inside = bin_of == number
        mean_p, observed = p[inside].mean(), y[inside].mean()
        reliability += inside.sum() * (mean_p - observed) ** 2 / n
        resolution += inside.sum() * (observed - rate) ** 2 / n
        variance += sum((one - mean_p) ** 2 for one in p[inside]) / n
        covariance += 2 * sum((o - observed) * (one - mean_p) for o, one in zip(y[inside], p[inside], strict=True)) / n
    return reliability, resolution, rate * (1 - rate), variance - covariance


def test_parts_are_murphys_and_stephensons_sums(forecast):
    y, p, bin_of = forecast
    assert [part(y, p, bin_of) for part in PARTS] == pytest.approx(slow_parts(y, p, bin_of), abs=1e-13)


@pytest.mark.parametrize("bins", [1, 3, 10, 400])
def test_parts_sum_to_the_brier_score_exactly(forecast, bins):
    y, p, _ = forecast
    reliability, resolution, uncertainty, within = (part(y, p, calibration.equal_mass_bins(p, bins)) for part in PARTS)
    assert reliability - resolution + uncertainty + within == pytest.approx(brier_score_loss(y, p), abs=1e-12)
    assert calibration.brier(y, p) == pytest.approx(brier_score_loss(y, p), abs=1e-13)


def test_forecasts_that_repeat_lose_nothing_within_bins():
    """Murphy 1973: with one probability per bin his three terms are the whole score."""
    p = np.repeat([0.2, 0.7], [5, 10])
    y = np.array([1, 0, 0, 0, 0] + [1] * 6 + [0] * 4)
    bin_of = (p > 0.5).astype(int)
    assert brier_parts.brier_within_bins(y, p, bin_of) == pytest.approx(0, abs=1e-15)
    assert brier_parts.brier_reliability(y, p, bin_of) == pytest.approx(10 * 0.1**2 / 15)
    rate = 7 / 15
    assert brier_parts.brier_resolution(y, p, bin_of) == pytest.approx(
        (5 * (0.2 - rate) ** 2 + 10 * (0.6 - rate) ** 2) / 15
    )


def test_calibration_error_equals_that_of_scikit_learns_bins(forecast):
    y, p, bin_of = forecast
    observed, mean_p = calibration_curve(y, p, n_bins=10, strategy="quantile")
    expected = np.abs(observed - mean_p).mean()  # 400 cases without ties: forty in each bin
    assert brier_parts.binned_calibration_error(y, p, bin_of) == pytest.approx(expected)
    assert brier_parts.binned_calibration_error(y, p, bin_of) == pytest.approx(
        calibration.expected_calibration_error(y, p)
    )


@pytest.mark.parametrize("metric", brier_parts.IN_ONE_PASS)
def test_every_resample_in_one_pass_equals_one_by_one(forecast, metric):
    y, p, bin_of = forecast
    patients = np.arange(400) // 2
    assert metric in SUFFICIENT
    fast = clustered_interval(metric, patients, y, p, bin_of, resamples=60, seed=3)
    slow = clustered_interval(lambda *arrays: metric(*arrays), patients, y, p, bin_of, resamples=60, seed=3)
    assert fast == pytest.approx(slow, abs=1e-12)


def test_log_loss_equals_scikit_learns_and_is_finite_at_the_ends(forecast):
    y, p, _ = forecast
    inside = np.clip(p, 0.001, 0.999)
    assert calibration.log_loss(y, inside) == pytest.approx(sklearn_log_loss(y, inside))
    assert calibration.log_loss(np.array([1, 0]), np.array([0.0, 1.0])) == pytest.approx(-np.log(1e-6))
    assert np.isnan(calibration.log_loss(np.array([], dtype=int), np.array([])))


def test_chance_alone_gives_the_error_that_calibrated_forecasts_show():
    generator = np.random.default_rng(1)
    shown, told = [], []
    for _ in range(200):
        p = generator.beta(1, 3, 300)
        patients = np.repeat(np.arange(150), 2)
        y = np.repeat(generator.random(150), 2) < np.repeat(p[::2], 2)  # the eyes of a patient share their fate
        p = np.repeat(p[::2], 2)
        bins = calibration.equal_mass_bins(p)
        shown.append(brier_parts.binned_calibration_error(y, p, bins))
        told.append(calibration.calibration_error_by_chance(y, p, bins, patients))
    assert np.mean(told) == pytest.approx(np.mean(shown), rel=0.06)
    alone = calibration.calibration_error_by_chance(y, p, bins, np.arange(300))
    assert alone < 0.8 * told[-1]  # as if no two eyes belonged together: too little
