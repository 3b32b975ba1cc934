"""One table, one property: every stress is covered by one line of `CASES`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from workbench.schema.errors import WorkbenchError
from workbench.schema.specs import StressSpec
from workbench.schema.threat import Aim
from workbench.schema.words import stress_name
from workbench.stress.apply import apply_stress, put_back
from workbench.stress.apply_exam import apply_exam_stress
from workbench.stress.corruptions.worst import WORST
from workbench.stress.exam import EXAM_STRESSES
from workbench.stress.norms import NORMS
from workbench.stress.registry import ATTACKS, CORRUPTIONS, STRESSES, bind

CASES = [
    *(StressSpec(name=name, strength=severity) for name in CORRUPTIONS for severity in (1, 5)),
    *(StressSpec(name=name, strength=3, options={"tries": 2, "steps": 1}) for name in WORST),
    StressSpec(name="fgsm", strength=2),
    StressSpec(name="pgd", strength=2, options={"steps": 4}),
    StressSpec(name="cleverhans_pgd", strength=2, options={"steps": 2}),
    StressSpec(name="apgd", strength=2, options={"steps": 4, "stop": False}),
    StressSpec(name="apgd", strength=0.3, options={"steps": 3, "stop": False}, aim=Aim(norm="l2", goal="untargeted")),
    StressSpec(name="pgd", strength=8, options={"steps": 3}, aim=Aim(norm="l1")),
    StressSpec(name="apgd", strength=8, options={"steps": 4, "stop": False}, aim=Aim(norm="l1")),
    StressSpec(name="square", strength=2, options={"tries": 60, "stop": False}),
    StressSpec(name="auto_attack", strength=1, options={"steps": 2, "tries": 2, "stop": False}),
    StressSpec(name="pgd", strength=0.5, options={"steps": 2, "step_share": 1.0}),
]
SEEDS = [11, 22, 33]
SIZE = 48


def name_of(spec: StressSpec) -> str:
    return spec.measurement_id


class TwoEyes(nn.Module):
    """A small net with everything that an audit could disturb: BatchNorm, dropout, parameters; reads both eyes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 5, stride=2), nn.BatchNorm2d(6), nn.Tanh(), nn.Dropout(0.5))
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        pooled = self.features(x.reshape(-1, 3, *x.shape[2:])).mean(dim=(2, 3)).reshape(-1, 2, 6)
        return self.head(torch.cat([pooled, pooled.flip(1)], dim=2)) * 20


@pytest.fixture
def model() -> TwoEyes:
    torch.manual_seed(0)
    return TwoEyes().train()


