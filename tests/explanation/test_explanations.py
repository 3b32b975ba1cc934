"""Explanations against their formulas written slowly, on nets small enough to know the answer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from workbench.explanation.checks import explain, explain_eyes
from workbench.explanation.grad_cam import grad_cam, on_both_eyes
from workbench.explanation.integrated_gradients import blurred_baseline, integrated_gradients, integrated_gradients_of
from workbench.explanation.registry import EXPLANATIONS, OF_SEVERAL
from workbench.explanation.targets import ReferableTarget
from workbench.models.fast import keeping_copies
from workbench.models.paired import PairedEyeNet
from workbench.schema.errors import WorkbenchError
from workbench.schema.model_card import Architecture
from workbench.schema.specs import MapPolicySpec

SIDE = 64
OPEN = MapPolicySpec(max_completeness_gap=None, max_outside_change=None, max_outside_share=None)
EXACT = MapPolicySpec(max_completeness_gap=1e-9)
PRESENT = torch.tensor([[True, True], [True, False], [True, True]])


def paired(fusion: str, *, mirror_os: bool = False) -> PairedEyeNet:
    with torch.random.fork_rng():
        torch.manual_seed(6)
        model = PairedEyeNet(Architecture(fusion=fusion, width=0.125, mirror_os=mirror_os))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, 0, 0.1)
        nn.init.normal_(model.head.weight, 0, 0.6)
    return model


@pytest.fixture
def exams() -> Tensor:
    """Three exams: a textured disc on black; the second has no left eye."""
    generator = torch.Generator().manual_seed(8)
    coarse = torch.rand((3, 6, 8, 8), generator=generator) * 0.6 + 0.2
    x = nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear")
    offset = torch.arange(SIDE) - (SIDE - 1) / 2
    x = x * ((offset[:, None] ** 2 + offset[None, :] ** 2) < (0.47 * SIDE) ** 2)
    x[1, 3:] = 0
    return x


SMALL: dict[str, dict[str, int]] = {
    "integrated_gradients": {"steps": 6},
    "expected_gradients": {"samples": 5},
    "smooth_grad": {"samples": 3},
    "occlusion": {"window": 32},
    "rise": {"masks": 6},
}
"""Options that keep a method cheap."""


class Smooth(nn.Module):
    """A smooth function of both eyes, cheap to integrate."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.weight = nn.Parameter(torch.randn((10, 6 * 16), generator=generator))
        self.norm = nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        pooled = nn.functional.avg_pool2d(
            self.norm(x * present.repeat_interleave(3, dim=1)[:, :, None, None]), SIDE // 4
        )
        return torch.tanh(self.dropout(pooled.flatten(1)) @ self.weight.T).reshape(-1, 2, 5)


class Steep(Smooth):
    """One whose answer rises in waves along a path."""

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        return torch.sin(8 * super().forward(x, present))


@pytest.mark.parametrize("eye", [0, 1])
def test_integrated_gradients_are_the_riemann_sum(eye: int, exams: Tensor) -> None:
    model, target = Smooth().eval(), ReferableTarget(eye)
    baseline = blurred_baseline(exams, PRESENT)
    slow = torch.zeros_like(exams)
    for step in range(120):
        point = (baseline + (step + 0.5) / 120 * (exams - baseline)).requires_grad_()
        (gradient,) = torch.autograd.grad(target(model(point, PRESENT)).sum(), point)
        slow += gradient * (exams - baseline) / 120
    fast = integrated_gradients(model, exams, PRESENT, target)
    assert slow.abs().max() > 1e-5
    assert torch.allclose(fast, slow, atol=float(slow.abs().max()) * 1e-3)


def test_integrated_gradients_add_up(exams: Tensor) -> None:
    model, target = Smooth().eval(), ReferableTarget(0)
    maps = integrated_gradients(model, exams, PRESENT, target)
    with torch.no_grad():
        change = target(model(exams, PRESENT)) - target(model(blurred_baseline(exams, PRESENT), PRESENT))
    assert torch.allclose(maps.flatten(1).sum(dim=1), change, atol=1e-4)
    result = explain(model, exams, PRESENT, method="integrated_gradients", eye=0)
    assert result.completeness_gap is not None
    assert result.completeness_gap.max() < 1e-2
    assert result.withheld == (None, None, None)


