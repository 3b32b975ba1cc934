"""Lesions of diabetic retinopathy: how many of which kind a grade asks for, and how they are painted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Float

from workbench.data.synthetic.vessels import Vessel, draw_vessels, quadrant_of
from workbench.data.synthetic.view import View

Kind = Literal["microaneurysm", "haemorrhage", "hard exudate", "soft exudate", "irma", "neovascularisation"]

KINDS: Final[tuple[Kind, ...]] = (
    "microaneurysm",
    "haemorrhage",
    "hard exudate",
    "soft exudate",
    "irma",
    "neovascularisation",
)

DISC_DIAMETER: Final = 5.3
"""Of a usual optic disc, degrees: the field's own yardstick on a fundus photograph."""


@dataclass(frozen=True)
class Lesion:
    """One lesion where it lies on the retina."""

    kind: Kind
    shape: Literal["dot", "blot", "flame", "boat", "cloud", "deposit", "wool", "tuft"]
    x: float
    y: float
    radius: float
    """half of the longest extent, degrees"""
    aspect: float = 1.0
    """shortest extent by longest"""
    angle: float = 0.0
    """of the longest extent, radians on the retina"""
    strength: float = 1.0
    ragged: tuple[float, ...] = ()
    """the outline's harmonics from the second on, amplitude and phase in turn"""
    strands: tuple[Vessel, ...] = ()
    """the new vessels of a tuft"""


@dataclass(frozen=True)
class Findings:
    """What an eye has: its lesions and which quadrants have beaded veins."""

    lesions: tuple[Lesion, ...]
    beaded: tuple[int, ...] = ()

    def count(self, kind: Kind) -> int:
        """Return the number of lesions of a kind."""
        return sum(lesion.kind == kind for lesion in self.lesions)

    def per_quadrant(self, kind: Kind) -> list[int]:
        """Return the number of lesions of a kind in each quadrant (see `vessels.quadrant_of`)."""
        here = np.array([(lesion.x, lesion.y) for lesion in self.lesions if lesion.kind == kind]).reshape(-1, 2)
        return [int(count) for count in np.bincount(quadrant_of(here), minlength=4)]


class Site:
    """Draws places for the lesions of one eye: on its photograph, off its optic disc.

    Args:
        rng: source of every choice.
        view: the photograph, since a grade counts what it shows.
        disc: centre of the optic disc, degrees.
    """

    def __init__(self, rng: np.random.Generator, view: View, disc: tuple[float, float]) -> None:
        self.rng = rng
        self.view = view
        self.disc = np.array(disc)

    def places(self, count: int, quadrant: int | None = None, reach: float = 30.0) -> Float[np.ndarray, "place 2"]:
        """Return ``count`` places within ``reach`` degrees of the fovea, in one quadrant or anywhere."""
        found = np.empty((0, 2))
        for _ in range(200):
            if len(found) >= count:
                return found[:count]
            points = self.rng.uniform(-reach, reach, (max(32, 4 * count), 2))
            keep = (np.hypot(*points.T) < reach) & (np.hypot(*(points - self.disc).T) > 3.4) & self.view.sees(points)
            if quadrant is not None:
                keep &= quadrant_of(points) == quadrant
            found = np.concatenate([found, points[keep]])
        raise ValueError(f"quadrant {quadrant} is not on the photograph: gaze {self.view.gaze}")


def plan_findings(rng: np.random.Generator, grade: int, view: View, disc: tuple[float, float]) -> Findings:
    """Draw an eye's findings from the definition of its ICDR grade (Wilkinson et al. 2003).

    0 nothing; 1 microaneurysms only; 2 more than that, less than 3; 3 the 4-2-1 rule: more than 20 haemorrhages in
    each of four quadrants, beaded veins in two, or IRMA in one; 4 neovascularisation, or vitreous or preretinal
    haemorrhage.
    """
    site = Site(rng, view, disc)
    if grade == 0:
        return Findings(())
    if grade == 1:
        return Findings(tuple(_microaneurysms(site, int(rng.integers(2, 11)))))
    if grade == 2:
        return Findings(tuple(_moderate(site, rng.beta(1.0, 2.2))))
    if grade == 3:
        return _severe(site)
    return _proliferative(site)


