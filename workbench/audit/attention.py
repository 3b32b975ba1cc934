"""Where the maps of a run lie: on marked or found lesions, on optic disc and fovea, at the rim. No torch here."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from workbench.audit import layout
from workbench.audit.plan import units_of
from workbench.audit.results import Run, maps_id
from workbench.data.crop import CropGeometry
from workbench.metrics import localisation
from workbench.schema.grades import EYES
from workbench.schema.lesions import LABELS, LESIONS, OPTIC_DISC
from workbench.schema.seeds import seed_for

ANY_LESION: Final = "any lesion"
FOVEA: Final = "fovea"
RIM, OUTSIDE = "rim", "outside"
"""Kinds of the field: its outermost twentieth, and what lies beyond it."""
RIM_FROM: Final = 0.95

FLOORS: Final = ("floor.random", "floor.edges")
"""Maps that know nothing of the model: smooth noise, and the photograph's own edges. A method must beat both."""

SMOOTHING: Final = 0.01
"""Standard deviation, share of the square: single pixels of a gradient point nowhere. The same for every map."""

DISC_DIAMETER: Final = 0.24
FOVEA_FROM_DISC: Final = (0.69, 0.067)
"""In radii of a field of 45 degrees: the optic disc's diameter, and how far temporal and below it the fovea lies."""

CANVAS: Final = 96
DISC_AT: Final = (0.72, 0.5)
RADII_ACROSS: Final = 2.4
"""The canvas of mean maps: its side in pixels and in radii of the field, and where on it every optic disc lies."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Eye:
    """What is known of one eye: where its square lies in the photograph, and what is marked on it."""

    exam_id: str
    eye: str
    grade: int | None
    geometry: CropGeometry
    field: float
    """Radius, share of the square's side."""
    marks: dict[str, UInt8[np.ndarray, "height width"]]
    """Source (mask, found) → labels; those of a mask over the photograph, those found over the square."""
    photograph: UInt8[np.ndarray, "height width"] | None
    """Green channel of what the model saw."""

    def disc(self) -> Float[np.ndarray, 2] | None:
        """Return the optic disc's centre in shares of the square, by the mask before the detector; None: not known."""
        for source, labels in self.marks.items():
            found = np.argwhere(labels == LABELS.index(OPTIC_DISC))
            if len(found):
                centre = found.mean(axis=0)[::-1] + 0.5
                whole = self.geometry.to_model(centre[None])[0] if source == "mask" else centre
                return np.asarray(whole / (self.geometry.size if source == "mask" else labels.shape[1]))
        return None

    def fovea(self) -> Float[np.ndarray, 2] | None:
        """Return where the fovea is expected: temporal of the disc and a little below."""
        disc = self.disc()
        temporal = -1 if self.eye == EYES[0] else 1  # on a photograph, the right eye's disc lies to the right
        away = np.array([temporal * FOVEA_FROM_DISC[0], FOVEA_FROM_DISC[1]]) * self.field
        return None if disc is None else disc + away


def attention_tables(run: Run, withheld: Collection[str] = ()) -> tuple[list[Row], list[Row]]:
    """Return the rows of `ATTENTION_SCHEMA` and of `MEAN_MAPS_SCHEMA`.

    Args:
        run: with its maps; one that is withheld has no part in either table.
        withheld: kinds of maps that are withheld as a whole: measured, so that they can be compared with the others,
            but without a mean map, which is a picture.
    """
    rows: list[Row] = []
    sums: dict[tuple[str, int | None], _Mean] = defaultdict(_Mean)
    sources = [one.id for one in run.manifest.measurements if one.kind in ("masks", "lesions")]
    tables = run.eyes().set_index(["exam_id", "eye"])
    for method in run.methods():
        for exam_id, name, heat in _shown_maps(run, method):
            one = _eye(run, tables.loc[(exam_id, name)], exam_id, name, sources)
            own = _smooth(np.maximum(heat, 0))
            maps = {method: own, **(_floors(one, heat.shape) if method == run.methods()[0] else {})}
            for of, values in maps.items():
                rows += [{"exam_id": exam_id, "eye": name, "method": of, **row} for row in _eye_rows(one, values)]
            if method not in withheld:
                _add(sums, method, one, own)
    means = [row for (method, grade), mean in sums.items() if (row := mean.row(method, grade)) is not None]
    return rows, means


