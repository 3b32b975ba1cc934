"""One eye: its anatomy, and what it reflects with the vessels and lesions that it has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from workbench.data.synthetic.colour import blend, combined, spread
from workbench.data.synthetic.lesions import Findings, Kind, Lesion, paint_lesions
from workbench.data.synthetic.vessels import Vessel, draw_vessels, grow_vessels
from workbench.data.synthetic.view import View
from workbench.schema.lesions import MASK_COLOURS


@dataclass(frozen=True)
class Complexion:
    """What both eyes of a patient share."""

    pigment: float
    """0 light to 1 dark"""
    redness: float
    tessellation: float
    """how far the choroid's vessels show, 0 to 1"""
    sheen: float
    """of the nerve fibres: strong in the young"""
    yellowing: float
    """of the lens"""
    drusen: int
    tortuosity: float
    cup: float
    """cup-to-disc ratio"""


def draw_complexion(rng: np.random.Generator, age: float) -> Complexion:
    """Draw what a patient's two eyes share, given the age in years."""
    pigment = float(rng.beta(1.6, 1.6))
    old = max(age - 50, 0) / 40
    return Complexion(
        pigment=pigment,
        redness=rng.normal(0, 0.1),
        tessellation=float(np.clip(rng.beta(1.2, 3.0) * (1.2 - pigment) + 0.5 * old * rng.random(), 0, 1)),
        sheen=float(np.clip((65 - age) / 45, 0, 1)) * rng.uniform(0.4, 1.0),
        yellowing=float(np.clip(old * rng.uniform(0.2, 0.9), 0, 1)),
        drusen=int(rng.poisson(14)) if rng.random() < 0.5 * old else 0,
        tortuosity=float(rng.lognormal(0, 0.25)),
        cup=float(np.clip(rng.normal(0.4, 0.12), 0.15, 0.75)),
    )


@dataclass(frozen=True)
class Anatomy:
    """One eye without disease."""

    complexion: Complexion
    disc: tuple[float, float]
    """centre of the optic disc, degrees from the fovea"""
    disc_radii: tuple[float, float]
    crescent: float
    """width of the pale crescent beside the disc, degrees"""
    drusen: tuple[Lesion, ...]
    """pale spots of age: no diabetic lesion, and not in the mask"""
    vessels: tuple[Vessel, ...]


def draw_anatomy(
    rng: np.random.Generator, complexion: Complexion, disc: tuple[float, float], beaded: tuple[int, ...]
) -> Anatomy:
    """Draw one eye of a patient; ``beaded`` are the quadrants whose veins are."""
    width = rng.normal(2.5, 0.16)
    radii = (width, width * rng.uniform(1.04, 1.2))
    crescent = max(0.0, rng.normal(-0.1, 0.4))
    places = rng.normal(0, 2.6, (rng.poisson(complexion.drusen), 2)).tolist()
    drusen = tuple(
        Lesion("hard exudate", "deposit", px, py, rng.uniform(0.1, 0.28), strength=rng.uniform(0.25, 0.6))
        for px, py in places
    )
    vessels = grow_vessels(rng, disc, complexion.tortuosity, beaded)
    return Anatomy(complexion, disc, radii, crescent, drusen, tuple(vessels))


LIGHT_FUNDUS: Final = np.array([0.76, 0.39, 0.21], np.float32)
DARK_FUNDUS: Final = np.array([0.42, 0.205, 0.078], np.float32)
LIPID: Final = np.array([1.02, 0.93, 0.46], np.float32)
SWOLLEN_FIBRES: Final = np.array([0.92, 0.84, 0.66], np.float32)
DISC_RIM: Final = np.array([1.24, 0.72, 0.38], np.float32)
DISC_CUP: Final = np.array([1.36, 1.12, 0.70], np.float32)
CRESCENT: Final = np.array([0.95, 0.72, 0.46], np.float32)
"""Reflected red, green and blue."""

ARTERY: Final = np.array([0.06, 0.34, 0.31], np.float32)
VEIN: Final = np.array([0.20, 0.55, 0.42], np.float32)
RED_LESIONS: Final[dict[Kind, np.ndarray]] = {
    "haemorrhage": np.array([0.42, 0.95, 0.72], np.float32),
    "microaneurysm": np.array([0.36, 0.95, 0.72], np.float32),
    "irma": np.array([0.28, 0.80, 0.60], np.float32),
    "neovascularisation": np.array([0.14, 0.95, 0.75], np.float32),
}
"""Absorbed red, green and blue (natural logarithm)."""


