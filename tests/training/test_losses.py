import math

import pytest
import torch
from torch.nn import functional

from workbench.training.config import LossSection
from workbench.training.losses import class_weights, grading_loss, ranked_probability_score

PLAIN = LossSection(class_weight_power=0, label_smoothing=0, referable_weight=0, ordinal_weight=0)


def logits_and_grades(n: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 2, 5, generator=generator), torch.randint(0, 5, (n, 2), generator=generator)


def test_plain_is_the_cross_entropy():
    logits, grade = logits_and_grades()
    expected = functional.cross_entropy(logits.flatten(0, 1), grade.flatten())
    torch.testing.assert_close(grading_loss(logits, grade, torch.ones(5), PLAIN), expected)


def test_weighted_and_smoothed_equals_the_sum_written_slowly():
    logits, grade = logits_and_grades()
    weights = torch.tensor([0.5, 1.0, 2.0, 3.0, 4.0])
    settings = LossSection(label_smoothing=0.1, referable_weight=0.7, ordinal_weight=0.3)
    top = bottom = binary = ordinal = 0.0
    for eye, true in zip(logits.flatten(0, 1), grade.flatten().tolist(), strict=True):
        p = eye.softmax(0)
        target = [0.02 + 0.9 * (k == true) for k in range(5)]
        weight = float(weights[true])
        top += weight * -sum(target[k] * math.log(p[k]) for k in range(5))
        bottom += weight
        referable = float(p[2:].sum())
        binary -= math.log(referable if true >= 2 else 1 - referable)
        ordinal += weight * sum((float(p[: k + 1].sum()) - (true <= k)) ** 2 for k in range(4))
    expected = top / bottom + 0.7 * binary / 10 + 0.3 * ordinal / bottom
    assert float(grading_loss(logits, grade, weights, settings)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("settings", [PLAIN, LossSection(ordinal_weight=1.0)])
def test_an_eye_without_a_grade_neither_counts_nor_learns(settings):
    logits, grade = logits_and_grades()
    grade[0, 1] = -1
    logits.requires_grad_(True)
    loss = grading_loss(logits, grade, torch.ones(5), settings)
    loss.backward()
    assert logits.grad[0, 1].abs().sum() == 0
    assert logits.grad[0, 0].abs().sum() > 0
    changed = logits.detach().clone()
    changed[0, 1] = 50.0
    torch.testing.assert_close(grading_loss(changed, grade, torch.ones(5), settings), loss.detach())


def test_no_graded_eye_at_all_is_zero_not_nan():
    logits, grade = logits_and_grades()
    loss = grading_loss(logits, torch.full_like(grade, -1), torch.ones(5), LossSection(ordinal_weight=1.0))
    assert float(loss) == 0


def test_class_weights_follow_the_frequencies_and_average_to_one():
    grades = torch.tensor([[0, 0], [0, 0], [0, 0], [0, 0], [1, 1], [2, -1]])
    weights = class_weights(grades, 5, 1.0)
    assert float(weights[1] / weights[0]) == pytest.approx(4)
    assert float(weights[grades[grades >= 0]].mean()) == pytest.approx(1)
    assert class_weights(grades, 5, 0.0).tolist() == [1.0] * 5


def test_the_ranked_probability_score_knows_the_order():
    certain = 30 * torch.eye(5)
    true = torch.zeros(5, dtype=torch.int64)
    assert ranked_probability_score(certain, true).tolist() == pytest.approx([0, 1, 2, 3, 4], abs=1e-5)