@pytest.mark.parametrize("scale", ["probability", "log_odds"])
def test_the_target_is_p_referable(scale: str) -> None:
    logits = torch.randn(4, 2, 5, generator=torch.Generator().manual_seed(1))
    p = torch.softmax(logits, dim=-1)[:, 1, 2:].sum(dim=-1)
    expected = p if scale == "probability" else (p / (1 - p)).log()
    assert torch.allclose(ReferableTarget(1, scale)(logits), expected, atol=1e-5)


def test_the_baseline_has_no_detail_and_the_same_light(exams: Tensor) -> None:
    spotted = exams.clone()
    spotted[:, 0:3, 30:33, 30:33] = 0.0  # a dark lesion, as dark as the surround, still inside the disc
    baseline = blurred_baseline(spotted, PRESENT)
    dark = (
        exams.reshape(3, 2, 3, SIDE, SIDE).amax(dim=2, keepdim=True).expand(-1, -1, 3, -1, -1).reshape(exams.shape) == 0
    )
    assert torch.equal(baseline[dark], exams[dark]), "outside the disc nothing changes"
    assert torch.equal(baseline[1, 3:], exams[1, 3:]), "an absent eye stays"
    assert (baseline[:, :3, 31, 31] > 0.2).all(), "the lesion is gone"
    assert baseline[0].mean() == pytest.approx(float(exams[0].mean()), rel=0.05)
    flat = (exams > 0) * 0.5
    assert torch.allclose(blurred_baseline(flat, PRESENT), flat, atol=1e-5), "the rim is no edge"


@pytest.mark.parametrize("fusion", ["late", "single", "early"])
@pytest.mark.parametrize("eye", [0, 1])
def test_grad_cam_is_the_closed_form(fusion: str, eye: int, exams: Tensor) -> None:
    """After a mean pool and a linear head, Grad-CAM's channel weights are the head's own."""
    model = paired(fusion).eval()
    target = ReferableTarget(eye)
    with torch.no_grad():
        features = model.trunk(model.prepare(exams, PRESENT))
        p = torch.softmax(model(exams, PRESENT)[:, eye], dim=-1)
        # d log-odds / d logit: + p(grade | referable) on referable grades, − p(grade | not) on the others
        slope = torch.cat([-p[:, :2] / p[:, :2].sum(1, True), p[:, 2:] / p[:, 2:].sum(1, True)], dim=1)
        channels = features.shape[1]
        weight = model.head.weight.unflatten(0, (-1, 5))
        maps = torch.zeros(3, 2, *features.shape[2:])
        for exam in range(3):
            for shown in (0, 1):
                if fusion == "early":
                    row, w = exam, weight[eye]
                elif fusion == "late":
                    own = slice(0, channels) if shown == eye else slice(channels, 2 * channels)
                    row, w = 2 * exam + shown, weight[0][:, own]
                else:
                    row, w = 2 * exam + shown, weight[0] * float(shown == eye)
                maps[exam, shown] = torch.relu(((slope[exam] @ w)[:, None, None] * features[row]).sum(0))
    maps = maps / (features.shape[2] * features.shape[3])
    maps[~PRESENT] = 0
    expected = nn.functional.interpolate(maps, (SIDE, SIDE), mode="bilinear")
    got = grad_cam(model, exams, PRESENT, target).reshape(3, 2, 3, SIDE, SIDE).sum(dim=2)
    if fusion == "late":
        expected[1, 1] = 0
    assert expected[:, eye].abs().max() > 0
    assert torch.allclose(got, expected, atol=float(expected.max()) * 1e-4)


@pytest.mark.parametrize("fusion", ["late", "single", "early"])
def test_a_mirrored_left_eye_has_its_map_mirrored_back(fusion: str, exams: Tensor) -> None:
    mirrored, plain = paired(fusion, mirror_os=True).eval(), paired(fusion).eval()
    mirrored.load_state_dict(plain.state_dict())
    turned = torch.cat([exams[:, :3], exams[:, 3:].flip(-1)], dim=1)
    one = grad_cam(mirrored, exams, PRESENT, ReferableTarget(1))
    other = grad_cam(plain, turned, PRESENT, ReferableTarget(1))
    assert torch.allclose(one[:, 3:], other[:, 3:].flip(-1), atol=1e-7)
    assert torch.allclose(one[:, :3], other[:, :3], atol=1e-7)
    assert one[0, 3:].any()


