"""The attacks against the papers' formulas written slowly, and against a model that is sure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
from torch import Tensor, nn

from workbench.models.referable import bind_present, referable_log_odds
from workbench.schema.errors import WorkbenchError
from workbench.schema.specs import StressSpec
from workbench.stress.apply import apply_stress
from workbench.stress.attacks import Crossing, fgsm, named_pixels, pgd

BOTH = torch.ones(1, 6, 1, 1, dtype=torch.bool)


class Spots(nn.Module):
    """Grades each eye by its red against its surroundings: a single-eye net, small enough to train here."""

    def __init__(self, sharpness: float = 1.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.AvgPool2d(2),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.head = nn.Linear(8, 5)
        self.sharpness = sharpness

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        pooled = self.layers(x.reshape(-1, 3, *x.shape[2:])).amax(dim=(2, 3))
        return self.sharpness * self.head(pooled).reshape(-1, 2, 5)


def make_exams(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    random = np.random.default_rng(seed)
    grade = random.choice([0, 1, 2, 3, 4], (count, 2))
    x = random.normal(0.4, 0.05, (count, 2, 3, 16, 16))
    for exam, eye in np.ndindex(count, 2):
        for _ in range(2 * grade[exam, eye]):
            row, column = random.integers(0, 14, 2)
            x[exam, eye, 0, row : row + 2, column : column + 2] += 0.06 * grade[exam, eye]
    pixels = torch.from_numpy(x.clip(0, 1).reshape(count, 6, 16, 16).astype(np.float32))
    return pixels, torch.ones(count, 2, dtype=torch.bool), torch.from_numpy(grade.astype(np.int64))


@pytest.fixture(scope="module")
def trained() -> Spots:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Spots()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.04)
        x, present, grade = make_exams(96, 0)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x, present).flatten(0, 1), grade.flatten()).backward()
            optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return model.eval()


def error(model: Spots, x: Tensor, present: Tensor, grade: Tensor) -> float:
    with torch.no_grad():
        called = referable_log_odds(model(x, present)).amax(dim=1) >= 0
    return float((called != (grade >= 2).any(dim=1)).float().mean())


def test_fgsm_is_the_papers_formula(trained: Spots) -> None:
    x, present, grade = make_exams(5, 1)
    epsilon = 3 / 255
    expected = []
    for one, truth in zip(x, (grade >= 2).any(dim=1), strict=True):
        pixels = one[None].clone().requires_grad_()
        probabilities = torch.softmax(trained(pixels, present[:1]).double(), dim=-1)[0]
        odds = (probabilities[:, 2:].sum(dim=1) / probabilities[:, :2].sum(dim=1)).log()
        scale = odds.detach().max().abs().clamp(min=1)
        loss = -torch.nn.functional.logsigmoid((1 if truth else -1) * torch.exp(odds / scale).sum().log())
        (gradient,) = torch.autograd.grad(loss, pixels)
        expected.append((one + epsilon * gradient[0].sign()).clamp(0, 1))
    got = fgsm(bind_present(trained, present), x, grade, [torch.Generator()] * 5, epsilon=3.0)
    assert (got - torch.stack(expected)).abs().gt(1e-6).float().mean() < 1e-3


def test_pgd_is_cleverhans_and_keeps_the_best_iterate(trained: Spots) -> None:
    x, present, grade = make_exams(6, 2)
    model = bind_present(trained, present)
    crossing = Crossing(model, x, grade, BOTH, 0.5)
    iterates = [x]
    for steps in range(1, 6):
        iterates.append(
            projected_gradient_descent(
                crossing, x, 2 / 255, 0.5 / 255, steps, np.inf, clip_min=0.0, clip_max=1.0, y=crossing.label,
                rand_init=False,
            ).detach()
        )  # fmt: skip
    with torch.no_grad():
        odds = torch.stack([referable_log_odds(model(pixels)).amax(dim=1) for pixels in iterates])
    past = torch.where(crossing.label == 1, -odds, odds)
    best = past.argmax(dim=0)
    got = pgd(model, x, grade, [torch.Generator()] * 6, epsilon=2.0, steps=5)
    for exam in range(6):
        assert torch.allclose(got[exam], iterates[best[exam]][exam], atol=1e-6)


@pytest.mark.parametrize("epsilon", [1.0, 4.0])
def test_pgd_is_at_least_as_strong_as_fgsm(trained: Spots, epsilon: float) -> None:
    x, present, grade = make_exams(64, 4)
    model, generators = bind_present(trained, present), [torch.Generator()] * 64
    one = error(trained, fgsm(model, x, grade, generators, epsilon=epsilon), present, grade)
    many = error(trained, pgd(model, x, grade, generators, epsilon=epsilon), present, grade)
    clean = error(trained, x, present, grade)
    assert clean < 0.25
    assert many >= one > clean


def test_error_grows_with_epsilon_and_becomes_total(trained: Spots) -> None:
    x, present, grade = make_exams(32, 5)
    model, generators = bind_present(trained, present), [torch.Generator()] * 32
    errors = [
        error(trained, pgd(model, x, grade, generators, epsilon=epsilon, steps=20), present, grade)
        for epsilon in (0.0, 1.0, 4.0, 16.0, 64.0)
    ]
    assert errors == sorted(errors)
    assert errors[-1] == 1.0


def test_a_sure_model_is_attacked_all_the_same(trained: Spots) -> None:
    """Log-odds of thousands: the gradient of the probability, and of its cross-entropy, is zero for the right calls."""
    x, present, grade = make_exams(24, 6)
    sure = Spots(sharpness=2000.0)
    sure.load_state_dict(trained.state_dict())
    sure.eval()
    pixels = x.clone().requires_grad_()
    odds = referable_log_odds(sure(pixels, present)).amax(dim=1)
    (vanished,) = torch.autograd.grad(torch.sigmoid(odds).sum(), pixels)
    assert vanished.flatten(1).any(dim=1).float().mean() < 0.2
    attacked = pgd(bind_present(sure, present), x, grade, [torch.Generator()] * 24, epsilon=8.0)
    assert (attacked != x).flatten(1).any(dim=1).all(), "no gradient vanished"
    assert error(sure, attacked, present, grade) > error(sure, x, present, grade) + 0.3


def test_a_referable_exam_is_crossed_through_both_eyes(trained: Spots) -> None:
    x, present, _ = make_exams(40, 7)
    with torch.no_grad():
        chosen = (referable_log_odds(trained(x, present)) > 0).all(dim=1)
    x, present = x[chosen], present[chosen]
    grade = torch.full((len(x), 2), 3)
    moved = (fgsm(bind_present(trained, present), x, grade, [torch.Generator()] * len(x), epsilon=2.0) - x) != 0
    assert moved[:, :3].flatten(1).any(dim=1).all()
    assert moved[:, 3:].flatten(1).any(dim=1).all()


def test_the_label_is_the_truth_or_else_the_models_call(trained: Spots) -> None:
    x, present, _ = make_exams(4, 8)
    grade = torch.tensor([[0, 2], [1, -1], [-1, -1], [-1, 4]])
    label = Crossing(bind_present(trained, present), x, grade, BOTH, 0.5).label
    call = referable_log_odds(trained(x, present)).amax(dim=1) >= 0
    assert label.tolist() == [1, 0, int(call[2]), 1]
    everyone = Crossing(bind_present(trained, present), x, torch.full((4, 2), -1), BOTH, 1e-9)
    assert everyone.label.tolist() == [1, 1, 1, 1], "with a threshold near zero every exam is called referable"


def test_the_worse_of_the_present_eyes_speaks(trained: Spots) -> None:
    x, present, grade = make_exams(8, 9)
    present[:, 1] = False
    grade[:, 1] = -1
    logits = bind_present(trained, present)(x)
    assert torch.equal(referable_log_odds(logits).amax(dim=1), referable_log_odds(trained(x, present))[:, 0])


def test_flipped_and_survives_are_what_a_slow_check_says(trained: Spots) -> None:
    x, present, grade = make_exams(48, 10)
    result = apply_stress(
        trained, x, present, grade, StressSpec(name="pgd", strength=1.3), list(range(48)), threshold=0.4
    )
    for exam in range(48):
        calls = []
        for pixels in (x[exam], result.x[exam], (result.x[exam] * 255).round() / 255):
            with torch.no_grad():
                p = torch.softmax(trained(pixels[None], present[exam : exam + 1])[0], dim=-1)
            calls.append(max(float(p[eye, 2:].sum()) for eye in (0, 1)) >= 0.4)
        assert bool(result.flipped[exam]) == (calls[1] != calls[0])
        assert bool(result.survives_8bit[exam]) == (calls[1] != calls[0] and calls[2] != calls[0])
    assert result.flipped.any()
    assert not result.flipped.all()


def test_a_gradient_of_nan_leaves_the_other_exams_alone(trained: Spots) -> None:
    class Poisoned(Spots):
        def forward(self, x: Tensor, present: Tensor) -> Tensor:
            poison = torch.where(x[:, 0, 0, 0] > 0.99, float("nan"), 0.0)
            return super().forward(x, present) + poison.detach().reshape(-1, 1, 1)

    poisoned = Poisoned()
    poisoned.load_state_dict(trained.state_dict())
    x, present, grade = make_exams(4, 11)
    x[2, 0, 0, 0] = 1.0  # this exam's logits, and so its gradient, are NaN
    for name in ("fgsm", "pgd"):
        spec = StressSpec(name=name, strength=2)
        result = apply_stress(poisoned, x, present, grade, spec, [0, 1, 2, 3], threshold=0.5)
        assert torch.isfinite(result.x).all()
        assert (result.linf[[0, 1, 3]] > 0).any(dim=1).all()


def test_a_model_without_a_referable_grade_is_refused() -> None:
    with pytest.raises(WorkbenchError, match="answers 2 grades"):
        referable_log_odds(torch.zeros(1, 2, 2))


def test_named_pixels() -> None:
    x = torch.zeros(1, 6, 2, 2)
    assert named_pixels("OS", x).flatten().tolist() == [False] * 3 + [True] * 3
    assert named_pixels("both", x).all()
