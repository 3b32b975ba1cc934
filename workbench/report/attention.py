"""Where the maps lie over a cohort: on lesions against the floors, at the rim, around optic disc and fovea."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from workbench.audit import layout
from workbench.audit.attention import (
    ANY_LESION,
    CANVAS,
    DISC_AT,
    DISC_DIAMETER,
    FLOORS,
    FOVEA,
    FOVEA_FROM_DISC,
    OUTSIDE,
    RADII_ACROSS,
    RIM,
)
from workbench.audit.results import Run
from workbench.report.figures import Figure, Figures
from workbench.report.pictures import picture_uri
from workbench.schema.grades import GRADES
from workbench.schema.lesions import LESIONS, OPTIC_DISC
from workbench.schema.maps import map_words

SOURCES: Final = {"mask": "lesions that the data set marks", "found": "lesions that an EXPERIMENTAL detector found"}
FLOOR_WORDS: Final = {FLOORS[0]: "Floor: smooth noise", FLOORS[1]: "Floor: edges of the photograph"}
LARGEST: Final = 4.0
"""Mean attention that is drawn in the strongest colour, in multiples of an even spread."""
MEAN_CAPTION: Final = (
    "Mean attention, eyes laid on each other's optic disc (circle), left eyes mirrored; the cross is where the fovea "
    "is expected. Yellow: four times an even spread or more; grey: fewer than half of the eyes show it. A withheld "
    "method has none."
)
DARK, LIGHT = np.array([20, 24, 60.0]), np.array([255, 221, 87.0])


@dataclass(frozen=True)
class OfMethod:
    """A method's or a floor's figures on one source of marks."""

    name: str
    over_area: Figure
    precision: Figure
    pointing: Figure
    looked_at: Figure
    kinds: tuple[tuple[str, Figure], ...]
    """Kind of lesion and optic disc → energy over area."""


@dataclass(frozen=True)
class OfField:
    """How much of a method's maps lies at the rim, outside the field and near the fovea."""

    name: str
    rim: Figure
    outside: Figure
    fovea: Figure


@dataclass(frozen=True)
class MeanPicture:
    """Mean attention of a method over eyes of a grade."""

    method: str
    eyes_of: str
    eyes: int
    uri: str


@dataclass(frozen=True)
class Attention:
    """What the section says."""

    sources: tuple[tuple[str, tuple[OfMethod, ...]], ...]
    field: tuple[OfField, ...]
    means: tuple[MeanPicture, ...]


def attention(run: Run, figures: Figures) -> Attention:
    """Return where a run's maps lie; empty where it has no map."""
    table = run.attention()
    names = {f"maps.{method}": map_words(method) for method in run.methods()}
    names |= {floor: words for floor, words in FLOOR_WORDS.items() if (table["method"] == floor).any()}
    present = set(table["source"])
    sources = tuple(
        (words, tuple(_of_method(figures, measurement, name, source) for measurement, name in names.items()))
        for source, words in SOURCES.items()
        if source in present
    )
    nearest = next((source for source in SOURCES if source in present), "found")
    field = tuple(
        OfField(
            name,
            figures.get("map_energy", measurement, of=RIM),
            figures.get("map_energy", measurement, of=OUTSIDE),
            figures.get("map_energy_over_area", measurement, of=f"{nearest} {FOVEA}"),
        )
        for measurement, name in names.items()
        if len(table)
    )
    return Attention(sources, field, mean_pictures(run))


def _of_method(figures: Figures, measurement: str, name: str, source: str) -> OfMethod:
    def of(row: str, kind: str = ANY_LESION) -> Figure:
        return figures.get(row, measurement, of=f"{source} {kind}")

    kinds = tuple((kind, of("map_energy_over_area", kind)) for kind in (*LESIONS, OPTIC_DISC))
    values = (of("map_energy_over_area"), of("map_average_precision"), of("map_pointing"), of("map_looked_at"))
    return OfMethod(name, *values, kinds)


def mean_pictures(run: Run) -> tuple[MeanPicture, ...]:
    """Return mean attention of each method that is shown, over all eyes and per grade."""
    pictures = []
    for row in run.mean_maps().to_dict("records"):
        values = layout.unpack_map(row)
        if values is None or row["method"] in run.summary.maps_withheld:  # an older run has means of those, too
            continue
        all_eyes = row["grade"] is None or row["grade"] != row["grade"] or str(row["grade"]) == "<NA>"
        eyes_of = "all eyes" if all_eyes else GRADES[int(row["grade"])]
        method = map_words(row["method"])
        pictures.append(MeanPicture(method, eyes_of, int(row["eyes"]), mean_picture(values)))
    return tuple(pictures)


def mean_picture(values: Float[np.ndarray, "height width"]) -> str:
    """Return mean attention as a data URI: dark blue to yellow, a circle on the disc, a cross on the expected fovea."""
    share = np.clip(values / LARGEST, 0, 1)[..., None]
    colours = DARK + (LIGHT - DARK) * np.sqrt(share)
    colours[values < 0] = (236, 236, 234)  # fewer than half of the eyes show this place
    times = 2
    image = Image.fromarray(colours.astype(np.uint8)).resize(
        (times * CANVAS, times * CANVAS), Image.Resampling.BILINEAR
    )
    pen, radius = ImageDraw.Draw(image), times * CANVAS / RADII_ACROSS
    x, y = (times * CANVAS * place for place in DISC_AT)
    half = radius * DISC_DIAMETER / 2
    pen.ellipse((x - half, y - half, x + half, y + half), outline=(255, 255, 255), width=2)
    fovea_x, fovea_y = x - radius * FOVEA_FROM_DISC[0], y + radius * FOVEA_FROM_DISC[1]
    pen.line((fovea_x - 6, fovea_y, fovea_x + 6, fovea_y), fill=(255, 255, 255), width=2)
    pen.line((fovea_x, fovea_y - 6, fovea_x, fovea_y + 6), fill=(255, 255, 255), width=2)
    return picture_uri(image)
