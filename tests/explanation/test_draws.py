"""Maps of draws: agreement and flicker where they are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from workbench.explanation.checks import check_map, explain_draws
from workbench.explanation.draws import important, maps_of_draws
from workbench.explanation.registry import EXPLANATIONS
from workbench.explanation.targets import MeanOfDraws, ReferableTarget
from workbench.models.paired import PairedEyeNet
from workbench.schema.errors import WorkbenchError
from workbench.schema.maps import TOP, MapSpec
from workbench.schema.model_card import Architecture
from workbench.schema.specs import MapPolicySpec
from workbench.uncertainty.drawn import DrawnNet, drawn_net
from workbench.uncertainty.mc_dropout import StochasticPredictor

OPEN = MapPolicySpec(max_completeness_gap=None, max_outside_change=None, max_outside_share=None)
BOTH = torch.ones(1, 2, dtype=torch.bool)


class Linear(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        return functional.pad((x * self.weight).flatten(1).sum(1)[:, None], (0, 9)).reshape(-1, 2, 5)


def target(logits: Tensor) -> Tensor:
    return logits[:, 0, 0]


def drawn(count: int) -> list[nn.Module]:
    """Every draw reads the top left corner; draw d also reads a row of its own."""
    nets: list[nn.Module] = []
    for number in range(count):
        weight = torch.zeros(6, 20, 20)
        weight[:3, :2, :10] = 1.0
        weight[:3, 5 + number, :20] = 2.0
        nets.append(Linear(weight))
    return nets


def test_what_every_draw_reads_is_stable_and_what_one_reads_is_not() -> None:
    x = torch.rand((1, 6, 20, 20), generator=torch.Generator().manual_seed(0))
    found = maps_of_draws(drawn(4), x, BOTH, target, eye=0, method="smooth_grad", samples=1)
    assert found.stable[0, :2, :10].all()
    assert found.stable.sum() == 20
    assert found.flickers[0, 5:9].all()
    assert found.flickers.sum() == 80
    assert float(found.steadiness) == pytest.approx(0.2)
    slow = torch.stack(
        [EXPLANATIONS["smooth_grad"](net, x, BOTH, target, samples=1)[:, :3].sum(dim=1) for net in drawn(4)]
    )
    torch.testing.assert_close(found.mean, slow.mean(dim=0))
    torch.testing.assert_close(found.spread, slow.std(dim=0, correction=0), atol=1e-3, rtol=1e-3)


def test_draws_that_agree_have_no_spread_and_do_not_flicker() -> None:
    x = torch.rand((1, 6, 20, 20), generator=torch.Generator().manual_seed(0))
    found = maps_of_draws(drawn(1) * 3, x, BOTH, target, eye=0, method="smooth_grad", samples=1)
    assert not found.flickers.any()
    assert found.spread.max() < 1e-3
    assert float(found.steadiness) == 1


def test_an_empty_map_has_nothing_important_and_one_draw_is_refused() -> None:
    x = torch.zeros(1, 6, 20, 20)
    nothing = maps_of_draws(
        [Linear(torch.zeros(6, 20, 20))] * 2, x, BOTH, target, eye=1, method="smooth_grad", samples=1
    )
    assert not nothing.frequency.any()
    assert nothing.steadiness.isnan().all()
    assert important(torch.rand(1, 20, 20) + 0.1).sum() == TOP * 400
    with pytest.raises(WorkbenchError, match="maps of 1 draws"):
        maps_of_draws(drawn(1), x, BOTH, target, eye=0)


def paired(fusion: str, **more: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(6)
        shape = {"trunk": "resnet10", "width": 0.125, "fusion": fusion, "head_dropout": 0.5, **more}
        return PairedEyeNet(Architecture.model_validate(shape)).eval()


class MasksInside(nn.Module):
    """Masks stand before the last feature map, so that every draw has one of its own."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.first, self.last = nn.Conv2d(6, 8, 3, 2), nn.Conv2d(8, 12, 3, 2)
            self.dropout, self.head = nn.Dropout2d(0.3), nn.Linear(12, 10)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        features = torch.relu(self.last(self.dropout(torch.relu(self.first(x)))))
        return self.head(features.mean((2, 3))).reshape(-1, 2, 5)


