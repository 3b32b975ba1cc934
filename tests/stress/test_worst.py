"""The worst case of what chance decides: never milder than chance, and truly near the worst."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from workbench.schema.threat import ThreatModel
from workbench.stress.corruptions import worst
from workbench.stress.corruptions.catalogue import CORRUPTIONS, TABLE, Chance, eight_bit, spoil
from workbench.stress.corruptions.worst import WORST
from workbench.stress.target import Target, aim_at

SIDE = 48


def spot_seeker(x: Tensor) -> Tensor:
    """Answer 'referable' the more surely, the darker one place of the right eye is."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    weights = torch.exp(-((rows - 30) ** 2 + (columns - 16) ** 2) / 60)
    darkness = -(x[:, :3] * weights).sum(dim=(1, 2, 3)) / weights.sum()
    logits = torch.zeros(len(x), 2, 5)
    logits[:, :, 2:] = -60.0
    logits[:, 0, 4] = darkness * 20
    logits[:, 1, 0] = 50.0
    return logits


@pytest.fixture(scope="module")
def discs() -> Tensor:
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    image = np.where((np.hypot(rows, columns) < 0.48 * SIDE)[..., None], np.array([150, 90, 60]) / 255, 0)
    planes = image.transpose(2, 0, 1).astype(np.float32)
    return torch.from_numpy(np.concatenate([planes, planes])[None].repeat(3, axis=0))


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(3)]


HEALTHY = torch.zeros(3, 2, dtype=torch.int64)


def answer(x: Tensor) -> Tensor:
    return spot_seeker(x)[:, 0, 4]


@pytest.mark.parametrize("name", list(WORST))
def test_the_worst_is_never_milder_than_chance(name: str, discs: Tensor) -> None:
    corruption = name.removeprefix("worst_")
    plain = CORRUPTIONS[corruption](spot_seeker, discs, HEALTHY, generators(), severity=3.0)
    first = WORST[name](spot_seeker, discs, HEALTHY, generators(), severity=3.0, tries=1, steps=0)
    assert torch.equal(first, plain), "the first try is what chance would have drawn"
    found = WORST[name](spot_seeker, discs, HEALTHY, generators(), severity=3.0, tries=3, steps=2)
    assert (answer(found) >= answer(plain)).all()


def test_the_dark_side_is_turned_where_it_hurts(discs: Tensor) -> None:
    """One number decides, so every tenth of a turn can be looked at."""
    found = WORST["worst_illumination"](spot_seeker, discs, HEALTHY, generators(), severity=3.0, tries=4, steps=6)
    turns = [torch.full((2, 1), turn / 40) for turn in range(40)]
    every = [spoil(TABLE["illumination"], discs[0], Chance((0, 0), turn), 3.0) for turn in turns]
    best = max(float(answer(eight_bit(each[None], discs[:1]))) for each in every)
    chance = [float(answer(eight_bit(each[None], discs[:1]))) for each in every]
    assert (answer(found) > best - 0.05 * (best - min(chance))).all()


def test_a_referable_exam_is_pushed_the_other_way(discs: Tensor) -> None:
    ill = torch.full((3, 2), 3)
    away = WORST["worst_dust"](spot_seeker, discs, HEALTHY, generators(), severity=4.0)
    back = WORST["worst_dust"](spot_seeker, discs, ill, generators(), severity=4.0)
    assert (answer(away) > answer(back)).all()


def test_the_worst_dust_lies_at_the_same_place_in_both_eyes(discs: Tensor) -> None:
    found = WORST["worst_dust"](spot_seeker, discs, HEALTHY, generators(), severity=4.0)
    assert torch.equal(found[:, :3], found[:, 3:])


class Seeker(nn.Module):
    """`spot_seeker` as a model; ``sign`` -1: it takes light for what is dark."""

    def __init__(self, sign: float = 1.0) -> None:
        super().__init__()
        self.sign = sign

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        logits = spot_seeker(x)
        logits[:, 0, 4] = logits[:, 0, 4] * self.sign
        return logits


def target_of(model: nn.Module, discs: Tensor) -> Target:
    return aim_at(
        model, discs, torch.ones(3, 2, dtype=torch.bool), HEALTHY, ThreatModel(epsilon=1.0), [0, 1, 2], threshold=0.5
    )


def test_a_faster_copy_finds_the_worst_and_the_model_has_the_last_word(
    discs: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = CORRUPTIONS["dust"](spot_seeker, discs, HEALTHY, generators(), severity=3.0)
    slow = WORST["worst_dust"](spot_seeker, discs, HEALTHY, generators(), severity=3.0)
    asked: list[int] = []
    model = Seeker()
    model.register_forward_hook(lambda *_: asked.append(1))
    target = target_of(model, discs)
    faithful = WORST["worst_dust"](target, discs, HEALTHY, generators(), severity=3.0)
    torch.testing.assert_close(faithful, slow)
    monkeypatch.setattr(worst, "fast_copy", lambda *_: Seeker(-1.0))
    asked.clear()
    misled = WORST["worst_dust"](target, discs, HEALTHY, generators(), severity=3.0)
    assert len(asked) == 2, "the first try and what was found, once each"
    torch.testing.assert_close(misled, plain)
    assert (answer(slow) > answer(plain)).any()
