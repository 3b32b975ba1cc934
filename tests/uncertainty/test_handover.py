"""Handing over: a reader and a model whose best division is known, and every formula against rows one by one."""

import doctest

import numpy as np
import pytest

from workbench.metrics.costs import Costs
from workbench.schema.errors import WorkbenchError
from workbench.uncertainty import handover
from workbench.uncertainty.handover import (
    HandoverRule,
    HandoverSearch,
    ReadCases,
    counts_by_bin,
    density,
    fit_cutoff,
    fit_rule,
    gains,
    halves,
    reader_rates,
    team_rates,
)
from workbench.uncertainty.handover_effect import handover_effect


def simulated(n=6000, seed=0, reader_inside=1.0, reader_outside=0.85):
    """The model knows outside [0.4, 0.6) and tosses a coin inside; the reader is right as often as is said."""
    generator = np.random.default_rng(seed)
    score = generator.random(n)
    inside = (score >= 0.4) & (score < 0.6)
    y = np.where(inside, generator.random(n) < 0.5, score >= 0.6)
    right = generator.random(n) < np.where(inside, reader_inside, reader_outside)
    return ReadCases(y, score, np.where(right, y, ~y), inside + generator.random(n) / 2)


def team(rule, cases):
    handed = rule.handed_over(cases.score, cases.uncertainty)
    called = np.where(handed, cases.reader, rule.machine_calls(cases.score))
    return called[cases.y_true].mean(), (~called[~cases.y_true]).mean(), handed.mean()


@pytest.mark.parametrize("objective", ["sensitivity", "specificity"])
def test_the_known_best_division_is_found(objective):
    search = HandoverSearch(objective=objective, bins=(5, 10, 20))
    rule = fit_rule(simulated(seed=1), simulated(seed=2), search, {})
    ((low, high),) = rule.regions
    assert (low, high) == pytest.approx((0.4, 0.6))
    assert 0.4 <= rule.operating_point <= 0.6
    fresh = simulated(seed=3)
    assert team(rule, fresh)[:2] == (1, 1)
    assert team(rule, fresh)[2] == pytest.approx(0.2, abs=0.02)


def test_a_perfect_reader_gets_all_that_the_model_errs_in_and_a_perfect_model_keeps_all():
    generator = np.random.default_rng(0)
    score = generator.random(3000)
    y = generator.random(3000) < score
    everything = HandoverSearch(bins=(5,), smoothing=(0.0,), pseudocounts=(0.0,), most_handed_over=1.0)
    perfect_reader = ReadCases(y, score, y)
    rule = fit_rule(perfect_reader, perfect_reader, everything, {})
    assert rule.regions == ((0.0, 1.0),)
    assert rule.handed_over(np.array([0.0, 0.5, 1.0])).all()
    knows = score >= 0.6
    perfect_model = ReadCases(knows, score, np.where(generator.random(3000) < 0.8, knows, ~knows))
    rule = fit_rule(perfect_model, perfect_model, everything, {})
    assert rule.regions == ()
    assert rule.operating_point == 0.6


def slow_search(tuning, selection, search):
    """CoDoC with loops: every trade-off and operating point, the rule applied case by case."""
    (bins,), best = search.bins, None
    p = density(counts_by_bin(tuning, bins), search.pseudocounts[0], search.smoothing[0])
    for trade in search.trade_offs:
        for tau in range(bins + 1):
            handed = []
            for z in range(bins):
                if z >= tau:
                    advantage = (1 - trade) * p[z, 0, 0] - trade * p[z, 0, 1]
                else:
                    advantage = trade * p[z, 1, 1] - (1 - trade) * p[z, 1, 0]
                handed.append(advantage > 1e-12)
            starts = sum(now and not before for before, now in zip([False, *handed], handed, strict=False))
            regions = handover.regions_of(np.array(handed))
            rule = HandoverRule(regions=regions, operating_point=tau / bins if tau < bins else 2.0, machine_alone=0.5)
            allowed = starts <= search.most_regions
            for cases in (tuning, selection):
                sensitivity, specificity, share = team(rule, cases)
                least = reader_rates(cases)
                allowed &= sensitivity >= search.keep_sensitivity * least[0] - 1e-12
                allowed &= specificity >= search.keep_specificity * least[1] - 1e-12
                allowed &= share <= search.most_handed_over
            merit = tuple(round(float(one), 12) for one in (specificity, sensitivity, -share))
            if allowed and (best is None or merit > best):
                best = merit
    return best


@pytest.mark.parametrize("seed", range(4))
def test_the_search_equals_the_loops(seed):
    generator = np.random.default_rng(seed)

    def cases(n):
        score = np.round(generator.random(n), 2)
        y = generator.random(n) < score
        return ReadCases(y, score, np.where(generator.random(n) < 0.75, y, ~y))

    search = HandoverSearch(
        bins=(7,), pseudocounts=(0.1,), smoothing=(1.0,), keep_sensitivity=0.9, keep_specificity=0.9, most_regions=2
    )
    tuning, selection = cases(300), cases(200)
    expected = slow_search(tuning, selection, search)
    if expected is None:
        with pytest.raises(WorkbenchError, match="no rule reaches"):
            fit_rule(tuning, selection, search, {})
        return
    rule = fit_rule(tuning, selection, search, {})
    sensitivity, specificity, share = team(rule, selection)
    assert (specificity, sensitivity, -share) == pytest.approx(expected)


