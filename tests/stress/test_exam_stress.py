"""Mix-ups of an exam: whose eyes they are, and which there are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from workbench.schema.errors import WorkbenchError
from workbench.schema.specs import StressSpec
from workbench.stress.apply_exam import apply_exam_stress
from workbench.stress.exam import EXAM_STRESSES

SEEDS = [1, 2, 3, 4]


class Brightness(nn.Module):
    """Calls an eye referable when it is bright; only eyes that are present are looked at."""

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        light = x.reshape(len(x), 2, -1).mean(dim=2)
        nothing = torch.zeros_like(light)
        return torch.stack([nothing, *[nothing - 9] * 3, 20 * (light - 0.5)], dim=2)


@pytest.fixture
def exams() -> tuple[Tensor, Tensor, Tensor]:
    """Four exams, the third without a left eye; and another patient's bright eyes for each."""
    x = torch.rand(4, 6, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.5
    present = torch.tensor([[True, True], [True, True], [True, False], [True, True]])
    x[2, 3:] = 0
    return x, present, torch.full_like(x, 0.9)


def stressed(
    name: str, exams: tuple[Tensor, Tensor, Tensor], eyes: str = "both", strength: float = 1, rows: slice = slice(None)
):  # type: ignore[no-untyped-def]
    x, present, others = (part[rows] for part in exams)
    spec = StressSpec(name=name, strength=strength, eyes=eyes)  # type: ignore[arg-type]
    return apply_exam_stress(Brightness(), x, present, spec, SEEDS[rows], threshold=0.5, others=others)


@pytest.mark.parametrize("name", list(EXAM_STRESSES))
def test_zero_strength_changes_nothing(name: str, exams: tuple[Tensor, Tensor, Tensor]) -> None:
    result, mixed = stressed(name, exams, strength=0)
    assert torch.equal(mixed.x, exams[0])
    assert torch.equal(mixed.present, exams[1])
    assert not result.flipped.any()


@pytest.mark.parametrize("eyes", ["both", "OD", "OS"])
@pytest.mark.parametrize("name", list(EXAM_STRESSES))
def test_a_batch_equals_one_by_one(name: str, eyes: str, exams: tuple[Tensor, Tensor, Tensor]) -> None:
    _, together = stressed(name, exams, eyes)
    for index in range(4):
        _, alone = stressed(name, exams, eyes, rows=slice(index, index + 1))
        assert torch.equal(alone.x[0], together.x[index])
        assert torch.equal(alone.present[0], together.present[index])
        assert alone.not_applicable[0] == together.not_applicable[index]


@pytest.mark.parametrize("name", list(EXAM_STRESSES))
def test_an_absent_eye_stays_absent(name: str, exams: tuple[Tensor, Tensor, Tensor]) -> None:
    for eyes in ("both", "OD", "OS"):
        _, mixed = stressed(name, exams, eyes)
        assert mixed.present[2].tolist() == [True, False]
        assert not mixed.x[2, 3:].any()


def test_swapped_eyes_change_places(exams: tuple[Tensor, Tensor, Tensor]) -> None:
    result, mixed = stressed("swapped_eyes", exams)
    assert torch.equal(mixed.x[0, :3], exams[0][0, 3:])
    assert torch.equal(mixed.x[0, 3:], exams[0][0, :3])
    assert torch.equal(stressed("swapped_eyes", (mixed.x, exams[1], exams[2]))[1].x, exams[0]), "twice is not at all"
    assert mixed.not_applicable[2].startswith("not applicable")
    assert not result.flipped.any(), "the worse eye is as bad on the other side"


def test_a_missing_eye_is_the_named_one_or_one_by_lot(exams: tuple[Tensor, Tensor, Tensor]) -> None:
    _, mixed = stressed("missing_eye", exams, "OS")
    assert mixed.present.tolist() == [[True, False]] * 4
    assert not mixed.x[0, 3:].any()
    _, by_lot = stressed("missing_eye", exams)
    assert (by_lot.present.sum(dim=1) == 1).all()


def test_a_wrong_eye_is_the_other_patients_and_can_flip_the_call(exams: tuple[Tensor, Tensor, Tensor]) -> None:
    result, mixed = stressed("wrong_eye", exams, "OD")
    assert torch.equal(mixed.x[:, :3], exams[2][:, :3])
    assert torch.equal(mixed.x[:, 3:], exams[0][:, 3:])
    assert result.flipped.all()
    x, present, _ = exams
    spec = StressSpec(name="wrong_eye", strength=1)
    nobody = apply_exam_stress(Brightness(), x, present, spec, SEEDS, threshold=0.5, others=torch.zeros_like(x))[1]
    assert torch.equal(nobody.x, x)
    assert all("no other patient" in why for why in nobody.not_applicable)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (StressSpec(name="swapped_eyes", strength=3), "strength is 3"),
        (StressSpec(name="missing_eye", strength=1, options={"eye": 1}), "no option 'eye'"),
    ],
)
def test_a_mistake_is_told_in_one_line(spec: StressSpec, says: str, exams: tuple[Tensor, Tensor, Tensor]) -> None:
    with pytest.raises(WorkbenchError, match=says):
        apply_exam_stress(Brightness(), exams[0], exams[1], spec, SEEDS, threshold=0.5)
