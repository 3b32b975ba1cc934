"""The checks of an attack, on models of which the answer is known: honest, masked, random, saturated, badly kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.stress.test_attacks import Spots, make_exams, trained  # noqa: F401
from tests.stress.test_auto_attack import Masked, NoGradient, Randomised
from workbench.schema.specs import StressSpec
from workbench.schema.threat import Aim
from workbench.stress.apply import apply_stress
from workbench.stress.credibility.descents import trace
from workbench.stress.credibility.examination import examine
from workbench.stress.credibility.modes import answering, watched
from workbench.stress.credibility.self_test import self_test
from workbench.stress.credibility.slopes import slopes
from workbench.stress.credibility.subject import Subject
from workbench.stress.goals import Deployed

EXAMS = 4


def subject(model: nn.Module, epsilon: float = 8.0, **more: object) -> Subject:
    x, present, grade = make_exams(EXAMS, 23)
    few = {"steps": 5, "tries": 40, "queries": 60} | more
    return Subject(model, x, present, grade, tuple(range(EXAMS)), 0.5, epsilon=epsilon, **few)  # type: ignore[arg-type]


def test_the_self_test_passes() -> None:
    assert self_test() == ""


def test_an_honest_model_raises_nothing(trained: Spots) -> None:  # noqa: F811
    found = examine(subject(trained))
    assert not any(found["gradient_fault"])
    assert not any(found["gradient_cut"])
    assert all(cosine is not None and cosine > 0.99 for cosine in found["difference_cosine"])  # type: ignore[operator]
    assert all(found["best_kept"])
    assert all(found["within_budget"])
    assert all(found["unbounded"])
    assert [row[-1] for row in found["ladder"]] == [True] * EXAMS  # type: ignore[index]
    for name in ("square", "label_only", "noise"):
        assert not any(won and held for won, held in zip(found[name], found["holds"], strict=True))
    assert {"averaged", "silent"}.isdisjoint(found), "nothing is said of draws where there are none"


def test_a_masked_gradient_is_flagged_and_the_black_box_wins(trained: Spots) -> None:  # noqa: F811
    found = examine(subject(Masked(trained).eval(), tries=150, queries=250))
    assert all(found["gradient_fault"])
    assert all(found["gradient_cut"])
    wins = [square or calls for square, calls in zip(found["square"], found["label_only"], strict=True)]
    assert sum(bool(won) for won in wins) >= EXAMS // 2


def test_a_model_without_autograd_is_examined_by_the_black_box_alone() -> None:
    x = torch.full((2, 6, 8, 8), 0.48)
    both, healthy = torch.ones(2, 2, dtype=torch.bool), torch.zeros(2, 2, dtype=torch.int64)
    found = examine(Subject(NoGradient().eval(), x, both, healthy, (0, 1), 0.5, epsilon=16.0, tries=60, queries=60))
    assert all(found["gradient_cut"])
    assert "pgd" not in found
    assert all(found["label_only"])
    assert all(found["square"])


def test_a_model_that_answers_by_lot_is_noticed_and_averaged(trained: Spots) -> None:  # noqa: F811
    answers = answering(subject(Randomised(trained).eval()))
    assert answers.differs.all()
    assert answers.averages
    steady = answering(subject(trained))
    assert not steady.differs.any()
    assert not steady.averages


class Probabilities(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        return self.inner(x, present).softmax(dim=-1)


def test_probabilities_are_told_from_logits(trained: Spots) -> None:  # noqa: F811
    assert answering(subject(Probabilities(trained).eval())).probabilities.all()
    assert not answering(subject(trained)).probabilities.any()


class WrongSlope(nn.Module):
    """Answers as the inner model, with the gradient of its negative: autograd is wrong, the answer right."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        other = self.inner(1 - x, present)
        return other + (self.inner(x, present) - other).detach()