def _moderate(site: Site, severity: float) -> list[Lesion]:
    rng = site.rng
    lesions = _microaneurysms(site, 4 + int(rng.poisson(6 + 14 * severity)))
    lesions += _haemorrhages(site, site.places(3 + int(rng.poisson(3 + 13 * severity)), reach=20.0))
    if rng.random() < 0.5 + 0.4 * severity:
        lesions += _hard_exudates(site, 1 + int(rng.poisson(0.8 + 2.2 * severity)))
    if rng.random() < 0.2 + 0.4 * severity:
        lesions += _soft_exudates(site, 1 + int(rng.poisson(0.6 + 1.5 * severity)))
    return lesions


def _severe(site: Site) -> Findings:
    rng = site.rng
    haemorrhages, beads, irma = (rng.random(3) < (0.55, 0.45, 0.5)).tolist()
    if not (haemorrhages or beads or irma):
        irma = True
    lesions = _moderate(site, rng.uniform(0.6, 1.0))
    if haemorrhages:
        for quadrant in range(4):
            lesions += _haemorrhages(site, site.places(21 + int(rng.poisson(3)), quadrant))
    if irma:
        for quadrant in rng.permutation(4)[: rng.integers(1, 4)]:
            lesions += [_irma(site, place) for place in site.places(int(rng.integers(1, 3)), int(quadrant), 20.0)]
    beaded = tuple(sorted(int(quadrant) for quadrant in rng.permutation(4)[: rng.integers(2, 5)])) if beads else ()
    return Findings(tuple(lesions), beaded)


def _proliferative(site: Site) -> Findings:
    rng = site.rng
    also_severe = rng.random() < 0.45
    base = _severe(site) if also_severe else Findings(tuple(_moderate(site, rng.uniform(0.1, 0.9))))
    lesions = list(base.lesions)
    new_vessels = rng.random() < 0.85
    if new_vessels and rng.random() < 0.55:
        lesions.append(_new_vessels(site, site.disc + rng.normal(0, 0.7, 2), rng.uniform(1.8, 3.6)))
    else:
        new_vessels_elsewhere = site.places(int(rng.integers(1, 4)) if new_vessels else 0, reach=20.0)
        lesions += [_new_vessels(site, place, rng.uniform(1.2, 2.8)) for place in new_vessels_elsewhere]
    if not new_vessels or rng.random() < 0.3:
        lesions.append(_preretinal(site))
    return Findings(tuple(lesions), base.beaded)


def _ragged(rng: np.random.Generator, amount: float) -> tuple[float, ...]:
    """Draw four harmonics of an outline, weaker the finer."""
    values = []
    for order in range(2, 6):
        values += [float(abs(rng.normal(0, amount)) * 2 / order), float(rng.uniform(0, 2 * math.pi))]
    return tuple(values)


def _microaneurysms(site: Site, count: int) -> list[Lesion]:
    rng = site.rng
    places = site.places(count, reach=17.0)
    return [
        Lesion("microaneurysm", "dot", x, y, rng.uniform(0.13, 0.24), strength=rng.uniform(0.55, 1.0))
        for x, y in places.tolist()
    ]


def _haemorrhages(site: Site, places: Float[np.ndarray, "place 2"]) -> list[Lesion]:
    """Draw haemorrhages of the retina: dots, blots, and flames along the nerve fibres."""
    rng = site.rng
    lesions = []
    for x, y in places.tolist():
        shape = rng.choice(["dot", "blot", "flame"], p=[0.35, 0.4, 0.25])
        strength = rng.uniform(0.62, 1.0)
        if shape == "dot":
            lesions.append(Lesion("haemorrhage", "dot", x, y, rng.uniform(0.26, 0.44), 0.9, 0.0, strength))
        elif shape == "blot":
            ragged, angle, aspect = _ragged(rng, 0.13), rng.uniform(0, math.pi), rng.uniform(0.6, 1)
            radius = rng.uniform(0.4, 1.05)
            lesions.append(Lesion("haemorrhage", "blot", x, y, radius, aspect, angle, strength, ragged))
        else:
            angle = math.atan2(site.disc[1] - y, site.disc[0] - x) + rng.normal(0, 0.25)
            radius, aspect = rng.uniform(0.7, 1.5), rng.uniform(0.2, 0.4)
            ragged = _ragged(rng, 0.12)
            lesions.append(Lesion("haemorrhage", "flame", x, y, radius, aspect, angle, strength, ragged))
    return lesions


