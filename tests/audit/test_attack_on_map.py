"""The goal *explanation* as a stress: the call and the grades stay, the map moves; and as rows of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from tests.audit.conftest import Small
from tests.stress.test_attacks import Spots, make_exams, trained  # noqa: F401 - a fixture
from workbench.audit.deployed import explained_by
from workbench.audit.runner import run_audit
from workbench.models.referable import bind_present, referable_log_odds
from workbench.schema.errors import WorkbenchError
from workbench.schema.specs import StressSpec
from workbench.schema.threat import Aim
from workbench.stress.apply import StressResult, apply_stress
from workbench.stress.map_goal import MOVED
from workbench.stress.registry import check_stress

MOVE = Aim(goal="explanation")


def attacked(model: Spots, exams: tuple[Tensor, Tensor, Tensor], strength: float, first: int = 0) -> StressResult:
    x, present, grade = exams
    spec = StressSpec(name="pgd", strength=strength, aim=MOVE, options={"steps": 8})
    seeds = list(range(first, first + len(x)))
    return apply_stress(model, x, present, grade, spec, seeds, threshold=0.5, explained=explained_by(model))


def slow_map(model: Spots, x: Tensor, present: Tensor, eye: int) -> np.ndarray:
    """Return one exam's gradient × input, the gradient of the eye's own log-odds."""
    point = x[None].clone().requires_grad_()
    referable_log_odds(bind_present(model, present[None])(point))[0, eye].backward()
    return (point.grad * point)[0, 3 * eye : 3 * eye + 3].sum(dim=0).detach().numpy()


def slow_share(first: np.ndarray, other: np.ndarray) -> float:
    side = min(32, len(first))
    tops = []
    for heat in (first, other):
        cells = np.abs(heat).reshape(side, len(heat) // side, side, -1).mean(axis=(1, 3))
        middle = (np.arange(side) + 0.5) / side * 2 - 1
        inside = middle[:, None] ** 2 + middle[None] ** 2 <= 1
        order = np.argsort(-cells[inside], kind="stable")
        tops.append(set(order[: inside.sum() // 10].tolist()))
    return 1 - len(tops[0] & tops[1]) / len(tops[0])


def test_the_answers_stay_and_the_map_has_moved_as_a_slow_reading_says(trained: Spots) -> None:  # noqa: F811
    x, present, _ = exams = make_exams(8, 31)
    result = attacked(trained, exams, 4.0)
    assert result.within_budget.all()
    assert result.success.any()
    with torch.no_grad():
        before, after = (bind_present(trained, present)(pixels) for pixels in (x, result.x))
    called = [referable_log_odds(logits).amax(dim=1) >= 0 for logits in (before, after)]
    for exam in range(8):
        moved = [slow_share(*(slow_map(trained, of[exam], present[exam], eye) for of in (x, result.x)))
                 for eye in range(2) if present[exam, eye]]  # fmt: skip
        stays = bool(called[0][exam] == called[1][exam])
        stays &= bool((before[exam].argmax(1) == after[exam].argmax(1))[present[exam]].all())
        assert bool(result.success[exam]) == (stays and max(moved) > MOVED)


def test_a_gradient_moves_more_maps_than_signs_by_lot_and_nothing_moves_none(trained: Spots) -> None:  # noqa: F811
    x, present, _ = exams = make_exams(8, 31)
    explained = explained_by(trained)
    lot = torch.randint(0, 2, x.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    noisy = (x + 4 / 255 * lot).clamp(0, 1)
    moved = explained.moved(explained.own(x, present), explained.own(noisy, present))
    by_lot = torch.where(present, moved, 0.0).amax(dim=1) > MOVED
    assert attacked(trained, exams, 4.0).success.sum() > by_lot.sum()
    nothing = attacked(trained, exams, 0.0)
    assert torch.equal(nothing.x, x)
    assert not nothing.success.any()
    assert not nothing.already.any()


def test_an_exam_alone_is_moved_as_among_others(trained: Spots) -> None:  # noqa: F811
    exams = make_exams(3, 32)
    together = attacked(trained, exams, 4.0)
    for one in range(3):
        alone = attacked(trained, tuple(part[one : one + 1] for part in exams), 4.0, first=one)  # type: ignore[arg-type]
        assert bool(alone.success[0]) == bool(together.success[one])


def test_without_a_map_and_by_what_cannot_move_one_it_is_refused(trained: Spots) -> None:  # noqa: F811
    x, present, grade = make_exams(2, 33)
    spec = StressSpec(name="pgd", strength=1, aim=MOVE)
    with pytest.raises(WorkbenchError, match="about the map, but none is given"):
        apply_stress(trained, x, present, grade, spec, [0, 1], threshold=0.5)
    for name, options in (("square", {}), ("auto_attack", {}), ("fgsm", {}), ("cleverhans_pgd", {}),
                          ("universal", {}), ("pgd", {"draws": 4})):  # fmt: skip
        with pytest.raises(WorkbenchError, match=r"does not move the map.*choose pgd or apgd"):
            check_stress(StressSpec(name=name, strength=1, aim=MOVE, options=options))


def test_it_is_rows_under_the_stress_like_any_goal(small: Small, tmp_path: Path) -> None:
    plan = "stresses=[{name: pgd, strengths: [8], aim: {goal: explanation}, options: {steps: 3}}]"
    run = run_audit(small.config(plan, "explanations.methods=[]"), tmp_path / "run")
    assert run.summary.failed == 0
    rows = run.rows().query("measurement == 'pgd@8.explanation'").set_index("name")
    parts = pd.concat([run.part("pgd@8.explanation", chunk) for chunk in range(2)])
    success = parts[parts["status"] == "done"].groupby("exam_id")["success"].first()
    assert rows.loc["success_share", "value"].item() == pytest.approx(success.mean())
    assert (parts[parts["status"] == "done"]["distance"] <= 8 * (1 + 1e-5)).all()
    flipped = parts[parts["status"] == "done"].groupby("exam_id")["flipped"].first()
    assert not (flipped & success).any(), "a map is moved where the call is kept"
