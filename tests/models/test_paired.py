import itertools

import pytest
import torch
from torch import nn

from workbench.models.modes import evaluation, frozen
from workbench.models.paired import LocalAverage, PairedEyeNet
from workbench.models.trunks import TRUNKS, make_trunk
from workbench.schema.errors import WorkbenchError
from workbench.schema.model_card import Architecture

FUSIONS = ("early", "late", "single")


def small(**fields) -> PairedEyeNet:
    torch.manual_seed(0)
    return PairedEyeNet(Architecture(**{"trunk": "resnet10", "width": 0.125, **fields})).eval()


def exams(n: int = 4, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(n, 6, size, size, generator=torch.Generator().manual_seed(1))
    return x, torch.ones(n, 2, dtype=torch.bool)


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_trunk_and_fusion_answers_a_row_of_logits_per_eye(trunk, fusion):
    x, present = exams(2)
    assert small(trunk=trunk, fusion=fusion)(x, present).shape == (2, 2, 5)


@pytest.mark.parametrize(
    ("fusion", "pooling", "mirror"), list(itertools.product(FUSIONS, ("mean", "mean_max"), (False, True)))
)
def test_alone_equals_in_a_batch(fusion, pooling, mirror):
    model = small(fusion=fusion, pooling=pooling, mirror_os=mirror)
    x, present = exams()
    present[1, 0] = present[2, 1] = False
    alone = torch.cat([model(x[i : i + 1], present[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(model(x, present), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_pixels_of_an_absent_eye_change_nothing(fusion):
    model = small(fusion=fusion)
    x, present = exams()
    present[:, 1] = False
    other = x.clone()
    other[:, 3:] = float("nan")
    assert torch.equal(model(x, present)[:, 0], model(other, present)[:, 0])


@pytest.mark.parametrize(("fusion", "sees_other"), [("early", True), ("late", True), ("single", False)])
def test_which_fusion_looks_at_the_other_eye(fusion, sees_other):
    model = small(fusion=fusion)
    x, present = exams()
    other = x.clone()
    other[:, 3:] = 1 - other[:, 3:]
    assert torch.equal(model(x, present)[:, 0], model(other, present)[:, 0]) is not sees_other


def test_a_late_head_treats_both_eyes_alike():
    model = small(fusion="late")
    x, present = exams()
    swapped = torch.cat([x[:, 3:], x[:, :3]], dim=1)
    torch.testing.assert_close(model(swapped, present), model(x, present).flip(1))


def test_mirror_os_flips_the_left_eye_only():
    plain, mirrored = small(mirror_os=False), small(mirror_os=True)
    x, present = exams()
    flipped = torch.cat([x[:, :3], x[:, 3:].flip(-1)], dim=1)
    torch.testing.assert_close(mirrored(flipped, present), plain(x, present))
    assert not torch.allclose(mirrored(x, present), plain(x, present))


def test_the_mean_colour_is_neutral_inside():
    model = small(mean=(0.3, 0.4, 0.5))
    x = torch.tensor([0.3, 0.4, 0.5] * 2).view(1, 6, 1, 1).expand(1, 6, 64, 64)
    assert torch.equal(model.prepare(x, torch.ones(1, 2, dtype=torch.bool)), torch.zeros(1, 6, 64, 64))


@pytest.mark.parametrize("trunk", TRUNKS)
def test_the_feature_map_comes_before_pooling(trunk):
    model = small(trunk=trunk, fusion="late")
    x, present = exams(2)
    feature_map = model.get_submodule(model.feature_layer)(model.prepare(x, present))
    assert feature_map.shape == (4, model.trunk.channels, 2, 2)


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_fx_traces_it_without_baking_in_the_batch(trunk, fusion):
    model = small(trunk=trunk, fusion=fusion, feature_dropout=0.2, pooling="mean_max", mirror_os=True)
    traced = torch.fx.symbolic_trace(model)
    for n in (1, 3):
        x, present = exams(n)
        torch.testing.assert_close(traced(x, present), model(x, present))


def test_a_dropout_of_zero_is_no_dropout_and_the_first_one_follows_the_trunk():
    plain = small(head_dropout=0.0)
    assert not [m for m in plain.modules() if isinstance(m, nn.Dropout | nn.Dropout2d)]
    both = small(head_dropout=0.5, feature_dropout=0.2)
    assert isinstance(both.feature_dropout, nn.Dropout2d)
    assert not [m for m in both.trunk.modules() if isinstance(m, nn.Dropout | nn.Dropout2d)]


def test_densenet_has_its_dropout_in_its_last_block_only():
    trunk = make_trunk("densenet121", 3, 0.25, 0.1)
    places = {name.split(".")[0] for name, m in trunk.named_modules() if isinstance(m, nn.Dropout2d)}
    assert places == {"denseblock4"}


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_no_relu_serves_twice_or_in_place(name):
    trunk = make_trunk(name, 3, 0.25)
    calls: list[nn.Module] = []
    relus = [module for module in trunk.modules() if isinstance(module, nn.ReLU)]
    for module in relus:
        module.register_forward_hook(lambda module, *_: calls.append(module))
    trunk(torch.rand(1, 3, 64, 64))
    assert len(calls) == len(set(calls)) == len(relus)
    assert not any(module.inplace for module in relus)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_an_untrained_trunk_carries_a_signal_and_learns(trunk):
    model = small(trunk=trunk, width=0.25, head_dropout=0.0)
    x, present = exams(4)
    x[:2] *= 0.3
    spread = model(x, present).std(dim=0)
    assert spread.max() > 1e-3, "the signal has vanished"
    target = torch.tensor([[0, 0], [0, 0], [4, 4], [4, 4]])
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(12):
        loss = nn.functional.cross_entropy(model(x, present).flatten(0, 1), target.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.8, "log(5) = 1.61 is no better than chance"


def test_every_weight_of_an_early_model_gets_a_gradient():
    model = small(pooling="mean_max").train()
    model(*exams()).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ("fields", "said"), [({"trunk": "resnet11"}, "resnet11"), ({"trunk_dropout": 0.2}, "trunk_dropout")]
)
def test_what_no_trunk_can_do_is_refused(fields, said):
    with pytest.raises(WorkbenchError, match=said):
        small(**fields)


def test_modes_come_back_even_after_an_error():
    model = small().train()
    model.trunk.eval()
    model.head.weight.requires_grad_(False)
    before = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]

    def fail_inside():
        with evaluation(model), frozen(model):
            assert not any(m.training for m in model.modules())
            assert not any(p.requires_grad for p in model.parameters())
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert ([m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]) == before


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_local_average_is_fp32_under_autocast_also_when_traced(layout):
    average = LocalAverage(4.0)  # its row of 21 is what a bf16 depthwise convolution, channels last, never returns from
    x = exams()[0].to(memory_format=layout)
    once = average(x)
    pad = torch.nn.functional.pad(x, (average.reach,) * 4, mode="replicate")
    kernel = average.kernel[0, 0, 0]
    slow = torch.nn.functional.conv2d(pad, torch.outer(kernel, kernel).expand(6, 1, -1, -1), groups=6)
    torch.testing.assert_close(once, slow)
    for module in (average, torch.fx.symbolic_trace(average)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(module(x), once)
