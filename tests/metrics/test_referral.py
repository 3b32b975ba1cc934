"""The three rates by hand."""

import numpy as np
import pytest

from workbench.metrics.referral import silent, three_rates


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
