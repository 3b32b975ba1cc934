"""Find the bright disc of a fundus photograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from workbench.data.decode import halve

LOOK_SIDE: Final = 256
"""The longer side at which the disc is looked for, at most; its rim is found to about a quarter of a pixel."""

MIN_SIDE: Final = 32
MAX_ASPECT: Final = 4
MIN_CONTRAST: Final = 12
"""Of 255: between the picture's 99th percentile and the darkest corner."""

MOUNT: Final = 250
"""Of 255: a corner at least this bright in all colours is no part of a photograph."""

ROWS: Final = 96
"""About as many rows, and columns, give rim points."""

MIN_POINTS: Final = 16
TRIALS: Final = 128
VOTERS: Final = 128
"""Random circles tried, and rim points that vote on each."""

TOLERANCE: Final = 0.015
"""Share of the radius within which a rim point supports a circle."""

PLAIN_AGREEMENT: Final = 0.94
MIN_AGREEMENT: Final = 0.87
"""Intersection over union of the bright region and the round shape laid on it: plainly, and just enough."""

MIN_SOLID: Final = 0.7
"""Share of its convex hull that the bright region fills."""

ELLIPSE_WORTH: Final = 0.6
ELLIPSE_SLACK: Final = 0.01
"""An ellipse fits more than a circle does, so it must fit better to go before one."""

MIN_SUPPORT: Final = 0.7
"""Share of the rim points of the rows, or of the columns, that must lie on the circle."""

MUCH_RIM: Final = 0.33
MIN_SUPPORT_OF_MUCH_RIM: Final = 0.48
"""Where a third of a turn is seen, shadows and slight stretching may take more of the points away."""

MIN_RIM: Final = 0.12
"""Share of a turn on which a rim must be seen: four small dark corners suffice, none does not."""


