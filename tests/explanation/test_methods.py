"""Every method on models whose answer is known: linear, constant, of one pixel, of one eye; and on others' networks."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from workbench.explanation.checks import explain
from workbench.explanation.integrated_gradients import blurred_baseline
from workbench.explanation.occlusion import occlusion, rise, some_of
from workbench.explanation.propagation import deep_lift, lrp
from workbench.explanation.registry import COMPLETE, EXPLANATIONS, FLOORS, LIMITS
from workbench.explanation.smoothing import BLURS
from workbench.explanation.targets import (
    EntropyTarget,
    ExpectedGradeTarget,
    GradeDifferenceTarget,
    GradeTarget,
    MeanOfDraws,
    MutualInformationTarget,
    ReferableTarget,
    target_named,
)
from workbench.models.foreign import PairedFromSingle
from workbench.models.paired import PairedEyeNet
from workbench.schema.errors import WorkbenchError
from workbench.schema.model_card import Architecture

SIDE = 32
BOTH = torch.ones(2, 2, dtype=torch.bool)
SMALL: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"most_steps": 3},
    "expected_gradients": {"samples": 10},
    "smooth_grad": {"samples": 3},
    "occlusion": {"window": 8},
    "rise": {"masks": 60},
}
NEEDS_CONVOLUTION = ("grad_cam", "layer_cam", "guided_grad_cam")
NEEDS_RELU = ("guided_backprop", "guided_grad_cam")
PIXELWISE = [name for name in EXPLANATIONS if name not in (*FLOORS, *NEEDS_CONVOLUTION, *NEEDS_RELU)]
FAST = [name for name, method in EXPLANATIONS.items() if "precision" in inspect.signature(method).parameters]


def first_logit(logits: Tensor) -> Tensor:
    return logits[:, 0, 0]


@pytest.fixture(scope="module")
def exams() -> Tensor:
    generator = torch.Generator().manual_seed(8)
    x = functional.interpolate(torch.rand((2, 6, 8, 8), generator=generator) * 0.6 + 0.3, (SIDE, SIDE), mode="bilinear")
    offset = torch.arange(SIDE) - (SIDE - 1) / 2
    return x * ((offset[:, None] ** 2 + offset[None, :] ** 2) < (0.47 * SIDE) ** 2)


class Linear(nn.Module):
    """logits[:, 0, 0] = Σ weight × x + bias; nothing else answers."""

    def __init__(self, weight: Tensor, bias: float = 0.0) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), bias

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        answer = (x * self.weight).flatten(1).sum(dim=1) + self.bias
        return functional.pad(answer[:, None], (0, 9)).reshape(-1, 2, 5)


def windows(weight: Tensor, x: Tensor, baseline: Tensor, side: int) -> Tensor:
    """Occlusion of a linear model, written slowly: windows that tile, each without its detail."""
    maps = torch.zeros_like(x)
    for exam in range(len(x)):
        for eye in range(2):
            own = slice(3 * eye, 3 * eye + 3)
            for top in range(0, SIDE, side):
                for left in range(0, SIDE, side):
                    area = (exam, own, slice(top, top + side), slice(left, left + side))
                    maps[area] = (weight[area[1:]] * (x - baseline)[area]).sum() / 3
    return maps


CLOSED_FORMS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "integrated_gradients": lambda weight, x, baseline: weight * (x - baseline),
    "deep_lift": lambda weight, x, baseline: weight * (x - baseline),
    "expected_gradients": lambda weight, x, _: (
        weight * (x - torch.stack([blurred_baseline(x, BOTH, sigma) for sigma in BLURS]).mean(dim=0))
    ),
    "smooth_grad": lambda weight, x, _: weight.expand_as(x),
    "lrp": lambda weight, x, _: weight * x,
    "occlusion": lambda weight, x, baseline: windows(weight, x, baseline, 8),
}


@pytest.mark.parametrize("method", list(CLOSED_FORMS))
def test_a_linear_model_has_its_exact_attribution(method: str, exams: Tensor) -> None:
    weight = torch.randn((6, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
    options = {"stride": 8} if method == "occlusion" else {}
    maps = EXPLANATIONS[method](Linear(weight, 0.3), exams, BOTH, first_logit, **SMALL.get(method, {}), **options)
    exact = CLOSED_FORMS[method](weight, exams, blurred_baseline(exams, BOTH))
    torch.testing.assert_close(maps, exact, atol=2e-4 * float(exact.abs().max()), rtol=1e-4)


def test_rise_is_the_slope_of_a_linear_model(exams: Tensor) -> None:
    """With weight in one cell alone, the map there is what the cell's detail is worth."""
    weight = torch.zeros(6, SIDE, SIDE)
    weight[1, 12:15, 12:15] = 1.0
    maps = rise(Linear(weight), exams, BOTH, first_logit, masks=800)
    worth = (weight * (exams - blurred_baseline(exams, BOTH))).flatten(1).sum(dim=1)
    own = maps[:, :3].sum(dim=1)
    assert torch.allclose(own[:, 13, 13], worth, rtol=0.2)
    assert (maps[:, 3:].abs().mean(dim=(1, 2, 3)) < 0.15 * own[:, 13, 13].abs()).all(), "the other eye is noise"


