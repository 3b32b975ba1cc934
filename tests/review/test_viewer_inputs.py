from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from workbench.audit.results import Run, open_run
from workbench.review.cases import CaseBook
from workbench.review.drawn import Drawn, Mark
from workbench.review.panes import OTHER_VISIT, viewer_inputs
from workbench.review.pictures import Originals
from workbench.review.viewer import MAGIC, ViewerInputs, message


@pytest.fixture(scope="module")
def run(finished_run: Path) -> Run:
    return open_run(finished_run)


def inputs_of(run: Run, exam_id: str, **options: Any) -> ViewerInputs:
    return viewer_inputs(run, Originals(None), CaseBook(run).case(exam_id), **options)


def read(sent: bytes) -> tuple[dict[str, Any], bytes]:
    assert sent[:4] == MAGIC
    length = int.from_bytes(sent[4:8], "little")
    return json.loads(sent[8 : 8 + length]), sent[8 + length :]


def test_od_stands_first_and_maps_lie_on_what_the_model_saw(run: Run) -> None:
    right, left = inputs_of(run, "exam-006").panes
    assert (right.eye, left.eye) == ("OD", "OS")
    assert right.square == (10.5, -3.25, 700.0)  # marks are counted in the photograph's pixels, whatever is shown
    assert right.shown is not None
    assert right.shown.picture.crop == (0.0, 0.0, 64.0)
    assert right.about == "64 × 64 pixels, as the model saw it"
    assert [layer.method for layer in right.maps] == ["integrated_gradients", "grad_cam"]
    assert right.maps[0].largest == left.maps[0].largest > 0
    assert right.maps[0].units == "change of P(referable) per pixel of the model's input"
    assert right.maps[1].units == "relative evidence, no units"


def test_a_withheld_map_is_a_reason_and_never_a_map(run: Run) -> None:
    right, left = inputs_of(run, "exam-004").panes
    assert right.maps[0].png is None
    assert "miss the logit" in right.maps[0].withheld
    assert left.maps[0].png is not None
    assert left.maps[0].withheld == ""
    head, _ = read(message(inputs_of(run, "exam-004")))
    assert head["panes"][0]["maps"][0]["file"] is None


def test_a_missing_and_an_ungradable_eye_say_why(run: Run) -> None:
    missing = inputs_of(run, "exam-001").panes[1]
    assert (missing.shown, missing.status, missing.reason) == (None, "missing", "no photograph")
    ungradable = inputs_of(run, "exam-002").panes[0]
    assert (ungradable.status, ungradable.reason) == ("ungradable", "no disc")
    assert inputs_of(run, "exam-001").squares.keys() == {"OD"}


def test_without_the_model_nothing_of_it_travels(run: Run) -> None:
    blinded = inputs_of(run, "exam-006", with_model=False)
    head, _ = read(message(blinded))
    assert all(pane["answer"] is None and pane["maps"] == [] and not pane["no_answer"] for pane in head["panes"])
    assert "referable" not in json.dumps(head)


def test_another_visit_is_a_comparison_of_the_same_eye(run: Run) -> None:
    earlier = CaseBook(run).case("exam-001")
    right, left = inputs_of(run, "exam-006", other=earlier).panes
    assert right.shown is not None
    assert right.shown.label == "This visit"
    assert right.comparisons[0].name == OTHER_VISIT
    assert right.comparisons[0].after is not None
    assert right.comparisons[0].after.picture.jpeg != right.shown.picture.jpeg
    assert left.comparisons[0].after is None  # that visit has no left eye


def test_the_message_holds_every_file_where_its_head_says(run: Run) -> None:
    inputs = inputs_of(run, "exam-006")
    head, files = read(message(inputs))
    for pane, described in zip(inputs.panes, head["panes"], strict=True):
        assert pane.shown is not None
        begins, length = described["shown"]["file"]
        assert files[begins : begins + length] == pane.shown.picture.jpeg
        for layer, told in zip(pane.maps, described["maps"], strict=True):
            begins, length = told["file"]
            assert files[begins : begins + length] == layer.png
    assert sum(
        file[1] for pane in head["panes"] for file in [pane["shown"]["file"], *(m["file"] for m in pane["maps"])]
    ) == len(files)


def test_what_is_drawn_later_changes_neither_message_nor_version(run: Run) -> None:
    inputs = inputs_of(run, "exam-006")
    mark = Mark(id="a", eye="OD", kind="drusen", points=((20.0, 30.0),))
    drawn = replace(inputs, drawn=Drawn(marks=(mark,)))
    assert message(drawn, Drawn()) == message(inputs)
    assert read(message(drawn))[0]["version"] == read(message(inputs))[0]["version"]
    assert read(message(drawn))[0]["drawn"]["marks"][0]["points"] == [[(20 - 10.5) / 700, (30 + 3.25) / 700]]
    other = replace(inputs, draft="another reader")
    assert read(message(other))[0]["version"] != read(message(inputs))[0]["version"]


def test_jpegs_in_the_message_carry_no_segments_but_pixels(run: Run) -> None:
    shown = inputs_of(run, "exam-006").panes[0].shown
    assert shown is not None
    image = Image.open(io.BytesIO(shown.picture.jpeg))
    assert not image.getexif()
    assert "comment" not in image.info
    assert np.asarray(image).max() > 100


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
def test_before_anything_is_drawn_the_page_gets_back_what_it_gave() -> None:
    def page() -> None:
        import streamlit as st

        from workbench.review.drawn import Drawn, Mark
        from workbench.review.viewer import EyePane, ViewerInputs, viewer

        panes = tuple(EyePane(eye, eye, (0.0, 0.0, 1.0), status="missing") for eye in ("OD", "OS"))
        mark = Mark(id="a", eye="OD", kind="drusen", points=((1.0, 2.0),))
        inputs = ViewerInputs(exam="e", panes=(panes[0], panes[1]), drawn=Drawn(marks=(mark,)))
        st.text(viewer(inputs).model_dump_json())

    app = AppTest.from_function(page, default_timeout=60).run()
    assert not app.exception
    assert json.loads(app.text[0].value)["marks"][0]["points"] == [[1.0, 2.0]]
