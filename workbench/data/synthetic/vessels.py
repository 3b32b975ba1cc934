"""The retina's vessels: arcades that leave the optic disc, fork, taper and spare the fovea."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from scipy.interpolate import CubicSpline

from workbench.data.synthetic.view import View

STEP: Final = 0.4
"""Distance between the points of a vessel, degrees."""

TEMPORAL: Final = (
    (0.0, 0.2),
    (-0.3, -2.4),
    (-2.6, -6.0),
    (-7.5, -9.2),
    (-14.5, -10.2),
    (-22.0, -10.6),
    (-31.0, -13.5),
    (-42.0, -19.0),
)
NASAL: Final = ((0.0, 0.2), (0.9, -2.2), (4.0, -5.6), (8.0, -9.5), (12.5, -15.0))
"""The upper arcades relative to the centre of the optic disc, degrees; the lower ones are their mirror images."""

FOVEAL_AVASCULAR_RADIUS: Final = 0.9

BRANCH_SPACING: Final = (4.4, 3.6, 3.2)
"""Between the forks of a vessel of each generation, degrees."""

FINEST: Final = 0.065
"""Width below which a vessel is left out, degrees."""

WINDING: Final = 0.026
"""Amplitude of a vessel's sines by their wave's length, at usual tortuosity."""

SHORTEST_WAVES: Final = np.array([1.6, 3.0, 6.0])
"""Of the sines that make a vessel tortuous, degrees."""

SUBPIXEL_BITS: Final = 4


@dataclass(frozen=True)
class Vessel:
    """One vessel from its origin to its end."""

    points: Float[np.ndarray, "point 2"]
    """degrees on the retina, see `View`"""
    width: Float[np.ndarray, " point"]
    """degrees"""
    artery: bool
    generation: int
    """0 leaves the optic disc"""


def quadrant_of(points: Float[np.ndarray, "point 2"]) -> np.ndarray:
    """Return each position's quadrant: 0 upper temporal, 1 upper nasal, 2 lower temporal, 3 lower nasal."""
    return (points[:, 0] > 0).astype(int) + 2 * (points[:, 1] > 0).astype(int)


def grow_vessels(
    rng: np.random.Generator, disc: tuple[float, float], tortuosity: float, beaded: Collection[int] = ()
) -> list[Vessel]:
    """Grow the arteries and veins of one eye.

    Args:
        rng: source of every choice.
        disc: centre of the optic disc, degrees.
        tortuosity: 1 is usual.
        beaded: quadrants (see `quadrant_of`) whose larger veins are beaded.
    """
    vessels: list[Vessel] = []
    for artery in (False, True):
        for course in (TEMPORAL, NASAL):
            for side in (1.0, -1.0):
                vessels.append(_arcade(rng, np.array(disc), np.array(course), side, artery, tortuosity))
    vessels += _small_disc_vessels(rng, np.array(disc), tortuosity)
    parents = vessels
    for spacing in BRANCH_SPACING:
        parents = _branches(rng, parents, spacing, tortuosity)
        vessels = vessels + parents
    return [_bead(rng, vessel, beaded) for vessel in vessels] if beaded else vessels


def _arcade(
    rng: np.random.Generator, disc: np.ndarray, course: np.ndarray, side: float, artery: bool, tortuosity: float
) -> Vessel:
    knots = course * np.array([rng.uniform(0.93, 1.07), side * rng.uniform(0.82, 1.18)])
    knots[1:] += rng.normal(0, 0.06, knots[1:].shape) * np.linspace(3, 9, len(knots) - 1)[:, None]
    knots[0] += rng.normal(0, 0.25, 2)
    fine = _spline(len(knots)) @ knots
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(fine, axis=0).T))])
    at = np.arange(0, along[-1], STEP)
    points = disc + np.stack([np.interp(at, along, fine[:, 0]), np.interp(at, along, fine[:, 1])], axis=1)
    width = (rng.uniform(0.32, 0.42) if artery else rng.uniform(0.44, 0.58)) * _taper(len(at), 1.0, 0.45)
    return Vessel(_wiggle(rng, points, tortuosity * (0.8 if artery else 1.0)), width, artery, 0)


@lru_cache
def _spline(knots: int) -> Float[np.ndarray, "fine knot"]:
    """Return the matrix that takes knots to closely spaced points of the cubic spline through them."""
    return np.asarray(CubicSpline(np.arange(knots), np.eye(knots))(np.linspace(0, knots - 1, 24 * knots)))