def _shown_maps(run: Run, method: str) -> Iterator[tuple[str, str, Float[np.ndarray, "height width"]]]:
    for unit in units_of(run.manifest, run.exam_ids, run.manifest.measurement(maps_id(method))):
        for row in run.part(maps_id(method), unit.chunk).to_dict("records"):
            heat = layout.unpack_map(row) if isinstance(row["values"], bytes) else None
            if heat is not None and pd.isna(row["withheld"]):
                yield row["exam_id"], row["eye"], heat


def _eye(run: Run, row: pd.Series, exam_id: str, name: str, sources: list[str]) -> Eye:
    spec = run.manifest.card.preprocess
    place = (float(row["crop_x"]), float(row["crop_y"]), float(row["crop_side"]))
    geometry = CropGeometry(*place, int(row["photo_width"]), int(row["photo_height"]), spec.size)
    marks = {}
    for source in sources:
        labels = run.marks(source, exam_id, name)
        if labels is not None:
            marks["mask" if source == layout.MASKS else "found"] = labels
    jpeg = run.photograph(exam_id, name)
    green = None
    if jpeg is not None:
        with Image.open(io.BytesIO(jpeg)) as image:
            green = np.asarray(image.convert("RGB"))[..., 1]
    grade = None if pd.isna(row["icdr_grade"]) else int(row["icdr_grade"])
    return Eye(exam_id, name, grade, geometry, 0.5 / (1 + spec.margin), marks, green)


