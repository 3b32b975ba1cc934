"""Retained curves, their baselines, targets and areas: each against the definition written out on tiny arrays."""

import numpy as np
import pytest

from workbench.metrics import resampling, selective
from workbench.metrics.discrimination import roc_auc
from workbench.metrics.referral_target import TARGETS, Target, smallest_referral
from workbench.metrics.resampling import count_tiles
from workbench.metrics.retained import CURVES, oracle_baseline, random_baseline, retained_curves, scored_cases

SHARES = (1.0, 0.8, 0.55, 0.3)


def tiny(seed=0, n=60, decimals=1):
    generator = np.random.default_rng(seed)
    y = generator.random(n) < 0.4
    p = np.clip(0.5 * y + generator.normal(0.25, 0.25, n), 0, 1)
    score = np.round(-np.abs(p - 0.5) + generator.normal(0, 0.1, n), decimals)
    return scored_cases(y, p, score, np.repeat(np.arange(n // 2), 2), 0.5)


def slow_figures(y, p, called):
    def rate(hits, group):
        return hits[group].mean() if group.any() else np.nan

    return {
        "error_rate": (called != y).mean(),
        "sensitivity": rate(called, y),
        "specificity": rate(~called, ~y),
        "roc_auc": roc_auc(y, p),
    }


def slow_curve(y, p, called, score, shares):
    """Keep the surest ceil(share × n), and whoever is as sure as the last of them."""
    points = []
    for share in shares:
        count = int(np.ceil(round(share * len(y), 9)))
        kept = score <= np.sort(score)[count - 1]
        points.append(slow_figures(y[kept], p[kept], called[kept]) | {"n": int(kept.sum())})
    return points


@pytest.mark.parametrize("decimals", [1, 9])
def test_curves_and_bands_equal_the_definition_on_the_same_resamples(decimals):
    cases = tiny(decimals=decimals)
    curves = retained_curves(cases, SHARES, resamples=60, seed=3)
    whole = slow_curve(cases.y_true, cases.p, cases.called, cases.score, SHARES)
    resampled = []
    for times in next(count_tiles(30, 60, np.random.default_rng(3))).T:
        rows = np.repeat(np.arange(60), times.astype(int)[cases.patients])
        resampled.append(slow_curve(*(a[rows] for a in (cases.y_true, cases.p, cases.called, cases.score)), SHARES))
    for name in CURVES:
        for place, point in enumerate(curves[name]):
            assert point.n == whole[place]["n"]
            assert point.retained == point.n / 60
            assert point.value.value == pytest.approx(whole[place][name], nan_ok=True)
            values = np.array([one[place][name] for one in resampled])
            change = values - np.array([one[0][name] for one in resampled])
            for interval, slow in ((point.value, values), (point.change, change)):
                assert interval.undefined == np.isnan(slow).sum()
                assert (interval.low, interval.high) == pytest.approx(
                    tuple(np.nanquantile(slow, [0.025, 0.975])), abs=1e-6
                )
        assert curves[name][0].change[:3] == (0, 0, 0)
        assert curves[name][0].p_value == 1


def test_an_oracle_score_gains_and_a_random_one_does_not():
    generator = np.random.default_rng(4)
    n = 400
    y = generator.random(n) < 0.3
    p = np.clip(0.4 * y + generator.normal(0.3, 0.2, n), 0, 1)
    patients = np.repeat(np.arange(n // 2), 2)
    knows = scored_cases(y, p, ((p >= 0.5) != y) + generator.random(n) / 2, patients, 0.5)
    best = retained_curves(knows, (1.0, 0.8), resamples=300, seed=0)["roc_auc"][1]
    assert best.change.low > 0
    assert best.p_value < 0.02
    gains = []
    for _ in range(12):
        blind = scored_cases(y, p, generator.random(n), patients, 0.5)
        gains.append(retained_curves(blind, (1.0, 0.8), resamples=100, seed=0)["roc_auc"][1])
    assert abs(np.mean([gain.change.value for gain in gains])) < 0.01
    assert sum(gain.p_value < 0.05 for gain in gains) <= 3


def test_unknown_truth_answer_or_score_never_ranks():
    nan = np.nan
    cases = scored_cases(
        np.array([1.0, nan, 0.0, 1.0]),
        np.array([0.9, 0.9, nan, 0.2]),
        np.array([0.1, 0.1, 0.1, nan]),
        np.arange(4),
        0.5,
    )
    assert cases.patients.tolist() == [0]
    assert np.isnan(retained_curves(cases, SHARES, resamples=5, seed=0)["error_rate"][0].value.low)
    nobody = scored_cases(np.array([nan]), np.array([nan]), np.array([nan]), np.arange(1), 0.5)
    assert smallest_referral(nobody, TARGETS[0], resamples=5, seed=0).rate == np.inf


def test_the_random_baseline_is_the_mean_of_random_orders():
    cases = tiny(1, 80)
    baseline = random_baseline(cases, SHARES, permutations=400, seed=0)
    generator = np.random.default_rng(9)
    slow = []
    for _ in range(80):
        order = generator.permutation(80)
        kept = [order[: int(np.ceil(share * 80))] for share in SHARES]
        slow.append([slow_figures(cases.y_true[k], cases.p[k], cases.called[k]) for k in kept])
    for name in CURVES:
        values = np.array([[point[name] for point in one] for one in slow])
        assert baseline[name].value == pytest.approx(np.nanmean(values, axis=0), abs=0.04)
        assert baseline[name].low == pytest.approx(np.nanquantile(values, 0.025, axis=0), abs=0.1)
        assert baseline[name].high == pytest.approx(np.nanquantile(values, 0.975, axis=0), abs=0.1)
        assert baseline[name].low[0] == baseline[name].value[0] == baseline[name].high[0]


def test_the_oracle_baseline_refers_errors_first():
    cases = tiny(2, 80)
    errors = cases.wrong.sum()
    best = oracle_baseline(cases, SHARES)
    for place, share in enumerate(SHARES):
        referred = 80 - np.ceil(round(share * 80, 9))
        assert best["error_rate"].value[place] == pytest.approx(max(errors - referred, 0) / (80 - referred))
    assert best["sensitivity"].value[-1] == best["specificity"].value[-1] == 1
    curves = retained_curves(cases, SHARES, resamples=2, seed=0)
    assert best["roc_auc"].value[0] == pytest.approx(curves["roc_auc"][0].value.value)


def slow_areas(wrong, score, generator, orders=4000):
    """Mean over random orders of equal scores; both risks at every count of kept cases."""
    selective_risk, generalised = [], []
    for _ in range(orders):
        kept = wrong[np.lexsort((generator.random(len(wrong)), score))]
        found, count = np.cumsum(kept), np.arange(1, len(kept) + 1)
        selective_risk.append((found / count).mean())
        # The generalised risk runs straight between counts, from no case kept on.
        generalised.append(np.trapezoid(np.append(0, found) / len(kept), dx=1 / len(kept)))
    return np.mean(selective_risk), np.mean(generalised)


@pytest.mark.parametrize("tied", [False, True])
def test_areas_equal_their_definitions(tied):
    generator = np.random.default_rng(5)
    score = np.round(generator.random(25), 1) if tied else generator.random(25)
    wrong = (generator.random(25) < 0.2 + 0.4 * score).astype(int)
    aurc, augrc = slow_areas(wrong, score, generator, 4000 if tied else 1)
    exact = 2e-3 if tied else 1e-12
    assert selective.aurc(wrong, score) == pytest.approx(aurc, abs=exact)
    assert selective.augrc(wrong, score) == pytest.approx(augrc, abs=exact)
    best = slow_areas(wrong, wrong.astype(float), generator, 1)[0]
    assert selective.excess_aurc(wrong, score) == pytest.approx(aurc - best, abs=exact)
    # Traub et al. 2024, equation 9: by the area under the ROC curve of failures and the accuracy.
    accuracy = 1 - wrong.mean()
    by_auroc = (1 - roc_auc(wrong, score)) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2
    assert selective.augrc(wrong, score) == pytest.approx(by_auroc)


def test_areas_at_their_boundaries():
    assert selective.aurc(np.zeros(5), np.arange(5.0)) == selective.augrc(np.zeros(5), np.arange(5.0)) == 0
    assert selective.aurc(np.ones(5), np.arange(5.0)) == 1
    assert selective.augrc(np.ones(5), np.arange(5.0)) == 0.5
    assert selective.excess_aurc(np.array([0, 0, 1]), np.array([0.1, 0.2, 0.9])) == pytest.approx(0)
    assert np.isnan(selective.aurc(np.zeros(0), np.zeros(0)))


def slow_smallest(cases, rows, target, of):
    y, called, score = (a[rows] for a in (cases.y_true, cases.called, cases.score))
    best = np.inf
    for cut in np.unique(score):
        kept = score <= cut
        if of == "kept":
            if kept.sum() < 0.1 * len(y) or y[kept].all() or not y[kept].any():
                continue
            sensitivity, specificity = called[kept & y].mean(), (~called[kept & ~y]).mean()
        else:
            right = ~kept | (called == y)
            sensitivity, specificity = right[y].mean(), right[~y].mean()
        if sensitivity >= target.sensitivity and specificity >= target.specificity:
            best = min(best, 1 - kept.mean())
    return 1.0 if of == "team" and best == np.inf else best


@pytest.mark.parametrize("of", ["kept", "team"])
def test_the_smallest_referral_equals_the_search_written_out(of, monkeypatch):
    monkeypatch.setattr(resampling, "KINDS", 0)
    cases, target = tiny(3, 80, decimals=2), Target("here", 0.86, 0.9)
    found = smallest_referral(cases, target, of=of, resamples=80, seed=1)
    assert found.rate == pytest.approx(slow_smallest(cases, np.arange(80), target, of))
    values = []
    for times in next(count_tiles(40, 80, np.random.default_rng(1))).T:
        values.append(slow_smallest(cases, np.repeat(np.arange(80), times.astype(int)[cases.patients]), target, of))
    values = np.sort(values)
    assert (found.low, found.high) == pytest.approx((values[1], values[77]))
    assert found.not_reached == np.isinf(values).mean()
    assert 0 < found.rate < 1


def test_a_target_that_is_met_or_never_met():
    y = np.array([True, False] * 10)
    perfect = scored_cases(y, y.astype(float), np.arange(20.0), np.arange(20), 0.5)
    assert smallest_referral(perfect, TARGETS[0], resamples=20, seed=0)[1:5] == (0, 0, 0, 0)
    hopeless = scored_cases(y, 1.0 - y, np.arange(20.0), np.arange(20), 0.5)
    assert smallest_referral(hopeless, TARGETS[0], resamples=20, seed=0)[1:5] == (np.inf, np.inf, np.inf, 1)
    assert smallest_referral(hopeless, TARGETS[0], of="team", resamples=20, seed=0).rate > 0.7