def test_a_wrong_slope_is_seen_by_finite_differences(trained: Spots) -> None:  # noqa: F811
    honest, wrong = slopes(subject(trained)), slopes(subject(WrongSlope(trained).eval()))
    assert (honest.cosine > 0.99).all()
    assert honest.same_sign.all()
    assert (wrong.cosine < 0.9).all()
    assert not wrong.faulty.any()
    assert not wrong.cut.any()


def test_a_batch_norm_that_trains_is_seen() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    x = torch.rand(2, 3, 4, 4)
    with watched(model.eval()) as quiet:
        model(x)
    with watched(model.train()) as seen:
        model(x)
    assert not quiet.trained
    assert not quiet.buffers_changed
    assert seen.trained == {"1"}
    assert seen.buffers_changed


def test_the_trace_sees_a_better_iterate(trained: Spots) -> None:  # noqa: F811
    told = trace(subject(trained))
    assert told["best_kept"].all()
    assert ((told["pgd_rises"] >= 0) & (told["pgd_rises"] <= 1)).all()
    assert told["pgd_rises"].mean() > 0.5


def _noisy(inner: nn.Module, cutoff: float = 10.0) -> Deployed:
    """Draws of the inner model under noise on its logits; nobody is referred unless the cut-off is low."""

    def draws(x: Tensor, present: Tensor, seeds: tuple[int, ...], count: int) -> Tensor:
        shape = (count, 2, 5)
        noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(one)) for one in seeds], dim=1)
        return (inner(x, present)[None] + 0.3 * noise).softmax(dim=-1)

    def score(drawn: Tensor) -> Tensor:
        mean = drawn.mean(dim=0)
        return -torch.xlogy(mean, mean).sum(dim=-1)

    return Deployed(draws, lambda drawn: drawn.mean(dim=0), score, 8, cutoff)


def test_draws_are_averaged_fixed_and_drawn_again(trained: Spots) -> None:  # noqa: F811
    found = examine(subject(trained, deployed=_noisy(trained), steps=4))
    assert [len(row) for row in found["averaged"]] == [4] * EXAMS  # type: ignore[arg-type]
    assert all(0 < spread < 0.5 for spread in found["draws_spread"])  # type: ignore[operator]
    assert all(0 <= share <= 0.5 for share in found["clean_flip_share"])  # type: ignore[operator]
    chosen = [wrong for wrong, was in zip(found["fresh_wrong"], found["selected"], strict=True) if was]
    assert chosen
    assert all(wrong >= 20 for wrong in chosen)
    assert sum(map(bool, found["fixed_mask"])) >= sum(map(bool, found["pgd"])) - 1
    assert any(found["silent"])


def test_rays_finds_the_edge_of_a_linear_model_along_its_best_direction() -> None:
    """The mean red must rise by 2.9/255: no smaller linf change does it, the ray of all ones does."""
    x = torch.full((2, 6, 8, 8), 0.48)
    exams = x, torch.ones(2, 2, dtype=torch.bool), torch.zeros(2, 2, dtype=torch.int64)
    model, by_calls = NoGradient().eval(), Aim(knowledge="labels")

    def won(epsilon: float) -> Tensor:
        spec = StressSpec(name="rays", strength=epsilon, aim=by_calls, options={"queries": 40})
        return apply_stress(model, *exams, spec, [1, 2], threshold=0.5).success

    assert not won(0.0).any()
    assert not won(2.5).any()
    assert won(4.0).all()


@pytest.mark.parametrize(("options", "norm", "says"), [({"queries": 0}, "linf", "queries is 0"), ({}, "l2", "l2")])
def test_rays_refuses(trained: Spots, options: dict[str, int], norm: str, says: str) -> None:  # noqa: F811
    exams = make_exams(1, 3)
    spec = StressSpec(name="rays", strength=4, aim=Aim(norm=norm), options=options)  # type: ignore[arg-type]
    with pytest.raises(Exception, match=says):
        apply_stress(trained, *exams, spec, [1], threshold=0.5)
