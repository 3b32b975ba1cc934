"""Draws whose trunk is a copy in bf16: near those of fp32, not made twice, renewed when a weight changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from workbench.models import fast
from workbench.models.fast import fast_copy, keeping_copies
from workbench.models.paired import PairedEyeNet
from workbench.models.precision import has_bf16
from workbench.schema.model_card import Architecture
from workbench.uncertainty.folded import FoldedTrunk
from workbench.uncertainty.mc_dropout import StochasticPredictor
from workbench.uncertainty.split import SplitError

pytestmark = pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="the processor has no bf16 arithmetic")

SIDE = 64
SEEDS = [3, 5, 7]


def net(fusion="early", **more):
    torch.manual_seed(1)
    told = {"trunk": "resnet18", "fusion": fusion, "head_dropout": 0.3, "feature_dropout": 0.0, **more}
    return PairedEyeNet(Architecture(**told)).eval()


@pytest.fixture(scope="module")
def exams():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((3, 6, 8, 8), generator=generator)
    x = nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear")
    return x, torch.tensor([[True, True], [True, False], [True, True]])


def predictor(model, precision="bf16"):
    return StochasticPredictor(model, precision=precision, engine="eager")


@pytest.mark.parametrize("fusion", ["early", "late", "single"])
def test_draws_by_the_copy_are_near_those_of_the_model(fusion, exams):
    x, present = exams
    model = net(fusion)
    quick, exact = predictor(model), predictor(model, "fp32")
    near, right = (one.draws(x, present, draws=6, seeds=SEEDS) for one in (quick, exact))
    assert "by a folded copy in bf16" in quick.how
    assert "folded" not in exact.how
    torch.testing.assert_close(near, right, atol=0.02, rtol=0, equal_nan=True)
    torch.testing.assert_close(near[:, 1:2], quick.draws(x[1:2], present[1:2], draws=6, seeds=SEEDS[1:2]),
                               atol=0.01, rtol=0, equal_nan=True)  # fmt: skip


@pytest.mark.parametrize("fusion", ["early", "late"])
def test_what_was_judged_is_not_passed_again(fusion, exams):
    x, present = exams
    model = net(fusion)
    fresh, once = predictor(model), predictor(model)
    expected = fresh.draws(x, present, draws=4, seeds=SEEDS)
    folded = once.folded(x)
    assert isinstance(folded, FoldedTrunk)
    with torch.no_grad():
        answers = folded(x, present)
        direct = fast_copy(model, x, "bf16", reading=None)(x, present)
    torch.testing.assert_close(answers[present], direct[present], atol=1e-5, rtol=1e-5)
    passes = []
    folded.copy.trunk.register_forward_hook(lambda *_: passes.append("trunk"))
    folded.copy.trunk.conv1.register_forward_hook(lambda *_: passes.append("conv1"))
    drawn = once.draws(x.clone(), present.clone(), draws=4, seeds=SEEDS)
    assert not passes
    torch.testing.assert_close(drawn, expected, atol=1e-5, rtol=0, equal_nan=True)
    other = once.draws(x.flip(0), present.flip(0), draws=4, seeds=SEEDS[::-1])
    assert passes, "of other exams nothing is known"
    torch.testing.assert_close(other.flip(1), expected, atol=1e-5, rtol=0, equal_nan=True)
    once.draws(x, ~present, draws=1, seeds=SEEDS)
    assert passes.count("conv1") == 2, "nor of the same pixels with other eyes"


def test_a_changed_weight_is_noticed(exams, monkeypatch):
    x, present = exams
    model = net()
    quick = predictor(model)
    before = quick.draws(x, present, draws=2, seeds=SEEDS)
    assert quick.folded(x) is not None
    with torch.no_grad():
        model.trunk.conv1.weight.mul_(-1.0)
    assert quick.folded(x) is None, "a copy of the old weights judges nobody"
    after = quick.draws(x, present, draws=2, seeds=SEEDS)
    right = predictor(model, "fp32").draws(x, present, draws=2, seeds=SEEDS)
    assert not torch.allclose(before, after, atol=0.02, equal_nan=True)
    torch.testing.assert_close(after, right, atol=0.02, rtol=0, equal_nan=True)
    monkeypatch.setattr(fast, "NEAR", 0.0)
    with torch.no_grad():
        model.trunk.conv1.weight.mul_(-1.0)
    torch.testing.assert_close(quick.draws(x, present, draws=2, seeds=SEEDS), before, atol=0.02, rtol=0, equal_nan=True)
    assert quick.folded(x) is None, "new weights for which no copy is true are drawn from by the model"


def test_the_gradient_goes_through_a_copy_whose_gradient_is_the_models_and_else_through_the_model(exams, monkeypatch):
    x, present = exams
    model = net()

    def slope(quick):
        pixels = x.clone().requires_grad_()
        drawn = quick.draws(pixels, present, draws=4, seeds=SEEDS, gradient=True)
        (found,) = torch.autograd.grad(drawn[..., 2:].sum(dim=-1).nan_to_num().sum(), pixels)
        return found

    with keeping_copies(model):
        right = slope(predictor(model, "fp32"))
        quick = predictor(model)
        folded = quick.folded(x)
        for is_true in (True, False):
            folded.is_differentiable = is_true
            with torch.no_grad():
                folded(x, present)  # who judged the exams as they are leaves no answer without a gradient behind
            cosine = nn.functional.cosine_similarity(slope(quick).flatten(), right.flatten(), dim=0)
            assert cosine > (0.9 if is_true else 0.99999)
        assert all(parameter.grad is None for parameter in (*model.parameters(), *folded.copy.parameters()))


def test_a_copy_that_would_answer_otherwise_is_refused(exams, monkeypatch):
    x, present = exams
    model = net()
    monkeypatch.setattr(fast, "NEAR", 0.0)
    with pytest.raises(SplitError, match="bf16 does not stay true"):
        FoldedTrunk(model, x)
    quick = predictor(model)
    assert quick.folded(x) is None
    quick.draws(x, present, draws=2, seeds=SEEDS)
    assert "folded" not in quick.how


class Noisy(PairedEyeNet):
    """Adds noise of its own in a draw."""

    def prepare(self, x, present):
        images = super().prepare(x, present)
        return images + 0.1 * torch.randn(images.shape) if self.training else images


def test_a_model_that_draws_in_its_own_code_is_not_copied(exams):
    x, present = exams
    torch.manual_seed(1)
    model = Noisy(Architecture(trunk="resnet18", fusion="early", head_dropout=0.3)).eval()
    quick = StochasticPredictor(model, precision="bf16", engine="eager", stochastic_depth=True)
    quick.draws(x, present, draws=2, seeds=SEEDS)
    assert quick.folded(x) is None