def net_of_draws(model: nn.Module, x: Tensor, draws: int = 3) -> DrawnNet:
    return drawn_net(StochasticPredictor(model, engine="eager"), x, BOTH, seed=7, draws=draws)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "early": lambda: paired("early"),
    "late": lambda: paired("late"),
    "single, mirrored": lambda: paired("single", mirror_os=True),
    "masks on the feature map": lambda: paired("late", feature_dropout=0.3),
    "masks inside the trunk": MasksInside,
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_shared_trunk_makes_the_maps_of_the_plain_loop(kind: str) -> None:
    x = torch.rand((1, 6, 32, 32), generator=torch.Generator().manual_seed(1))
    drawn = net_of_draws(MODELS[kind](), x)
    methods: dict[str, dict[str, Any]] = {"grad_cam": {}, "layer_cam": {}, "integrated_gradients": {"steps": 2}}
    for method, options in methods.items():
        told: dict[str, Any] = {"eye": 1, "method": method, **options}
        plain = maps_of_draws(tuple(drawn.nets), x, BOTH, ReferableTarget(1), **told)
        shared = maps_of_draws(drawn, x, BOTH, ReferableTarget(1), **told)
        largest = float(plain.maps.abs().max())
        assert largest > 0
        torch.testing.assert_close(shared.maps, plain.maps, atol=1e-5 * largest, rtol=1e-5)
    assert (shared.frequency == plain.frequency).float().mean() > 0.99, "of the last, whose pixels are not tied"


def test_the_map_of_all_draws_adds_up_to_what_is_deployed() -> None:
    """The mean of the draws' integrated gradients is that of their mean P(referable), at the same points."""
    x = torch.rand((1, 6, 32, 32), generator=torch.Generator().manual_seed(1))
    drawn = net_of_draws(paired("late"), x)
    mean = maps_of_draws(drawn, x, BOTH, ReferableTarget(0), eye=0, method="integrated_gradients", steps=3).maps
    at_once = EXPLANATIONS["integrated_gradients"](drawn, x, BOTH, MeanOfDraws(ReferableTarget(0)), steps=3)
    torch.testing.assert_close(mean, at_once, atol=1e-5 * float(mean.abs().max()), rtol=1e-4)
    one = torch.ones(1, dtype=torch.long)
    twice = drawn(x.repeat(2, 1, 1, 1), BOTH.repeat(2, 1))
    torch.testing.assert_close(twice[:, one], twice[:, one - 1])


class AllDraws(nn.Module):
    def __init__(self, nets: list[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        return torch.stack([net(x, present) for net in self.nets])


def test_a_mean_over_draws_that_is_another_map_than_the_judged_one_is_withheld() -> None:
    """Every draw reads two rows; the model without draws reads the same ones, or two others."""
    x = torch.rand((1, 6, 40, 40), generator=torch.Generator().manual_seed(0))

    def reading(row: int) -> nn.Module:
        weight = torch.full((6, 40, 40), 1e-5)
        weight[:3, row : row + 4] = 0.005
        return Linear(weight)

    told: dict[str, Any] = {"eye": 0, "target": "grade_0", "method": "smooth_grad", "samples": 1}
    drawn = AllDraws([reading(18), reading(18)])
    for row, alike in ((18, True), (28, False)):
        result, _ = explain_draws(drawn, reading(row), x, BOTH, policy=OPEN, **told)
        assert result.draws_likeness is not None
        assert (float(result.draws_likeness) > 0.95) is alike
        words = result.withheld[0]
        assert words is None if alike else words is not None and "without draws" in words and "below 0.7" in words
        assert bool(result.own_eye.any()) is alike
    lenient = OPEN.model_copy(update={"min_draws_likeness": None})
    assert explain_draws(drawn, reading(28), x, BOTH, policy=lenient, **told)[0].withheld == (None,)


def test_what_the_draws_contradict_each_other_about_has_a_map_and_no_agreement() -> None:
    x = torch.rand((1, 6, 32, 32), generator=torch.Generator().manual_seed(1))
    model = paired("late")
    drawn = net_of_draws(model, x)
    told: dict[str, Any] = {"eye": 0, "target": "mutual_information", "policy": OPEN}
    result, found = explain_draws(drawn, model, x, BOTH, method="smooth_grad", samples=2, **told)
    assert found is None
    assert result.draws_likeness is None
    assert result.own_eye.any()
    with pytest.raises(WorkbenchError, match="grad_cam cannot explain mutual_information"):
        explain_draws(drawn, model, x, BOTH, method="grad_cam", **told)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "gradcam"}, "did you mean 'grad_cam'"),
        ({"name": "grad_cam", "target": "grades_3"}, "did you mean 'grade_3'"),
        ({"name": "grad_cam", "options": {"layers": "trunk"}}, "did you mean 'layer'"),
        ({"name": "lrp", "target": "mutual_information", "draws": 4}, "lrp cannot explain mutual_information"),
    ],
)
def test_maps_that_cannot_be_are_refused_before_anything_is_loaded(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(WorkbenchError, match=words):
        check_map(MapSpec.model_validate(spec))
