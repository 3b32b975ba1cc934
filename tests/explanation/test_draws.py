"""Maps of draws: agreement and flicker where they are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from workbench.explanation.draws import TOP, important, maps_of_draws
from workbench.explanation.registry import EXPLANATIONS
from workbench.schema.errors import WorkbenchError

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