@dataclass(frozen=True)
class Disc:
    """A circle: centre and radius in pixels, positions as in `CropGeometry`."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class _Judged:
    """A candidate and the three shares that speak for it."""

    disc: Disc
    agreement: float
    support: float
    seen: float

    @property
    def score(self) -> float:
        return self.agreement * self.support * self.seen

    def is_plain(self) -> bool:
        return self.support >= MIN_SUPPORT and self.seen >= MIN_RIM and self.agreement >= PLAIN_AGREEMENT

    def is_passable(self) -> bool:
        enough = MIN_SUPPORT if self.seen < MUCH_RIM else MIN_SUPPORT_OF_MUCH_RIM
        return self.support >= enough and self.seen >= MIN_RIM and self.agreement >= MIN_AGREEMENT


def find_disc(photo: UInt8[np.ndarray, "height width 3"], min_share: float = 0.15) -> Disc | None:
    """Return the circle of the illuminated retina, or None where there is none.

    The disc may be cut by the frame on any side, or by straight black bars, as long as part of its rim shows against
    something darker. A picture that is uniform, tiny, black, or that fills its frame without any rim has no disc:
    whether it shows a retina at all cannot then be told. Where the rim is an ellipse (a photograph that was
    stretched), the circle is the one about its visible extent.

    Args:
        photo: RGB.
        min_share: a disc with a diameter below this share of the shorter side counts as not found.
    """
    height, width = photo.shape[:2]
    if min(height, width) < MIN_SIDE or max(height, width) > MAX_ASPECT * min(height, width):
        return None
    times = max(0, int(np.ceil(np.log2(max(height, width) / LOOK_SIDE))))
    factor = 2**times
    small = halve(photo, times)
    red, green, blue = cv2.split(_without_white_mount(small))
    brightness = cv2.medianBlur(cv2.max(cv2.max(red, green), blue), 5)
    found = _best_disc(brightness)
    if found is None:
        return None
    disc = Disc(found.x * factor, found.y * factor, found.radius * factor)
    return disc if 2 * disc.radius >= min_share * min(height, width) else None


def _without_white_mount(small: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
    """Return the picture with white corners, the paper or the page that it was copied from, painted black."""
    height, width = small.shape[:2]
    painted = small.copy()
    for corner in ((0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)):
        if painted[corner[1], corner[0]].min() >= MOUNT:
            cv2.floodFill(painted, None, corner, (0, 0, 0), (5, 5, 5), (5, 5, 5), cv2.FLOODFILL_FIXED_RANGE)
    return painted


def _best_disc(brightness: UInt8[np.ndarray, "height width"]) -> Disc | None:
    """Try each threshold until two in a row agree; return the disc that the region and its rim support best."""
    judged: list[tuple[float, Disc]] = []
    before: Disc | None = None
    for threshold in _thresholds(brightness):
        region = _bright_region(brightness, threshold)
        if before is not None and _explains(before, region):
            break
        found = _judge(region)
        if found is not None and _stands_out(brightness, found[1]):
            judged.append(found)
            if before is not None and _close(before, found[1]):
                break
        before = found[1] if found is not None else None
    return max(judged, key=lambda pair: pair[0])[1] if judged else None


def _explains(disc: Disc, region: Bool[np.ndarray, "height width"]) -> bool:
    """Tell whether the disc of one threshold fits the region of the next as it is, which spares a search."""
    if not region.any():
        return False
    rim = np.concatenate([_extremes(region), _extremes(region.T)[:, ::-1]])
    return _support(disc, rim) > 0.9 and _agreement(region, _circle_mask(disc, region.shape)) > 0.97


def _stands_out(brightness: UInt8[np.ndarray, "height width"], disc: Disc) -> bool:
    inside = _circle_mask(disc, brightness.shape)
    return bool(not inside.all() and brightness[inside].mean() - brightness[~inside].mean() > MIN_CONTRAST / 2)


def _close(one: Disc, other: Disc) -> bool:
    return max(abs(one.x - other.x), abs(one.y - other.y), abs(one.radius - other.radius)) < 0.02 * one.radius


def _thresholds(brightness: UInt8[np.ndarray, "height width"]) -> list[float]:
    """Return what may part disc and background, the most sensitive first; none where nothing stands out."""
    reach = max(3, min(brightness.shape) // 32)
    corners = [brightness[rows, columns] for rows in _ends(reach) for columns in _ends(reach)]
    darkest = min(corners, key=lambda patch: float(np.median(patch)))
    background, noise = float(np.median(darkest)), float(darkest.std())
    counts = np.bincount(brightness.ravel(), minlength=256)
    bright = float(np.searchsorted(counts.cumsum(), 0.99 * brightness.size))
    if bright - background < MIN_CONTRAST:
        return []
    otsu, _ = cv2.threshold(brightness, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    lowest = background + max(4.0, 3 * noise)
    levels = [lowest, background + 0.12 * (bright - background), (lowest + otsu) / 2, otsu, (otsu + bright) / 2]
    return sorted(level for level in levels if level < bright)


def _ends(reach: int) -> tuple[slice, slice]:
    return slice(0, reach), slice(-reach, None)


def _bright_region(brightness: UInt8[np.ndarray, "height width"], threshold: float) -> Bool[np.ndarray, "height width"]:
    """Return the largest connected bright region, its holes and bays filled; nothing where it is mostly bay."""
    bright = (brightness > threshold).astype(np.uint8)
    bright = cv2.morphologyEx(bright, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(bright, connectivity=4)
    filled = np.zeros_like(bright)
    if count > 1:
        largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        contours, _ = cv2.findContours((labels == largest).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        hull = cv2.convexHull(contours[0])
        if cv2.contourArea(contours[0]) >= MIN_SOLID * cv2.contourArea(hull):
            cv2.fillConvexPoly(filled, hull, 1)
    return filled.astype(bool)


def _judge(region: Bool[np.ndarray, "height width"]) -> tuple[float, Disc] | None:
    """Return how well a round shape explains the region, and that shape's circle; None where it does not."""
    if not region.any() or region.all():
        return None
    rows, columns = (_extremes(region), _extremes(region.T)[:, ::-1])
    rim = np.concatenate([rows, columns])
    if len(rim) < MIN_POINTS:
        return None
    disc = _fit_circle(rim)
    circle = (
        None
        if disc is None
        else _Judged(
            disc,
            agreement=_agreement(region, _circle_mask(disc, region.shape)),
            support=max(_support(disc, rows), _support(disc, columns)),
            seen=_rim_share(disc, rim),
        )
    )
    if circle is not None and not (0 <= circle.disc.x <= region.shape[1] and 0 <= circle.disc.y <= region.shape[0]):
        circle = None
    if circle is not None and circle.is_plain():
        return circle.score, circle.disc
    ellipse = _judge_ellipse(region, rows, columns)
    if ellipse is not None:
        return ELLIPSE_WORTH * ellipse.score, ellipse.disc
    return (circle.score, circle.disc) if circle is not None and circle.is_passable() else None


