"""How stressed exams are called: a copy may speak for the model wherever it cannot change the call."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from workbench.models.fast import DOUBT, doubtful
from workbench.schema.specs import StressSpec
from workbench.stress.apply import apply_stress
from workbench.stress.apply_exam import apply_exam_stress
from workbench.stress.calls import calls, stressed_answers

SIDE = 16
THRESHOLD = 0.3
BOTH = torch.ones(40, 2, dtype=torch.bool)


class Brightness(nn.Module):
    """An eye's log-odds rise with its mean light; a copy of it errs by a given amount. It counts its exams."""

    def __init__(self, error: Tensor | None = None) -> None:
        super().__init__()
        self.error, self.seen = error, 0

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        self.seen += len(x)
        odds = 20 * (x.reshape(len(x), 2, -1).mean(dim=2) - 0.5)
        odds = odds if self.error is None else odds + self.error[: len(x), None]
        nothing = torch.full_like(odds, -math.inf)
        return torch.stack([torch.zeros_like(odds), nothing, odds, nothing, nothing], dim=-1)


@pytest.fixture(scope="module")
def exams() -> Tensor:
    light = torch.linspace(0.44, 0.48, len(BOTH))  # the threshold lies at 0.4576
    return light[:, None, None, None].expand(-1, 6, SIDE, SIDE).clone()


def test_a_copy_that_errs_within_the_doubt_changes_no_call(exams: Tensor) -> None:
    model = Brightness()
    right = calls(model(exams, BOTH), THRESHOLD)
    assert right.any()
    assert not right.all()
    for seed in range(20):
        error = DOUBT * (2 * torch.rand(len(exams), generator=torch.Generator().manual_seed(seed)) - 1)
        copy = Brightness(error)
        told = stressed_answers(model, exams, BOTH, threshold=THRESHOLD, copy=copy)
        assert torch.equal(calls(told, THRESHOLD), right)
    wrong = calls(Brightness(-DOUBT * torch.ones(len(exams)))(exams, BOTH), THRESHOLD)
    assert not torch.equal(wrong, right), "the copy alone would call some otherwise"


def test_the_model_is_asked_again_of_what_is_near_alone(exams: Tensor) -> None:
    model, copy = Brightness(), Brightness(torch.zeros(len(exams)))
    near = int(doubtful(copy(exams, BOTH), THRESHOLD).sum())
    stressed_answers(model, exams, BOTH, threshold=THRESHOLD, copy=copy)
    assert model.seen == near
    assert 0 < near < len(exams) / 2


def test_an_answer_that_is_not_finite_is_asked_again(exams: Tensor) -> None:
    model, copy = Brightness(), Brightness(torch.full((len(exams),), math.nan))
    told = stressed_answers(model, exams, BOTH, threshold=THRESHOLD, copy=copy)
    assert torch.equal(told[..., 2], model(exams, BOTH)[..., 2])


def test_an_absent_eye_says_nothing_to_a_copy_either(exams: Tensor) -> None:
    one = BOTH.clone()
    one[:, 1] = False
    bright = exams.clone()
    bright[:, 3:] = 1.0
    plain, quick = (
        calls(stressed_answers(Brightness(), bright, one, threshold=THRESHOLD, copy=copy), THRESHOLD)
        for copy in (None, Brightness(torch.zeros(len(exams))))
    )
    assert torch.equal(plain, quick)
    assert not plain.all()


def test_a_corruption_is_judged_by_the_copy_and_an_attack_by_the_model(exams: Tensor) -> None:
    class Refusing(Brightness):
        def forward(self, x: Tensor, present: Tensor) -> Tensor:
            raise AssertionError("an attack is judged by the model itself")

    model, copy = Brightness(), Brightness(torch.full((len(exams),), 0.5 * DOUBT))
    grades, seeds = torch.zeros(len(exams), 2, dtype=torch.int64), list(range(len(exams)))
    darker = StressSpec(name="underexposure", strength=1)
    plain, quick = (
        apply_stress(model, exams, BOTH, grades, darker, seeds, threshold=THRESHOLD, copy=one) for one in (None, copy)
    )
    assert plain.flipped.any()
    assert torch.equal(plain.flipped, quick.flipped)
    assert torch.equal(plain.success, quick.success)
    assert copy.seen == len(exams)
    attack = StressSpec(name="fgsm", strength=1)
    apply_stress(model, exams, BOTH, grades, attack, seeds, threshold=THRESHOLD, copy=Refusing())


def test_a_mix_up_is_judged_by_the_copy(exams: Tensor) -> None:
    model, copy = Brightness(), Brightness(torch.full((len(exams),), 0.5 * DOUBT))
    exams = exams.clone()
    exams[:, 3:] = 0.0
    spec, seeds = StressSpec(name="missing_eye", strength=1, eyes="OD"), list(range(len(exams)))
    plain, quick = (
        apply_exam_stress(model, exams, BOTH, spec, seeds, threshold=THRESHOLD, copy=one)[0] for one in (None, copy)
    )
    assert plain.flipped.any()
    assert torch.equal(plain.flipped, quick.flipped)
    assert copy.seen == len(exams)
