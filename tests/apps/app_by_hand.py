"""The app through Streamlit's AppTest: open it, press, choose, and read what a browser would be given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from workbench.review.desk import PROTOCOL_VARIABLE, RUN_VARIABLE
from workbench.schema.bundled import bundled

EXAM = "exam-006"


def open_app(folder: Path, monkeypatch: pytest.MonkeyPatch, protocol: str = "assisted") -> AppTest:
    """Open the first page in a new tab."""
    monkeypatch.setenv(RUN_VARIABLE, str(folder))
    monkeypatch.setenv(PROTOCOL_VARIABLE, protocol)
    app = AppTest.from_file(str(bundled("apps") / "review.py"), default_timeout=120)
    app.session_state["true_names"] = True
    app.run()
    assert not app.exception
    return app


def open_exam(folder: Path, protocol: str, monkeypatch: pytest.MonkeyPatch, exam_id: str = EXAM) -> AppTest:
    """Open an exam in a new tab."""
    app = open_app(folder, monkeypatch, protocol)
    app.switch_page("exam.py")
    app.query_params["exam"] = app.session_state["desk"].token(exam_id)
    app.run()
    assert not app.exception
    return app


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click()
    app.run()
    assert not app.exception
    return app


def choose(app: AppTest, eye: str, name: str, value: Any) -> AppTest:
    next(group for group in app.button_group if group.key.endswith(f"|{eye}|{name}")).set_value(value)
    app.run()
    assert not app.exception
    return app


def page(app: AppTest) -> str:
    texts = [str(element.proto.body) for element in app.get("html")]
    for kind in ("error", "warning", "success", "info", "caption"):
        texts += [str(element.value) for element in app.get(kind)]
    return "\n".join(texts)


def sent(app: AppTest) -> str:
    """Return every word of every element that the browser would be given, the viewer's message included."""
    return "\n".join(str(element.proto) for block in (app.main, app.sidebar) for element in _elements(block))


def _elements(block: Any) -> Iterator[Any]:
    for child in block.children.values():
        if hasattr(child, "children"):
            yield from _elements(child)
        elif getattr(child, "proto", None) is not None:
            yield child