def reflect(
    rng: np.random.Generator, anatomy: Anatomy, findings: Findings, view: View
) -> tuple[Float[np.ndarray, "size size 3"], UInt8[np.ndarray, "size size 3"]]:
    """Return what an eye reflects (RGB, 0 to about 1) and the mask of its lesions and optic disc (`MASK_COLOURS`).

    Args:
        rng: source of the textures.
        anatomy: the eye.
        findings: its lesions.
        view: the photograph.
    """
    x, y = view.grid()
    cover, extent = paint_lesions(findings.lesions, view)
    scene = _background(rng, anatomy, view, x, y)
    disc = _add_disc(rng, scene, anatomy, x, y)
    _add_fibres(rng, scene, anatomy, x, y)
    if "hard exudate" in cover:
        blend(scene, cover["hard exudate"], LIPID)
    passed, glint = _vessel_layers(anatomy, view, disc)
    scene *= passed
    scene += glint
    if "soft exudate" in cover:
        blend(scene, cover["soft exudate"], SWOLLEN_FIBRES)
    for kind, absorbance in RED_LESIONS.items():
        if kind in cover:
            scene *= cv2.exp(spread(-cover[kind], absorbance))
    return scene, _mask(extent, disc)


def _noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Return smooth noise of about unit deviation with so many cells across, whatever the size in pixels."""
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def _polar_noise(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, centre: tuple[float, float], spokes: int, rings: int
) -> np.ndarray:
    """Return noise in streaks that radiate from a centre."""
    texture = rng.standard_normal((rings, spokes), dtype=np.float32)
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    distance, angle = cv2.cartToPolar(dx, dy)
    column = angle * np.float32(spokes / (2 * math.pi))
    row = cv2.log(1 + distance / 4) * np.float32(rings / 2.3)
    return np.asarray(cv2.remap(texture, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP), np.float32)


def _background(rng: np.random.Generator, anatomy: Anatomy, view: View, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the fundus behind vessels and lesions: pigment, choroid, macula, drusen."""
    complexion = anatomy.complexion
    from_fovea = x * x + y * y
    pigment = complexion.pigment + 0.10 * _noise(rng, view.size, 5) + 0.05 * _noise(rng, view.size, 14)
    macula = 0.34 * np.exp(-from_fovea / 3.0**2) + 0.30 * np.exp(-from_fovea / 1.0**2)
    dx, dy = x - anatomy.disc[0], y - anatomy.disc[1]
    glow = 0.22 * np.exp(-(dx * dx + dy * dy) / 7.0**2)
    mottle = 0.030 * _noise(rng, view.size, 120) + 0.025 * _noise(rng, view.size, 48)
    choroid = complexion.tessellation * _choroid(rng, view, x, y) * (1 - np.exp(-from_fovea / 6.0**2))
    everywhere = (
        np.log(LIGHT_FUNDUS)
        + np.array([0.05, -1.0, -0.8]) * complexion.redness
        + np.array([-0.02, -0.06, -0.55]) * complexion.yellowing
    )
    # Logarithms of what each plane adds to red, green and blue.
    weights = np.array([[0.8, 1.0, 1.0], [0.12, 0.24, 0.26], [-0.55, -0.95, -1.0], [0.0, 0.0, 0.0]])
    weights[3] = np.log(DARK_FUNDUS) - np.log(LIGHT_FUNDUS)
    shade = combined([glow + mottle, choroid, macula, pigment], weights.astype(np.float32))
    scene = np.asarray(cv2.exp(cv2.add(shade, (*everywhere.tolist(), 0.0))), np.float32)
    if anatomy.drusen:
        blend(scene, paint_lesions(anatomy.drusen, view)[0]["hard exudate"], 0.9 * LIPID)
    return scene