def _small_disc_vessels(rng: np.random.Generator, disc: np.ndarray, tortuosity: float) -> list[Vessel]:
    """Grow the fine vessels that leave the disc's rim, most of them towards the macula."""
    count = int(rng.integers(5, 10))
    heading = np.where(rng.random(count) < 0.6, math.pi, 0.0) + rng.normal(0, 0.55, count)
    origin = disc + 0.6 * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    length, bend = rng.uniform(5, 11, count), rng.normal(0, 0.35, count)
    points = _curves(rng, origin, heading, length, bend, tortuosity)
    widths, arteries = rng.uniform(0.12, 0.2, count), rng.random(count) < 0.5
    vessels = []
    for index in range(count):
        steps = int(length[index] / STEP)
        taper = widths[index] * _taper(steps, 1.0, 0.5)
        vessels += _outside_fovea(Vessel(points[index, :steps], taper, bool(arteries[index]), 0))
    return vessels


def _branches(rng: np.random.Generator, parents: Sequence[Vessel], spacing: float, tortuosity: float) -> list[Vessel]:
    """Grow the branches of one generation, all at once."""
    if not parents:
        return []
    origin, tangent, width, parent = _forks(rng, parents, spacing)
    count = len(parent)
    side = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    angle = side * rng.uniform(0.5, 1.05, count)
    heading = np.arctan2(tangent[:, 1], tangent[:, 0]) + angle
    width = width * rng.uniform(0.35, 0.68, count)
    first = parents[0].generation == 0
    length = np.minimum(rng.uniform(9, 26, count) * np.sqrt(width) * (1.25 if first else 0.9), 14.0)
    towards_fovea = (np.arctan2(-origin[:, 1], -origin[:, 0]) - heading + math.pi) % (2 * math.pi) - math.pi
    inner = (np.abs(towards_fovea) < 1.3) & (np.hypot(origin[:, 0], origin[:, 1]) < 15)
    # Vessels inside the arcades converge on the macula; those outside bend back to their parent's course.
    bend = np.where(inner, 0.7 * towards_fovea, -angle * rng.uniform(0.2, 0.8, count))
    points = _curves(rng, origin, heading, length, bend, 1.3 * tortuosity)
    branches = []
    for index in np.flatnonzero(width >= FINEST).tolist():
        steps = max(int(length[index] / STEP), 4)
        taper = width[index] * _taper(steps, 1.0, 0.5)
        above = parents[parent[index]]
        branch = Vessel(points[index, :steps], taper, above.artery, above.generation + 1)
        branches += _outside_fovea(branch)
    return branches