@pytest.fixture
def exams() -> tuple[Tensor, Tensor, Tensor]:
    """Three exams with a black surround; the second has no left eye, the third is ungraded."""
    random = np.random.default_rng(5)
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    coarse = random.uniform(0.2, 0.9, (3, 6, 6, 6)).repeat(SIZE // 6, axis=2).repeat(SIZE // 6, axis=3)
    pixels = np.rint(coarse * (np.hypot(rows, columns) < 0.48 * SIZE) * 255) / 255
    present = torch.tensor([[True, True], [True, False], [True, True]])
    pixels[1, 3:] = 0
    return torch.from_numpy(pixels.astype(np.float32)), present, torch.tensor([[0, 3], [1, -1], [-1, -1]])


@pytest.mark.parametrize("name", list(STRESSES))
def test_zero_strength_changes_nothing(name: str, model: TwoEyes, exams: tuple[Tensor, Tensor, Tensor]) -> None:
    x, present, y = exams
    result = apply_stress(model, x, present, y, StressSpec(name=name, strength=0), SEEDS, threshold=0.5)
    assert torch.equal(result.x, x)
    assert not result.flipped.any()
    assert result.linf.eq(0).all()


@pytest.mark.parametrize("spec", CASES, ids=name_of)
def test_stays_in_the_box_and_the_budget_of_each_eye(
    spec: StressSpec, model: TwoEyes, exams: tuple[Tensor, Tensor, Tensor]
) -> None:
    x, present, y = exams
    result = apply_stress(model, x, present, y, spec, SEEDS, threshold=0.5)
    budget = spec.threat.size if spec.name in ATTACKS else 1.0
    change = (result.x - x).abs().reshape(3, 2, -1).amax(dim=2)
    assert result.x.min() >= 0
    assert result.x.max() <= 1
    assert (NORMS[spec.aim.norm](result.x - x) <= budget * (1 + 1e-5) + 1e-6).all()
    assert torch.equal(result.linf, change)
    assert result.within_budget.all()
    assert result.in_box.all()
    assert result.notes == ("", "", "")
    assert (change > 0).sum() >= 5, "the stress did nothing"


@pytest.mark.parametrize("spec", CASES, ids=name_of)
def test_an_absent_eye_is_untouched(spec: StressSpec, model: TwoEyes, exams: tuple[Tensor, Tensor, Tensor]) -> None:
    x, present, y = exams
    x[1, 3:] = torch.rand(3, SIZE, SIZE)  # whatever its pixels hold
    result = apply_stress(model, x, present, y, spec, SEEDS, threshold=0.5)
    assert torch.equal(result.x[1, 3:], x[1, 3:])


@pytest.mark.parametrize("eye", ["OD", "OS"])
@pytest.mark.parametrize("spec", CASES, ids=name_of)
def test_only_the_named_eye_is_changed(
    spec: StressSpec, eye: str, model: TwoEyes, exams: tuple[Tensor, Tensor, Tensor]
) -> None:
    x, present, y = exams
    named = spec.model_copy(update={"eyes": eye})
    result = apply_stress(model, x, present, y, named, SEEDS, threshold=0.5)
    own, other = (slice(0, 3), slice(3, 6)) if eye == "OD" else (slice(3, 6), slice(0, 3))
    assert torch.equal(result.x[:, other], x[:, other])
    assert not torch.equal(result.x[:, own], x[:, own])
    assert result.within_budget.all(), "the stress itself kept to the named eye"


@pytest.mark.parametrize("spec", CASES, ids=name_of)
def test_a_batch_equals_one_by_one(spec: StressSpec, model: TwoEyes, exams: tuple[Tensor, Tensor, Tensor]) -> None:
    x, present, y = exams
    together = apply_stress(model, x, present, y, spec, SEEDS, threshold=0.5).x
    for index, seed in enumerate(SEEDS):
        one = slice(index, index + 1)
        alone = apply_stress(model, x[one], present[one], y[one], spec, [seed], threshold=0.5).x
        if spec.name in CORRUPTIONS:
            assert torch.equal(alone, together[one])
        else:  # the sign of a gradient near zero may differ where a batch sums in another order
            assert (alone - together[one]).abs().gt(1e-6).float().mean() < 0.001


@pytest.mark.parametrize("spec", CASES, ids=name_of)
def test_the_seed_and_nothing_else_decides(
    spec: StressSpec, model: TwoEyes, exams: tuple[Tensor, Tensor, Tensor]
) -> None:
    x, present, y = exams
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is what is watched
    first = apply_stress(model, x, present, y, spec, SEEDS, threshold=0.5).x
    assert torch.equal(torch.random.get_rng_state(), before[0]), "the global torch generator was used"
    now = np.random.get_state()[1]  # noqa: NPY002
    assert np.array_equal(now, before[1]), "the global numpy generator was used"
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - on purpose: the global state must not matter
    assert torch.equal(apply_stress(model, x, present, y, spec, SEEDS, threshold=0.5).x, first)
    if spec.name == "noise":
        assert not torch.equal(apply_stress(model, x, present, y, spec, [1, 2, 3], threshold=0.5).x, first)


@pytest.mark.parametrize("spec", [CASES[0], *CASES[-3:]], ids=name_of)
def test_the_model_is_left_as_it_was(spec: StressSpec, model: TwoEyes, exams: tuple[Tensor, Tensor, Tensor]) -> None:
    x, present, y = exams
    model.features[1].eval()  # a mixture of modes must survive
    model.head.weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.inference_mode():  # the caller may measure without gradients
        result = apply_stress(model, x.clone(), present.clone(), y.clone(), spec, SEEDS, threshold=0.5)
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not result.x.requires_grad


def test_the_modes_are_restored_after_an_error(exams: tuple[Tensor, Tensor, Tensor]) -> None:
    class Broken(TwoEyes):
        def forward(self, x: Tensor, present: Tensor) -> Tensor:
            raise RuntimeError("broken")

    model = Broken().train()
    with pytest.raises(RuntimeError, match="broken"):
        apply_stress(model, *exams, StressSpec(name="fgsm", strength=1), SEEDS, threshold=0.5)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_leaves_the_box_or_the_budget_is_put_back_and_said() -> None:
    clean = torch.full((3, 6, 2, 2), 0.5)
    raw = clean.clone()
    raw[0, 0, 0, 0] += 0.2  # outside the budget
    raw[1, 5, 1, 1] = float("nan")
    budget = torch.full((3, 2), 0.1)
    budget[2, 1] = 0  # an eye that was not named
    raw[2, 4] += 0.05
    back, in_box, within = put_back(raw, clean, budget)
    assert back[0, 0, 0, 0] == pytest.approx(0.6)
    assert torch.equal(back[1], clean[1])
    assert torch.equal(back[2], clean[2])
    assert in_box.tolist() == [True, False, True]
    assert within.tolist() == [False, True, False]


def test_a_stress_does_not_report_its_own_success(
    monkeypatch: pytest.MonkeyPatch, model: TwoEyes, exams: tuple[Tensor, Tensor, Tensor]
) -> None:
    def cheat(model: object, x: Tensor, y: Tensor, generators: object, **keywords: object) -> Tensor:
        return 1 - x

    monkeypatch.setattr("workbench.stress.apply.bind", lambda spec, threshold: cheat)
    x, present, y = exams
    result = apply_stress(model, x, present, y, StressSpec(name="pgd", strength=1), SEEDS, threshold=0.5)
    assert not result.within_budget.any()
    assert (result.linf <= 1 / 255 + 1e-6).all()
    assert all("left its budget" in note for note in result.notes)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (StressSpec(name="pdg", strength=1), "did you mean 'pgd'"),
        (StressSpec(name="jpg", strength=1), "did you mean 'jpeg'"),
        (StressSpec(name="pgd", strength=1, options={"step": 3}), "did you mean 'steps'"),
        (StressSpec(name="pgd", strength=1, options={"steps": "ten"}), "steps is 'ten'"),
        (StressSpec(name="pgd", strength=1, options={"steps": 0}), "steps is 0"),
        (StressSpec(name="pgd", strength=1, options={"step_share": 1.5}), "step_share is 1.5"),
        (StressSpec(name="fgsm", strength=1, options={"steps": 3}), "no option 'steps'"),
        (StressSpec(name="fgsm", strength=300), "epsilon is 300"),
        (StressSpec(name="defocus", strength=5.5), "severity is 5.5"),
        (StressSpec(name="noise", strength=6), "severity is 6"),
        (StressSpec(name="worst_dust", strength=6), "severity is 6"),
        (StressSpec(name="worst_dust", strength=1, options={"tries": 0}), "tries is 0"),
        (StressSpec(name="worst_noise", strength=1), "did you mean"),
        (StressSpec(name="noise", strength=1, options={"severity": 3}), "no option 'severity'"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    spec: StressSpec, says: str, model: TwoEyes, exams: tuple[Tensor, Tensor, Tensor]
) -> None:
    with pytest.raises(WorkbenchError, match=says) as caught:
        apply_stress(model, *exams, spec, SEEDS, threshold=0.5)
    assert "\n" not in str(caught.value)


def test_pixels_out_of_range_and_missing_seeds_are_refused(
    model: TwoEyes, exams: tuple[Tensor, Tensor, Tensor]
) -> None:
    x, present, y = exams
    spec = StressSpec(name="fgsm", strength=1)
    with pytest.raises(WorkbenchError, match="x spans 0 to"):
        apply_stress(model, x * 255, present, y, spec, SEEDS, threshold=0.5)
    with pytest.raises(WorkbenchError, match="2 seeds for 3 exams"):
        apply_stress(model, x, present, y, spec, SEEDS[:2], threshold=0.5)


def test_bind_gives_the_stress_signature(model: TwoEyes, exams: tuple[Tensor, Tensor, Tensor]) -> None:
    x, present, y = exams
    stress = bind(StressSpec(name="defocus", strength=2))
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    assert stress(lambda pixels: model(pixels, present), x, y, generators).shape == x.shape


def test_a_reader_tells_every_stress_from_every_other() -> None:
    names = [stress_name(name) for name in (*STRESSES, *EXAM_STRESSES)]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)