def _smooth(heat: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    return np.asarray(cv2.GaussianBlur(heat.astype(np.float32), (0, 0), SMOOTHING * heat.shape[1]))


def _floors(one: Eye, shape: tuple[int, ...]) -> dict[str, Float[np.ndarray, "height width"]]:
    noise = np.random.default_rng(seed_for("floor", one.exam_id, one.eye)).normal(size=shape).astype(np.float32)
    found = {FLOORS[0]: np.maximum(cv2.GaussianBlur(noise, (0, 0), 3 * SMOOTHING * shape[1]), 0)}
    if one.photograph is not None:
        green = one.photograph.astype(np.float32)
        edges = np.hypot(cv2.Sobel(green, cv2.CV_32F, 1, 0), cv2.Sobel(green, cv2.CV_32F, 0, 1))
        inside = circle(len(edges), (0.5, 0.5), one.field * RIM_FROM)
        found[FLOORS[1]] = _smooth(np.where(inside, edges, 0))
    return found


def circle(size: int, centre: tuple[float, float], radius: float) -> Bool[np.ndarray, "size size"]:
    """Return the pixels of a square within ``radius`` of ``centre``, both in shares of its side."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2


def _eye_rows(one: Eye, heat: Float[np.ndarray, "height width"]) -> Iterator[Row]:
    size = len(heat)
    field = circle(size, (0.5, 0.5), one.field)
    inner = circle(size, (0.5, 0.5), one.field * RIM_FROM)
    for kind, where in ((RIM, field & ~inner), (OUTSIDE, ~field)):
        area = float(where.sum() / field.sum())
        yield {"source": "field", "kind": kind, "area": area, "energy": localisation.energy_share(heat, where)}
    fovea = one.fovea()
    if fovea is not None:
        near = circle(size, (float(fovea[0]), float(fovea[1])), DISC_DIAMETER * one.field) & field
        area = float(near.sum() / field.sum())
        source = next(iter(one.marks))
        yield {"source": source, "kind": FOVEA, "area": area, "energy": localisation.energy_share(heat, near)}
    for source, labels in one.marks.items():
        yield from _marked_rows(one, source, labels, heat)


def _marked_rows(
    one: Eye, source: str, labels: UInt8[np.ndarray, "rows columns"], heat: Float[np.ndarray, "height width"]
) -> Iterator[Row]:
    """Yield a kind's rows, at the mark's own pixels: a mask's are those of the photograph as taken."""
    if source == "mask":
        laid = one.geometry.lay_map_on_photo(heat)
        middle = np.array([one.geometry.x, one.geometry.y]) + one.geometry.side / 2
        y, x = np.ogrid[: labels.shape[0], : labels.shape[1]]
        radius = one.field * one.geometry.side
        field = (x + 0.5 - middle[0]) ** 2 + (y + 0.5 - middle[1]) ** 2 <= radius**2
        if laid.shape != labels.shape:
            return
    else:
        laid = cv2.resize(heat.astype(np.float32), labels.shape[::-1], interpolation=cv2.INTER_LINEAR)
        radius, field = one.field * len(labels), circle(len(labels), (0.5, 0.5), one.field)
    rows = np.flatnonzero(field.any(axis=1))
    columns = np.flatnonzero(field.any(axis=0))
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    laid, field, labels = laid[window], field[window], labels[window]
    laid = np.where(field, laid, 0)
    for kind in (ANY_LESION, *LESIONS, OPTIC_DISC):
        wanted = [LABELS.index(kind)] if kind != ANY_LESION else list(range(1, LABELS.index(OPTIC_DISC)))
        marked = np.isin(labels, wanted) & field
        if not marked.any():
            continue
        reached = localisation.lesions_reached(laid, marked, field)
        yield {
            "source": source,
            "kind": kind,
            "area": float(marked.sum() / field.sum()),
            "energy": localisation.energy_share(laid, marked),
            "average_precision": localisation.average_precision(laid[field], marked[field]),
            "overlap": localisation.overlap_at_equal_area(laid[field], marked[field]),
            "pointing": localisation.pointing_hit(laid, marked, tolerance=2 * radius / 100),
            "lesions": reached.lesions,
            "looked_at": reached.looked_at,
        }


class _Mean:
    """A running mean of attention on one canvas: density over the field's mean, where the field is."""

    def __init__(self) -> None:
        self.eyes = 0
        self.total = np.zeros((CANVAS, CANVAS))
        self.covered = np.zeros((CANVAS, CANVAS))

    def row(self, method: str, grade: int | None) -> Row | None:
        """Return the row of `MEAN_MAPS_SCHEMA`; a place that fewer than half of the eyes show is NaN."""
        if not self.eyes:
            return None
        seen = self.covered >= self.eyes / 2
        mean = np.where(seen, self.total / np.maximum(self.covered, 1e-6), 0).astype(np.float32)
        return {"method": method, "grade": grade, "eyes": self.eyes, **layout.pack_map(np.where(seen, mean, -1))}


def _add(sums: dict[tuple[str, int | None], _Mean], method: str, one: Eye, heat: Float[np.ndarray, "h w"]) -> None:
    """Lay one eye's attention on the canvas, by its disc; a left eye is mirrored here, and nowhere else."""
    disc = one.disc()
    field = circle(len(heat), (0.5, 0.5), one.field)
    level = float(heat[field].mean())
    if disc is None or level <= 0:
        return
    scale = CANVAS / (RADII_ACROSS * one.field * len(heat))
    turn = -1.0 if one.eye == EYES[1] else 1.0
    at = np.array(DISC_AT) * CANVAS - np.array([turn, 1.0]) * scale * (disc * len(heat) - 0.5) - 0.5
    across = np.array([[turn * scale, 0, at[0]], [0, scale, at[1]]])
    density = cv2.warpAffine(np.where(field, heat / level, 0).astype(np.float32), across, (CANVAS, CANVAS))
    covered = cv2.warpAffine(field.astype(np.float32), across, (CANVAS, CANVAS))
    for grade in (None, *(() if one.grade is None else (one.grade,))):
        mean = sums[method, grade]
        mean.eyes += 1
        mean.total += density
        mean.covered += covered