def _extremes(region: Bool[np.ndarray, "height width"]) -> Float[np.ndarray, "point 2"]:
    """Return the first and last bright position (x, y) of each row, but those at the frame, where it cuts the disc."""
    rows = np.flatnonzero(region.any(axis=1))
    rows = rows[:: max(1, len(rows) // ROWS)]
    first = region[rows].argmax(axis=1)
    last = region.shape[1] - region[rows][:, ::-1].argmax(axis=1)
    keep_first, keep_last = first > 1, last < region.shape[1] - 1
    x = np.concatenate([first[keep_first], last[keep_last]])
    y = np.concatenate([rows[keep_first], rows[keep_last]]) + 0.5
    return np.stack([x.astype(float), y], axis=1)


def _fit_circle(rim: Float[np.ndarray, "point 2"]) -> Disc | None:
    """Return the circle that most rim points support (random triples, then least squares on the supporters)."""
    generator = np.random.default_rng(0)
    voters = rim[:: max(1, len(rim) // VOTERS)]
    triples = rim[generator.integers(0, len(rim), (TRIALS, 3))]
    a, b, c = triples[:, 0], triples[:, 1], triples[:, 2]
    # The centre solves |p-a|² = |p-b|² = |p-c|², here seen from a.
    (bx, by), (cx, cy) = (b - a).T, (c - a).T
    area = 2 * (bx * cy - by * cx)
    area[np.abs(area) < 1.0] = np.nan  # three points on one line make no circle
    b_square, c_square = bx**2 + by**2, cx**2 + cy**2
    offset = np.stack([cy * b_square - by * c_square, bx * c_square - cx * b_square], axis=1) / area[:, None]
    radii = np.hypot(*offset.T)
    sane = (radii > MIN_SIDE / 4) & (radii < LOOK_SIDE)
    if not sane.any():
        return None
    centres, radii = (a + offset)[sane], radii[sane]
    across, down = (voters.T[:, None] - centres.T[:, :, None]).astype(np.float32)
    # |d² - r²| < 2tr² is |d - r| < tr for small t, and needs no root.
    squares = (radii**2).astype(np.float32)[:, None]
    near = np.abs(across * across + down * down - squares) < 2 * TOLERANCE * squares
    best = int(np.count_nonzero(near, axis=1).argmax())
    disc = Disc(float(centres[best, 0]), float(centres[best, 1]), float(radii[best]))
    for _ in range(2):
        disc = _least_squares(rim[_supporters(disc, rim)]) or disc
    return disc


def _least_squares(points: Float[np.ndarray, "point 2"]) -> Disc | None:
    """Fit a circle to points (Kåsa 1976)."""
    if len(points) < 8:
        return None
    middle = points.mean(axis=0)
    design = np.column_stack([points - middle, np.ones(len(points))])
    squares = np.einsum("pc,pc->p", points - middle, points - middle)
    try:
        x, y, rest = np.linalg.solve(design.T @ design, design.T @ squares)
    except np.linalg.LinAlgError:  # all points on one line
        return None
    radius = np.sqrt(max(rest + (x / 2) ** 2 + (y / 2) ** 2, 0.0))
    return Disc(float(middle[0] + x / 2), float(middle[1] + y / 2), float(radius))


def _supporters(disc: Disc, points: Float[np.ndarray, "point 2"], slack: float = 0.5) -> Bool[np.ndarray, " point"]:
    distance = np.hypot(points[:, 0] - disc.x, points[:, 1] - disc.y)
    return np.abs(distance - disc.radius) < TOLERANCE * disc.radius + slack


def _support(disc: Disc, points: Float[np.ndarray, "point 2"], slack: float = 0.5) -> float:
    return float(_supporters(disc, points, slack).mean()) if len(points) >= MIN_POINTS else 0.0


def _rim_share(disc: Disc, rim: Float[np.ndarray, "point 2"], slack: float = 0.5) -> float:
    """Return on what share of a turn (in steps of 3°) the rim is seen."""
    seen = rim[_supporters(disc, rim, slack)]
    angles = np.arctan2(seen[:, 1] - disc.y, seen[:, 0] - disc.x)
    return len(np.unique((angles / (2 * np.pi) * 120).astype(int))) / 120


def _circle_mask(disc: Disc, shape: tuple[int, ...]) -> Bool[np.ndarray, "height width"]:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (x + 0.5 - disc.x) ** 2 + (y + 0.5 - disc.y) ** 2 <= disc.radius**2


def _agreement(region: Bool[np.ndarray, "height width"], shape: Bool[np.ndarray, "height width"]) -> float:
    """Return the intersection over union, within the region's own bounding box: straight cuts are not held against."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return float((region[box] & shape[box]).sum() / (region[box] | shape[box]).sum())


def _judge_ellipse(
    region: Bool[np.ndarray, "height width"],
    rows: Float[np.ndarray, "row_point 2"],
    columns: Float[np.ndarray, "column_point 2"],
) -> _Judged | None:
    """Judge the region as the ellipse that a stretched photograph makes of the disc."""
    rim = np.concatenate([rows, columns]).astype(np.float32)
    (x, y), axes, angle = cv2.fitEllipseDirect(rim)
    if not np.isfinite([x, y, *axes]).all() or min(axes) < MIN_SIDE / 2 or max(axes) > 2 * min(axes):
        return None
    turn = cv2.getRotationMatrix2D((x, y), angle, 1.0)
    rounded = [((points @ turn[:, :2].T + turn[:, 2]) - (x, y)) / np.array(axes) * 2 for points in (rows, columns)]
    unit = Disc(0.0, 0.0, 1.0)
    support = max(_support(unit, points, ELLIPSE_SLACK) for points in rounded)
    seen = _rim_share(unit, np.concatenate(rounded), ELLIPSE_SLACK)
    drawn = np.zeros(region.shape, np.uint8)
    cv2.ellipse(drawn, ((x - 0.5, y - 0.5), axes, angle), 1, -1)
    agreement = _agreement(region, drawn.astype(bool))
    lit_rows, lit_columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    middle_x, middle_y = lit_columns[0] + len(lit_columns) / 2, lit_rows[0] + len(lit_rows) / 2
    disc = Disc(float(middle_x), float(middle_y), max(len(lit_rows), len(lit_columns)) / 2)
    judged = _Judged(disc, agreement, support, seen)
    return judged if judged.is_plain() else None
