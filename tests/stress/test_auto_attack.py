"""Our own attacks: at least as strong as CleverHans', per exam; known defences that fell must fall here too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.stress.test_attacks import Spots, make_exams, trained  # noqa: F401 - a fixture
from workbench.models.foreign import PairedFromSingle
from workbench.schema.errors import WorkbenchError
from workbench.schema.specs import StressSpec
from workbench.schema.threat import Aim, ThreatModel
from workbench.stress.apply import apply_stress
from workbench.stress.auto_attack import square
from workbench.stress.auto_attack.apgd import checkpoints
from workbench.stress.auto_attack.minimal_norm import minimal_epsilon
from workbench.stress.target import aim_at


def broken(model: nn.Module, exams: tuple[Tensor, Tensor, Tensor], spec: StressSpec) -> Tensor:
    x, present, grade = exams
    result = apply_stress(model, x, present, grade, spec, list(range(len(x))), threshold=0.5)
    assert result.within_budget.all()
    assert not result.notes[0]
    return result.success


def test_the_ensemble_breaks_whatever_one_of_its_attacks_breaks(trained: Spots) -> None:  # noqa: F811
    exams = make_exams(16, 21)
    for strength in (
        0.25,
        0.5,
        1.0,
        2.0,
        4.0,
        8.0,
    ):  # the first at which some break: a trained net is not the same everywhere
        ensemble = StressSpec(name="auto_attack", strength=strength, options={"steps": 20, "tries": 80})
        together = broken(trained, exams, ensemble)
        if together.any():
            break
    assert 0 < together.sum() < 16
    for name, options in (
        ("cleverhans_pgd", {"steps": 20}), ("pgd", {"steps": 20}), ("apgd", {"steps": 20}), ("square", {"tries": 80}),
        ("fgsm", {}),
    ):  # fmt: skip
        alone = broken(trained, exams, StressSpec(name=name, strength=strength, options=options))
        assert not (alone & ~together).any(), f"{name} broke an exam that the ensemble did not"


@pytest.mark.parametrize(
    "aim",
    [Aim(norm="l2"), Aim(norm="l1"), Aim(goal="untargeted"), Aim(goal="targeted", target_grade=4),
     Aim(goal="upgrade", by_grades=2), Aim(goal="downgrade", by_grades=2), Aim(knowledge="scores")],
    ids=lambda aim: aim.suffix,
)  # fmt: skip
def test_every_goal_is_reached_by_a_large_budget_and_more_often_than_clean(trained: Spots, aim: Aim) -> None:  # noqa: F811
    x, present, grade = make_exams(12, 22)
    options = {"steps": 20, "tries": 120}
    small = StressSpec(name="auto_attack", strength=0, aim=aim, options=options)
    large = small.model_copy(update={"strength": {"linf": 60.0, "l2": 8.0, "l1": 200.0}[aim.norm]})
    seeds = list(range(12))
    none, most = (apply_stress(trained, x, present, grade, spec, seeds, threshold=0.5) for spec in (small, large))
    assert torch.equal(none.x, x)
    assert torch.equal(none.success, none.already)
    least = 0.1 if aim.knowledge == "scores" else 0.9  # few tries; the heavy tests give it more
    assert most.success[most.applicable].float().mean() > max(
        least, float(none.success[none.applicable].float().mean())
    )
    assert torch.equal(most.x[most.already], x[most.already]), "what was there already is counted, not attacked"


def test_giving_up_a_slow_search_loses_no_exam(trained: Spots, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    exams = make_exams(16, 21)
    spec = StressSpec(name="auto_attack", strength=0.5, options={"steps": 10, "tries": 200})
    squares: list[int] = []
    move, begin = square.MOVES["linf"][1], square.MOVES["linf"][0]

    def counted(now: Tensor, *given: Any) -> Tensor:
        squares.append(len(now))
        return move(now, *given)

    monkeypatch.setitem(square.MOVES, "linf", (begin, counted))  # type: ignore[arg-type]
    given_up = broken(trained, exams, spec)
    few = sum(squares)
    squares.clear()
    monkeypatch.setattr(square, "LOOKED_AT_FROM", 2.0)
    assert torch.equal(given_up, broken(trained, exams, spec))
    assert 0 < few < 0.7 * sum(squares)


@pytest.mark.parametrize(
    ("top", "led", "given_up"),
    [
        (-0.95, -0.5, True),  # at twice this pace it would be at -0.6 in the end
        (-0.87, -0.5, False),  # it may get there
        (-0.95, -1.0, False),  # the gradient found nothing: masked?
        (-0.95, -0.92, False),  # and next to nothing
        (-0.7, -0.5, False),
        (-1.0, -0.5, True),
    ],
)
def test_a_search_is_given_up_where_the_gradient_did_better(top: float, led: float, given_up: bool) -> None:
    first, clean = torch.tensor([-1.0]), torch.tensor([-1.0])
    hopeless = square._hopeless(first, torch.tensor([top]), 0.25, clean, torch.tensor([led]))
    assert hopeless.tolist() == [given_up]


def test_the_step_is_looked_at_as_in_the_paper() -> None:
    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_bisection_finds_the_smallest_epsilon_of_a_linear_model() -> None:
    class Linear(nn.Module):
        def forward(self, x: Tensor, present: Tensor) -> Tensor:
            return 200 * (x.mean(dim=(1, 2, 3)) - 0.5)[:, None, None] * torch.arange(-2.0, 3.0).expand(len(x), 2, 5)

    x = torch.stack([torch.full((6, 8, 8), value) for value in (0.49, 0.47, 0.3, 0.6)])
    present = torch.ones(4, 2, dtype=torch.bool)
    model, grade = Linear().eval(), torch.zeros(4, 2, dtype=torch.int64)
    with torch.no_grad():
        boundary = 0.5 + 0.0  # where the log-odds of grades 2 to 4 against 0 and 1 cross
        odds = model(
            torch.linspace(0.45, 0.55, 4001)[:, None, None, None].expand(-1, 6, 2, 2), present[:1].expand(4001, 2)
        )
        called = odds[:, 0].softmax(-1)[:, 2:].sum(-1) >= 0.5
        boundary = float(torch.linspace(0.45, 0.55, 4001)[called.nonzero()[0, 0]])
    threat = ThreatModel(epsilon=16)
    target = aim_at(model, x, present, grade, threat, [0] * 4, threshold=0.5)
    generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
    found = minimal_epsilon(target, generators, steps=10, halvings=8)
    exact = [(boundary - value) * 255 for value in (0.49, 0.47)]
    assert found.found.tolist() == [True, True, False, True]
    assert found.epsilon[2] == float("inf")
    assert found.epsilon[3] == 0
    for got, least in zip(found.epsilon[:2].tolist(), exact, strict=True):
        assert least - 1e-2 <= got <= least + 2 * 16 / 2**8


class Masked(nn.Module):
    """Rounds the pixels: no gradient comes through (a defence of input quantisation, Guo et al. 2018)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        return self.inner(torch.round(x * 31) / 31, present)


