"""The checks of an attack, on models of which the answer is known: honest, masked, random, saturated, badly kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.stress.test_attacks import Spots, make_exams, trained  # noqa: F401
from tests.stress.test_auto_attack import Masked, NoGradient, Randomised
from workbench.models.foreign import PairedFromSingle
from workbench.schema.seeds import seed_for
from workbench.schema.specs import StressSpec
from workbench.schema.threat import Aim
from workbench.stress.apply import StressResult, apply_stress
from workbench.stress.auto_attack import search
from workbench.stress.auto_attack.descent import pgd
from workbench.stress.credibility.descents import RUNGS, trace
from workbench.stress.credibility.draws import FRESH
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


def _nothing_broken(*given: Any, **options: Any) -> StressResult:
    found = UNDER(*given, **options)
    return replace(found, success=torch.zeros_like(found.success))


def _nothing_cut(subject: Subject) -> object:
    found = slopes(subject)
    return replace(found, cut=torch.zeros_like(found.cut))


def _nothing_differs(subject: Subject) -> object:
    found = answering(subject)
    return replace(found, differs=torch.zeros_like(found.differs))


UNDER = Subject.under
SELF_TEST = "workbench.stress.credibility.self_test"


@pytest.mark.parametrize(
    ("part", "broken", "says"),
    [
        (f"{SELF_TEST}.Subject.under", _nothing_broken, "nothing defends was not broken; .* not broken by the black"),
        (f"{SELF_TEST}.slopes", _nothing_cut, "a masked gradient was not flagged"),
        (f"{SELF_TEST}.answering", _nothing_differs, "answers by lot was not noticed"),
    ],
)
def test_the_self_test_says_which_part_of_the_bench_is_broken(
    part: str, broken: object, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part, broken)
    assert re.search(says, self_test())


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


class Linear(nn.Module):
    """Grades an eye by its mean red: 1/255 of it is worth 0.4 of a logit."""

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        red = torch.stack([x[:, 0], x[:, 3]], dim=1).mean(dim=(2, 3))
        return 100 * (red - 0.5)[..., None] * torch.arange(-2.0, 3.0)


def healthy(model: nn.Module, epsilon: float, level: float = 0.48, **more: object) -> Subject:
    """Return two healthy exams of one grey, which a linear model grades rightly by 5/255."""
    x = torch.full((2, 6, 8, 8), level)
    both, grade = torch.ones(2, 2, dtype=torch.bool), torch.zeros(2, 2, dtype=torch.int64)
    few = {"steps": 5, "tries": 60, "queries": 60} | more
    return Subject(model.eval(), x, both, grade, (0, 1), 0.5, epsilon=epsilon, **few)  # type: ignore[arg-type]


def test_a_descent_down_the_wrong_slope_fails_at_every_epsilon_and_the_black_box_wins() -> None:
    honest, wrong = (examine(healthy(model, 8.0)) for model in (Linear(), WrongSlope(Linear())))
    assert all(honest["pgd"])
    assert all(honest["unbounded"])
    assert honest["ladder"] == [[False, False, True, True, True]] * 2
    assert not any(wrong["pgd"])
    assert wrong["ladder"] == [[False] * 5] * 2
    assert all(wrong["square"])
    assert all(wrong["label_only"])


class Rough(nn.Module):
    """Grades an eye by how rough it is, in whole steps: no slope anywhere, and only noise of ±ε is rough enough."""

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        rough = torch.round(1e4 * x.reshape(-1, 2, 3, *x.shape[2:]).var(dim=(2, 3, 4))) / 100
        return 20 * (rough - 1)[..., None] * torch.arange(-2.0, 3.0)


def test_noise_breaks_what_no_slope_leads_to() -> None:
    found = examine(healthy(Rough(), 8.0))
    assert all(found["gradient_fault"])
    assert all(found["holds"])
    assert all(found["noise"])


class Blind(nn.Module):
    """Calls every exam healthy whatever it shows."""

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        return 0 * x.mean() - torch.arange(5.0).expand(len(x), 2, 5)


def test_what_does_not_look_at_its_pixels_is_broken_by_nothing_and_that_is_told() -> None:
    found = examine(healthy(Blind(), 8.0))
    assert all(found["gradient_fault"])
    assert not any(found["gradient_cut"]), "there is nothing to see"
    assert not any(found["unbounded"])


def test_what_is_found_on_a_copy_breaks_a_model_that_hides_its_gradient() -> None:
    found = examine(healthy(Masked(Linear()), 16.0, surrogate=Linear().eval()))
    assert all(found["gradient_cut"])
    assert all(found["transfer"])
    assert "transfer" not in {name for name, values in examine(healthy(Masked(Linear()), 16.0)).items() if any(values)}


class Moat(nn.Module):
    """Referable from 7/255 more red on; before that, from 1.5/255 on, the redder the healthier."""

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        more = 255 * (torch.stack([x[:, 0], x[:, 3]], dim=1).mean(dim=(2, 3)) - 0.48)
        odds = torch.where(more < 1.5, more - 4, torch.where(more < 7, -1 - more, more - 4))
        return odds[..., None] * torch.arange(-2.0, 3.0)


def test_a_single_step_leaps_over_what_small_steps_stick_at() -> None:
    found = examine(healthy(Moat(), 8.0))
    assert all(found["fgsm"])
    assert not any(found["pgd"])


@pytest.mark.parametrize("classes", [2, 5])
def test_grades_are_counted(classes: int) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))
    model = PairedFromSingle(net) if classes == 2 else Linear()
    assert answering(healthy(model, 1.0)).classes == 5


def test_what_the_ladder_takes_over_is_what_it_would_have_found(trained: Spots) -> None:  # noqa: F811
    given = subject(trained, 2.0)
    found = examine(given)
    again = given.under("pgd", steps=given.steps, stop=True).success
    rung = RUNGS.index(1.0)
    assert [row[rung] for row in found["ladder"]] == again.tolist() == found["pgd"]  # type: ignore[index]
    held = torch.tensor([one == given.epsilon for one in found["held_epsilon"]])
    harder = given.under("pgd", steps=2 * given.steps, restarts=2, stop=True).success
    assert [found["holds"][row] for row in held.nonzero()[:, 0].tolist()] == (~harder[held]).tolist()


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


def _last(*given: Any, **options: Any) -> Tensor:
    """Search as ever, and return the exam as it was."""
    pgd(*given, **options)
    return given[0].clean


def test_the_trace_sees_that_the_best_iterate_was_not_kept(
    trained: Spots,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workbench.stress.credibility.descents.pgd", _last)
    assert not trace(subject(trained))["best_kept"].any()


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


def _drawn(inner: nn.Module, luck: float = 0.0, flips: int = 0) -> Deployed:
    """Draws of the inner model, all alike but for two things.

    Args:
        inner: the model.
        luck: added towards referable in the draws that an attack sees, and in no other.
        flips: of this many draws, one is called referable whatever the exam.
    """
    seen = {seed_for(seed, "attacked draws") for seed in (0, 1)}

    def draws(x: Tensor, present: Tensor, seeds: Sequence[int], count: int) -> Tensor:
        logits = inner(x, present)[None].expand(count, -1, -1, -1).clone()
        lucky = torch.tensor([luck if seed in seen else 0.0 for seed in seeds])
        logits = logits + lucky[None, :, None, None] * torch.arange(-2.0, 3.0)
        if flips:
            logits[::flips] = torch.tensor([0.0, 0.0, 0.0, 0.0, 30.0])
        return logits.softmax(dim=-1)

    return Deployed(
        draws, lambda drawn: drawn.mean(dim=0), lambda drawn: drawn.var(dim=0, correction=0).sum(dim=-1), 8, 10.0
    )


def test_one_draw_in_four_that_calls_otherwise_is_counted() -> None:
    found = examine(healthy(Linear(), 1.0, deployed=_drawn(Linear(), flips=4)))
    assert found["clean_flip_share"] == [0.25] * 2
    assert all(spread > 0.2 for spread in found["draws_spread"])  # type: ignore[operator]


def test_success_on_the_draws_that_were_seen_is_refuted_by_fresh_ones() -> None:
    lucky, honest = (examine(healthy(Linear(), 1.0, deployed=_drawn(Linear(), luck=luck))) for luck in (50.0, 0.0))
    assert all(lucky["selected"])
    assert lucky["fresh_wrong"] == [0] * 2
    assert lucky["fresh_draws"] == [FRESH] * 2
    assert not any(honest["selected"])


def test_a_path_through_the_dropout_that_leads_the_wrong_way_is_seen_with_one_mask() -> None:
    wrong, honest = (healthy(Linear(), 8.0, deployed=_drawn(inner)) for inner in (WrongSlope(Linear()), Linear()))
    assert all(examine(honest)["fixed_mask"])
    found = examine(wrong)
    assert all(found["pgd"])
    assert not any(found["fixed_mask"])


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


class Overstating(nn.Module):
    """Calls more light referable than `NoGradient` does: by 1.5/255 of the mean red."""

    def __init__(self) -> None:
        super().__init__()
        self.true = NoGradient().eval()

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        logits: Tensor = self.true(x + 1.5 / 255, present)
        return logits


def test_rays_believes_no_copy_and_goes_on_searching(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 2/255 the copy is broken along the ray of all ones, the model is not; at 4/255 both are."""
    x = torch.full((2, 6, 8, 8), 0.48)
    exams = x, torch.ones(2, 2, dtype=torch.bool), torch.zeros(2, 2, dtype=torch.int64)
    copy, seen = Overstating(), []
    copy.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    monkeypatch.setattr(search, "fast_copy", lambda *_, **__: copy)

    def won(epsilon: float) -> Tensor:
        seen.clear()
        spec = StressSpec(name="rays", strength=epsilon, aim=Aim(knowledge="labels"), options={"queries": 30})
        return apply_stress(NoGradient().eval(), *exams, spec, [1, 2], threshold=0.5).success

    assert not won(2.0).any()
    assert sum(seen) == 2 * 30, "a refused claim does not end the search"
    assert won(4.0).all()
    assert sum(seen) < 2 * 30


@pytest.mark.parametrize(("options", "norm", "says"), [({"queries": 0}, "linf", "queries is 0"), ({}, "l2", "l2")])
def test_rays_refuses(trained: Spots, options: dict[str, int], norm: str, says: str) -> None:  # noqa: F811
    exams = make_exams(1, 3)
    spec = StressSpec(name="rays", strength=4, aim=Aim(norm=norm), options=options)  # type: ignore[arg-type]
    with pytest.raises(Exception, match=says):
        apply_stress(trained, *exams, spec, [1], threshold=0.5)
