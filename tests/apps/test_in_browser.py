"""The app in a real Chromium: what a reader does, and what must never happen."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.apps.conftest import token
from workbench.audit import layout, schemas
from workbench.audit.results import open_run
from workbench.review.desk import Desk

pytestmark = pytest.mark.browser

PATIENCE = 120_000
"""Milliseconds: a bound for a busy machine, not a measurement."""
PAYLOAD = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>[x](javascript:window.hacked=1)'


@pytest.fixture(scope="module")
def folder(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run with a hostile patient's name."""
    copy = Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("browser") / "run"))
    eyes = open_run(copy).eyes()
    eyes.loc[eyes["exam_id"] == "exam-006", "patient_id"] = PAYLOAD
    layout.write_table(layout.exams_path(copy), eyes, schemas.EXAMS_SCHEMA)
    return copy


@pytest.fixture(scope="module")
def address(serve: Callable[[Path], str], folder: Path) -> str:
    return serve(folder)


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1366, "height": 768}, color_scheme="dark")
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.faults, page.hosts, page.pictures = [], set(), []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("dialog", lambda dialog: page.faults.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: _note(page, request.url, request.resource_type))
    yield page
    context.close()


def _note(page: Any, url: str, kind: str) -> None:
    parts = urlsplit(url)
    if parts.scheme in ("http", "https", "ws", "wss"):
        page.hosts.add(parts.hostname)
        if kind == "image" and not parts.path.endswith(("favicon.png", ".svg", ".ico")):
            page.pictures.append(url)


def open_exam(page: Any, address: str, folder: Path, exam_id: str) -> None:
    desk = Desk(folder)
    page.goto(f"{address}/exam?exam={desk.token(exam_id)}")
    desk.close()
    page.locator(f'.viewer[data-ready="{token(folder, exam_id)}"]').wait_for()


def shot(page: Any, name: str) -> None:
    """Keep a screenshot where WORKBENCH_SCREENSHOTS names a folder, to be looked at."""
    if folder := os.environ.get("WORKBENCH_SCREENSHOTS"):
        page.wait_for_timeout(500)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def test_from_the_worklist_to_a_saved_read_that_outlives_a_reload(page: Any, address: str, folder: Path) -> None:
    page.goto(address)
    page.get_by_role("button", name="Read next").click()
    page.locator(f'.viewer[data-ready="{token(folder, "exam-001")}"]').wait_for()
    assert "Left eye (OS) missing" in page.locator(".chip.alert").first.inner_text()
    page.get_by_role("button", name="Next", exact=True).click()
    page.locator(f'.viewer[data-ready="{token(folder, "exam-002")}"]').wait_for()

    open_exam(page, address, folder, "exam-000")
    desk = Desk(folder)
    answers = {eye: case.answer for eye, case in desk.case("exam-000").eyes.items()}
    groups = page.get_by_test_id("stButtonGroup")
    for place, eye in enumerate(("OD", "OS")):
        groups.nth(3 * place).get_by_text(str(answers[eye].icdr_grade), exact=True).click()  # type: ignore[union-attr]
        page.get_by_text("you agree with the model").nth(place).wait_for()
    page.get_by_text("Not saved yet").wait_for()
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("Saved 2").wait_for()
    shot(page, "saved")
    with sqlite3.connect(folder / "reviews.sqlite") as database:
        query = "SELECT eye, icdr_grade, reader FROM reads JOIN submissions USING (event_id) WHERE exam_id = 'exam-000'"
        rows = database.execute(f"{query} ORDER BY eye")
        stored = list(rows)
    database.close()
    assert stored == [(eye, answers[eye].icdr_grade, "Dr Browser") for eye in ("OD", "OS")]  # type: ignore[union-attr]
    desk.close()

    page.reload()
    page.locator(f'.viewer[data-ready="{token(folder, "exam-000")}"]').wait_for()
    page.get_by_text("Saved 2").wait_for()
    assert page.get_by_text("you agree with the model").count() == 2
    assert page.faults == []


def test_another_exam_is_first_seen_clean_and_a_withheld_map_says_why(page: Any, address: str, folder: Path) -> None:
    open_exam(page, address, folder, "exam-004")
    page.keyboard.press("m")
    corner = page.locator('.pane[data-eye="OD"] .corner')
    page.wait_for_function("(node) => node.textContent.includes('Map withheld')", arg=corner.element_handle())
    assert "miss the logit" in corner.inner_text()
    page.get_by_role("button", name="Previous").click()
    page.locator(f'.viewer[data-ready]:not([data-ready="{token(folder, "exam-004")}"])').wait_for()
    assert page.locator("[data-act=map]").get_attribute("aria-pressed") == "false"
    assert page.locator('.pane[data-eye="OS"] canvas.overlay').evaluate("(canvas) => canvas.style.opacity") == "0"


def test_a_hostile_name_is_shown_letter_by_letter(page: Any, address: str, folder: Path) -> None:
    open_exam(page, address, folder, "exam-006")
    assert PAYLOAD not in page.content()
    page.get_by_text("True names", exact=True).click()
    page.locator(".who h2", has_text="img src").wait_for()
    assert page.locator(".who h2").inner_text() == PAYLOAD
    page.get_by_role("button", name="Worklist", exact=True).click()
    page.get_by_role("button", name="Read next").wait_for()
    page.wait_for_timeout(1000)
    assert page.evaluate("() => window.hacked") is None
    assert page.faults == []


def test_an_administrator_erases_a_patient_and_the_page_says_so(page: Any, address: str, folder: Path) -> None:
    desk = Desk(folder)
    patient = desk.case("exam-008").patient_id
    page.goto(address)
    page.get_by_role("button", name="Erase", exact=True).click()
    page.get_by_placeholder("Pseudonym or id").fill("nobody")
    page.get_by_placeholder("Pseudonym or id").press("Enter")
    page.get_by_text("I have checked the name").click()
    page.get_by_role("button", name="Erase this patient").click()
    page.get_by_text("nothing of the patient 'nobody' is stored").wait_for()
    shot(page, "erase")
    page.get_by_placeholder("Pseudonym or id").fill(desk.names.patient(patient))
    page.get_by_placeholder("Pseudonym or id").press("Enter")
    page.get_by_text("nothing of the patient").wait_for(state="detached")
    page.get_by_role("button", name="Erase this patient").click()
    page.get_by_text("Erased. Nobody had read this patient.").wait_for()
    shot(page, "erased")
    page.goto(f"{address}/exam?exam={desk.token('exam-008')}")
    page.get_by_text("This patient was erased").wait_for()
    desk.close()
    assert page.faults == []


def test_no_page_asks_another_host_and_no_photograph_has_an_address(page: Any, address: str, folder: Path) -> None:
    page.goto(address)
    page.get_by_role("button", name="Read next").wait_for()
    shot(page, "worklist")
    open_exam(page, address, folder, "exam-000")
    shot(page, "exam")
    page.get_by_role("link", name="Run overview").click()
    page.get_by_text("Silent failure", exact=True).first.wait_for()
    page.wait_for_timeout(3000)
    shot(page, "overview")
    assert page.hosts == {"127.0.0.1"}
    assert page.pictures == []
    assert "exam-000" not in page.url
    assert page.faults == []
