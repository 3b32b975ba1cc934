import math

import numpy as np
import pytest

from workbench.training.validation import Answers, measure, score_of, youden_threshold


def answers(p_referable, grade, present=None) -> Answers:
    p_referable, grade = np.asarray(p_referable, float), np.asarray(grade, np.int64)
    p = np.zeros((*grade.shape, 5))
    p[..., 0], p[..., 3] = 1 - p_referable, p_referable
    present = np.ones(grade.shape, bool) if present is None else np.asarray(present)
    return Answers(p, present, np.where(present, grade, -1), loss=1.0)


def test_the_worse_present_eye_speaks_for_the_exam():
    some = answers([[0.2, 0.9], [0.2, 0.9]], [[0, 3], [0, 0]], present=[[True, True], [True, False]])
    assert some.p_referable().tolist() == [0.9, 0.2]


@pytest.mark.parametrize(
    ("grade", "present", "truth", "known"),
    [
        ([0, 1], [True, True], False, True),
        ([0, 2], [True, True], True, True),
        ([-1, 2], [True, True], True, True),
        ([-1, 1], [True, True], False, False),
        ([1, 4], [True, False], False, True),
        ([4, 4], [False, False], False, False),
    ],
)
def test_an_exam_is_referable_by_one_eye_and_healthy_only_by_all(grade, present, truth, known):
    found = answers([[0.5, 0.5]], [grade], [present]).referable()
    assert (bool(found[0][0]) and bool(found[1][0]), bool(found[1][0])) == (truth, known)


def test_perfect_answers_are_perfect_figures():
    figures = measure(answers([[0, 0], [1, 1], [0, 1]], [[0, 0], [3, 3], [0, 3]]))
    assert {figures[name] for name in ("auc_referable", "auc_referable_eye", "qwk")} == {1.0}


def test_one_class_is_nan_and_does_not_rank():
    healthy = measure(answers([[0.1, 0.2], [0.3, 0.1]], [[0, 0], [0, 0]]))
    assert math.isnan(healthy["auc_referable"])
    assert math.isnan(score_of({"auc_referable": math.nan, "qwk": math.nan}))
    assert score_of({"auc_referable": math.nan, "qwk": 0.4}) == 0.4
    assert score_of({"auc_referable": 0.8, "qwk": 0.4}) == pytest.approx(0.6)


def test_the_threshold_is_the_best_of_all_thresholds():
    generator = np.random.default_rng(0)
    truth = generator.random(60) < 0.4
    p = np.round(np.clip(0.3 * truth + 0.7 * generator.random(60), 0, 1), 2)

    def youden(cut: float) -> float:
        return (p[truth] >= cut).mean() + (p[~truth] < cut).mean() - 1

    best = max(youden(cut) for cut in np.linspace(0, 1, 1001))
    assert youden(youden_threshold(truth, p)) == pytest.approx(best)


def test_the_threshold_lies_between_its_neighbours_and_one_class_has_none():
    assert youden_threshold(np.array([False, True]), np.array([0.2, 0.6])) == pytest.approx(0.4)
    assert math.isnan(youden_threshold(np.array([True, True]), np.array([0.2, 0.6])))
    assert 0 < youden_threshold(np.array([False, True]), np.array([0.0, 0.0])) < 1
