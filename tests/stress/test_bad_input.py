"""What is wrong with the exams or the model, met alike by every attack: one line of `CASES` covers a new one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.stress.test_auto_attack import NoGradient
from workbench.models.foreign import PairedFromSingle
from workbench.schema.errors import WorkbenchError
from workbench.schema.specs import StressSpec
from workbench.schema.threat import UNIVERSAL, Aim, Norm
from workbench.stress.apply import StressResult, apply_stress
from workbench.stress.apply_exam import apply_exam_stress
from workbench.stress.apply_universal import fit_universal
from workbench.stress.exam import EXAM_STRESSES
from workbench.stress.registry import ATTACKS, SEES_SCORES, STRESSES

Exams = tuple[Tensor, Tensor, Tensor]
SEEDS = [7, 8, 9, 10]
WITHOUT_GRADIENT = (*SEES_SCORES, "universal_noise", "cleverhans_spsa", "cleverhans_hop_skip_jump")
"""What a model outside autograd can be attacked by."""


def spec_of(name: str, strength: float = 16.0, norm: Norm = "linf", **options: float) -> StressSpec:
    return StressSpec(name=name, strength=strength, aim=Aim(norm=norm), options=options)


CASES = [
    spec_of("fgsm"),
    spec_of("pgd", steps=5),
    spec_of("apgd", steps=8),
    spec_of("square", tries=80),
    spec_of("rays", queries=60),
    spec_of("auto_attack", steps=8, tries=80),
    spec_of("universal"),
    spec_of("sensor_locked"),
    spec_of("universal_noise", 40),
    spec_of("cleverhans_fgsm"),
    spec_of("cleverhans_pgd", steps=5),
    spec_of("cleverhans_cw", 2.0, "l2", searches=2, steps=12, learning_rate=0.03),
    spec_of("cleverhans_spsa", steps=8, samples=16),
    spec_of("cleverhans_hop_skip_jump", 4.0, "l2", steps=1, queries=200),
    spec_of("cleverhans_sparse_l1", 40.0, "l1", steps=8),
]
every_attack = pytest.mark.parametrize("spec", CASES, ids=lambda spec: spec.name)


class Red(nn.Module):
    """Grades an eye by its mean red: referable where it is 2.9/255 above a grey of 0.48."""

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        red = torch.stack([x[:, 0], x[:, 3]], dim=1).mean(dim=(2, 3))
        return 20 * (red - 0.5)[..., None] * torch.arange(-2.0, 3.0)


class Binary(nn.Module):
    """The same as a network of one eye with two answers."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 2, 1)
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.weight[1, 0] = 40.0
            self.head.bias.copy_(torch.tensor([0.0, -40 * 0.49]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x).mean(dim=(2, 3))


@pytest.fixture
def exams() -> Exams:
    """Four exams that are called healthy: two rightly, the second with one eye; one wrongly; one without an eye."""
    x = torch.full((4, 6, 8, 8), 0.48)
    present = torch.tensor([[True, True], [True, False], [True, True], [False, False]])
    return x, present, torch.tensor([[0, 1], [1, -1], [3, 2], [-1, -1]])


def stressed(model: nn.Module, exams: Exams, spec: StressSpec) -> StressResult:
    """Return what the framework saw; what is one pattern for all exams is fitted on these first."""
    x, present, y = exams
    if spec.name in EXAM_STRESSES:
        return apply_exam_stress(model, x, present, spec, SEEDS[: len(x)], threshold=0.5, others=x)[0]
    pattern = None
    if spec.name in UNIVERSAL:
        fit = fit_universal(model, lambda rows: (x[rows], present[rows], y[rows]), len(x), spec, seed=0, threshold=0.5)
        pattern = fit.pattern
    return apply_stress(model.eval(), x, present, y, spec, SEEDS[: len(x)], threshold=0.5, pattern=pattern)


def test_the_table_covers_every_attack() -> None:
    assert {spec.name for spec in CASES} == set(ATTACKS)


@every_attack
def test_no_budget_changes_nothing(spec: StressSpec, exams: Exams) -> None:
    result = stressed(Red(), exams, spec.model_copy(update={"strength": 0.0}))
    assert torch.equal(result.x, exams[0])
    assert torch.equal(result.success, result.already)
    assert result.within_budget.all()
    assert not result.flipped.any()


@pytest.mark.parametrize("name", [*STRESSES, *EXAM_STRESSES])
@pytest.mark.parametrize(
    "scale", [lambda x: 255 * x, lambda x: x - 0.5, lambda x: x / 0.0 * 0.0], ids=["255", "below", "nan"]
)
def test_pixels_outside_the_range_are_refused_in_one_line(name: str, scale: object, exams: Exams) -> None:
    x, present, y = scale(exams[0]), *exams[1:]  # type: ignore[operator]
    spec = next((one for one in CASES if one.name == name), StressSpec(name=name, strength=1))
    with pytest.raises(WorkbenchError, match="pixels lie in") as caught:
        stressed(Red(), (x, present, y), spec)
    assert "\n" not in str(caught.value)


@every_attack
def test_a_model_without_a_gradient_is_attacked_without_one_or_refused_in_one_line(
    spec: StressSpec, exams: Exams
) -> None:
    if spec.name in WITHOUT_GRADIENT:
        assert stressed(NoGradient(), exams, spec).distance[0].max() > 0
        return
    with pytest.raises(WorkbenchError, match=r"no gradient.*square") as caught:
        stressed(NoGradient(), exams, spec)
    assert "\n" not in str(caught.value)


@every_attack
def test_two_classes_are_crossed_as_five_are_and_refused_where_they_are_not_wrapped(
    spec: StressSpec, exams: Exams
) -> None:
    found = stressed(PairedFromSingle(Binary(), outputs=2), exams, spec)
    assert spec.name == "universal_noise" or found.success[0], "signs by lot cross nothing that is even"
    bare = PairedFromSingle(Binary(), grades=2, outputs=2)
    with pytest.raises(WorkbenchError, match="answers 2 grades") as caught:
        stressed(bare, exams, spec)
    assert "\n" not in str(caught.value)


@every_attack
def test_an_absent_eye_is_untouched_and_an_exam_without_an_eye_is_left_alone(spec: StressSpec, exams: Exams) -> None:
    result = stressed(Red(), exams, spec)
    assert torch.equal(result.x[1, 3:], exams[0][1, 3:])
    assert result.distance[1, 0] > 0, "the eye that is there is attacked all the same"
    assert spec.name == "universal_noise" or result.success[1]
    assert torch.equal(result.x[3], exams[0][3])
    assert not result.flipped[3]
    assert result.within_budget.all()


@every_attack
def test_an_exam_that_is_wrong_already_counts_and_stays_wrong(spec: StressSpec, exams: Exams) -> None:
    result = stressed(Red(), exams, spec)
    assert result.already.tolist() == [False, False, True, False]
    assert spec.name in UNIVERSAL or result.success[2], "what is one for all may put one right, an attack never does"
    assert result.applicable[:3].all()
