"""Corruptions as a view of training exams."""

from __future__ import annotations

import pytest
import torch

from workbench.schema.errors import WorkbenchError
from workbench.stress.corruptions.augmentation import random_corruption
from workbench.stress.corruptions.catalogue import TABLE


def exams() -> torch.Tensor:
    x = torch.zeros(40, 6, 32, 32)
    x[:, :, 4:28, 4:28] = (
        torch.rand(40, 6, 24, 24, generator=torch.Generator().manual_seed(0)) * 200 + 40
    ).round() / 255
    x[0, 3:] = 0
    return x


def test_about_the_asked_share_is_spoiled_and_the_seed_decides() -> None:
    view, x = random_corruption(list(TABLE), severest=5.0, share=0.5), exams()
    out = view(x, torch.Generator().manual_seed(1))
    assert torch.equal(out, view(x, torch.Generator().manual_seed(1)))
    changed = (out != x).flatten(1).any(dim=1).sum()
    assert 10 <= changed <= 30
    assert not out[0, 3:].any(), "an absent eye stays absent"
    assert out.min() >= 0
    assert out.max() <= 1


@pytest.mark.parametrize(("share", "severest"), [(0.0, 5.0), (1.0, 0.0)])
def test_nothing_asked_is_nothing_done(share: float, severest: float) -> None:
    view, x = random_corruption(["haze", "defocus"], severest=severest, share=share), exams()
    assert torch.allclose(view(x, torch.Generator().manual_seed(1)), x, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize(
    ("names", "severest", "share", "says"),
    [(["fog"], 3, 0.5, "'fog'"), ([], 3, 0.5, "none"), (["haze"], 6, 0.5, "severity is 6"), (["haze"], 3, 2, "share")],
)
def test_a_mistake_is_told(names: list[str], severest: float, share: float, says: str) -> None:
    with pytest.raises(WorkbenchError, match=says):
        random_corruption(names, severest=float(severest), share=float(share))
