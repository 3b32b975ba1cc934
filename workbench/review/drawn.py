"""What a reader draws on a photograph, in its pixels: lesion marks, rulers, the place of the ETDRS grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

LESION_KINDS: Final = {
    "microaneurysm": ("MA", "Microaneurysm"),
    "haemorrhage": ("H", "Haemorrhage"),
    "hard_exudate": ("EX", "Hard exudate"),
    "cotton_wool_spot": ("CWS", "Cotton-wool spot"),
    "irma": ("IRMA", "Intraretinal microvascular abnormality"),
    "venous_beading": ("VB", "Venous beading"),
    "neovascularisation": ("NV", "Neovascularisation"),
    "preretinal_haemorrhage": ("PRH", "Preretinal or vitreous haemorrhage"),
    "fibrous_proliferation": ("FP", "Fibrous proliferation"),
    "laser_scar": ("L", "Laser scar"),
    "drusen": ("DR", "Drusen"),
    "artefact": ("ART", "Artefact"),
    "other": ("?", "Other"),
}
"""Kind → what stands beside a mark, and its name in the list of kinds."""

MOST_MARKS: Final = 1000
MOST_POINTS: Final = 2000
"""Of one exam and of one outline; what comes from a browser is bounded."""

Square = tuple[float, float, float]
"""x, y and side of the square that the model saw, in pixels of the photograph as taken."""


def _known(kind: str) -> str:
    if kind not in LESION_KINDS:
        raise ValueError(f"no such kind of lesion: {kind!r}")
    return kind


def _near(value: float) -> float:
    if not math.isfinite(value) or abs(value) > 1e6:
        raise ValueError("lies nowhere near a photograph")
    return value


Coordinate = Annotated[float, AfterValidator(_near)]
Point = tuple[Coordinate, Coordinate]
"""x and y in pixels of the photograph as taken, upright, from the upper left corner."""
Eye = Literal["OD", "OS"]
Name = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[\w-]+$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Mark(_Frozen):
    """One lesion: a point, or an outline of three points or more."""

    id: Name
    eye: Eye
    kind: Annotated[str, AfterValidator(_known)]
    points: Annotated[tuple[Point, ...], Field(min_length=1, max_length=MOST_POINTS)]

    @property
    def shape(self) -> Literal["point", "outline"]:
        """Whether one place or an area was marked."""
        return "point" if len(self.points) == 1 else "outline"


class Measurement(_Frozen):
    """One ruler, from end to end."""

    id: Name
    eye: Eye
    start: Point
    end: Point

    @property
    def pixels(self) -> float:
        """Length in pixels of the photograph as taken."""
        return math.dist(self.start, self.end)


class GridPlace(_Frozen):
    """Where an eye's ETDRS grid stands; without a disc, its scale is assumed from the field."""

    fovea: Point | None = None
    disc: Point | None = None
    disc_diameter: Annotated[float, Field(gt=0, le=1e5)] | None = None


class Drawn(_Frozen):
    """Everything that one reader drew on one exam."""

    marks: Annotated[tuple[Mark, ...], Field(max_length=MOST_MARKS)] = ()
    measurements: Annotated[tuple[Measurement, ...], Field(max_length=MOST_MARKS)] = ()
    grids: dict[Eye, GridPlace] = Field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether anything was drawn."""
        return bool(self.marks or self.measurements or self.grids)


def to_browser(drawn: Drawn, squares: Mapping[str, Square]) -> dict[str, Any]:
    """Return what was drawn as plain JSON, in shares of each eye's square; an eye without a square is left out."""
    return _moved(drawn.model_dump(mode="json"), squares, lambda square: _into_square(*square))


def from_browser(said: Any, squares: Mapping[str, Square]) -> Drawn | None:
    """Return what a browser says was drawn; None where it is not of this form, whoever wrote it."""
    try:
        return Drawn.model_validate(_moved(said, squares, lambda square: _out_of_square(*square)))
    except (ValidationError, TypeError, LookupError, ValueError, AttributeError):
        return None


Move = Callable[[Any], Any]


def _moved(said: dict[str, Any], squares: Mapping[str, Square], way: Callable[[Square], tuple[Move, Move]]) -> Any:
    move = {eye: way(square) for eye, square in squares.items()}
    marks = [
        {**mark, "points": [*map(move[mark["eye"]][0], mark["points"])]}
        for mark in said["marks"]
        if mark["eye"] in move
    ]
    rulers = [
        {**one, "start": move[one["eye"]][0](one["start"]), "end": move[one["eye"]][0](one["end"])}
        for one in said["measurements"]
        if one["eye"] in move
    ]
    grids = {eye: _moved_grid(place, *move[eye]) for eye, place in said["grids"].items() if eye in move}
    return {"marks": marks, "measurements": rulers, "grids": grids}


def _moved_grid(place: dict[str, Any], point: Move, length: Move) -> dict[str, Any]:
    moves = {"fovea": point, "disc": point, "disc_diameter": length}
    return {name: None if place.get(name) is None else move(place[name]) for name, move in moves.items()}


def _into_square(x: float, y: float, side: float) -> tuple[Move, Move]:
    return lambda point: [(point[0] - x) / side, (point[1] - y) / side], lambda length: length / side


def _out_of_square(x: float, y: float, side: float) -> tuple[Move, Move]:
    return lambda point: [x + float(point[0]) * side, y + float(point[1]) * side], lambda length: float(length) * side
