"""A blinded read in a real Chromium: by keys alone, with nothing of the model in any message before its reveal."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from workbench.review.desk import Desk

pytestmark = pytest.mark.browser

PATIENCE = 120_000
"""Milliseconds: a bound for a busy machine, not a measurement."""
EXAM = "exam-006"


@pytest.fixture(scope="module")
def folder(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("blinded") / "run"))


@pytest.fixture(scope="module")
def address(serve_command: Callable[..., str], folder: Path) -> str:
    named = ["workbench.cli.main", "review", str(folder), "--reader", "Dr Browser", "--protocol", "blinded", "--port"]
    return serve_command(named)


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1366, "height": 768}, color_scheme="dark")
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.frames_heard = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda said: page.frames_heard.append(said)))
    yield page
    context.close()


def heard(page: Any) -> bytes:
    return b"\n".join(said if isinstance(said, bytes) else said.encode() for said in page.frames_heard)


def shot(page: Any, name: str) -> None:
    """Keep a screenshot where WORKBENCH_SCREENSHOTS names a folder, to be looked at."""
    if folder := os.environ.get("WORKBENCH_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def type_until(page: Any, key: str, place: int, choice: int) -> None:
    """Press a key, then wait until the page shows it as chosen."""
    page.keyboard.press(key)
    group = page.locator('.st-key-entry [data-testid="stButtonGroup"]').nth(place)
    page.wait_for_function(
        "([group, choice]) => group.querySelectorAll('button')[choice].getAttribute('aria-checked') === 'true'",
        arg=[group.element_handle(), choice],
    )


def buttons_come_late(page: Any) -> None:
    """Hold back the script with which Streamlit draws the form's buttons, as a busy machine does after a reload."""

    def later(route: Any) -> None:
        time.sleep(1.0)
        route.continue_()

    page.route("**/ButtonGroup*.js", later)


def test_a_blinded_read_by_keys_outlives_a_reload_and_the_model_comes_with_its_reveal(
    page: Any, address: str, folder: Path
) -> None:
    desk = Desk(folder, protocol="blinded")
    case, token = desk.case(EXAM), desk.token(EXAM)
    desk.close()
    page.goto(address)
    page.get_by_role("button", name="Read next").wait_for()
    page.goto(f"{address}/exam?exam={token}")
    page.locator(f'.viewer[data-ready="{token}"]').wait_for()
    page.locator(".st-key-entry [data-here]").wait_for()
    for place, (key, choice) in enumerate((("2", 2), ("0", 0), ("4", 3))):
        type_until(page, key, place, choice)
    page.get_by_text("Not saved yet").wait_for()
    buttons_come_late(page)
    page.reload()
    page.locator(f'.viewer[data-ready="{token}"]').wait_for()
    page.get_by_text("Not saved yet").wait_for()
    page.locator(".st-key-entry [data-here]").wait_for()
    chosen = page.locator('.st-key-entry [aria-checked="true"]').all_inner_texts()
    assert chosen == ["2", "None", "4"]
    for _ in range(3):
        page.keyboard.press("j")
    for place, (key, choice) in enumerate((("1", 1), ("0", 0), ("5", 4)), start=3):
        type_until(page, key, place, choice)
    page.wait_for_timeout(1500)  # a second at work, which is counted
    shot(page, "blinded")
    secret = [flag.words for flag in case.flags if flag.tells]
    secret += [answer.uncertainty for eye in case.eyes.values() if (answer := eye.answer)]
    secret += ["P(referable)", "grad_cam", "integrated_gradients", "Called ", "predictive_entropy", "flips", "check,"]
    assert token.encode() in heard(page)
    assert EXAM.encode() not in heard(page)
    assert case.patient_id.encode() not in heard(page)
    assert [words for words in secret if words.encode() in heard(page)] == []

    page.keyboard.press("Control+Enter")
    page.get_by_text("Your first read is saved and locked").wait_for()
    page.get_by_role("button", name="Show the model's grade").click()
    page.get_by_role("button", name="Show how sure it is").wait_for()
    assert [words for words in secret if words != "Called " and words.encode() in heard(page)] == [
        words for words in secret if words.startswith("Eyes d")
    ]
    page.get_by_role("button", name="Show how sure it is").click()
    page.get_by_text("How sure is the model of this exam?").wait_for()
    assert b"grad_cam" not in heard(page)
    page.get_by_role("button", name="Show its map").click()
    page.get_by_text("Under stress").wait_for()
    shot(page, "second_read")
    with sqlite3.connect(folder / "reviews.sqlite") as database:
        stored = database.execute("SELECT eye, icdr_grade, dme, confidence FROM reads ORDER BY eye").fetchall()
        seconds = database.execute("SELECT seconds_active FROM submissions").fetchone()[0]
        stages = [stage for (stage,) in database.execute("SELECT stage FROM reveals ORDER BY event_id")]
    database.close()
    assert stored == [("OD", 2, 0, 4), ("OS", 1, 0, 5)]
    assert seconds > 0
    assert stages == ["grade", "uncertainty", "map"]
