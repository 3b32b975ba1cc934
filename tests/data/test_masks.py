import numpy as np
import pytest

from workbench.data.crop import CropGeometry
from workbench.data.masks import crop_labels, labels_of, read_labels
from workbench.schema.errors import WorkbenchError
from workbench.schema.lesions import LABELS, MASK_COLOURS


def test_every_colour_is_its_kind_and_any_other_is_nothing() -> None:
    mask = np.array([[*MASK_COLOURS.values(), (1, 2, 3), (0, 0, 0)]], np.uint8)
    assert [LABELS[label] for label in labels_of(mask)[0]] == [*MASK_COLOURS, "", ""]


def test_the_whole_photograph_at_its_own_size_is_unchanged() -> None:
    labels = np.random.default_rng(0).choice(len(LABELS), (32, 32)).astype(np.uint8)
    np.testing.assert_array_equal(crop_labels(labels, CropGeometry(0.0, 0.0, 32.0, 32, 32, 32), 32), labels)


def test_a_small_lesion_outlives_the_scaling_and_lies_where_the_geometry_says() -> None:
    labels = np.zeros((400, 500), np.uint8)
    labels[200:212, 300:312] = 1
    geometry = CropGeometry(50.0, 0.0, 400.0, 500, 400, 64)
    cropped = crop_labels(labels, geometry, 64)
    y, x = np.argwhere(cropped == 1).mean(axis=0) + 0.5
    np.testing.assert_allclose([x, y], geometry.to_model(np.array([[306.0, 206.0]]))[0], atol=0.6)


def test_a_mask_that_is_gone_is_told(tmp_path) -> None:
    with pytest.raises(WorkbenchError, match="cannot be read"):
        read_labels(tmp_path / "none.png")
