"""A press that breaks a run off loses nothing of the press before it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from streamlit.runtime.scriptrunner import RerunData, RerunException

from workbench.review.form import _Tie
from workbench.review.pictures import Picture
from workbench.review.viewer import EyePane, Shown, ViewerInputs, viewer


class Session(dict[str, Any]):
    """A session state at whose next uses the reader's next presses break the run off, as Streamlit's does."""

    presses = 0

    def __getitem__(self, name: str) -> Any:
        if self.presses:
            self.presses -= 1
            raise RerunException(RerunData())
        return super().__getitem__(name)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    session = Session()
    monkeypatch.setattr("streamlit.session_state", session)
    return session


def broken_off(presses: int) -> Any:
    """Return what is expected of a callback: that press has its turn afterwards."""
    return pytest.raises(RerunException) if presses else nullcontext()


@pytest.mark.parametrize("presses", [0, 1, 2])
def test_a_grade_is_in_the_draft_though_the_next_press_is_here_already(session: Session, presses: int) -> None:
    said, kept = {"grade": 1}, []
    options = _Tie(said, "draft|OD", lambda: kept.append(dict(said)))("grade")
    session[options["key"]], session.presses = 3, presses
    with broken_off(presses):
        options["on_change"]()
    assert kept == [{"grade": 3}]


@pytest.mark.parametrize("presses", [0, 1, 2])
def test_a_stroke_outlives_a_run_that_is_broken_off(
    session: Session, monkeypatch: pytest.MonkeyPatch, presses: int
) -> None:
    """In both places: while the page hears of it, and between its being found and its being returned."""
    callbacks: list[Any] = []

    def mount(*, on_drawn_change: Any, **_: Any) -> dict[str, Any]:
        callbacks.append(on_drawn_change)
        if len(callbacks) == 2:
            raise RerunException(RerunData())
        return {}

    monkeypatch.setattr("streamlit.components.v2.component", lambda *_, **__: mount)
    square = (0.0, 0.0, 100.0)
    right = Shown("Photograph", Picture(b"", 100, 100, square, original=True, native=True))
    panes = (EyePane("OD", "OD", square, right), EyePane("OS", "OS", square, status="missing"))
    inputs = ViewerInputs(exam="e", draft="reader|e", panes=panes)
    assert viewer(inputs) == inputs.drawn
    stroke = {"id": "a", "eye": "OD", "kind": "drusen", "points": [[0.5, 0.25]]}
    session["viewer"] = {"drawn": {"draft": "reader|e", "marks": [stroke], "measurements": [], "grids": {}}}
    session.presses = presses
    with broken_off(presses):
        callbacks[0]()
    with pytest.raises(RerunException):
        viewer(inputs)
    del session["viewer"]  # the page was left, and with it the component's state
    drawn = viewer(inputs)
    assert drawn.marks[0].points == ((50.0, 25.0),)
    assert viewer(inputs) == inputs.drawn  # handed over once; from then on the page keeps it
    assert viewer(replace(inputs, drawn=drawn)) == drawn
