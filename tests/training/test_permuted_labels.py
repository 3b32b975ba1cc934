"""Grades dealt out anew: the same grades, the same photographs, and nothing that ties them together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workbench.training.cohort import eye_grades, open_cohort
from workbench.training.config import TrainConfig


def test_the_grades_are_dealt_out_anew_and_nothing_else_changes(configure: Callable[..., TrainConfig]) -> None:
    plain, dealt, again = (open_cohort(configure(f"data.permute_labels={on}")) for on in ("false", "true", "true"))
    before, after = eye_grades(plain.train), eye_grades(dealt.train)
    assert not np.array_equal(before, after)
    assert sorted(map(tuple, before.tolist())) == sorted(map(tuple, after.tolist())), "pairs stay together"
    assert np.array_equal(after, eye_grades(again.train))
    assert np.array_equal(eye_grades(plain.validation), eye_grades(dealt.validation)), "it is judged by the truth"
    batches = (cohort.train.batch([0, 1]) for cohort in (plain, dealt))
    one, other = batches
    assert np.array_equal(one.x, other.x)
    assert np.array_equal(other.grade.numpy(), after[:2]), "what the loop is given are the dealt grades"
