"""One perturbation for all exams: against the optimum of a linear model, and what it may never change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench.schema.errors import WorkbenchError
from workbench.schema.specs import StressSpec
from workbench.schema.threat import UNIVERSAL, Aim
from workbench.stress.apply import StressResult, apply_stress
from workbench.stress.apply_universal import fit_universal
from workbench.stress.universal import Fit

SIZE = 16
EXAMS = 10


class Linear(nn.Module):
    """Each eye's referable log-odds are a weighted sum of both eyes' pixels."""

    def __init__(self) -> None:
        super().__init__()
        weights = torch.randn(2, 6, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
        weights[1] *= 0.1  # the left eye's answer hardly matters, so the worse eye's is the right one's
        self.weights = nn.Parameter(weights)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        odds = torch.einsum("echw,ichw->ei", x - 0.5, self.weights) - torch.tensor([0.0, 1000.0])
        return odds[..., None] * torch.tensor([-0.5, -0.5, 0.5, 0.5, 0.5])


@pytest.fixture
def model() -> Linear:
    return Linear().train()


@pytest.fixture
def exams() -> tuple[Tensor, Tensor, Tensor]:
    """Healthy exams, all called so; the second has no left eye."""
    x = 0.4 + 0.2 * torch.rand(EXAMS, 6, SIZE, SIZE, generator=torch.Generator().manual_seed(4))
    x -= 0.02 * torch.sign(Linear().weights[0].detach())
    present = torch.ones(EXAMS, 2, dtype=torch.bool)
    present[1, 1] = False
    return x, present, torch.where(present, 0, -1)


def fitted(model: nn.Module, exams: tuple[Tensor, Tensor, Tensor], spec: StressSpec, seed: int = 0) -> Fit:
    def load(rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        x, present, y = (of[list(rows)] for of in exams)
        return x, present, y

    return fit_universal(model, load, len(exams[0]), spec, seed=seed, threshold=0.5)


def judged(model: nn.Module, exams: tuple[Tensor, Tensor, Tensor], spec: StressSpec, fit: Fit) -> StressResult:
    seeds = list(range(len(exams[0])))
    return apply_stress(model, *exams, spec, seeds, threshold=0.5, pattern=fit.pattern)


def test_of_a_linear_model_the_pattern_is_the_sign_of_the_weights(
    model: Linear, exams: tuple[Tensor, Tensor, Tensor]
) -> None:
    both = (exams[0], torch.ones_like(exams[1]), torch.zeros_like(exams[2]))
    weights = model.weights[0].detach()
    fit = fitted(model, both, StressSpec(name="universal", strength=2, options={"batch": 3}))
    torch.testing.assert_close(fit.pattern, 2 / 255 * weights.sign())
    locked = fitted(model, both, StressSpec(name="sensor_locked", strength=2))
    summed = weights[:3] + weights[3:]
    clear = summed.abs() > 0.05  # below, bf16 may round the two to each other
    torch.testing.assert_close(locked.pattern[:3][clear], 2 / 255 * summed.sign()[clear])
    assert torch.equal(locked.pattern[:3], locked.pattern[3:])


def test_it_serves_exams_that_it_never_saw_better_than_signs_by_lot(
    model: Linear, exams: tuple[Tensor, Tensor, Tensor]
) -> None:
    halves = tuple(of[:5] for of in exams), tuple(of[5:] for of in exams)
    success = {}
    for name in UNIVERSAL:
        spec = StressSpec(name=name, strength=12)
        success[name] = judged(model, halves[1], spec, fitted(model, halves[0], spec)).success.float().mean().item()
    assert success["universal"] == 1
    assert success["universal_noise"] == 0
    assert success["universal"] >= success["sensor_locked"] >= success["universal_noise"]


@pytest.mark.parametrize(
    ("name", "eyes"),
    [(name, eyes) for name in UNIVERSAL for eyes in ("both", "OD", "OS")] + [("universal", "worst_of_one")],
)
def test_box_budget_absent_and_unnamed_eyes(
    name: str, eyes: Any, model: Linear, exams: tuple[Tensor, Tensor, Tensor]
) -> None:
    exams[0][0, :, :4] = 0.0
    exams[0][3, :, :4] = 1.0
    spec = StressSpec(name=name, strength=3, eyes=eyes)
    fit = fitted(model, exams, spec)
    result = judged(model, exams, spec, fit)
    change = result.x - exams[0]
    assert result.in_box.all()
    assert result.within_budget.all()
    assert result.linf.max() <= 3 / 255 + 1e-6
    assert torch.equal(result.x[1, 3:], exams[0][1, 3:]), "an absent eye is as it was"
    if eyes in ("OD", "OS"):
        unnamed = slice(3, 6) if eyes == "OD" else slice(0, 3)
        assert not change[:, unnamed].any()
        assert change.any()
    inside = (exams[0] > 0.02) & (exams[0] < 0.98) & (change != 0)
    torch.testing.assert_close(change[inside], fit.pattern.expand_as(change)[inside], atol=1e-6, rtol=0)
    before = fitted(model, exams, spec, seed=0).pattern
    assert torch.equal(before, fit.pattern), "the seed and nothing else decides"
    assert model.training


def test_of_the_worse_of_one_eye_each_half_is_fitted_by_itself(
    model: Linear, exams: tuple[Tensor, Tensor, Tensor]
) -> None:
    patterns = {
        eyes: fitted(model, exams, StressSpec(name="universal", strength=3, eyes=eyes)).pattern  # type: ignore[arg-type]
        for eyes in ("OD", "OS", "worst_of_one")
    }
    assert torch.equal(patterns["worst_of_one"][:3], patterns["OD"][:3])
    assert torch.equal(patterns["worst_of_one"][3:], patterns["OS"][3:])


def test_no_budget_is_no_pattern_and_what_was_fitted_is_counted(
    model: Linear, exams: tuple[Tensor, Tensor, Tensor]
) -> None:
    nothing = fitted(model, exams, StressSpec(name="universal", strength=0))
    assert not nothing.pattern.any()
    assert (nothing.exams, nothing.success) == (EXAMS, nothing.already)
    most = fitted(model, exams, StressSpec(name="universal", strength=40))
    assert most.success == 1


def test_only_exams_that_the_goal_applies_to_are_fitted_on(model: Linear, exams: tuple[Tensor, Tensor, Tensor]) -> None:
    x, present, y = exams
    y = y.clone()
    y[::2] = torch.where(present[::2], 3, -1)
    spec = StressSpec(name="universal", strength=20, aim=Aim(goal="downgrade", by_grades=2))
    fit = fitted(model, (x, present, y), spec)
    assert fit.exams == EXAMS // 2
    alone = fitted(model, (x[::2], present[::2], y[::2]), spec)
    assert torch.equal(fit.pattern != 0, alone.pattern != 0)
    with pytest.raises(WorkbenchError, match="no exam to fit on: no grade lies 2 below grade 0"):
        fitted(model, exams, spec)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (StressSpec(name="universal", strength=2, aim=Aim(norm="l2")), "cannot be bound by l2"),
        (StressSpec(name="universal", strength=2, aim=Aim(knowledge="scores")), "needs gradients"),
        (StressSpec(name="universal", strength=2, options={"passes": 0}), "passes: 0"),
        (StressSpec(name="universal", strength=2, options={"steps": 2}), "no option 'steps'"),
        (StressSpec(name="universal_noise", strength=2, options={"passes": 2}), "no option 'passes'"),
        (StressSpec(name="sensor_locked", strength=2, eyes="worst_of_one"), "the same in both eyes"),
        (StressSpec(name="pgd", strength=2), "pgd is not fitted"),
    ],
    ids=lambda of: of if isinstance(of, str) else of.measurement_id,
)
def test_a_mistake_is_told_in_one_line(
    spec: StressSpec, says: str, model: Linear, exams: tuple[Tensor, Tensor, Tensor]
) -> None:
    with pytest.raises(WorkbenchError, match=says) as caught:
        fitted(model, exams, spec)
    assert "\n" not in str(caught.value)


def test_without_a_pattern_or_without_exams_nothing_is_made_up(
    model: Linear, exams: tuple[Tensor, Tensor, Tensor]
) -> None:
    spec = StressSpec(name="universal", strength=2)
    with pytest.raises(WorkbenchError, match="no pattern is given"):
        apply_stress(model, *exams, spec, list(range(EXAMS)), threshold=0.5)
    with pytest.raises(WorkbenchError, match="no exam to fit on"):
        fitted(model, tuple(of[:0] for of in exams), spec)  # type: ignore[arg-type]