def _forks(
    rng: np.random.Generator, parents: Sequence[Vessel], spacing: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return where branches leave their parents: place, the parent's course and width there, and its number."""
    lengths = np.array([len(parent.points) for parent in parents])
    most = int(lengths.max() * STEP / (0.6 * spacing)) + 1
    distances = spacing * np.cumsum(rng.uniform(0.6, 1.5, (len(parents), most)), axis=1)
    places = (distances / STEP).astype(int)
    parent, fork = np.nonzero(places < (lengths * 0.97 - 1)[:, None])
    at = places[parent, fork] + np.concatenate([[0], np.cumsum(lengths)[:-1]])[parent]
    points = np.concatenate([parent.points for parent in parents])
    width = np.concatenate([parent.width for parent in parents])
    return points[at], points[at + 1] - points[at], width[at], parent


def _curves(
    rng: np.random.Generator,
    origin: Float[np.ndarray, "curve 2"],
    heading: Float[np.ndarray, " curve"],
    length: Float[np.ndarray, " curve"],
    bend: Float[np.ndarray, " curve"],
    tortuosity: float,
) -> Float[np.ndarray, "curve point 2"]:
    """Return points along arcs that turn by ``bend`` radians over their length, and wind; all run to the longest."""
    steps = np.arange(1, max(int(length.max() / STEP), 4))
    along = np.concatenate([[0.0], STEP * steps])
    turn = heading[:, None] + bend[:, None] * (STEP * steps[None, :]) / np.maximum(length, 1.0)[:, None]
    # The course winds about the arc: a few sines of heading, none of them at the origin.
    waves = SHORTEST_WAVES * (1 + rng.random((len(origin), 3)))
    phases = rng.uniform(0, 2 * math.pi, (len(origin), 3))
    slopes = rng.normal(0, WINDING * tortuosity, (len(origin), 3)) * 2 * math.pi
    sines = np.cos(2 * math.pi * along[None, 1:, None] / waves[:, None] + phases[:, None])
    turn = turn + (slopes[:, None] * sines).sum(axis=2)
    course = STEP * np.stack([np.cos(turn), np.sin(turn)], axis=2)
    return np.concatenate([origin[:, None], origin[:, None] + np.cumsum(course, axis=1)], axis=1)


def _taper(count: int, start: float, end: float) -> np.ndarray:
    """Return evenly spaced values, both ends included (`numpy.linspace`, ten times faster on short arrays)."""
    return start + (end - start) / (count - 1) * np.arange(count)


def _wiggle(rng: np.random.Generator, points: np.ndarray, tortuosity: float) -> np.ndarray:
    """Displace points sideways by a few sines: none at the origin, the more the longer the wave."""
    along = STEP * np.arange(len(points))
    waves = SHORTEST_WAVES * (1 + rng.random(3))
    amplitudes = rng.normal(0, WINDING, 3) * waves * tortuosity
    phases = rng.uniform(0, 2 * math.pi, 3)
    sideways = (amplitudes * np.sin(2 * math.pi * along[:, None] / waves + phases)).sum(axis=1)
    sideways *= np.minimum(along / 2.0, 1.0)
    return points + sideways[:, None] * _across(np.gradient(points, axis=0))


def _across(along: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 2"]:
    """Return the unit vectors at right angles to directions."""
    across = along[:, ::-1] * np.array([-1.0, 1.0])
    return across / np.sqrt((across * across).sum(axis=1, keepdims=True) + 1e-18)


def _outside_fovea(vessel: Vessel) -> list[Vessel]:
    """Cut a vessel at the avascular zone and at the raphe, which none crosses; drop it when nothing is left."""
    x, y = vessel.points.T
    forbidden = (x * x + y * y < FOVEAL_AVASCULAR_RADIUS**2) | ((y * y[0] < 0) & (x < 10))
    end = int(np.argmax(forbidden)) if forbidden.any() else len(vessel.points)
    return [Vessel(vessel.points[:end], vessel.width[:end], vessel.artery, vessel.generation)] if end >= 4 else []


def _bead(rng: np.random.Generator, vessel: Vessel, quadrants: Collection[int]) -> Vessel:
    if vessel.artery or vessel.generation > 1:
        return vessel
    along = STEP * np.arange(len(vessel.points))
    beads = 1 + 0.45 * np.sin(2 * math.pi * along / rng.uniform(1.5, 2.0) + rng.uniform(0, 6.3))
    here = np.isin(quadrant_of(vessel.points), list(quadrants)) & (along > 3)
    return Vessel(vessel.points, np.where(here, vessel.width * beads, vessel.width), False, vessel.generation)


def draw_vessels(vessels: Sequence[Vessel], view: View, narrowing: float = 1.0) -> Float[np.ndarray, "size size"]:
    """Return how much of each pixel vessels cover, 0 to 1; one layer, thin vessels below wide ones.

    Args:
        vessels: what to draw.
        view: the photograph.
        narrowing: multiplies widths (a light reflex is narrower than its vessel).
    """
    # A vessel of half a pixel needs finer pixels than the photograph's; from 768 pixels on it does not.
    finer = max(1, math.ceil(768 / view.size))
    canvas: UInt8[np.ndarray, "fine fine"] = np.zeros((view.size * finer, view.size * finer), np.uint8)
    scale = view.pixels_per_degree * narrowing * finer
    seen = [vessel for vessel in vessels if vessel.width[0] * scale >= 0.35 * finer]
    seen.sort(key=lambda vessel: float(vessel.width[0]))
    for vessel, outline in zip(seen, _outlines(seen, view, finer, scale), strict=True):
        # Narrower than a fine pixel: drawn one wide and paler.
        grey = round(255 * min(1.0, float(vessel.width[len(vessel.width) // 2]) * scale))
        cv2.fillPoly(canvas, [outline], grey, lineType=cv2.LINE_AA, shift=SUBPIXEL_BITS)
    small = cv2.resize(canvas, (view.size, view.size), interpolation=cv2.INTER_AREA) if finer > 1 else canvas
    return np.asarray(small, dtype=np.float32) / np.float32(255)


def _outlines(vessels: Sequence[Vessel], view: View, finer: int, scale: float) -> list[np.ndarray]:
    """Return each vessel's outline on a canvas of finer pixels, as `cv2.fillPoly` takes it; all worked out at once."""
    if not vessels:
        return []
    lengths = np.array([len(vessel.points) for vessel in vessels])
    ends = np.cumsum(lengths)
    starts = ends - lengths
    points = (view.to_pixels(np.concatenate([vessel.points for vessel in vessels])) + 0.5) * finer - 0.5
    here = np.arange(len(points))
    ahead = np.minimum(here + 1, np.repeat(ends - 1, lengths))
    behind = np.maximum(here - 1, np.repeat(starts, lengths))
    width = np.maximum(np.concatenate([vessel.width for vessel in vessels]) * scale, 1.0)
    half = _across(points[ahead] - points[behind]) * (width / 2)[:, None]
    left = np.round((points + half) * 2**SUBPIXEL_BITS).astype(np.int32)
    right = np.round((points - half) * 2**SUBPIXEL_BITS).astype(np.int32)
    return [np.concatenate([left[start:end], right[start:end][::-1]]) for start, end in zip(starts, ends, strict=True)]
