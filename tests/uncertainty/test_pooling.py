import numpy as np
import pytest

from workbench.uncertainty.pooling import POOLINGS, median


def draws_of(*rows):
    return np.repeat(np.array(rows, dtype=float)[:, None, None, :], 2, axis=2)


def test_the_median_is_that_of_each_grade_scaled():
    pooled = median(draws_of([0.7, 0.2, 0.1], [0.5, 0.1, 0.4], [0.1, 0.9, 0.0]))
    np.testing.assert_allclose(pooled[0, 0], np.array([0.5, 0.2, 0.1]) / 0.8)


def test_where_every_median_is_zero_the_mean_stands_in():
    np.testing.assert_allclose(median(draws_of([1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]))[0, 1], 1 / 3)


def test_one_wild_draw_moves_the_mean_and_not_the_median():
    calm = [[0.6, 0.3, 0.1]] * 9
    still, wild = (draws_of(*calm, last) for last in ([0.6, 0.3, 0.1], [0.0, 0.0, 1.0]))
    np.testing.assert_allclose(median(wild), median(still))
    assert np.abs(POOLINGS["mean"](wild) - POOLINGS["mean"](still)).max() > 0.05


@pytest.mark.parametrize("name", POOLINGS)
def test_an_absent_eye_stays_unknown_and_the_other_sums_to_one(name):
    draws = np.random.default_rng(0).dirichlet(np.ones(5), size=(6, 3, 2)).astype(np.float32)
    draws[:, 1, 0] = np.nan
    pooled = POOLINGS[name](draws)
    assert np.isnan(pooled[1, 0]).all()
    assert np.isnan(pooled).sum() == 5
    np.testing.assert_allclose(np.delete(pooled.reshape(6, 5), 2, axis=0).sum(-1), 1)


def test_log_max_is_the_most_probable_grade_of_the_geometric_pool():
    draws = np.random.default_rng(1).dirichlet(np.ones(5), size=(8, 20, 2))
    by_hand = np.log(draws).mean(axis=0).argmax(-1)
    np.testing.assert_array_equal(POOLINGS["log_mean"](draws).argmax(-1), by_hand)
