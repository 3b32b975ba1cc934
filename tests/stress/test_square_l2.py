"""Square in l2: the paper's windows written slowly, the budget, and a linear model whose radius is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from workbench.schema.errors import WorkbenchError
from workbench.schema.specs import StressSpec
from workbench.schema.threat import Aim, Eyes
from workbench.stress.apply import StressResult, apply_stress
from workbench.stress.auto_attack.windows import eta, move_windows
from workbench.stress.norms import l2
from workbench.stress.registry import check_stress

SIZE, SMALL = 16, 8


def eta_slowly(side: int) -> np.ndarray:
    """Return η as its definition sums it up, pixel by pixel."""

    def hill(height: int, width: int) -> np.ndarray:
        found = np.zeros((height, width))
        for row in range(height):
            for column in range(width):
                ring = max(abs(row - height // 2), abs(column - width // 2))
                found[row, column] = sum(1 / (k + 1) ** 2 for k in range(ring, max(height // 2, width // 2) + 1))
        return found / np.sqrt((found**2).sum())

    both = np.concatenate([hill(side // 2, side), -hill(side - side // 2, side)])
    return both / np.sqrt((both**2).sum())


@pytest.mark.parametrize("side", [3, 4, 7, 12])
def test_the_window_is_the_papers(side: int) -> None:
    np.testing.assert_allclose(eta(side).numpy(), eta_slowly(side), atol=1e-6)
    assert torch.equal(eta(side, turned=True), eta(side).T)


def moved_slowly(change: np.ndarray, epsilon: float, first: tuple[int, int], second: tuple[int, int],
                 window: np.ndarray) -> np.ndarray:  # fmt: skip
    """Return Algorithm 3 of the paper, with masks over the whole image as its authors' code has them."""
    side, masks = window.shape[1], []
    for top, left in (first, second):
        mask = np.zeros(change.shape)
        mask[:, top : top + side, left : left + side] = 1
        masks.append(mask)
    of_window = np.sqrt(((change * masks[0]) ** 2).sum(axis=(1, 2), keepdims=True))
    of_both = np.sqrt(((change * np.maximum(*masks)) ** 2).sum(axis=(1, 2), keepdims=True))
    of_image = (change**2).sum()
    (top, left), (other_top, other_left) = first, second
    new = window + change[:, top : top + side, left : left + side] / (1e-10 + of_window)
    length = np.sqrt((new**2).sum(axis=(1, 2), keepdims=True))
    new = new / length * np.sqrt(max(epsilon**2 - of_image, 0) / 3 + of_both**2)
    moved = change.copy()
    moved[:, other_top : other_top + side, other_left : other_left + side] = 0
    moved[:, top : top + side, left : left + side] = new
    return moved * epsilon / np.sqrt((moved**2).sum())


@pytest.mark.parametrize("second", [(9, 1), (4, 5), (2, 3)], ids=["apart", "overlapping", "the same"])
def test_a_move_is_the_papers_and_spends_the_whole_budget(second: tuple[int, int]) -> None:
    random = torch.Generator().manual_seed(0)
    change = torch.randn(3, SIZE, SIZE, generator=random)
    change = change / change.square().sum().sqrt() * 1.8  # the box has cut off 0.2 of an ε of 2
    window = torch.tensor([1.0, -1.0, 1.0])[:, None, None] * eta(5)
    places = [(slice(top, top + 5), slice(left, left + 5)) for top, left in ((2, 3), second)]
    found = move_windows(change, 2.0, places[0], places[1], window)
    slowly = moved_slowly(change.double().numpy(), 2.0, (2, 3), second, window.double().numpy())
    np.testing.assert_allclose(found.numpy(), slowly, atol=1e-5)
    assert float(found.square().sum().sqrt()) == pytest.approx(2.0, rel=1e-5)


class Linear(nn.Module):
    """The right eye's referable log-odds are a weighted sum of the pixels of one spot, some way below at grey."""

    def __init__(self) -> None:
        super().__init__()
        hill = torch.exp(-((torch.arange(SMALL) - 3.0) ** 2) / 4)
        self.weights = nn.Parameter(hill[:, None] * hill[None] * torch.tensor([1.0, -1.0, 1.0])[:, None, None])

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        odds = torch.einsum("echw,chw->e", x[:, :3] - 0.5, self.weights) - 1.0
        logits = torch.stack([odds, torch.full_like(odds, -1e6)], dim=1)
        return logits[..., None] * torch.tensor([-0.5, -0.5, 0.5, 0.5, 0.5])


def attacked(name: str, epsilon: float, *, eyes: Eyes = "both", exams: int = 6, **options: int | bool) -> StressResult:
    x, present = torch.full((exams, 6, SMALL, SMALL), 0.5), torch.ones(exams, 2, dtype=torch.bool)
    x[1, :, :3] = 1.0  # at the end of the box, where half of the signs change nothing
    spec = StressSpec(name=name, strength=epsilon, eyes=eyes, aim=Aim(norm="l2"), options=options)
    y = torch.zeros(exams, 2, dtype=torch.int64)
    return apply_stress(Linear().eval(), x, present, y, spec, list(range(exams)), threshold=0.5)


def test_a_linear_model_breaks_not_far_beyond_its_radius_and_never_within() -> None:
    ahead = float(torch.log(torch.tensor(3 / 2)))  # three grades against two: the threshold lies there
    radius = (1.0 - ahead) / float(Linear().weights.detach().square().sum().sqrt())
    within = attacked("square", 0.999 * radius, eyes="OD", tries=200)
    beyond = attacked("square", 1.7 * radius, eyes="OD", tries=1200)
    in_the_middle = [0, 2, 3, 4, 5]
    assert not within.success[in_the_middle].any()
    assert beyond.success[in_the_middle].all()
    assert (beyond.distance[:, 1] == 0).all()
    ensemble = attacked("auto_attack", 1.01 * radius, steps=20, tries=10)
    assert ensemble.success[in_the_middle].all()


def test_the_budget_is_kept_and_spent_and_an_epsilon_of_nothing_changes_nothing() -> None:
    result = attacked("square", 0.7, tries=60, stop=False)
    assert result.within_budget.all()
    assert result.in_box.all()
    assert not any(result.notes)
    spent = l2(result.x - attacked("square", 0, tries=1).x)
    assert (spent <= 0.7 * (1 + 1e-6)).all()
    assert (spent[[0, 2, 3]] >= 0.7 * (1 - 1e-4)).all()
    nothing = attacked("square", 0, tries=5)
    assert (nothing.distance == 0).all()


def test_the_ensemble_ends_with_it_and_other_norms_are_refused() -> None:
    by_scores = Aim(norm="l2", knowledge="scores")
    check_stress(StressSpec(name="auto_attack", strength=1, aim=by_scores))
    check_stress(StressSpec(name="auto_attack", strength=1, aim=Aim(norm="l1")))
    for name, aim in (("square", Aim(norm="l1")), ("square", Aim(norm="l0")),
                      ("auto_attack", Aim(norm="l1", knowledge="scores"))):  # fmt: skip
        with pytest.raises(WorkbenchError, match=r"square cannot be bound by l[01].*choose linf or l2"):
            check_stress(StressSpec(name=name, strength=1, aim=aim))
