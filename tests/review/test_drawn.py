from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.review.drawn import LESION_KINDS, Drawn, GridPlace, Mark, Measurement, from_browser, to_browser

SQUARES = {"OD": (100.0, -50.0, 2000.0), "OS": (0.0, 0.0, 512.0)}
points = st.tuples(st.floats(-3000, 9000), st.floats(-3000, 9000))
eyes = st.sampled_from(("OD", "OS"))
names = st.text("abcdef0123456789-", min_size=1, max_size=12)
marks = st.builds(
    Mark, id=names, eye=eyes, kind=st.sampled_from(list(LESION_KINDS)), points=st.lists(points, min_size=1).map(tuple)
)
rulers = st.builds(Measurement, id=names, eye=eyes, start=points, end=points)
grids = st.builds(
    GridPlace, fovea=st.none() | points, disc=st.none() | points, disc_diameter=st.none() | st.floats(1, 5000)
)
drawings = st.builds(
    Drawn,
    marks=st.lists(marks, max_size=4).map(tuple),
    measurements=st.lists(rulers, max_size=3).map(tuple),
    grids=st.dictionaries(eyes, grids),
)


def flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [part for key in sorted(value) for part in [key, *flat(value[key])]]
    if isinstance(value, list):
        return [part for one in value for part in flat(one)]
    return [value]


@given(drawings)
def test_what_is_drawn_goes_to_the_browser_and_back_and_through_json(drawn: Drawn) -> None:
    assert Drawn.model_validate_json(drawn.model_dump_json()) == drawn
    said = json.loads(json.dumps(to_browser(drawn, SQUARES)))
    back = from_browser({"draft": "d", **said}, SQUARES)
    assert back is not None
    found, wanted = flat(back.model_dump(mode="json")), flat(drawn.model_dump(mode="json"))
    numbers = [place for place, one in enumerate(wanted) if isinstance(one, float)]
    assert [found[place] for place in numbers] == pytest.approx(
        [wanted[place] for place in numbers], rel=1e-9, abs=1e-6
    )
    for place in numbers:
        found[place] = wanted[place]
    assert found == wanted


def test_shares_of_the_square_are_the_photographs_pixels() -> None:
    said = {
        "marks": [{"id": "a", "eye": "OD", "kind": "drusen", "points": [[0.5, 0.25]]}],
        "measurements": [{"id": "b", "eye": "OS", "start": [0, 0], "end": [0.75, 1]}],
        "grids": {"OD": {"fovea": [0, 0], "disc": None, "disc_diameter": 0.1}},
    }
    drawn = from_browser(said, SQUARES)
    assert drawn is not None
    assert drawn.marks[0].points == ((1100.0, 450.0),)
    assert drawn.marks[0].shape == "point"
    assert drawn.measurements[0].pixels == pytest.approx(512 * 1.25)
    assert drawn.grids["OD"] == GridPlace(fovea=(100.0, -50.0), disc_diameter=200.0)


def test_an_eye_without_a_photograph_is_left_out() -> None:
    drawn = Drawn(marks=(Mark(id="a", eye="OS", kind="other", points=((1.0, 1.0),)),))
    assert to_browser(drawn, {"OD": SQUARES["OD"]})["marks"] == []


GOOD = {"id": "a", "eye": "OD", "kind": "drusen", "points": [[0.5, 0.5]]}


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "<script>"},
        {"id": "<img src=x>"},
        {"id": "a" * 41},
        {"eye": "OX", "points": []},
        {"points": []},
        {"points": [[0.5]]},
        {"points": [[float("nan"), 0.5]]},
        {"points": [[1e9, 0.5]]},
        {"points": [["a", "b"]]},
        {"points": [[0.5, 0.5]] * 2001},
        {"extra": 1},
    ],
    ids=str,
)
def test_what_is_not_of_the_form_is_no_drawing(bad: dict[str, Any]) -> None:
    assert from_browser({"marks": [GOOD], "measurements": [], "grids": {}}, SQUARES) is not None
    found = from_browser({"marks": [{**GOOD, **bad}], "measurements": [], "grids": {}}, SQUARES)
    assert found is None or (bad.get("eye") == "OX" and not found.marks)


@pytest.mark.parametrize(
    "said", [None, "x", [], {}, {"marks": 3}, {"marks": [1], "measurements": [], "grids": {}}], ids=str
)
def test_nonsense_is_no_drawing(said: Any) -> None:
    assert from_browser(said, SQUARES) is None


def test_too_many_marks_are_refused() -> None:
    many = [{**GOOD, "id": f"m{number}"} for number in range(1001)]
    assert from_browser({"marks": many, "measurements": [], "grids": {}}, SQUARES) is None
