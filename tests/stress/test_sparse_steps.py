"""Steps in l1: the projection against its definition, the attacks against the optimum of a linear model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from workbench.schema.specs import StressSpec
from workbench.schema.threat import Aim
from workbench.stress.apply import apply_stress
from workbench.stress.auto_attack.steps import ascend, back
from workbench.stress.norms import l1

SIZE = 8


def nearest_slowly(change: np.ndarray, clean: np.ndarray, size: float) -> np.ndarray:
    """Return the nearest point of ball and box by its optimality condition, the threshold found to the last bit."""

    def at(threshold: float) -> np.ndarray:
        shrunk = np.sign(change) * np.maximum(np.abs(change) - threshold, 0)
        return np.clip(clean + shrunk, 0, 1) - clean

    low, high = 0.0, float(np.abs(change).max())
    if np.abs(at(low)).sum() <= size:
        return at(low)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.abs(at(middle)).sum() > size else (low, middle)
    return at(high)


def test_the_nearest_point_of_ball_and_box_is_the_one_of_its_definition() -> None:
    random = torch.Generator().manual_seed(0)
    clean = torch.rand(4, 6, SIZE, SIZE, generator=random)
    clean[0, :, :2] = 0.0
    x = clean + 0.4 * torch.randn(clean.shape, generator=random)
    x[3] = clean[3] + 0.001
    size = torch.tensor([[3.0, 0.5], [1.0, 0.0], [20.0, 2.0], [1.0, 1.0]])
    found = back(x, clean, size, "l1") - clean
    assert (l1(found) <= size * (1 + 1e-5)).all()
    for exam in range(4):
        for eye in range(2):
            own = slice(3 * eye, 3 * eye + 3)
            slowly = nearest_slowly(
                (x - clean)[exam, own].double().numpy(), clean[exam, own].double().numpy(), float(size[exam, eye])
            )
            np.testing.assert_allclose(found[exam, own].numpy(), slowly, atol=2e-5)
    assert torch.equal(back(clean, clean, size, "l1"), clean)


def test_a_step_moves_the_steepest_values_that_the_box_lets_move_and_is_as_long_as_it_says() -> None:
    x = torch.full((2, 6, SIZE, SIZE), 0.5)
    slope = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    slope[0, 0, 0, 0], x[0, 0, 0, 0] = 100.0, 1.0  # the steepest, and at the end of the box already
    moved = ascend(x, slope, torch.tensor([[2.0, 1.0], [0.0, 3.0]]), "l1", torch.tensor([[0.1, 0.1], [0.05, 0.05]])) - x
    assert moved[0, 0, 0, 0] == 0
    torch.testing.assert_close(l1(moved), torch.tensor([[2.0, 1.0], [0.0, 3.0]]), atol=1e-4, rtol=0)
    count = (moved != 0).reshape(2, 2, -1).sum(dim=2)
    assert count.tolist() == [[19, 19], [0, 10]]
    for exam, eye in ((0, 0), (0, 1), (1, 1)):
        own = slice(3 * eye, 3 * eye + 3)
        steep, there = slope[exam, own].abs(), moved[exam, own] != 0
        if (exam, eye) == (0, 0):
            steep = torch.where(x[exam, own] == 1, 0.0, steep)
        assert steep[there].min() >= steep[~there].max()
        assert (moved[exam, own].sign() == slope[exam, own].sign())[there].all()


class Linear(nn.Module):
    """The right eye's referable log-odds are a weighted sum of its pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)) ** 3)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        odds = torch.einsum("echw,chw->e", x[:, :3] - 0.5, self.weights) - 1000.0
        logits = torch.stack([odds, torch.full_like(odds, -1e6)], dim=1)
        return logits[..., None] * torch.tensor([-0.5, -0.5, 0.5, 0.5, 0.5])


@pytest.mark.parametrize(("name", "steps", "least"), [("pgd", 40, 0.9), ("apgd", 60, 0.98)])
def test_of_a_linear_model_nearly_the_best_that_the_budget_buys_is_found(name: str, steps: int, least: float) -> None:
    model, budget = Linear().eval(), 4.0
    x = torch.rand(3, 6, SIZE, SIZE, generator=torch.Generator().manual_seed(4))
    present, y = torch.ones(3, 2, dtype=torch.bool), torch.zeros(3, 2, dtype=torch.int64)
    spec = StressSpec(
        name=name, strength=budget, aim=Aim(norm="l1"), options={"steps": steps, "stop": False, "fast": False}
    )
    result = apply_stress(model, x, present, y, spec, [0, 1, 2], threshold=0.5)
    weights = model.weights.detach().flatten()
    for exam in range(3):
        room = torch.where(weights > 0, 1 - x[exam, :3].flatten(), x[exam, :3].flatten())
        order = weights.abs().argsort(descending=True)
        spent = torch.minimum(room[order], (budget - room[order].cumsum(0) + room[order]).clamp(min=0))
        best = float((spent * weights.abs()[order]).sum())
        gained = float(((result.x - x)[exam, :3].flatten() * weights).sum())
        assert least * best <= gained <= best * (1 + 1e-4)
