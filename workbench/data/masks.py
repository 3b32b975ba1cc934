"""Lesion masks: from colours to labels, at the photograph's own pixels or through its crop."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np
from jaxtyping import UInt8

from workbench.data.crop import CropGeometry
from workbench.schema.errors import WorkbenchError
from workbench.schema.lesions import LABELS, MASK_COLOURS

_CODES: Final = {kind: colour[0] << 16 | colour[1] << 8 | colour[2] for kind, colour in MASK_COLOURS.items()}


def labels_of(mask: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width"]:
    """Return which kind each pixel of a colour-coded mask marks (place in `LABELS`); other colours mark nothing."""
    red, green, blue = (mask[..., channel].astype(np.uint32) for channel in range(3))
    code = red << 16 | green << 8 | blue
    labels = np.zeros(code.shape, np.uint8)
    for kind, colour in _CODES.items():
        labels[code == colour] = LABELS.index(kind)
    return labels


def read_labels(path: Path) -> UInt8[np.ndarray, "height width"]:
    """Return the labels of a mask file.

    Raises:
        WorkbenchError: the file cannot be read as an image.
    """
    content = np.frombuffer(path.read_bytes(), np.uint8) if path.is_file() else np.empty(0, np.uint8)
    decoded = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if decoded is None:
        raise WorkbenchError(f"the lesion mask cannot be read: {path.name}", "restore it, or import the set again")
    return labels_of(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def crop_labels(
    labels: UInt8[np.ndarray, "photo_height photo_width"], geometry: CropGeometry, size: int
) -> UInt8[np.ndarray, "size size"]:
    """Return the labels over the model's square at ``size`` pixels.

    A lesion smaller than a pixel of the square must not vanish: each kind is averaged over the pixel and shows where it
    covers a fifth of it; where two kinds do, the later of `MASK_COLOURS` does, as in the mask.
    """
    scale = geometry.side / size
    times = max(0, int(np.ceil(np.log2(max(scale, 1.0)))))
    cropped = np.zeros((size, size), np.uint8)
    shown = set(np.unique(labels).tolist())
    for kind in MASK_COLOURS:
        label = LABELS.index(kind)
        if label in shown:
            fine = cv2.warpAffine(
                (labels == label).astype(np.float32),
                _to_square(geometry, size << times),
                (size << times, size << times),
                flags=cv2.INTER_LINEAR,
                borderValue=0,
            )
            cropped[cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA) >= 0.2] = label
    return cropped


def _to_square(geometry: CropGeometry, size: int) -> np.ndarray:
    share = size / geometry.side
    # cv2 counts from pixel centres, hence the halves.
    across, down = (0.5 - geometry.x) * share - 0.5, (0.5 - geometry.y) * share - 0.5
    return np.array([[share, 0, across], [0, share, down]])
