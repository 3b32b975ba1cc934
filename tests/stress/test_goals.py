"""Goals, written slowly, exam by exam; norms and their way back; the threat model as a value."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from workbench.schema.errors import WorkbenchError
from workbench.schema.specs import StressSpec
from workbench.schema.threat import Aim, ThreatModel
from workbench.stress.apply import apply_stress, as_8_bit, put_back
from workbench.stress.goals import GOALS, Answers, Case, case_of, not_applicable
from workbench.stress.norms import NORMS, project, within

THRESHOLD = 0.4


def make_case(aim: Aim, logits: Tensor, present: Tensor, y: Tensor, cutoff: float = 0.5) -> Case:
    threat = ThreatModel(epsilon=1, **aim.model_dump())
    case = case_of(threat, logits, present, present, y, THRESHOLD)
    return Case(**{**vars(case), "cutoff": cutoff})


def slowly(aim: Aim, logits: Tensor, score: Tensor, present: list[bool], y: list[int], clean: Tensor) -> bool:
    """Return whether the goal is reached on one exam, from probabilities and comparisons alone."""
    eyes = [eye for eye in (0, 1) if present[eye]]
    p = [float(logits[eye].softmax(-1)[2:].sum()) for eye in (0, 1)]
    graded = any(y[eye] >= 0 for eye in eyes)
    grade = {eye: y[eye] if graded else int(clean[eye].argmax()) for eye in eyes}
    predicted = {eye: int(logits[eye].argmax()) for eye in eyes}
    clean_call = max(float(clean[eye].softmax(-1)[2:].sum()) for eye in eyes) >= THRESHOLD
    label = any(y[eye] >= 2 for eye in eyes) if graded else clean_call
    wrong = (max(p[eye] for eye in eyes) >= THRESHOLD) != label
    referred = max(float(score[eye]) for eye in eyes) > 0.5
    worse = max(grade.values())
    return {
        "cross": wrong,
        "untargeted": any(predicted[eye] != grade[eye] for eye in eyes if grade[eye] >= 0),
        "targeted": all(predicted[eye] == aim.target_grade for eye in eyes),
        "downgrade": all(predicted[eye] <= worse - aim.by_grades for eye in eyes),
        "upgrade": any(predicted[eye] >= worse + aim.by_grades for eye in eyes),
        "silent": wrong and not referred,
        "flood": referred,
    }[aim.goal]


@pytest.mark.parametrize(
    "aim",
    [
        Aim(), Aim(goal="untargeted"), Aim(goal="targeted", target_grade=3), Aim(goal="downgrade", by_grades=2),
        Aim(goal="upgrade", by_grades=2), Aim(goal="silent"), Aim(goal="flood"),
    ],
    ids=lambda aim: aim.goal,
)  # fmt: skip
def test_the_margins_sign_is_what_a_slow_reading_says(aim: Aim) -> None:
    generator = torch.Generator().manual_seed(0)
    count = 400
    logits, clean = (3 * torch.randn(count, 2, 5, generator=generator) for _ in range(2))
    present = torch.rand(count, 2, generator=generator) > 0.2
    present[~present.any(dim=1), 0] = True
    y = torch.where(present & (torch.rand(count, 2, generator=generator) > 0.3), torch.randint(0, 5, (count, 2)), -1)
    score = torch.rand(count, 2, generator=generator)
    absent = torch.full((5,), -1e4).index_fill(0, torch.tensor(0), 0.0)
    shown = [torch.where(present[..., None], values, absent) for values in (logits, clean)]
    case = make_case(aim, shown[1], present, y)
    margin = GOALS[aim.goal](Answers(shown[0], score), case, False)
    applies = [not why for why in not_applicable(case)]
    expected = [
        slowly(aim, logits[i], score[i], present[i].tolist(), y[i].tolist(), clean[i]) and applies[i]
        for i in range(count)
    ]
    reached = [bool(value > 0) and applies[i] for i, value in enumerate(margin)]
    assert reached == expected
    assert 0 < sum(reached) < count
    soft = GOALS[aim.goal](Answers(shown[0], score), case, True)
    assert (soft[margin < -8].lt(0)).all(), "far from the goal, the smooth form agrees"


def test_a_plan_made_before_there_were_threat_models_keeps_its_words() -> None:
    old = {"name": "pgd", "strength": 2.0, "eyes": "both", "options": {}}
    assert StressSpec.model_validate(old).model_dump(mode="json") == old
    spec = StressSpec(name="pgd", strength=2, eyes="OS", aim=Aim(norm="l2", goal="silent", eight_bit=True))
    assert spec.measurement_id == "pgd@2.OS.l2.silent.8bit"
    assert StressSpec.model_validate_json(spec.model_dump_json()) == spec
    assert (spec.threat.size, spec.threat.goal) == (2.0, "silent")
    assert StressSpec(name="pgd", strength=2).threat.size == pytest.approx(2 / 255)


@pytest.mark.parametrize("values", [{"goal": "targeted"}, {"target_grade": 2}, {"by_grades": 2}, {"norm": "l3"}])
def test_a_half_said_aim_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Aim.model_validate(values)


@pytest.mark.parametrize("norm", list(NORMS))
def test_a_change_is_put_back_per_eye_in_its_own_norm(norm: str) -> None:
    generator = torch.Generator().manual_seed(1)
    clean = torch.rand(4, 6, 8, 8, generator=generator)
    raw = clean + 0.3 * torch.randn(clean.shape, generator=generator)
    size = torch.tensor([[0.1, 0.2], [0.0, 3.0], [5.0, 5.0], [1e6, 1e6]])
    back, in_box, kept_to = put_back(raw, clean, size, norm)
    assert within(back - clean, size, norm).all()
    assert (back >= 0).all()
    assert (back <= 1).all()
    assert torch.equal(back[1, :3], clean[1, :3]), "a budget of 0 changes nothing"
    assert torch.equal(back[3], raw[3].clamp(0, 1)), "what is inside stays as it is"
    assert not in_box.any()
    assert kept_to.tolist() == [False, False, norm in ("linf", "l2"), True]
    again = project(back - clean, size, norm)
    torch.testing.assert_close(again, back - clean)


@pytest.mark.parametrize(("norm", "size"), [("linf", 0.5), ("linf", 2.0), ("l2", 0.05), ("l0", 5.0)])
def test_eight_bits_stay_inside_the_budget(norm: str, size: float) -> None:
    clean = torch.randint(0, 256, (3, 6, 6, 6)) / 255
    limit = torch.full((3, 2), size / 255 if norm == "linf" else size)
    x = put_back((clean + 0.02 * torch.randn(clean.shape)).clamp(0, 1), clean, limit, norm)[0]
    saved = as_8_bit(x, clean, limit, norm)
    assert (saved * 255 - (saved * 255).round()).abs().max() < 1e-3
    assert within(saved - clean, limit, norm).all()


class Reds(nn.Module):
    """Grade of an eye: how red it is; OS counts double."""

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        red = x[:, [0, 3]].mean(dim=(2, 3)) * torch.tensor([1.0, 2.0])
        return 40 * (red - 0.5)[..., None] * torch.arange(-2.0, 3.0)


def test_the_worse_of_one_eye_is_kept_and_only_it_is_changed() -> None:
    x = torch.full((2, 6, 8, 8), 0.2)
    present = torch.tensor([[True, True], [True, False]])
    y = torch.tensor([[0, 0], [0, -1]])
    spec = StressSpec(name="fgsm", strength=10, eyes="worst_of_one")
    result = apply_stress(Reds(), x, present, y, spec, [1, 2], threshold=0.5)
    changed = result.linf > 0
    assert changed.tolist() == [[False, True], [True, False]], "OS speaks louder; where it is missing, OD is left"
    assert result.within_budget.all()


def test_what_was_wrong_already_is_counted_and_said() -> None:
    x = torch.full((3, 6, 8, 8), 0.2)
    y = torch.tensor([[0, 0], [3, 0], [-1, -1]])
    result = apply_stress(
        Reds(), x, torch.ones(3, 2, dtype=torch.bool), y, StressSpec(name="pgd", strength=1), [1, 2, 3], threshold=0.5
    )
    assert result.already.tolist() == [False, True, False]
    assert result.success.tolist() == [False, True, False]
    spec = StressSpec(name="fgsm", strength=255, aim=Aim(goal="downgrade", by_grades=2))
    result = apply_stress(Reds(), x, torch.ones(3, 2, dtype=torch.bool), y, spec, [1, 2, 3], threshold=0.5)
    assert result.applicable.tolist() == [False, True, False]
    assert result.notes[0] == "not applicable: no grade lies 2 below grade 0"
    assert torch.equal(result.x[0], x[0])


def test_a_goal_about_the_referral_needs_a_cut_off() -> None:
    x = torch.full((1, 6, 8, 8), 0.2)
    spec = StressSpec(name="pgd", strength=1, aim=Aim(goal="silent"))
    with pytest.raises(WorkbenchError, match="no cut-off is known"):
        apply_stress(Reds(), x, torch.ones(1, 2, dtype=torch.bool), -torch.ones(1, 2).long(), spec, [1], threshold=0.5)
    assert math.isinf(
        case_of(ThreatModel(epsilon=1), torch.zeros(1, 2, 5), torch.ones(1, 2) > 0, torch.ones(1, 2) > 0,
                torch.zeros(1, 2).long(), 0.5).cutoff
    )  # fmt: skip