class Randomised(nn.Module):
    """Adds noise to the pixels in every pass (Xie et al. 2018 in spirit)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        return self.inner((x + 0.02 * torch.randn(x.shape)).clamp(0, 1), present)


@pytest.mark.heavy
def test_a_gradient_masked_model_is_broken_all_the_same(trained: Spots) -> None:  # noqa: F811
    exams = make_exams(24, 23)
    masked = Masked(trained).eval()
    by_gradient = broken(masked, exams, StressSpec(name="pgd", strength=8, options={"steps": 20}))
    by_all = broken(masked, exams, StressSpec(name="auto_attack", strength=8, options={"steps": 10, "tries": 3000}))
    clean = broken(masked, exams, StressSpec(name="pgd", strength=0))
    assert torch.equal(by_gradient, clean), "the defence does mask the gradient"
    assert by_all.float().mean() >= 0.9


@pytest.mark.heavy
def test_a_randomised_model_is_broken_over_its_own_draws(trained: Spots) -> None:  # noqa: F811
    exams = make_exams(16, 24)
    random = Randomised(trained).eval()
    clean = broken(random, exams, StressSpec(name="apgd", strength=0))
    attacked = broken(random, exams, StressSpec(name="apgd", strength=8, options={"steps": 30}))
    assert clean.float().mean() < 0.4
    assert attacked.float().mean() >= 0.9


def test_on_draws_the_ensemble_pushes_on_and_without_draws_it_leaves_what_is_broken(trained: Spots) -> None:  # noqa: F811
    x, present, grade = make_exams(6, 24)

    def stressed(model: nn.Module, stop: bool) -> Tensor:
        options = {"steps": 4, "tries": 4, "stop": stop}
        spec = StressSpec(name="auto_attack", strength=2.0, options=options)
        return apply_stress(model, x, present, grade, spec, list(range(6)), threshold=0.5).x

    random = Randomised(trained).eval()
    assert torch.equal(stressed(random, stop=True), stressed(random, stop=False))
    assert not torch.equal(stressed(trained, stop=True), stressed(trained, stop=False))


def test_scores_and_labels(trained: Spots) -> None:  # noqa: F811
    exams = make_exams(4, 25)
    for name, knowledge, says in (("apgd", "scores", "needs gradients"), ("square", "labels", "more than labels")):
        with pytest.raises(WorkbenchError, match=says):
            broken(trained, exams, StressSpec(name=name, strength=1, aim=Aim(knowledge=knowledge)))
    for name in ("apgd", "square"):
        with pytest.raises(WorkbenchError, match="cannot be bound by l0"):
            broken(trained, exams, StressSpec(name=name, strength=1, aim=Aim(norm="l0")))


class NoGradient(nn.Module):
    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        red = torch.from_numpy(x.detach().numpy()[:, [0, 3]].mean(axis=(2, 3)))
        return 20 * (red - 0.5)[..., None] * torch.arange(-2.0, 3.0)


def test_a_model_without_a_gradient_is_refused_or_attacked_by_its_scores() -> None:
    x = torch.full((2, 6, 8, 8), 0.48)
    exams = x, torch.ones(2, 2, dtype=torch.bool), torch.zeros(2, 2, dtype=torch.int64)
    model = NoGradient().eval()
    with pytest.raises(WorkbenchError, match="no gradient"):
        broken(model, exams, StressSpec(name="pgd", strength=8))
    assert broken(model, exams, StressSpec(name="auto_attack", strength=16, options={"tries": 200})).all()


def test_a_binary_network_is_crossed_both_ways() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    model = PairedFromSingle(net).eval()
    x, present = torch.rand(6, 6, 16, 16), torch.ones(6, 2, dtype=torch.bool)
    present[0, 1] = False
    grade = torch.tensor([[0, -1], [0, 0], [0, 0], [3, 0], [3, 3], [0, 3]])
    spec = StressSpec(name="auto_attack", strength=255, options={"steps": 15, "tries": 50})
    assert broken(model, (x, present, grade), spec).float().mean() > 0.5