def _hard_exudates(site: Site, clusters: int) -> list[Lesion]:
    """Draw lipid deposits, in clusters or in rings around a leaking place, most of them near the macula."""
    rng = site.rng
    lesions = []
    for centre in site.places(clusters, reach=11.0):
        count = int(rng.integers(6, 34))
        angle = rng.uniform(0, 2 * math.pi, count)
        if rng.random() < 0.35:
            distance = rng.uniform(0.9, 2.2) + rng.normal(0, 0.18, count)
            angle = rng.uniform(0, 2 * math.pi) + rng.uniform(3, 6) * rng.random(count)
        else:
            distance = rng.uniform(0.6, 1.7) * np.sqrt(rng.random(count))
        places = centre + distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        seen = site.view.sees(places) & (np.hypot(*(places - site.disc).T) > 3.0)
        strength = rng.uniform(0.6, 1.0)
        for x, y in places[seen].tolist():
            radius = float(np.clip(rng.lognormal(math.log(0.18), 0.45), 0.08, 0.7))
            ragged, aspect, tilt = _ragged(rng, 0.15), rng.uniform(0.5, 1), rng.uniform(0, math.pi)
            lesions.append(Lesion("hard exudate", "deposit", x, y, radius, aspect, tilt, strength, ragged))
    return lesions


def _soft_exudates(site: Site, count: int) -> list[Lesion]:
    rng = site.rng
    lesions = []
    for x, y in site.places(count, reach=18.0).tolist():
        # Cotton-wool spots are swollen nerve fibres: they lie across the way to the disc.
        angle = math.atan2(site.disc[1] - y, site.disc[0] - x) + math.pi / 2 + rng.normal(0, 0.4)
        radius, aspect, strength = rng.uniform(0.6, 1.3), rng.uniform(0.5, 0.85), rng.uniform(0.5, 0.9)
        lesions.append(Lesion("soft exudate", "wool", x, y, radius, aspect, angle, strength, _ragged(rng, 0.12)))
    return lesions


def _strands(
    site: Site, centre: np.ndarray, radius: float, count: int, width: float, loops: bool
) -> tuple[Vessel, ...]:
    """Draw the strands of a tuft: they fan out from its centre, curl, and in new vessels end in loops."""
    rng = site.rng
    strands = []
    for _ in range(count):
        steps = int(rng.integers(10, 22))
        turn = rng.normal(0, 0.12) + rng.normal(0, 0.45, steps)
        curl = np.linspace(0, rng.choice([-1, 1]) * rng.uniform(2.0, 5.0), steps) if loops else np.zeros(steps)
        heading = rng.uniform(0, 2 * math.pi) + np.cumsum(turn) * 0.6 + curl
        step = radius * rng.uniform(0.9, 1.6) / steps
        start = centre + rng.normal(0, 0.12 * radius, 2)
        points = start + np.cumsum(step * np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0)
        strands.append(Vessel(points, np.linspace(width, 0.6 * width, steps), artery=False, generation=0))
    return tuple(strands)


def _irma(site: Site, place: np.ndarray) -> Lesion:
    radius = site.rng.uniform(1.0, 1.9)
    strands = _strands(site, place, radius, int(site.rng.integers(4, 8)), 0.13, loops=False)
    return Lesion("irma", "tuft", float(place[0]), float(place[1]), radius, strands=strands)


def _new_vessels(site: Site, place: np.ndarray, radius: float) -> Lesion:
    count = int(site.rng.integers(12, 24) * max(1.0, radius / 2))
    strands = _strands(site, place, radius, count, 0.15, loops=True)
    return Lesion("neovascularisation", "tuft", float(place[0]), float(place[1]), radius, strands=strands)


def _preretinal(site: Site) -> Lesion:
    """Draw blood before the retina (a boat with a level top) or in the vitreous (a cloud)."""
    rng = site.rng
    x, y = site.places(1, reach=14.0)[0].tolist()
    if rng.random() < 0.6:
        return Lesion(
            "haemorrhage", "boat", x, y, rng.uniform(2.0, 4.5), rng.uniform(0.4, 0.7), 0.0, 1.0, _ragged(rng, 0.04)
        )
    radius, aspect, angle = rng.uniform(4, 8), rng.uniform(0.5, 0.9), rng.uniform(0, math.pi)
    return Lesion("haemorrhage", "cloud", x, y, radius, aspect, angle, rng.uniform(0.5, 0.8), _ragged(rng, 0.25))


