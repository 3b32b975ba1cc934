"""The decision rule of docs/architecture.md, by hand on four exams."""

import numpy as np
import pandas as pd
import pytest

from workbench.schema.specs import PolicySpec
from workbench.uncertainty.decisions import (
    clean_cutoff,
    exam_decisions,
    eye_answers,
    eye_table,
    score_cutoff,
    true_referable,
)

POLICY = PolicySpec(referral_budget=0.25, referral_score="margin")


def eye(p_referable):
    """Return one row of five grades with this P(referable), the rest on grade 0."""
    return [1 - p_referable, 0, p_referable, 0, 0]


@pytest.fixture
def clinic():
    """Four exams, one draw: sure and healthy; unsure; sure and wrong; one eye only."""
    draws = np.array([[[eye(0.1), eye(0.0)], [eye(0.2), eye(0.45)], [eye(0.9), eye(0.1)], [eye(0.8), eye(0.0)]]])
    present = np.array([[True, True], [True, True], [True, True], [True, False]])
    grade = np.array([[0, 1], [2, 0], [0, 1], [3, -1]])
    return draws, present, grade


def decide(clinic, policy=POLICY, threshold=0.5, cutoff=None):
    draws, present, grade = clinic
    answers = eye_answers(draws, present, policy, threshold)
    cutoff = clean_cutoff(answers, present, policy) if cutoff is None else cutoff
    return exam_decisions(answers, present, grade, policy, threshold=threshold, cutoff=cutoff)


def test_eye_answers_by_hand(clinic):
    draws, present, _ = clinic
    answers = eye_answers(draws, present, POLICY, threshold=0.5)
    assert answers["grade_predicted"].tolist() == [[0, 0], [0, 0], [2, 0], [2, -1]]
    np.testing.assert_allclose(answers["p_referable"], [[0.1, 0], [0.2, 0.45], [0.9, 0.1], [0.8, np.nan]])
    np.testing.assert_allclose(answers["margin"], [[-0.4, -0.5], [-0.3, -0.05], [-0.4, -0.4], [-0.3, np.nan]])
    np.testing.assert_allclose(answers["p0"][:, 0], [0.9, 0.8, 0.1, 0.2])
    table = eye_table(answers)
    assert table["eye"].tolist() == ["OD", "OS"] * 4
    assert table["grade_predicted"].isna().tolist() == [False] * 7 + [True]
    assert {"exam", "p4", "mutual_information", "predictive_entropy", "p_referable_sd"} <= set(table.columns)


def test_decisions_by_hand(clinic):
    table = decide(clinic, POLICY.model_copy(update={"referral_budget": 0.5}))
    np.testing.assert_allclose(table["p_referable"], [0.1, 0.45, 0.9, 0.8])
    np.testing.assert_allclose(table["score"], [-0.4, -0.05, -0.4, -0.3])
    assert table["called_referable"].tolist() == [False, False, True, True]
    assert table["referable"].tolist() == [False, True, False, True]
    assert table["wrong"].tolist() == [False, True, True, False]
    assert table["incomplete"].tolist() == [False, False, False, True]
    # A budget of one half is two exams: the incomplete one, and the one nearest to the threshold.
    assert table["referred"].tolist() == [False, True, False, True]
    assert table["silent_failure"].tolist() == [False, False, True, False]


def test_incomplete_exams_use_the_budget_up(clinic):
    assert decide(clinic)["referred"].tolist() == [False, False, False, True]
    keep = POLICY.model_copy(update={"refer_incomplete": False})
    assert decide(clinic, keep)["referred"].tolist() == [False, True, False, False]


def test_exams_unlike_the_training_ones_are_referred_first_if_it_is_policy(clinic):
    draws, present, grade = clinic
    answers = eye_answers(draws, present, POLICY, 0.5)
    answers["unlike_training"] = np.array([[False, True], [False, False], [False, False], [False, False]])
    keep = POLICY.model_copy(update={"refer_incomplete": False})
    for policy, expected in (
        (keep, [False, True, False, False]),  # flagged, but it is not policy: the unsure one goes
        (keep.model_copy(update={"refer_unlike_training": True}), [True, False, False, False]),
        (POLICY.model_copy(update={"refer_unlike_training": True, "referral_budget": 0.75}), [True, True, False, True]),
    ):
        cutoff = clean_cutoff(answers, present, policy)
        table = exam_decisions(answers, present, grade, policy, threshold=0.5, cutoff=cutoff)
        assert table["referred"].tolist() == expected
        assert table["unlike_training"].tolist() == [True, False, False, False]


