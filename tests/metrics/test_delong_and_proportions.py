"""DeLong against his own data as published, against pairs written out, and against resampling; shares by the book."""

import doctest

import numpy as np
import pytest
from scipy import stats

from workbench.metrics import delong, proportions
from workbench.metrics.bootstrap import clustered_interval
from workbench.metrics.delong import auc_covariance, auc_interval, compare_aucs
from workbench.metrics.discrimination import roc_auc
from workbench.metrics.proportions import binomial_interval, mcnemar, wilson_interval

# Albumin, total protein, 10 - K-G score, outcome: the 43 complete patients of DeLong et al. 1988, as printed in the
# SAS/STAT user's guide, PROC LOGISTIC, "Comparing Receiver Operating Characteristic Curves", with its results below.
OVARIAN = """
3.0 5.8 10 0   3.2 6.3 5 1   3.9 6.8 3 1   2.8 4.8 6 0   3.2 5.8 3 1   0.9 4.0 5 0   2.5 5.7 8 0   1.6 5.6 5 1
3.8 5.7 5 1    3.7 6.7 6 1   3.2 5.4 4 1   3.8 6.6 6 1   4.1 6.6 5 1   3.6 5.7 5 1   4.3 7.0 4 1   3.6 6.7 4 0
2.3 4.4 6 1    4.2 7.6 4 0   4.0 6.6 6 0   3.5 5.8 6 1   3.8 6.8 7 1   3.0 4.7 8 0   4.5 7.4 5 1   3.7 7.4 5 1
3.1 6.6 6 1    4.1 8.2 6 1   4.3 7.0 5 1   4.3 6.5 4 1   3.2 5.1 5 1   2.6 4.7 6 1   3.3 6.8 6 0   1.7 4.0 7 0
3.7 6.1 5 1    3.3 6.3 7 1   4.2 7.7 6 1   3.5 6.2 5 1   2.9 5.7 9 0   2.1 4.8 7 1   2.8 6.2 8 0   4.0 7.0 7 1
3.3 5.7 6 1    3.7 6.9 5 1   3.6 6.6 5 1
"""


@pytest.fixture
def ovarian():
    table = np.array(OVARIAN.split(), dtype=float).reshape(-1, 4)
    return {"y": table[:, 3] == 1, "albumin": table[:, 0], "protein": table[:, 1], "kg": 10 - table[:, 2]}


@pytest.mark.parametrize(
    ("score", "auc", "error", "low", "high"),
    [
        ("albumin", 0.7366, 0.0927, 0.5549, 0.9182),
        ("kg", 0.7258, 0.1028, 0.5243, 0.9273),
        ("protein", 0.6478, 0.1000, 0.4518, 0.8439),
    ],
)
def test_areas_of_delongs_own_data(ovarian, score, auc, error, low, high):
    found = auc_interval(ovarian["y"], ovarian[score], logit=False)
    assert found[:4] == pytest.approx((auc, error, low, high), abs=5e-5)
    assert (found.diseased, found.healthy) == (31, 12)
    within = auc_interval(ovarian["y"], ovarian[score])
    assert 0 < within.low < found.low < within.auc < within.high < found.high


@pytest.mark.parametrize(
    ("score", "difference", "error", "low", "high", "chi_square", "p_value"),
    [
        ("albumin", 0.0108, 0.0953, -0.1761, 0.1976, 0.0127, 0.9102),
        ("protein", -0.0780, 0.1046, -0.2830, 0.1271, 0.5554, 0.4561),
    ],
)
def test_comparisons_of_delongs_own_data(ovarian, score, difference, error, low, high, chi_square, p_value):
    found = compare_aucs(ovarian["y"], ovarian[score], ovarian["kg"])
    assert found[:4] == pytest.approx((difference, error, low, high), abs=5e-5)
    assert (found.z**2, found.p_value) == pytest.approx((chi_square, p_value), abs=1.1e-4)


def test_the_contrast_of_three_curves_of_delongs_own_data(ovarian):
    found = auc_covariance(ovarian["y"], ovarian["kg"], ovarian["albumin"], ovarian["protein"])
    contrast = np.array([[-1.0, 1, 0], [-1, 0, 1]])
    apart = contrast @ found.auc
    chi_square = apart @ np.linalg.solve(contrast @ found.covariance @ contrast.T, apart)
    assert (chi_square, stats.chi2.sf(chi_square, 2)) == pytest.approx((2.5340, 0.2817), abs=1e-4)


