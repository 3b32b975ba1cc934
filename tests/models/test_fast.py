"""The fast copy answers as the model, leaves it alone, and is not used where it would lie."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from workbench.models.fast import fast_copy, keeping_copies
from workbench.models.paired import PairedEyeNet
from workbench.models.precision import has_bf16
from workbench.schema.model_card import Architecture

BOTH = torch.ones(3, 2, dtype=torch.bool)


class Looped(nn.Module):
    """No tracer follows it; one of its batch norms follows a convolution, the other does not."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, 5)
        for norm in (self.net[0], self.net[2]):
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        if float(x.mean()) > -1:
            x = x * 1
        return self.head(self.net(x.reshape(-1, 3, *x.shape[2:])).mean(dim=(2, 3))).reshape(-1, 2, 5)


class ReadTwice(Looped):
    """The convolution's output is read before its batch norm, too: folding would change the answer."""

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        made = self.net[1](x.reshape(-1, 3, *x.shape[2:]))
        return self.head((self.net[2](made) + made).mean(dim=(2, 3))).reshape(-1, 2, 5)


def paired(fusion: str) -> PairedEyeNet:
    return PairedEyeNet(Architecture(fusion=fusion, trunk="resnet10", width=0.25))


NETS = {
    "looped": Looped,
    "read twice": ReadTwice,
    "early": lambda: paired("early"),
    "late": lambda: paired("late"),
    "densenet": lambda: PairedEyeNet(Architecture(trunk="densenet121", width=0.25)),
}


@pytest.mark.parametrize("name", NETS)
def test_a_fast_copy_answers_as_the_model_and_leaves_it_alone(name: str) -> None:
    torch.manual_seed(2)
    model = NETS[name]().train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.rand(3, 6, 32, 32)
    fast = {precision: fast_copy(model, x, precision) for precision in ("fp32", "auto")}
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    model.eval()
    right = model(x, BOTH)
    torch.testing.assert_close(fast["fp32"](x, BOTH), right, atol=1e-4, rtol=1e-3)
    got = fast["auto"](x, BOTH)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, right, atol=0.05, rtol=0.05)
    assert type(fast["auto"]) is type(model)
    assert fast["auto"] is not model


def test_only_what_a_batch_norm_alone_reads_is_folded() -> None:
    x = torch.rand(1, 6, 16, 16)
    looped, twice = (fast_copy(kind(), x, "fp32") for kind in (Looped, ReadTwice))
    assert [type(module) for module in looped.net] == [nn.BatchNorm2d, nn.Conv2d, nn.Identity, nn.ReLU]
    assert isinstance(twice.net[2], nn.BatchNorm2d)


@pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="this processor has no bf16 arithmetic")
def test_convolutions_run_in_bf16_and_the_head_in_fp32() -> None:
    fast = fast_copy(paired("early"), torch.rand(1, 6, 32, 32))
    assert fast.trunk.conv1.weight.dtype == torch.bfloat16
    assert fast.head.weight.dtype == torch.float32


def test_an_unfaithful_copy_is_not_used() -> None:
    class Amplified(Looped):
        def forward(self, x: Tensor, present: Tensor) -> Tensor:
            odds = super().forward(x, present)
            return torch.sin(odds.double() * 1e7).float() + 0 * odds

    model, x = Amplified().eval(), torch.rand(3, 6, 16, 16)
    with keeping_copies(model):
        fast = fast_copy(model, x)
        assert fast_copy(model, x, "fp32") is fast
    assert isinstance(fast.net[2], nn.BatchNorm2d)
    assert fast.net[1].weight.dtype == torch.float32


@pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="this processor has no bf16 arithmetic")
def test_a_copy_with_true_answers_and_a_wrong_gradient_is_used_where_only_answers_are_read() -> None:
    class Rippled(Looped):
        def forward(self, x: Tensor, present: Tensor) -> Tensor:
            odds = super().forward(x, present)
            return odds + 1e-4 * torch.sin(1e6 * odds)

    model, x = Rippled().eval(), torch.rand(3, 6, 16, 16)
    with keeping_copies(model):
        exact = fast_copy(model, x, "fp32")
        assert fast_copy(model, x) is exact
        answers = fast_copy(model, x, reading=None)
        assert answers.net[1].weight.dtype == torch.bfloat16
        assert fast_copy(model, x, least_cosine=-1.0) is answers
        assert fast_copy(model, x) is exact, "a judgement holds for its own bound"


def test_a_model_that_cannot_be_copied_answers_itself() -> None:
    class Held(Looped):
        def __deepcopy__(self, memo: object) -> Held:
            raise TypeError("it holds a file")

    model = Held()
    assert fast_copy(model, torch.rand(1, 6, 16, 16)) is model


def test_a_copy_is_kept_while_told_so_and_until_a_weight_changes() -> None:
    model, x = Looped(), torch.rand(1, 6, 16, 16)
    assert fast_copy(model, x) is not fast_copy(model, x)
    with keeping_copies(model):
        first = fast_copy(model, x)
        assert fast_copy(model, torch.rand(5, 6, 16, 16)) is first
        with keeping_copies(model):
            assert fast_copy(model, x) is first
        assert fast_copy(model, x) is first
        with torch.no_grad():
            model.head.weight.mul_(2)
        assert fast_copy(model, x) is not first
    assert fast_copy(model, x) is not first
