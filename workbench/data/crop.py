"""From the photograph's pixels to the model's and back."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class CropGeometry:
    """A square window of the photograph, scaled to ``size`` × ``size`` model pixels.

    Positions are continuous: the photograph's first pixel covers [0, 1), its centre is 0.5. ``x`` and ``y`` (the
    window's corner) may be negative and the window may pass the other edges: what lies outside is black padding.
    All are in pixels of the photograph as it is shown, that is, after its EXIF orientation.
    """

    x: float
    y: float
    side: float
    photo_width: int
    photo_height: int
    size: int

    @property
    def scale(self) -> float:
        """Photograph pixels per model pixel."""
        return self.side / self.size

    def to_photo(self, points: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 2"]:
        """Return where model positions (x, y) lie in the photograph."""
        return points * self.scale + np.array([self.x, self.y])

    def to_model(self, points: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 2"]:
        """Return where positions (x, y) of the photograph lie in the model's input."""
        return (points - np.array([self.x, self.y])) / self.scale

    def lay_map_on_photo(
        self, heat: Float[np.ndarray, "height width"]
    ) -> Float[np.ndarray, "photo_height photo_width"]:
        """Return a map over the window, of any resolution, laid on the photograph; zero outside the window.

        Between the map's pixels it is interpolated linearly.
        """
        across = self.side / heat.shape[1]
        down = self.side / heat.shape[0]
        # cv2 counts from pixel centres, hence the halves.
        back = np.array([[1 / across, 0, (0.5 - self.x) / across - 0.5], [0, 1 / down, (0.5 - self.y) / down - 0.5]])
        laid = cv2.warpAffine(
            heat.astype(np.float32),
            back,
            (self.photo_width, self.photo_height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        columns = np.arange(self.photo_width) + 0.5 - self.x
        rows = np.arange(self.photo_height) + 0.5 - self.y
        laid[:, (columns < 0) | (columns >= self.side)] = 0
        laid[(rows < 0) | (rows >= self.side)] = 0
        return laid