def test_team_rates_equal_those_of_the_applied_rule():
    generator = np.random.default_rng(5)
    cases = simulated(400, 5, 0.9, 0.8)
    deferred = generator.random((1, 7, 6)) < 0.4
    rates = team_rates(counts_by_bin(cases, 6), deferred)
    for tau in range(7):
        regions = handover.regions_of(deferred[0, tau])
        rule = HandoverRule(regions=regions, operating_point=tau / 6 if tau < 6 else 2.0, machine_alone=0.5)
        found = (rates.sensitivity[0, tau], rates.specificity[0, tau], rates.handed_over[0, tau])
        assert found == pytest.approx(team(rule, cases))


def test_density_sums_to_one_and_gains_are_the_papers():
    p = density(counts_by_bin(simulated(500), 8), 1.0, 2.0)
    np.testing.assert_allclose(p.sum(axis=(0, 1)), 1)
    to_specificity, to_sensitivity = gains(p)
    assert to_specificity[3, 5] == p[5, 0, 0]
    assert to_specificity[3, 2] == -p[2, 1, 0]
    assert to_sensitivity[3, 5] == -p[5, 0, 1]
    assert to_sensitivity[3, 2] == p[2, 1, 1]


def test_a_cut_off_of_the_uncertainty():
    rule = fit_cutoff(simulated(seed=1), simulated(seed=2), HandoverSearch(), {})
    fresh = simulated(seed=3)
    sensitivity, specificity, share = team(rule, fresh)
    assert min(sensitivity, specificity) > 0.98
    assert share == pytest.approx(0.2, abs=0.03)
    assert HandoverRule.model_validate_json(rule.model_dump_json()) == rule
    with pytest.raises(WorkbenchError, match="'uncertainty', which is missing"):
        rule.handed_over(fresh.score)


def test_what_cannot_be_learnt_is_said():
    cases = simulated(400)
    with pytest.raises(WorkbenchError, match=r"no rule reaches 1\.5 of the reader's sensitivity"):
        fit_rule(cases, cases, HandoverSearch(keep_sensitivity=1.5), {})
    well = cases.at(~cases.y_true)
    with pytest.raises(WorkbenchError, match="a half of the table has 0 diseased"):
        fit_rule(well, cases, HandoverSearch(), {})


def test_the_model_alone_is_as_specific_as_the_reader():
    cases = simulated(2000)
    threshold = handover.machine_alone(cases)
    machine, reader = ((~calls[~cases.y_true]).mean() for calls in (cases.score >= threshold, cases.reader))
    assert 0 <= machine - reader < 0.002


def test_halves_never_part_a_patient():
    patients = np.repeat(np.arange(21), 3)
    first = halves(patients, 0)
    assert all(first[patients == who].all() or not first[patients == who].any() for who in range(21))
    assert first.sum() == 11 * 3
    assert (halves(patients, 1) != first).any()


def test_the_effect_is_that_of_the_calls_and_its_differences_are_paired():
    cases, patients = simulated(600, 7, 0.95, 0.8), np.repeat(np.arange(300), 2)
    rule = HandoverRule(regions=((0.4, 0.6),), operating_point=0.5, machine_alone=0.55)
    costs = Costs(photograph=10, human_grade=5)
    effect = handover_effect(rule, cases, patients, costs=costs, resamples=300)
    team_figures, reader, model = effect.workers
    sensitivity, specificity, share = team(rule, cases)
    assert team_figures.figures["sensitivity"].value == pytest.approx(sensitivity)
    assert team_figures.figures["specificity"].value == pytest.approx(specificity)
    assert (team_figures.read_share.value, reader.read_share.value, model.read_share.value) == (share, 1, 0)
    assert reader.figures["accuracy"].value == (cases.reader == cases.y_true).mean()
    handed = rule.handed_over(cases.score)
    found = (np.where(handed, cases.reader, cases.score >= 0.5) & cases.y_true).sum()
    assert team_figures.cost_per_case_found.value == pytest.approx((600 * 10 + 5 * handed.sum()) / found)
    against = {(one.other, one.figure): one for one in effect.differences}
    gain = against["reader alone", "sensitivity"]
    assert gain.difference.difference.value == pytest.approx(sensitivity - reader_rates(cases)[0])
    assert gain.difference.difference.low > 0
    assert gain.difference.p_value < 0.01
    assert gain.mcnemar.p_value < 0.01
    assert (effect.cases, effect.patients, effect.diseased) == (600, 300, cases.y_true.sum())


def test_examples_of_handover_hold():
    assert doctest.testmod(handover, extraglobs={"np": np}).failed == 0
