"""The camera: what it does to every photograph, the dirt that it carries, and how a photograph fails."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from workbench.data.synthetic.colour import spread, tripled
from workbench.data.synthetic.view import View
from workbench.schema.seeds import seed_for

Quality = Literal["good", "usable", "reject"]


@dataclass(frozen=True)
class Camera:
    """One camera model (invented)."""

    name: str
    field: float
    """of view, degrees"""
    radius: float
    """of the disc of the photograph, share of the side"""
    clip: float
    """the disc is cut above and below at this share of its radius; 1: a full circle"""
    notch: Literal["none", "tab", "triangle"]
    gain: tuple[float, float, float]
    """of red, green and blue"""
    gamma: float
    saturation: float
    vignette: float
    """share of light lost at the rim"""
    sharpening: float
    noise: float
    """standard deviation at middle grey, share of the range"""
    black: float
    """what it writes where there is no light"""
    blur: float
    """of its optics, degrees"""
    jpeg: int


CAMERAS: Final = (
    Camera(
        name="alder-45",
        field=45.0,
        radius=0.49,
        clip=1.0,
        notch="none",
        gain=(1.02, 0.99, 0.85),
        gamma=1.0,
        saturation=1.0,
        vignette=0.3,
        sharpening=0.25,
        noise=0.006,
        black=0.0,
        blur=0.045,
        jpeg=92,
    ),
    Camera(
        name="birch-45",
        field=45.0,
        radius=0.497,
        clip=0.86,
        notch="tab",
        gain=(1.04, 0.88, 0.8),
        gamma=1.04,
        saturation=1.02,
        vignette=0.22,
        sharpening=0.45,
        noise=0.008,
        black=0.012,
        blur=0.04,
        jpeg=95,
    ),
    Camera(
        name="cedar-50",
        field=50.0,
        radius=0.47,
        clip=1.0,
        notch="triangle",
        gain=(0.9, 1.0, 0.72),
        gamma=0.95,
        saturation=0.95,
        vignette=0.38,
        sharpening=0.1,
        noise=0.011,
        black=0.004,
        blur=0.06,
        jpeg=86,
    ),
    Camera(
        name="dogwood-40",
        field=40.0,
        radius=0.45,
        clip=0.93,
        notch="tab",
        gain=(1.0, 0.92, 1.05),
        gamma=0.92,
        saturation=0.85,
        vignette=0.45,
        sharpening=0.15,
        noise=0.013,
        black=0.022,
        blur=0.07,
        jpeg=80,
    ),
)

SITES: Final = {"north": (0, 1), "harbour": (0, 2), "hill": (1, 3), "south": (2,)}
"""Each site's cameras, as places in `CAMERAS`."""

CLEANED_EVERY: Final = 25
"""A camera keeps its dirt for so many patients (by their number) before someone wipes it."""


@dataclass(frozen=True)
class Artefact:
    """Something on the lens or the sensor: it stays where it is whichever eye is photographed."""

    kind: Literal["speck", "bokeh", "smear", "dead pixel"]
    x: float
    """share of the photograph's side"""
    y: float
    radius: float
    """degrees at the retina, so that it can be held against lesions; a dead pixel has no extent: 0"""
    colour: tuple[float, float, float]
    """a speck multiplies the light by it, the others add it"""
    angle: float = 0.0
    aspect: float = 1.0