SOFTNESS: Final = {"dot": 0.10, "blot": 0.16, "flame": 0.18, "boat": 0.12, "cloud": 2.6, "deposit": 0.05, "wool": 0.55}
"""Width of a lesion's edge, degrees; never less than a pixel."""


def paint_lesions(
    lesions: Sequence[Lesion], view: View
) -> tuple[dict[Kind, Float[np.ndarray, "size size"]], dict[Kind, Bool[np.ndarray, "size size"]]]:
    """Return the coverage (0 to 1) and the extent (boolean) of each kind of lesion on a photograph.

    Args:
        lesions: what to paint; kinds that are not there have no layer.
        view: the photograph.
    """
    kinds: list[Kind] = [kind for kind in KINDS if any(lesion.kind == kind for lesion in lesions)]
    cover = {kind: np.zeros((view.size, view.size), np.float32) for kind in kinds}
    extent = {kind: np.zeros((view.size, view.size), bool) for kind in kinds}
    for lesion in lesions:
        if lesion.shape != "tuft":
            _paint_blob(cover[lesion.kind], extent[lesion.kind], lesion, view)
    for kind in kinds:
        strands = [strand for lesion in lesions if lesion.kind == kind for strand in lesion.strands]
        if strands:
            cover[kind] = np.maximum(cover[kind], draw_vessels(strands, view))
            extent[kind] |= cover[kind] > 0.15
    return cover, extent


def _paint_blob(cover: np.ndarray, extent: np.ndarray, lesion: Lesion, view: View) -> None:
    scale = view.pixels_per_degree
    ends = np.array([[0.0, 0.0], [math.cos(lesion.angle), math.sin(lesion.angle)]])
    (cx, cy), tip = view.to_pixels(np.array([[lesion.x, lesion.y]]) + ends)
    long = max(lesion.radius * scale, 0.6)
    short = max(long * lesion.aspect, 0.5)
    soft = max(SOFTNESS[lesion.shape] * scale, 0.8)
    reach = math.ceil(1.35 * long + soft + 1)
    top, left = max(round(cy) - reach, 0), max(round(cx) - reach, 0)
    patch = (slice(top, max(round(cy) + reach + 1, 0)), slice(left, max(round(cx) + reach + 1, 0)))
    if cover[patch].size == 0:
        return
    height, width = cover[patch].shape
    dx = np.arange(left, left + width, dtype=np.float32)[None, :] - np.float32(cx)
    dy = np.arange(top, top + height, dtype=np.float32)[:, None] - np.float32(cy)
    length = math.hypot(tip[0] - cx, tip[1] - cy)
    cos, sin = (tip[0] - cx) / length, (tip[1] - cy) / length
    u, v = (dx * cos + dy * sin) / long, (dy * cos - dx * sin) / short
    distance = np.sqrt(u * u + v * v)
    if lesion.ragged:
        distance = distance / _outline(np.arctan2(v, u), lesion.ragged)
    inside = (1 - distance) * short / soft + 0.5
    if lesion.shape == "boat":
        inside = np.minimum(inside, dy / soft + 0.5)
    covered = np.clip(inside, 0, 1) * np.float32(lesion.strength)
    if lesion.shape == "flame":
        covered *= (0.72 + 0.28 * np.cos(v * short / max(0.16 * scale, 1.2) * math.pi)).astype(np.float32)
    cover[patch] = np.maximum(cover[patch], covered)
    extent[patch] |= inside > 0.5
    # A lesion smaller than a pixel still has one.
    extent[min(max(round(cy), 0), view.size - 1), min(max(round(cx), 0), view.size - 1)] |= lesion.shape != "boat"


def _outline(angle: np.ndarray, ragged: tuple[float, ...]) -> np.ndarray:
    radius = np.ones_like(angle)
    for order, (amplitude, phase) in enumerate(zip(ragged[::2], ragged[1::2], strict=True), start=2):
        radius += np.float32(amplitude) * np.cos(order * angle + np.float32(phase))
    return np.maximum(radius, 0.3)
