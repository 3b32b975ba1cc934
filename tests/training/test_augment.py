import itertools

import numpy as np
import pytest
import torch

from workbench.data.exams import ExamBatch
from workbench.training.augment import augment, drop_eyes, exchange_eyes
from workbench.training.config import AugmentSection

STILL = {
    "rotation_degrees": 0,
    "scale": 0,
    "shift": 0,
    "vertical_flip": False,
    "exchange_eyes": False,
    "brightness": 0,
    "contrast": 0,
    "colour": 0,
}


def exams(n: int = 6, size: int = 32) -> ExamBatch:
    x = torch.rand(n, 6, size, size, generator=torch.Generator().manual_seed(3))
    grade = torch.arange(2 * n).reshape(n, 2) % 5
    names = tuple(map(str, range(n)))
    return ExamBatch(x, torch.ones(n, 2, dtype=torch.bool), grade, names, names)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_zero_strength_changes_nothing():
    batch = exams()
    seen = augment(batch, AugmentSection(**STILL), generator())
    torch.testing.assert_close(seen.x, batch.x, atol=1e-5, rtol=0)
    assert torch.equal(seen.grade, batch.grade)


def test_the_same_generator_gives_the_same_view_and_another_one_another():
    one, same, other = (augment(exams(), AugmentSection(), generator(seed)).x for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", [name for name in STILL if name != "exchange_eyes"])
def test_each_field_changes_pixels_and_keeps_them_in_range_and_shape(name):
    strength = {"vertical_flip": True, "rotation_degrees": 20}.get(name, 0.2)
    batch = exams()
    seen = augment(batch, AugmentSection(**{**STILL, name: strength}), generator())
    assert seen.x.shape == batch.x.shape
    assert not torch.allclose(seen.x, batch.x, atol=1e-3)
    assert seen.x.min() >= 0
    assert seen.x.max() <= 1
    assert torch.equal(seen.present, batch.present)


def test_exchanged_eyes_are_mirrored_and_take_grade_and_presence_with_them():
    batch = exams(2)
    batch.present[0, 1] = False
    seen = exchange_eyes(batch, torch.tensor([True, False]))
    assert torch.equal(seen.x[0, :3], batch.x[0, 3:].flip(-1))
    assert torch.equal(seen.x[0, 3:], batch.x[0, :3].flip(-1))
    assert seen.grade[0].tolist() == batch.grade[0].tolist()[::-1]
    assert seen.present[0].tolist() == [False, True]
    assert torch.equal(seen.x[1], batch.x[1])


def side_of_the_disc(eye: torch.Tensor) -> int:
    """Return 1 if the bright spot is on the right half, else -1."""
    half = eye.shape[-1] // 2
    return 1 if eye[..., half:].mean() > eye[..., :half].mean() else -1


def test_no_view_puts_the_optic_disc_on_the_other_side_without_renaming_the_eye():
    batch = exams(40)
    batch.x.fill_(0.2)
    batch.x[:, :3, 14:18, 24:28] = 0.9  # OD: to the right of the picture
    batch.x[:, 3:, 14:18, 4:8] = 0.9
    strongest = AugmentSection(rotation_degrees=60, scale=0.2, shift=0.05)
    for seed in range(3):
        seen = augment(batch, strongest, generator(seed))
        assert {side_of_the_disc(x[:3]) for x in seen.x} == {1}
        assert {side_of_the_disc(x[3:]) for x in seen.x} == {-1}


@pytest.mark.parametrize(("geometry", "aligned"), [("per_exam", True), ("per_eye", False)])
def test_what_is_locked_to_the_sensor_stays_aligned_where_asked(geometry, aligned):
    batch = exams()
    batch.x[:, 3:] = batch.x[:, :3]
    moving = {**STILL, "rotation_degrees": 20, "shift": 0.1, "vertical_flip": True, "geometry": geometry}
    seen = augment(batch, AugmentSection(**moving), generator())
    assert torch.equal(seen.x[:, :3], seen.x[:, 3:]) is aligned


def test_dropped_eyes_leave_one_eye_and_only_complete_exams_lose_one():
    batch = exams(400, size=2)
    batch.present[:100, 0] = False
    seen = drop_eyes(batch, 0.5, generator())
    assert seen.present.any(dim=1).all()
    assert torch.equal(seen.present[:100], batch.present[:100])
    lost = ~seen.present[100:].all(dim=1)
    assert 0.4 < lost.float().mean() < 0.6
    assert 0.3 < seen.present[100:][lost][:, 0].float().mean() < 0.7
    assert torch.equal(drop_eyes(batch, 0.0, generator()).present, batch.present)


def test_the_sampling_grid_is_the_plain_rotation():
    batch = exams(1)
    batch.x[:] = torch.linspace(0, 1, 32)
    seen = augment(batch, AugmentSection(**{**STILL, "rotation_degrees": 30}), generator(4))
    centre = seen.x[0, 0, 12:20, 12:20]
    along, down = np.gradient(centre.numpy(), axis=1).mean(), np.gradient(centre.numpy(), axis=0).mean()
    assert np.hypot(along, down) == pytest.approx(1 / 31, rel=0.02)
    assert abs(down) > 1e-3


def test_every_geometry_keeps_exams_apart():
    for geometry, n in itertools.product(("per_eye", "per_exam"), (1, 3)):
        assert augment(exams(n), AugmentSection(geometry=geometry), generator()).x.shape[0] == n