class SickWithoutPhotograph(nn.Module):
    """Calls an absent eye referable, which nobody may hear, and a present one by its brightness."""

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        logits = torch.tensor([0.0, 0, -99, -99, 0]).expand(len(x), 2, 5).clone()
        brightness = x.reshape(len(x), 2, -1).mean(dim=2)
        logits[..., 4] = torch.where(present, 60 * (brightness - 0.4), 99.0)
        return logits


def test_whoever_makes_the_judging_pass_an_absent_eye_says_nothing() -> None:
    model = SickWithoutPhotograph()
    x = torch.full((3, 6, SIZE, SIZE), 0.35)
    present = torch.tensor([[True, True], [True, False], [False, True]])
    x[~present.repeat_interleave(3, dim=1)] = 0
    grades, told = torch.zeros(3, 2, dtype=torch.int64), {"threshold": 0.5}
    for name in ("underexposure", "missing_eye"):
        spec = StressSpec(name=name, strength=1)
        plain: list[Tensor] = []
        for answer in (None, lambda net, x, present: net(x, present)):
            if name == "missing_eye":
                found = apply_exam_stress(model, x, present, spec, SEEDS, answer=answer, **told)[0]
            else:
                found = apply_stress(model, x, present, grades, spec, SEEDS, answer=answer, **told)
            plain.append(found.flipped)
        assert torch.equal(*plain), name