def slow_covariance(y, scores, clusters):
    """Obuchowski 1997 on pairs written out."""
    sick, well = np.flatnonzero(y), np.flatnonzero(~y)
    wins = [[[(s[i] > s[j]) + 0.5 * (s[i] == s[j]) for j in well] for i in sick] for s in scores]
    wins = np.array(wins, dtype=float)
    auc = wins.mean(axis=(1, 2))
    v10, v01 = wins.mean(axis=2), wins.mean(axis=1)
    names = sorted(set(clusters))
    x = np.array([[v10[k][clusters[sick] == who].sum() for who in names] for k in range(len(scores))])
    z = np.array([[v01[k][clusters[well] == who].sum() for who in names] for k in range(len(scores))])
    m, n = (np.array([(clusters[group] == who).sum() for who in names]) for group in (sick, well))
    x, z = x - auc[:, None] * m, z - auc[:, None] * n
    s10 = (m > 0).sum() / ((m > 0).sum() - 1) / len(sick) * x @ x.T
    s01 = (n > 0).sum() / ((n > 0).sum() - 1) / len(well) * z @ z.T
    s11 = len(names) / (len(names) - 1) * x @ z.T
    return auc, s10 / len(sick) + s01 / len(well) + (s11 + s11.T) / len(sick) / len(well)


@pytest.mark.parametrize("eyes", [1, 2])
def test_mid_ranks_equal_pairs(eyes):
    generator = np.random.default_rng(eyes)
    y = generator.random(60) < 0.4
    scores = [np.round(y + generator.normal(0, 1, 60), 1) for _ in range(2)]
    clusters = np.arange(60) // eyes
    found = auc_covariance(y, *scores, clusters=clusters)
    auc, covariance = slow_covariance(y, scores, clusters)
    np.testing.assert_allclose(found.auc, auc, atol=1e-12)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-12)
    assert found.auc[0] == pytest.approx(roc_auc(y, scores[0]))
    u = stats.mannwhitneyu(scores[0][y], scores[0][~y]).statistic
    assert found.auc[0] == pytest.approx(u / (y.sum() * (~y).sum()))
    if eyes == 1:
        plain = auc_covariance(y, *scores)
        np.testing.assert_allclose(plain.covariance, found.covariance, atol=1e-15)


def test_clustered_delong_agrees_with_the_clustered_bootstrap():
    generator = np.random.default_rng(8)
    patients = np.repeat(np.arange(300), 2)
    latent = generator.normal(size=300)[patients]
    y = latent + generator.normal(0, 0.4, 600) > 0.8
    p = latent + generator.normal(0, 1, 300)[patients] + generator.normal(0, 0.2, 600)
    by_formula = auc_interval(y, p, patients)
    naive = auc_interval(y, p)
    by_resampling = clustered_interval(roc_auc, patients, y, p, resamples=4000, seed=1)
    width = by_resampling.high - by_resampling.low
    assert by_formula.high - by_formula.low == pytest.approx(width, rel=0.06)
    assert naive.high - naive.low < 0.85 * width


def test_what_has_no_area_or_no_spread():
    y = np.array([False, False, True, True])
    perfect = auc_interval(y, np.array([0.1, 0.2, 0.8, 0.9]))
    assert (perfect.auc, perfect.standard_error) == (1, 0)
    assert np.isnan([perfect.low, perfect.high]).all()
    assert np.isnan(auc_interval(np.ones(3, dtype=bool), np.arange(3.0)).auc)
    assert np.isnan(auc_interval(y, np.array([0.1, np.nan, 0.2, 0.3])).auc)
    assert np.isnan(auc_interval(y, np.arange(4.0), np.array([0, 1, 2, 2])).standard_error)
    p = np.array([0.3, 0.1, 0.2, 0.9])
    assert compare_aucs(y, p, 2 * p) == (0, 0, 0, 0, 0, 1)
    assert np.isnan(compare_aucs(np.ones(4, dtype=bool), p, p).p_value)


def test_exact_and_score_intervals():
    for hits, n in ((0, 20), (3, 40), (20, 20), (50, 90)):
        theirs = stats.binomtest(hits, n)
        assert binomial_interval(hits, n) == pytest.approx(tuple(theirs.proportion_ci(method="exact")))
        assert wilson_interval(hits, n) == pytest.approx(tuple(theirs.proportion_ci(method="wilson")), abs=1e-12)
    assert np.isnan(wilson_interval(0, 0)).all()


def test_mcnemar_by_hand_and_clustered():
    first = np.array([True] * 12 + [False] * 5 + [True] * 30)
    second = np.array([False] * 12 + [True] * 5 + [True] * 30)
    found = mcnemar(first, second)
    assert found[:2] == (12, 5)
    assert found.p_value == pytest.approx(stats.binomtest(5, 17).pvalue)
    assert mcnemar(first, first).p_value == 1
    alone = mcnemar(first, second, np.arange(47))
    assert alone.p_value == pytest.approx(stats.chi2.sf((12 - 5) ** 2 / 17, 1))
    # The same eye twice is no new witness.
    twice = mcnemar(np.repeat(first, 2), np.repeat(second, 2), np.repeat(np.arange(47), 2))
    assert twice.p_value == pytest.approx(alone.p_value)
    assert mcnemar(first, first, np.arange(47)).p_value == 1


@pytest.mark.parametrize("module", [delong, proportions])
def test_examples_of_shares_hold(module):
    assert doctest.testmod(module).failed == 0