def test_an_exam_can_be_referred_by_how_unlike_it_is(clinic):
    draws, present, grade = clinic
    policy = POLICY.model_copy(update={"referral_score": "energy", "refer_incomplete": False})
    answers = eye_answers(draws, present, policy, 0.5) | {"energy": np.array([[1.0, 2], [9, 1], [3, 3], [4, np.nan]])}
    cutoff = clean_cutoff(answers, present, policy)
    table = exam_decisions(answers, present, grade, policy, threshold=0.5, cutoff=cutoff)
    assert table["score"].tolist() == [2, 9, 3, 4]
    assert table["referred"].tolist() == [False, True, False, False]


def test_the_threshold_calls_from_itself_on_and_the_policy_goes_first(clinic):
    assert decide(clinic, threshold=0.45)["called_referable"].tolist() == [False, True, True, True]
    own = POLICY.model_copy(update={"referable_threshold": 0.85})
    assert decide(clinic, own, threshold=0.45)["called_referable"].tolist() == [False, False, True, False]


def test_under_stress_the_cutoff_stays(clinic):
    draws, present, grade = clinic
    shaken = np.full_like(draws, 0.2)
    table = exam_decisions(
        eye_answers(shaken, present, POLICY, 0.5), present, grade, POLICY, threshold=0.5, cutoff=-0.2
    )
    assert table["referred"].tolist() == [True] * 4


def test_an_exam_without_an_answer_is_unknown_not_wrong(clinic):
    draws, present, grade = clinic
    draws[:, 0] = np.nan
    present[3] = False
    table = decide((draws, present, grade))
    assert table["wrong"].isna().tolist() == [True, False, False, True]
    assert table["silent_failure"].isna().tolist() == [True, False, False, True]
    assert table["called_referable"].isna().tolist() == [True, False, False, True]
    assert table["referred"].tolist() == [True, False, False, True]
    assert isinstance(table["wrong"].dtype, pd.BooleanDtype)


def test_an_unknown_truth_is_neither_right_nor_wrong(clinic):
    draws, present, _ = clinic
    table = decide((draws, present, np.array([[0, -1], [2, -1], [-1, -1], [0, 0]])))
    assert table["referable"].isna().tolist() == [True, False, True, False]
    assert table["wrong"].isna().tolist() == [True, False, True, False]
    assert table["silent_failure"].isna().tolist() == [True, False, True, False]
    assert table["called_referable"].tolist() == [False, False, True, True]


def test_an_absent_eye_s_pixels_decide_nothing(clinic):
    draws, present, grade = clinic
    other = draws.copy()
    other[:, 3, 1] = eye(1.0)
    pd.testing.assert_frame_equal(decide(clinic), decide((other, present, grade)))


@pytest.mark.parametrize(
    ("grades", "expected"),
    [((0, 1), 0), ((2, 0), 1), ((0, 4), 1), ((2, -1), 1), ((-1, 3), 1), ((0, -1), np.nan), ((-1, -1), np.nan)],
)
def test_true_referable(grades, expected):
    np.testing.assert_array_equal(true_referable(np.array([grades])), [expected])


def test_an_eye_never_photographed_may_be_left_out_of_the_question():
    grade = np.array([[0, -1], [2, -1], [0, -1], [-1, -1]])
    photographed = np.array([[True, False], [True, False], [True, True], [False, False]])
    np.testing.assert_array_equal(true_referable(grade, photographed), [0, 1, np.nan, np.nan])


@pytest.mark.parametrize("budget", [0.0, 0.05, 0.2, 0.35, 0.5, 1.0])
def test_without_ties_the_budget_is_met(budget):
    scores = np.random.default_rng(0).permutation(100) / 7
    assert (scores > score_cutoff(scores, budget)).mean() == budget


def test_ties_go_together_and_refer_fewer_when_in_doubt():
    scores = np.array([1.0, 1.0, 1.0, 2.0, 3.0, 3.0])
    referred = {
        budget: int((scores > score_cutoff(scores, budget)).sum()) for budget in (0.0, 1 / 6, 2 / 6, 3 / 6, 1.0)
    }
    assert referred == {0.0: 0, 1 / 6: 0, 2 / 6: 2, 3 / 6: 3, 1.0: 6}
    assert score_cutoff(np.ones(4), 0.4) == 1


def test_nan_never_ranks_but_counts():
    scores = np.array([1.0, 2.0, 3.0, np.nan])
    assert score_cutoff(scores, 0.25) == 2
    assert score_cutoff(scores, 0.25, np.array([False, False, False, True])) == 3
    assert score_cutoff(np.array([np.nan]), 0.5) == np.inf