@pytest.mark.parametrize("method", list(EXPLANATIONS))
@pytest.mark.parametrize("fusion", ["early", "late"])
def test_a_map_in_a_batch_is_the_map_alone_and_an_absent_eye_has_none(method: str, fusion: str, exams: Tensor) -> None:
    model = paired(fusion).eval()
    options = SMALL.get(method, {})
    together = EXPLANATIONS[method](model, exams, PRESENT, ReferableTarget(0), **options)
    assert not together[1, 3:].any()
    for exam in range(3):
        one = slice(exam, exam + 1)
        alone = EXPLANATIONS[method](model, exams[one], PRESENT[one], ReferableTarget(0), **options)
        assert torch.allclose(alone, together[one], atol=float(together[one].abs().max()) * 1e-3)


@pytest.mark.parametrize("method", list(EXPLANATIONS))
def test_the_model_is_left_as_it_was(method: str, exams: Tensor) -> None:
    model = paired("late").train()
    model.head.eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    before = torch.random.get_rng_state()
    with torch.inference_mode():
        explain(model, exams.clone(), PRESENT.clone(), method=method, eye=0, **SMALL.get(method, {}))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("method", "fusion"),
    [*((method, "late") for method in OF_SEVERAL), ("integrated_gradients", "early"), ("occlusion", "single")],
)
def test_both_eyes_together_are_each_by_itself(method: str, fusion: str, exams: Tensor) -> None:
    model, options = paired(fusion).eval(), {**SMALL, "integrated_gradients": {"steps": 2}}.get(method, {})
    with torch.no_grad():
        # Unsure, so that a probability has a slope; but what occlusion compares are differences of rounded answers.
        model.head.weight *= 0.5 if method == "occlusion" else 0.02
    together = explain_eyes(model, exams, PRESENT, method=method, policy=OPEN, **options)
    for eye, of_one in enumerate(together):
        alone = explain(model, exams, PRESENT, method=method, eye=eye, policy=OPEN, **options)  # type: ignore[arg-type]
        assert of_one.withheld == alone.withheld
        assert alone.maps.any() or method in ("grad_cam", "layer_cam")
        assert torch.allclose(of_one.maps, alone.maps, atol=float(alone.maps.abs().max()) * 1e-4)
        for name in ("completeness_gap", "fellow_share", "outside_share", "outside_change"):
            one, other = getattr(of_one, name), getattr(alone, name)
            assert (one is None) == (other is None)
            assert one is None or torch.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize(
    ("trunk", "fusion"), [("resnet18", "early"), ("resnet18", "late"), ("resnet18", "single"), ("densenet121", "early")]
)
def test_grad_cam_is_captums_and_a_kept_copys_is_alike(trunk: str, fusion: str, exams: Tensor) -> None:
    from captum.attr import LayerGradCam

    torch.manual_seed(3)
    model = PairedEyeNet(Architecture(fusion=fusion, trunk=trunk, width=0.125)).eval()
    both, target = torch.ones(3, 2, dtype=torch.bool), ReferableTarget(1, "log_odds")
    theirs = LayerGradCam(lambda x, present: target(model(x, present)), model.trunk).attribute(
        exams.clone().requires_grad_(), additional_forward_args=(both,), relu_attributions=True
    )
    expected = on_both_eyes(model, theirs.detach(), exams, both)
    assert expected.any()
    got = grad_cam(model, exams, both, ReferableTarget(1), images_at_once=2)
    assert torch.allclose(got, expected, atol=float(expected.max()) * 1e-4)
    with keeping_copies(model):
        for precision in ("fp32", "auto"):  # auto: bf16 where the processor has it
            kept = grad_cam(model, exams, both, ReferableTarget(1), precision=precision)
            assert nn.functional.cosine_similarity(kept.flatten(), expected.flatten(), dim=0) >= 0.98


def test_fellow_share_follows_the_fusion(exams: Tensor) -> None:
    late = explain(paired("late"), exams, PRESENT, method="integrated_gradients", eye=0, steps=4, policy=OPEN)
    single = explain(paired("single"), exams, PRESENT, method="integrated_gradients", eye=0, steps=4, policy=OPEN)
    assert late.fellow_share is not None
    assert single.fellow_share is not None
    assert late.fellow_share[[0, 2]].min() > 0.02
    assert late.fellow_share[1] == 0, "there is no other eye"
    assert single.fellow_share.max() == 0
    assert explain(paired("early"), exams, PRESENT, method="grad_cam", eye=0).fellow_share is None
    assert torch.equal(late.own_eye, late.maps[:, 0] + late.maps[:, 1] + late.maps[:, 2])


