"""The mildest severity that flips a call: where the model's own threshold lies is known here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from workbench.data.quality import ACCEPTED, rejection_score
from workbench.models import fast
from workbench.schema.errors import WorkbenchError
from workbench.stress import severity_search
from workbench.stress.corruptions.catalogue import CORRUPTIONS
from workbench.stress.severity_search import mildest

SIDE = 64


class DarkIsReferable(nn.Module):
    """Calls an exam referable when its darker eye's mean light falls below a bound (or lies between two)."""

    def __init__(self, below: float, above: float = 0.0) -> None:
        super().__init__()
        self.below, self.above = below, above

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        light = x.reshape(len(x), 2, -1).mean(dim=2)
        logits = torch.full((len(x), 2, 5), -20.0)
        logits[..., 0] = 0.0
        logits[..., 4] = torch.where((light < self.below) & (light > self.above), 10.0, -10.0)
        return logits


@pytest.fixture(scope="module")
def x() -> Tensor:
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    image = np.where((np.hypot(rows, columns) < 0.48 * SIDE)[..., None], np.array([150, 90, 60]) / 255, 0)
    planes = image.transpose(2, 0, 1).astype(np.float32)
    return torch.from_numpy(np.concatenate([planes, planes])[None].repeat(2, axis=0))


BOTH = torch.ones(2, 2, dtype=torch.bool)


def light_at(x: Tensor, severity: float) -> float:
    generator = [torch.Generator().manual_seed(0)]
    return float(
        CORRUPTIONS["underexposure"](
            nn.Identity(), x[:1], torch.zeros(1, 2, dtype=torch.int64), generator, severity=severity
        ).mean()
    )


@pytest.mark.parametrize("severity", [0.4, 2.0, 3.7])
def test_the_search_finds_where_the_call_flips(severity: float, x: Tensor) -> None:
    model = DarkIsReferable(below=light_at(x, severity) + 1e-6)
    found = mildest(model, x, BOTH, "underexposure", [1, 2], threshold=0.5)
    assert all(of.severity is not None and abs(of.severity - severity) <= 1 / 16 for of in found)
    assert all(of.steady for of in found)


class Slope(nn.Module):
    """Its log-odds of referable rise with the light that is missing; a copy of it errs by ``wrong``."""

    def __init__(self, boundary: float, wrong: float = 0.0) -> None:
        super().__init__()
        self.boundary, self.wrong = boundary, wrong

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        light = x.reshape(len(x), 2, -1).mean(dim=2)
        logits = torch.full((len(x), 2, 5), -30.0)
        logits[..., 0] = 0.0
        logits[..., 4] = 10 * (self.boundary - light) + self.wrong
        return logits


@pytest.mark.parametrize("wrong", [-0.09, 0.09])
def test_near_the_threshold_the_model_itself_is_asked(wrong: float, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    boundary = light_at(x, 2.5) + 1e-4
    expected = [of.severity for of in mildest(Slope(boundary), x, BOTH, "underexposure", [1, 2], threshold=0.5)]
    monkeypatch.setattr(severity_search, "fast_copy", lambda *_, **__: Slope(boundary, wrong))
    found = [of.severity for of in mildest(Slope(boundary), x, BOTH, "underexposure", [1, 2], threshold=0.5)]
    assert found == expected
    monkeypatch.setattr(fast, "DOUBT", 0.0)
    assert found != [of.severity for of in mildest(Slope(boundary), x, BOTH, "underexposure", [1, 2], threshold=0.5)]


def test_a_call_that_never_flips_and_one_that_flips_back(x: Tensor) -> None:
    never = mildest(DarkIsReferable(below=0.0), x, BOTH, "underexposure", [1, 2], threshold=0.5)
    assert [of.severity for of in never] == [None, None]
    assert never[0].steady is None
    back = mildest(DarkIsReferable(light_at(x, 1.5), light_at(x, 2.5)), x, BOTH, "underexposure", [1, 2], threshold=0.5)
    assert back[0].steady is False


def test_a_batch_equals_one_by_one_and_an_absent_eye_has_no_score(x: Tensor) -> None:
    model, present = DarkIsReferable(below=light_at(x, 2.2)), torch.tensor([[True, True], [True, False]])
    together = mildest(model, x, present, "haze", [1, 2], threshold=0.5)
    for exam in range(2):
        one = slice(exam, exam + 1)
        (alone,) = mildest(model, x[one], present[one], "haze", [exam + 1], threshold=0.5)
        assert alone.severity == together[exam].severity
        np.testing.assert_array_equal(alone.scores, together[exam].scores)
    assert np.isnan(together[1].scores[1])


def test_an_unknown_corruption_is_told(x: Tensor) -> None:
    with pytest.raises(WorkbenchError, match="unknown corruption 'fog'"):
        mildest(DarkIsReferable(0.1), x, BOTH, "fog", [1, 2], threshold=0.5)


@pytest.mark.parametrize("name", ["defocus", "haze", "underexposure", "small_pupil", "downscaling"])
def test_the_measure_of_quality_falls_with_severity(name: str) -> None:
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:128, :128] - 63.5
    inside = np.hypot(rows, columns) < 61
    image = np.where(inside[..., None], np.array([190, 140, 100]) / 255 + random.normal(0, 0.03, (128, 128, 1)), 0)
    planes = torch.from_numpy(image.clip(0, 1).astype(np.float32)).permute(2, 0, 1)
    exam = torch.cat([planes, planes])[None]
    scores = []
    for severity in range(6):
        out = CORRUPTIONS[name](
            nn.Identity(),
            exam,
            torch.zeros(1, 2, dtype=torch.int64),
            [torch.Generator().manual_seed(1)],
            severity=float(severity),
        )
        scores.append(rejection_score(np.ascontiguousarray(out[0, :3].permute(1, 2, 0).numpy())))
    assert scores[5] > scores[3] > scores[0]
    assert scores[5] > ACCEPTED


def test_nothing_to_see_is_rejected() -> None:
    assert rejection_score(np.zeros((64, 64, 3), np.float32)) == float("inf")
