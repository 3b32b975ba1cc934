"""Many photographs at a glance."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from workbench.schema.errors import WorkbenchError


def contact_sheet(
    photographs: Sequence[UInt8[np.ndarray, "_ _ 3"]], columns: int, side: int = 256
) -> UInt8[np.ndarray, "height width 3"]:
    """Lay photographs side by side, each scaled whole into a black square.

    Args:
        photographs: RGB, of any size and shape.
        columns: photographs per row; the last row is filled up with black.
        side: of each square, pixels.

    Raises:
        WorkbenchError: no photograph, or no column.
    """
    if not photographs or columns < 1:
        raise WorkbenchError(
            f"a contact sheet of {len(photographs)} photographs in {columns} columns", "give at least one of each"
        )
    rows = -(-len(photographs) // columns)
    sheet = np.zeros((rows * side, columns * side, 3), np.uint8)
    for place, photograph in enumerate(photographs):
        height, width = photograph.shape[:2]
        scale = side / max(height, width)
        fitted = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(photograph, fitted, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        top = place // columns * side + (side - fitted[1]) // 2
        left = place % columns * side + (side - fitted[0]) // 2
        sheet[top : top + fitted[1], left : left + fitted[0]] = small
    return sheet