@pytest.mark.parametrize("method", [name for name in EXPLANATIONS if name not in FLOORS])
def test_a_constant_model_has_a_zero_map(method: str, exams: Tensor) -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(6, 4, 3), nn.AvgPool2d(2)

        def forward(self, x: Tensor, present: Tensor) -> Tensor:
            return (self.pool(torch.relu(self.conv(x))).mean((2, 3)) * 0).sum(1).reshape(-1, 1, 1).expand(-1, 2, 5)

    maps = EXPLANATIONS[method](Constant(), exams, BOTH, first_logit, **SMALL.get(method, {}))
    assert maps.shape == exams.shape
    assert not maps.any()


@pytest.mark.parametrize("method", PIXELWISE)
def test_a_model_of_one_eye_has_no_map_on_the_other(method: str, exams: Tensor) -> None:
    weight = torch.zeros(6, SIDE, SIDE)
    weight[:3] = torch.rand((3, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
    options = {"masks": 400} if method == "rise" else SMALL.get(method, {})
    maps = EXPLANATIONS[method](Linear(weight), exams, BOTH, first_logit, **options)
    own, fellow = maps[:, :3].abs().sum(), maps[:, 3:].abs().sum()
    assert own > 0
    assert fellow == 0 or method == "rise", "RISE estimates from random masks of both eyes"
    assert fellow < own or method != "rise"


@pytest.mark.parametrize("method", [name for name in PIXELWISE if name not in ("occlusion", "rise")])
def test_a_model_of_one_pixel_has_a_map_of_one_pixel(method: str, exams: Tensor) -> None:
    weight = torch.zeros(6, SIDE, SIDE)
    weight[4, 10, 17] = 2.0
    maps = EXPLANATIONS[method](Linear(weight), exams, BOTH, first_logit, **SMALL.get(method, {}))
    assert maps[:, 4, 10, 17].all()
    maps[:, 4, 10, 17] = 0
    assert not maps.any()


@pytest.mark.parametrize("method", ["integrated_gradients", "deep_lift", "expected_gradients", "lrp"])
def test_a_black_exam_has_a_zero_map(method: str, exams: Tensor) -> None:
    weight = torch.randn((6, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
    maps = EXPLANATIONS[method](Linear(weight), torch.zeros_like(exams), BOTH, first_logit, **SMALL.get(method, {}))
    assert not maps.any()


def net(fusion: str, **more: Any) -> PairedEyeNet:
    with torch.random.fork_rng():
        torch.manual_seed(6)
        model = PairedEyeNet(Architecture(fusion=fusion, width=0.125, **more)).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, 0, 0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        nn.init.normal_(model.head.weight, 0, 0.6)
    return model


@pytest.mark.parametrize("around", [{}, {"local_average": 1.0, "mirror_os": True}], ids=["plain", "local average"])
@pytest.mark.parametrize("fusion", ["early", "late", "single"])
def test_occlusion_is_a_whole_pass_per_window(fusion: str, around: dict[str, Any], exams: Tensor) -> None:
    """One eye's trunk rerun, a crop normalised anew, windows without a change left out: the same as everything anew."""
    model, target, baseline = net(fusion, **around), EntropyTarget(1), blurred_baseline(exams, BOTH)
    slow = torch.zeros_like(exams)
    with torch.no_grad():
        whole = target(model(exams, BOTH))
        for eye in range(2):
            own = slice(3 * eye, 3 * eye + 3)
            for top in range(0, SIDE, 16):
                for left in range(0, SIDE, 16):
                    area = (slice(None), own, slice(top, top + 16), slice(left, left + 16))
                    tried = exams.clone()
                    tried[area] = baseline[area]
                    slow[area] = ((whole - target(model(tried, BOTH))) / 3)[:, None, None, None]
    fast = occlusion(model, exams, BOTH, target, window=16, stride=16)
    torch.testing.assert_close(fast, slow, atol=1e-3 * float(slow.abs().max()), rtol=1e-3)


@pytest.fixture(scope="module")
def trained() -> PairedEyeNet:
    """Return a net that tells dark eyes from bright ones."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PairedEyeNet(Architecture(trunk="resnet10", width=0.25))
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(20):
            light = torch.rand(16, 2)
            x = torch.rand(16, 6, SIDE, SIDE) * light.repeat_interleave(3, dim=1)[:, :, None, None]
            asked = functional.cross_entropy(
                model(x, torch.ones(16, 2) > 0).flatten(0, 1), (light * 5).long().flatten()
            )
            optimizer.zero_grad()
            asked.backward()
            optimizer.step()
    return model.eval()


@pytest.mark.parametrize("method", FAST)
def test_the_fast_copy_gives_the_fp32_map(method: str, trained: PairedEyeNet, exams: Tensor) -> None:
    fine = functional.interpolate(exams, scale_factor=2.0)
    slow, fast = (
        EXPLANATIONS[method](trained, fine, BOTH, ReferableTarget(0), **SMALL.get(method, {}), precision=precision)
        for precision in ("fp32", "auto")  # auto: bf16 where the processor has it
    )
    assert slow.any()
    assert functional.cosine_similarity(slow.flatten(), fast.flatten(), dim=0) >= 0.98


@pytest.mark.parametrize("fusion", ["early", "late"])
def test_occlusion_is_true_where_bf16_would_blur_what_falls(fusion: str, exams: Tensor) -> None:
    """Windows of four pixels change an untrained answer by less than bf16 rounds it."""
    torch.manual_seed(0)
    model = PairedEyeNet(Architecture(fusion=fusion, trunk="resnet10", width=0.25)).eval()
    slow, fast = (
        occlusion(model, exams[:1], BOTH[:1], ReferableTarget(0), window=4, stride=4, precision=precision)
        for precision in ("fp32", "auto")
    )
    assert slow.any()
    assert functional.cosine_similarity(slow.flatten(), fast.flatten(), dim=0) >= 0.97


def test_the_windows_compared_are_of_no_one_row_or_column() -> None:
    for columns in (7, 8, 15, 16):
        chosen = some_of(columns**2)
        assert min(len({i % columns for i in chosen}), len({i // columns for i in chosen})) >= 4
    assert some_of(3) == [0, 1, 2]


def test_occlusion_takes_no_gradient_and_may_be_fast_all_the_same(exams: Tensor) -> None:
    model = PairedEyeNet(Architecture(trunk="resnet10", width=0.25)).eval()
    with torch.no_grad():
        assert torch.isfinite(occlusion(model, exams, BOTH, ReferableTarget(0), window=8, precision="auto")).all()


@pytest.mark.parametrize("fusion", ["early", "late"])
def test_deep_lift_is_captums_where_captums_is_right(fusion: str, exams: Tensor) -> None:
    """On convolutions, BatchNorm and separate ReLUs. Captum's max pool follows another rule, so it is left out."""
    from captum.attr import DeepLift

    model = net(fusion)
    model.trunk.maxpool = nn.Identity()

    class Logit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor, present: Tensor) -> Tensor:
            return self.model(x, present)[:, 1, 3]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Captum sets hooks, and says so
        theirs = DeepLift(Logit()).attribute(
            exams.clone().requires_grad_(), baselines=blurred_baseline(exams, BOTH), additional_forward_args=(BOTH,)
        )
    theirs = theirs.detach()
    ours = deep_lift(model, exams, BOTH, GradeTarget(1, 3, "logit"))
    torch.testing.assert_close(ours, theirs, atol=2e-3 * float(theirs.abs().max()), rtol=1e-2)


@pytest.mark.parametrize("trunk", ["resnet10", "densenet121", "efficientnet-b0"])
@pytest.mark.parametrize("target", [ReferableTarget(0), EntropyTarget(0), ExpectedGradeTarget(0)])
def test_deep_lift_adds_up(trunk: str, target: Any, exams: Tensor) -> None:
    """In-place ReLUs, gates, max pools, softmax of the target: the sum is the change."""
    model = net("late", trunk=trunk)
    with torch.no_grad():
        change = target(model(exams, BOTH)) - target(model(blurred_baseline(exams, BOTH), BOTH))
    total = deep_lift(model, exams, BOTH, target).flatten(1).sum(dim=1)
    torch.testing.assert_close(total, change, atol=2e-3 * float(change.abs().max()) + 1e-5, rtol=1e-2)


def test_lrp_without_gamma_is_gradient_times_input(exams: Tensor) -> None:
    """For a network of ReLUs, in the normalised photograph (Shrikumar et al. 2017, section 3)."""
    model, target = net("late"), ReferableTarget(1, "log_odds")
    prepared: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        inputs[0].requires_grad_().retain_grad()
        prepared.append(inputs[0])

    handle = model.trunk.register_forward_pre_hook(keep)
    target(model(exams, BOTH)).sum().backward()
    handle.remove()
    exact = (prepared[0] * prepared[0].grad).detach().reshape(exams.shape)
    torch.testing.assert_close(
        lrp(model, exams, BOTH, target, gamma=0.0), exact, atol=1e-4 * float(exact.abs().max()), rtol=1e-3
    )


def test_lrp_gamma_is_the_rule_written_slowly() -> None:
    """Two dense layers as 1 × 1 convolutions: R_i = Σ_j a_i (w + γ w⁺) ÷ Σ_i a_i (w + γ w⁺) × R_j (Montavon 2019)."""
    generator = torch.Generator().manual_seed(3)
    first, second = torch.randn((5, 6), generator=generator), torch.randn((10, 5), generator=generator)

    class TwoLayers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(6, 5, 1, bias=False), nn.Conv2d(5, 10, 1, bias=False)
            self.one.weight.data, self.two.weight.data = first[..., None, None], second[..., None, None]

        def forward(self, x: Tensor, present: Tensor) -> Tensor:
            return torch.relu(self.two(torch.relu(self.one(x)))).mean((2, 3)).reshape(-1, 2, 5)

    x = torch.rand((1, 6, 1, 1), generator=generator)
    hidden = torch.relu(first @ x.flatten())
    favoured = second + 0.25 * second.clamp(min=0)
    out = torch.relu(second @ hidden)
    unit = int(out.argmax())
    to_hidden = hidden * favoured[unit] / (favoured[unit] @ hidden) * out[unit]
    sums = first @ x.flatten()
    exact = sum(x.flatten() * first[j] / sums[j] * to_hidden[j] for j in range(5) if sums[j] > 0)
    got = lrp(TwoLayers(), x, BOTH[:1], lambda logits: logits.flatten(1)[:, unit])
    torch.testing.assert_close(got.flatten(), exact, rtol=1e-3, atol=1e-5)


def foreign(name: str) -> PairedFromSingle:
    from monai.networks.nets import DenseNet, EfficientNetBN, SEResNet50, ViT, resnet10

    torch.manual_seed(0)
    module: nn.Module = {
        "resnet": lambda: resnet10(spatial_dims=2, n_input_channels=3, num_classes=5),
        "densenet": lambda: DenseNet(2, 3, 5, init_features=8, growth_rate=4, block_config=(2, 2)),
        "efficientnet": lambda: EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=2, num_classes=5),
        "seresnet": lambda: SEResNet50(spatial_dims=2, in_channels=3, num_classes=5),
        "vit": lambda: ViT(3, (SIDE, SIDE), (8, 8), 16, 32, 2, 2, num_classes=5, classification=True, spatial_dims=2),
    }[name]()
    for part in module.modules():  # an untrained EfficientNet answers 1e-13
        if name == "efficientnet" and isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_in")
    linear = [part for part in module.modules() if isinstance(part, nn.Linear)][-1]
    with torch.no_grad():
        linear.weight.mul_(WORTH_EXPLAINING[name])
    return PairedFromSingle(module, outputs=5).eval()


WORTH_EXPLAINING = {"resnet": 100, "densenet": 50, "efficientnet": 5000, "seresnet": 30, "vit": 1}
"""What an untrained network's last weights are multiplied by, so that its answer changes by more than rounding."""

RIGHT, REFUSED, WITHHELD = "right", "refused", "withheld"
FOREIGN = {
    "resnet": {"deep_lift": RIGHT, "lrp": RIGHT, "guided_backprop": RIGHT, "grad_cam": RIGHT},
    "densenet": {"deep_lift": RIGHT, "lrp": RIGHT, "guided_backprop": RIGHT, "grad_cam": RIGHT},
    "efficientnet": {"deep_lift": RIGHT, "lrp": RIGHT, "guided_backprop": REFUSED, "grad_cam": RIGHT},
    "seresnet": {"deep_lift": RIGHT, "lrp": RIGHT, "guided_backprop": REFUSED, "grad_cam": RIGHT},
    "vit": {"deep_lift": REFUSED, "lrp": REFUSED, "guided_backprop": REFUSED, "grad_cam": REFUSED},
}
"""Networks of others, with ReLUs reused, in place, as functions, with gates, swish and attention."""


@pytest.mark.parametrize("name", list(FOREIGN))
def test_no_map_of_anothers_network_is_wrong_in_silence(name: str, exams: Tensor) -> None:
    model = foreign(name)
    found = {}
    for method in FOREIGN[name]:
        try:
            result = explain(model, exams, BOTH, method=method, eye=0, target="grade_3")
            reasons = {reason.split(" above")[0][:16] for reason in result.withheld if reason is not None}
            found[method] = WITHHELD if "completeness gap" in reasons else RIGHT
        except WorkbenchError:
            found[method] = REFUSED
    assert found == FOREIGN[name]


@pytest.mark.parametrize("in_place", [False, True])
def test_a_reused_relu_gives_the_map_of_separate_ones(in_place: bool, exams: Tensor) -> None:
    class Net(nn.Module):
        def __init__(self, shared: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.one, self.two, self.head = nn.Conv2d(6, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 10)
            first = nn.ReLU(in_place and shared)
            self.acts = nn.ModuleList([first, first if shared else nn.ReLU()])

        def forward(self, x: Tensor, present: Tensor) -> Tensor:
            inner = self.acts[1](self.two(self.acts[0](self.one(x))))
            return self.head(inner.mean((2, 3))).reshape(-1, 2, 5)

    for method in ("deep_lift", "lrp", "guided_backprop"):
        maps = (EXPLANATIONS[method](Net(reused), exams, BOTH, EntropyTarget(0)) for reused in (True, False))
        shared, separate = maps
        assert separate.any()
        assert torch.equal(shared, separate), method


def test_targets_are_their_formulas() -> None:
    logits = torch.randn((6, 3, 2, 5), generator=torch.Generator().manual_seed(0))
    p = logits[0, :, 1].softmax(-1)
    assert torch.allclose(GradeTarget(1, 3, "probability")(logits[0]), p[:, 3])
    assert torch.allclose(GradeTarget(1, 3)(logits[0]), p[:, 3].log())
    assert torch.equal(GradeTarget(1, 3, "logit")(logits[0]), logits[0, :, 1, 3])
    assert torch.allclose(ExpectedGradeTarget(1)(logits[0]), sum(k * p[:, k] for k in range(5)))
    assert torch.allclose(GradeDifferenceTarget(1, 3, 1)(logits[0]), (p[:, 3] / p[:, 1]).log(), atol=1e-5)
    assert torch.allclose(EntropyTarget(1)(logits[0]), -(p * p.log()).sum(-1))
    draws = logits[:, :, 1].softmax(-1)
    mean = draws.mean(0)
    entropy = -(mean * mean.log()).sum(-1)
    assert torch.allclose(MeanOfDraws(EntropyTarget(1))(logits), entropy, atol=1e-5)
    expected = entropy + (draws * draws.log()).sum(-1).mean(0)
    assert torch.allclose(MutualInformationTarget(1)(logits), expected, atol=1e-5)
    one = logits[:1].expand(6, -1, -1, -1)
    assert torch.allclose(MutualInformationTarget(1)(one), torch.zeros(3), atol=1e-5), "draws that agree"


def test_targets_by_name() -> None:
    assert target_named("referable", 1) == ReferableTarget(1)
    assert target_named("grade_4", 0) == GradeTarget(0, 4)
    assert target_named("grade_4_against_1", 0) == GradeDifferenceTarget(0, 4, 1)
    for wrong, near in [("entropie", "entropy"), ("grade_7", "grade_3"), ("grade_2_against_2", "grade_3_against_2")]:
        with pytest.raises(WorkbenchError, match=f"did you mean {near!r}"):
            target_named(wrong, 0)


def test_what_is_known_of_a_method_is_of_a_method() -> None:
    assert set(LIMITS) | set(COMPLETE) | set(FLOORS) <= set(EXPLANATIONS)


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("occlusion", {"window": 99}, "window 99"),
        ("rise", {"masks": 1}, "1 masks"),
        ("smooth_grad", {"samples": 0}, "samples is 0"),
        ("integrated_gradients", {"most_steps": 0}, "steps is None"),
        ("grad_cam", {"layer": "nowhere"}, "no layer 'nowhere'"),
    ],
)
def test_options_that_cannot_be_are_refused(method: str, options: dict[str, Any], said: str, exams: Tensor) -> None:
    with pytest.raises(WorkbenchError, match=said):
        EXPLANATIONS[method](net("late"), exams, BOTH, ReferableTarget(0), **options)
