"""Net benefit and cost per case found, against their formulas on rows written out."""

import numpy as np
import pytest

from workbench.metrics.costs import Costs
from workbench.metrics.decision_curve import cost_of_screening, decision_curve
from workbench.metrics.resampling import count_tiles
from workbench.schema.errors import WorkbenchError


@pytest.fixture
def cohort():
    generator = np.random.default_rng(0)
    y = generator.random(90) < 0.3
    return y, np.clip(0.4 * y + generator.normal(0.3, 0.2, 90), 0, 1), np.repeat(np.arange(30), 3)


def slow_net_benefit(y, p, threshold):
    called, odds = p >= threshold, threshold / (1 - threshold)
    model = (called & y).mean() - (called & ~y).mean() * odds
    everybody = y.mean() - (~y).mean() * odds
    return model, everybody, model - max(everybody, 0)


def test_net_benefit_equals_the_formula_on_the_same_resamples(cohort):
    y, p, patients = cohort
    thresholds = (0.5, 0.1, 0.3)
    found = decision_curve(y, p, patients, thresholds, resamples=50, seed=1)
    drawn = next(count_tiles(30, 50, np.random.default_rng(1))).T.astype(int)
    for one, threshold in zip(found, thresholds, strict=True):
        assert one.threshold == threshold
        assert [each.value for each in one[1:]] == pytest.approx(slow_net_benefit(y, p, threshold))
        rows = [np.repeat(np.arange(90), times[patients]) for times in drawn]
        slow = np.array([slow_net_benefit(y[index], p[index], threshold) for index in rows])
        for number, interval in enumerate(one[1:]):
            bounds = tuple(np.quantile(slow[:, number], [0.025, 0.975]))
            assert (interval.low, interval.high) == pytest.approx(bounds, abs=1e-12)


def test_a_perfect_model_gains_the_prevalence_and_a_constant_one_nothing(cohort):
    y, _, patients = cohort
    perfect = decision_curve(y, y.astype(float), patients, (0.2, 0.5), resamples=20, seed=0)
    assert [one.model.value for one in perfect] == pytest.approx([y.mean()] * 2)
    constant = decision_curve(y, np.ones(90), patients, (0.2,), resamples=20, seed=0)[0]
    assert constant.model == constant.everybody
    assert constant.gain.value == min(0, constant.everybody.value)


def test_a_threshold_of_one_is_refused(cohort):
    with pytest.raises(WorkbenchError, match="a threshold of 1"):
        decision_curve(*cohort, (0.5, 1.0), seed=0)


def test_cost_per_case_found_by_hand():
    y = np.array([True, True, True, False, False])
    p = np.array([0.9, 0.2, 0.1, 0.8, 0.1])
    referred = np.array([False, True, False, False, False])
    costs = Costs(photograph=10, human_grade=4, missed_case=100)
    found = cost_of_screening(y, p, referred, np.arange(5), costs, (0.5, 0.05), resamples=10, seed=0)
    assert found[0].cost_per_case_found.value == (5 * 10 + 3 * 4 + 1 * 100) / 2
    assert (found[0].graded_share.value, found[0].found_share.value) == pytest.approx((3 / 5, 2 / 3))
    assert found[1].cost_per_case_found.value == (5 * 10 + 5 * 4) / 3
    nobody = cost_of_screening(~y[:1], p[:1], referred[:1], np.arange(1), costs, (0.5,), resamples=10, seed=0)[0]
    assert np.isnan(nobody.cost_per_case_found.value)