def test_maps_that_must_not_be_shown_are_withheld(exams: Tensor) -> None:
    result = explain(paired("late"), exams, PRESENT, method="grad_cam", eye=1)
    assert result.withheld[1] == "no photograph of OS"
    assert not result.maps[1].any()
    rough = explain(Smooth(), exams, PRESENT, method="integrated_gradients", eye=0, steps=1, policy=EXACT)
    assert all(reason is not None and "completeness gap" in reason for reason in rough.withheld)
    assert not rough.maps.any()
    poisoned = Smooth()
    with torch.no_grad():
        poisoned.weight[0, 0] = float("nan")
    broken = explain(poisoned, exams, PRESENT, method="integrated_gradients", eye=0)
    assert all(reason == "the map holds NaN or infinity" for reason in broken.withheld)
    assert torch.isfinite(broken.maps).all()


def test_more_points_are_taken_only_where_they_are_needed(exams: Tensor) -> None:
    rows: list[int] = []

    class Counted(Smooth):
        def forward(self, x: Tensor, present: Tensor) -> Tensor:
            rows.append(len(x))
            answer = super().forward(x, present)
            return torch.where(present[:, 1, None, None], answer, 3 * torch.sin(60 * answer))

    model = Counted().eval()
    integrated_gradients(model, exams, PRESENT, ReferableTarget(0), tolerance=0.02)
    assert 6 in rows, "the first points are every exam's, two in a pass"
    assert 3 * 9 < sum(rows) < 3 * 9 + 20, "then only the steep one's"
    assert max(rows) <= 8


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("tolerance", [0.2, 1e-3, 0.0])
def test_points_are_halved_where_the_sum_misses_most_as_written_slowly(
    exams: Tensor, targets: int, tolerance: float
) -> None:
    asked = [ReferableTarget(eye) for eye in range(targets)]
    model, x, both = Steep().eval(), exams[:1], torch.ones(1, 2, dtype=torch.bool)
    found = integrated_gradients_of(model, x, both, asked, tolerance=tolerance, most_steps=60)
    begin = blurred_baseline(x, both)
    points = []
    for target, maps in zip(asked, found, strict=True):

        def at(place: float, target: ReferableTarget = target) -> tuple[float, Tensor]:
            point = (begin + place * (x - begin)).requires_grad_()
            value = target(model(point, both)).sum()
            return float(value.detach()), torch.autograd.grad(value, point)[0] * (x - begin)

        parts = [[at(cell / 8), at((cell + 1) / 8)] for cell in range(8)]
        while True:
            means = [
                (ends[0][1] / 2 + ends[-1][1] / 2 + sum(s for _, s in ends[1:-1])) / (len(ends) - 1) for ends in parts
            ]
            misses = [ends[-1][0] - ends[0][0] - float(mean.sum()) / 8 for ends, mean in zip(parts, means, strict=True)]
            change = max(abs(parts[-1][-1][0] - parts[0][0][0]), 0.05)
            way = 1 if sum(misses) > 0 else -1
            worst = sorted(range(8), key=lambda cell: -way * misses[cell])[:2]
            count = sum(len(ends) - 1 for ends in parts) + 1
            if abs(sum(misses)) <= tolerance * change or count + sum(len(parts[c]) - 1 for c in worst) > 60:
                break
            for cell in worst:
                panels = 2 * (len(parts[cell]) - 1)
                parts[cell] = [at((cell + number / panels) / 8) for number in range(panels + 1)]
        points.append(count)
        torch.testing.assert_close(maps, sum(means) / 8, rtol=1e-3, atol=1e-6)
    assert (max(points) == 9) == (tolerance == 0.2)


def test_a_method_that_misses_the_change_is_caught(monkeypatch: pytest.MonkeyPatch, exams: Tensor) -> None:
    def half(model: nn.Module, x: Tensor, present: Tensor, target: ReferableTarget) -> Tensor:
        return integrated_gradients(model, x, present, target) / 2 + 0.01

    monkeypatch.setitem(EXPLANATIONS, "integrated_gradients", half)  # type: ignore[arg-type]
    result = explain(Smooth(), exams, PRESENT, method="integrated_gradients", eye=0)
    assert all("completeness gap" in str(reason) for reason in result.withheld)


def test_mistakes_are_told(exams: Tensor) -> None:
    with pytest.raises(WorkbenchError, match="did you mean 'grad_cam'"):
        explain(paired("late"), exams, PRESENT, method="gradcam", eye=0)
    with pytest.raises(WorkbenchError, match="Smooth ends in no feature map"):
        explain(Smooth(), exams, PRESENT, method="grad_cam", eye=0)
    with pytest.raises(WorkbenchError, match="steps is 0"):
        explain(Smooth(), exams, PRESENT, method="integrated_gradients", eye=0, steps=0)