def _choroid(rng: np.random.Generator, view: View, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the pattern of the choroid's vessels, bright, between pigment: -1 to 1."""
    warp = 1.2 * _noise(rng, view.size, 10)
    streaks = _polar_noise(rng, x + warp, y - warp, (8.0, 0.0), 90, 14)
    net = np.abs(0.45 * _noise(rng, view.size, 26) + 0.9 * streaks)
    return 1 - 1.5 * np.minimum(net, 1.3)


def _add_disc(
    rng: np.random.Generator, scene: np.ndarray, anatomy: Anatomy, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Paint the optic disc with its cup, and return where it is."""
    (a, b), complexion = anatomy.disc_radii, anatomy.complexion
    centre = np.array(anatomy.disc, np.float32)
    near = np.hypot(x - centre[0], y - centre[1]) < b + 2.5
    where = np.zeros(near.shape, bool)
    if not near.any():
        return where
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    dx, dy = x[window] - centre[0], y[window] - centre[1]
    from_centre = np.sqrt((dx / a) ** 2 + (dy / b) ** 2)
    if anatomy.crescent > 0.1:
        shifted = np.sqrt(((dx + anatomy.crescent) / a) ** 2 + (dy / b) ** 2)
        blend(scene[window], 0.5 * np.clip((1 - shifted) * a / 0.4 + 0.5, 0, 1), CRESCENT)
    disc = np.clip((1 - from_centre) * a / 0.5 + 0.5, 0, 1)
    cup_distance = np.sqrt(((dx + 0.12 * a) / a) ** 2 + ((dy / b) ** 2)) / complexion.cup
    cup = np.clip((1.15 - cup_distance) / 0.6, 0, 1)
    # The temporal rim is paler than the nasal one.
    pallor = np.clip(0.35 - 0.35 * dx / a, 0, 0.7) * rng.uniform(0.4, 0.9)
    brightness = (1.0 - 0.22 * complexion.pigment) * rng.uniform(0.85, 1.0)
    blend(scene[window], 0.93 * disc, brightness * DISC_RIM)
    blend(scene[window], disc * np.maximum(cup, pallor), brightness * DISC_CUP)
    where[window] = from_centre < 1
    return where


def _add_fibres(rng: np.random.Generator, scene: np.ndarray, anatomy: Anatomy, x: np.ndarray, y: np.ndarray) -> None:
    """Add the sheen of the nerve fibres, in streaks from the disc, and the fovea's reflex."""
    sheen = anatomy.complexion.sheen
    if sheen < 0.05:
        return
    dx, dy = x - np.float32(anatomy.disc[0]), y - np.float32(anatomy.disc[1])
    distance = np.sqrt(dx * dx + dy * dy) + 1e-3
    polar = np.abs(dy) / distance
    weight = np.exp(-np.abs(distance - 4.5) / 3.5) * (0.25 + 0.75 * polar)
    streaks = 1 + 0.45 * _polar_noise(rng, x, y, anatomy.disc, 260, 4)
    glance = np.float32(0.085 * sheen) * weight * streaks
    reflex = np.float32(0.22 * sheen * rng.random()) * np.exp(-((x - 0.1) ** 2 + (y + 0.1) ** 2) / 0.22**2)
    scene += spread(glance + reflex, np.array([0.75, 1.0, 0.85], np.float32))


def _vessel_layers(
    anatomy: Anatomy, view: View, disc: np.ndarray
) -> tuple[Float[np.ndarray, "size size 3"], Float[np.ndarray, "size size 3"]]:
    """Return the share of each colour that the vessels let pass, and the glint along them."""
    arteries = [vessel for vessel in anatomy.vessels if vessel.artery]
    veins = [vessel for vessel in anatomy.vessels if not vessel.artery]
    # Against the disc's white nerve fibres a vessel looks paler.
    contrast = np.where(disc, np.float32(0.7), np.float32(1.0))
    artery, vein = draw_vessels(arteries, view) * contrast, draw_vessels(veins, view) * contrast
    passed = cv2.exp(-np.maximum(spread(artery, ARTERY), spread(vein, VEIN)))
    glint = np.zeros((view.size, view.size), np.float32)
    if view.pixels_per_degree > 8:  # else it is far below a pixel
        glint += draw_vessels(arteries, view, narrowing=0.3)
        glint += 0.5 * draw_vessels(veins, view, narrowing=0.25)
    return np.asarray(passed, np.float32), spread(glint, np.array([0.20, 0.15, 0.08], np.float32))


def _mask(extent: dict[Kind, np.ndarray], disc: np.ndarray) -> UInt8[np.ndarray, "size size 3"]:
    mask = np.zeros((*disc.shape, 3), np.uint8)
    for kind, colour in MASK_COLOURS.items():
        where = disc if kind == "optic disc" else extent.get(kind)  # type: ignore[call-overload]
        if where is not None:
            mask[where] = colour
    return mask