def dirt_of(seed: int, site: str, camera: Camera, patient: int) -> tuple[Artefact, ...]:
    """Return what is on a site's camera on the day of a patient; the neighbours in number have the same.

    Args:
        seed: the cohort's.
        site: a key of `SITES`.
        camera: one of its cameras.
        patient: the patient's number.
    """
    rng = np.random.default_rng(seed_for(seed, "dirt", site, camera.name, patient // CLEANED_EVERY))
    dirt = [_speck(rng, camera) for _ in range(int(rng.choice([0, 1, 2, 4, 8], p=[0.25, 0.2, 0.2, 0.2, 0.15])))]
    dirt += [_bokeh(rng, camera) for _ in range(int(rng.poisson(0.5)))]
    if rng.random() < 0.18:
        dirt.append(_smear(rng, camera))
    # Dead pixels do not wipe off: they belong to the camera itself.
    sensor = np.random.default_rng(seed_for(seed, "sensor", site, camera.name))
    return (*dirt, *(_dead_pixel(sensor, camera) for _ in range(int(sensor.poisson(1.2)))))


def _somewhere(rng: np.random.Generator, camera: Camera) -> tuple[float, float]:
    distance, angle = camera.radius * 0.9 * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
    return 0.5 + distance * math.cos(angle), 0.5 + camera.clip * distance * math.sin(angle)


def _speck(rng: np.random.Generator, camera: Camera) -> Artefact:
    """Draw dust near the image plane: small, dark, sharp, at a glance a microaneurysm or a dot haemorrhage."""
    radius = float(np.clip(rng.lognormal(math.log(0.24), 0.45), 0.14, 0.7))
    depth = rng.uniform(0.25, 0.6)
    colour = (1 - 0.6 * depth, 1 - depth, 1 - 0.9 * depth)
    return Artefact("speck", *_somewhere(rng, camera), radius, colour, rng.uniform(0, math.pi), rng.uniform(0.7, 1))


def _bokeh(rng: np.random.Generator, camera: Camera) -> Artefact:
    """Draw dust on the front lens: out of focus, it scatters the flash."""
    grey = rng.uniform(0.03, 0.13)
    return Artefact("bokeh", *_somewhere(rng, camera), rng.uniform(0.5, 1.3), (grey, grey, 0.95 * grey))


def _smear(rng: np.random.Generator, camera: Camera) -> Artefact:
    grey = rng.uniform(0.04, 0.12)
    angle, aspect = rng.uniform(0, math.pi), rng.uniform(0.15, 0.4)
    return Artefact("smear", *_somewhere(rng, camera), rng.uniform(5, 11), (grey, grey, grey), angle, aspect)


def _dead_pixel(rng: np.random.Generator, camera: Camera) -> Artefact:
    colour = ((1.0, 0.1, 0.1), (0.1, 1.0, 0.2), (0.2, 0.2, 1.0), (-1.0, -1.0, -1.0))[int(rng.integers(4))]
    return Artefact("dead pixel", *_somewhere(rng, camera), 0.0, colour)


@dataclass(frozen=True)
class Conditions:
    """How the taking of one photograph went."""

    quality: Quality
    blur: float
    """defocus and motion, degrees"""
    exposure: float
    """1 is right"""
    haze: float
    """share of the light that the media scatter"""
    tilt: tuple[float, float]
    """how much the flash favours one side"""
    lashes: int
    rim: float
    """strength of the coloured crescents at the rim"""


def draw_conditions(rng: np.random.Generator, quality: Quality, age: float) -> Conditions:
    """Draw what is wrong with a photograph of that quality; old media scatter more."""
    blur, exposure, haze = rng.uniform(0.02, 0.07), rng.uniform(0.85, 1.15), rng.uniform(0.0, 0.06)
    haze += max(age - 55, 0) / 40 * rng.uniform(0.0, 0.22)
    lashes = 0
    faults = {"good": 0, "usable": int(rng.integers(1, 3)), "reject": int(rng.integers(1, 4))}[quality]
    worse = quality == "reject"
    for fault in rng.choice(["blur", "dark", "bright", "haze", "lashes"], faults, replace=False, p=FAULT_SHARES):
        if fault == "blur":
            blur = rng.uniform(0.5, 1.1) if worse else rng.uniform(0.13, 0.26)
        elif fault == "dark":
            exposure = rng.uniform(0.12, 0.28) if worse else rng.uniform(0.4, 0.65)
        elif fault == "bright":
            exposure = rng.uniform(2.3, 3.2) if worse else rng.uniform(1.35, 1.6)
        elif fault == "haze":
            haze = rng.uniform(0.72, 0.9) if worse else rng.uniform(0.3, 0.48)
        else:
            lashes = int(rng.integers(14, 26)) if worse else int(rng.integers(4, 9))
    tilt = rng.normal(0, 0.14 if quality == "good" else 0.22, 2)
    rim = rng.uniform(0.1, 0.5) * (1.6 if worse else 1.0) if rng.random() < 0.55 else 0.0
    return Conditions(quality, blur, exposure, haze, (float(tilt[0]), float(tilt[1])), lashes, rim)


FAULT_SHARES: Final = (0.28, 0.22, 0.08, 0.27, 0.15)


def photograph(
    rng: np.random.Generator,
    scene: Float[np.ndarray, "size size 3"],
    view: View,
    camera: Camera,
    conditions: Conditions,
    artefacts: tuple[Artefact, ...],
) -> UInt8[np.ndarray, "size size 3"]:
    """Return the photograph (RGB) that a camera takes of a retina.

    Args:
        rng: source of the crescents, lashes and noise of this one photograph.
        scene: what the retina reflects, RGB, 0 to 1.
        view: where it looks.
        camera: the camera model.
        conditions: how the taking went.
        artefacts: what is on lens and sensor.
    """
    axis = (np.arange(view.size, dtype=np.float32) - (view.size - 1) / 2) / (view.radius * view.size)
    across, down = axis[None, :], axis[:, None]
    distance = np.sqrt(across * across + down * down)
    light = _optics(scene, view, camera, conditions)
    light *= tripled(_illumination(across, down, distance, camera, conditions))
    if conditions.rim > 0:
        _add_crescents(rng, light, across, down, distance, conditions.rim * min(conditions.exposure, 1.0))
    if conditions.lashes:
        light *= tripled(_lash_shadow(rng, view, conditions.lashes))
    for artefact in artefacts:
        if artefact.kind != "dead pixel":
            _add_artefact(light, artefact, view, conditions.exposure)
    value = _develop(light, camera)
    value += np.float32(camera.noise) * _grain(rng, view.size) * cv2.sqrt(2 * np.maximum(value, 0.02))
    for artefact in artefacts:
        if artefact.kind == "dead pixel":
            value[_pixel(artefact.y, view.size), _pixel(artefact.x, view.size)] += np.array(artefact.colour, np.float32)
    value[~aperture(view, camera)] = camera.black
    return np.clip(value * 255 + 0.5, 0, 255).astype(np.uint8)


def _pixel(share: float, size: int) -> int:
    return min(int(share * size), size - 1)


def aperture(view: View, camera: Camera) -> Bool[np.ndarray, "size size"]:
    """Return where a photograph has light: a disc, cut above and below by some cameras, with their mark at its rim."""
    axis = (np.arange(view.size, dtype=np.float32) - (view.size - 1) / 2) / (view.radius * view.size)
    across, down = axis[None, :], axis[:, None]
    open_ = (across * across + down * down < 1) & (np.abs(down) < camera.clip)
    if camera.notch == "none":
        return open_
    # The mark sits at the upper right, whichever eye it is: it belongs to the sensor.
    turn = math.radians(-38)
    along = across * math.cos(turn) + down * math.sin(turn)
    beside = np.abs(down * math.cos(turn) - across * math.sin(turn))
    if camera.notch == "tab":
        return open_ | ((beside < 0.05) & (along > 0.9) & (along < 1.05))
    return open_ & ~((along > 0.95) & (beside < (along - 0.95) * 1.2))


def _optics(scene: np.ndarray, view: View, camera: Camera, conditions: Conditions) -> np.ndarray:
    sigma = math.hypot(camera.blur, conditions.blur) * view.pixels_per_degree
    light = cv2.GaussianBlur(scene, (0, 0), max(sigma, 0.3))
    if conditions.haze > 0.02:
        haze = conditions.haze
        veil = 0.825 * np.array(cv2.mean(light)[:3]) + np.array([0.16, 0.17, 0.12])
        wide = _wide_blur(light, 2.0 * view.pixels_per_degree)
        light = cv2.addWeighted(light, 1 - haze, wide, 0.4 * haze, 0)
        light = cv2.add(light, (*(0.6 * haze * veil).tolist(), 0.0))
    return light


def _wide_blur(light: np.ndarray, sigma: float) -> np.ndarray:
    """Blur at a quarter of the resolution: indistinguishable at these widths, and many times faster."""
    size = light.shape[0]
    small = cv2.resize(light, (size // 4, size // 4), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / 4), (size, size)), np.float32)


def _illumination(
    across: np.ndarray, down: np.ndarray, distance: np.ndarray, camera: Camera, conditions: Conditions
) -> np.ndarray:
    fall = 1 - np.float32(camera.vignette) * np.clip(distance, 0, 1) ** 2.6
    slope = 1 + np.float32(conditions.tilt[0]) * across + np.float32(conditions.tilt[1]) * down
    return np.asarray(fall * np.maximum(slope, 0.2) * np.float32(conditions.exposure), np.float32)


def _add_crescents(
    rng: np.random.Generator,
    light: np.ndarray,
    across: np.ndarray,
    down: np.ndarray,
    distance: np.ndarray,
    strength: float,
) -> None:
    """Add the coloured light that iris and eyelid throw onto the rim."""
    for _ in range(int(rng.integers(1, 3))):
        towards = rng.uniform(0, 2 * math.pi)
        facing = (across * math.cos(towards) + down * math.sin(towards)) / np.maximum(distance, 1e-3)
        begin = rng.uniform(0.6, 0.85)
        band = np.clip((distance - begin) / (1.0 - begin), 0, 1) ** 2 * np.clip(facing * 0.8 + 0.2, 0, 1)
        colours = ((0.55, 0.75, 0.45), (0.4, 0.45, 0.8), (0.85, 0.6, 0.4), (0.75, 0.75, 0.65))
        colour = np.array(colours[int(rng.integers(len(colours)))], np.float32)
        light += spread((strength * band).astype(np.float32), colour)


def _lash_shadow(rng: np.random.Generator, view: View, count: int) -> np.ndarray:
    """Return the shadow of lashes that hang in from above or below, out of focus, and of the lid behind them."""
    size = view.size
    shadow = np.zeros((size, size), np.float32)
    below = rng.random() < 0.5
    for _ in range(count):
        x = rng.uniform(0.1, 0.9) * size
        length, lean, bow = rng.uniform(0.15, 0.42) * size, rng.normal(0, 0.25), rng.normal(0, 0.15)
        t = np.linspace(0, 1, 12)
        points = np.stack([x + (lean * t + bow * t * t) * length, t * length], axis=1)
        if below:
            points[:, 1] = size - 1 - points[:, 1]
        thick = max(1, round(size * rng.uniform(0.006, 0.014)))
        cv2.polylines(shadow, [points.astype(np.int32)], False, rng.uniform(0.35, 0.75), thick, cv2.LINE_AA)
    lid = np.clip(1 - np.arange(size, dtype=np.float32) / (size * min(0.012 * count, 0.3)), 0, 1)
    shadow = np.maximum(shadow, (lid[::-1] if below else lid)[:, None])
    return 1 - cv2.GaussianBlur(shadow, (0, 0), 0.013 * size)


def _add_artefact(light: np.ndarray, artefact: Artefact, view: View, exposure: float) -> None:
    scale = view.pixels_per_degree
    centre = artefact.x * view.size - 0.5, artefact.y * view.size - 0.5
    long = max(artefact.radius * scale, 0.7)
    reach = math.ceil(2.5 * long + 2)
    rows = slice(max(round(centre[1]) - reach, 0), max(round(centre[1]) + reach + 1, 0))
    columns = slice(max(round(centre[0]) - reach, 0), max(round(centre[0]) + reach + 1, 0))
    height, width = light[rows, columns].shape[:2]
    dx = np.arange(columns.start, columns.start + width, dtype=np.float32)[None, :] - np.float32(centre[0])
    dy = np.arange(rows.start, rows.start + height, dtype=np.float32)[:, None] - np.float32(centre[1])
    cos, sin = math.cos(artefact.angle), math.sin(artefact.angle)
    u, v = (dx * cos + dy * sin) / long, (dy * cos - dx * sin) / (long * artefact.aspect)
    distance = np.sqrt(u * u + v * v)[..., None]
    colour = np.array(artefact.colour, np.float32)
    if artefact.kind == "speck":
        cover = np.clip((1 - distance) * long / max(0.12 * scale, 0.8) + 0.5, 0, 1)
        light[rows, columns] *= 1 - cover * (1 - colour)
        return
    glow = np.clip((1 - distance) * 2.5 + 0.5, 0, 1) * (0.6 + 0.4 * distance)
    if artefact.kind == "smear":
        glow = np.exp(-2 * distance * distance)
    light[rows, columns] += np.float32(exposure) * glow * colour


def _develop(light: np.ndarray, camera: Camera) -> np.ndarray:
    """Return what the camera makes of the light: colour, shoulder, contrast, sharpening."""
    mix = camera.saturation * np.eye(3) + (1 - camera.saturation) / 3
    value = np.maximum(cv2.transform(light, (mix * np.array(camera.gain)).astype(np.float32)), 0)
    # Above three quarters the film's shoulder: highlights bend instead of breaking off.
    high = value > 0.75
    value[high] = 0.75 + 0.25 * np.tanh((value[high] - 0.75) / 0.25)
    value = cv2.pow(value, camera.gamma)
    if camera.sharpening > 0:
        soft = cv2.GaussianBlur(value, (0, 0), max(value.shape[0] / 256, 0.8))
        value = value + np.float32(camera.sharpening) * (value - soft)
    return np.asarray(value, np.float32)


def _grain(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return noise of unit deviation, mostly common to the three colours, and slightly coarse as JPEG leaves it."""
    # Uniform numbers cost a thirtieth of normal ones, and the blur makes them all but normal.
    planes = math.sqrt(12) * (rng.random((4, size, size), dtype=np.float32) - 0.5)
    noise = cv2.merge([0.8 * planes[0] + 0.6 * planes[1 + channel] for channel in range(3)])
    return np.asarray(1.7 * cv2.GaussianBlur(noise, (0, 0), 0.6), np.float32)
