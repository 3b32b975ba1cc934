"""Hostile texts, sixty of them, through every way by which a text of the data becomes HTML: shown letter by letter."""

from __future__ import annotations

import html
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.payloads import PAYLOADS
from tests.report.hostile import change_manifest
from tests.run_folder import make_run
from workbench.audit import layout, run_manifest, schemas
from workbench.report.write import literal as in_report
from workbench.report.write import write_report
from workbench.review.cases import Flag
from workbench.review.markup import chips, heading, literal, reading_as, reads_table, steps

WAYS: dict[str, Callable[[str], str]] = {
    "a text of the app": literal,
    "whose exam it is": lambda text: heading(text, text, text, text),
    "flags": lambda text: chips([Flag("alert", text)]),
    "a reader's name": reading_as,
    "what readers said": lambda text: reads_table([text], [[text, text]]),
    "the steps of a reveal": lambda text: steps([text], text),
    "a text of the report": lambda text: str(in_report(text)),
}


JOINED = " ¦ ".join(sorted(PAYLOADS, key=lambda text: not text.isascii()))
"""All in one text; what turns the direction of writing stands last."""


class Read(HTMLParser):
    """What a browser would make of it: its tags with their attributes, and its text."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("way", WAYS)
def test_no_text_becomes_an_element(way: str) -> None:
    plain = Read(WAYS[way]("plain"))
    for payload in PAYLOADS:
        found = Read(WAYS[way](payload))
        assert found.tags == plain.tags, payload
        assert found.text == plain.text.replace("plain", payload), payload


@pytest.mark.browser
def test_a_real_browser_shows_them_all_and_asks_nobody(chromium: Any) -> None:
    page = chromium.new_context().new_page()
    asked: list[str] = []
    page.on("dialog", lambda dialog: asked.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: asked.append(request.url))
    body = "".join(
        f'<div class="one" title="{html.escape(way)}">{make(one)}</div>'
        for way, make in WAYS.items()
        for one in PAYLOADS
    )
    page.set_content(f"<!doctype html><meta charset=utf-8>{body}")
    page.wait_for_timeout(300)
    shown = page.locator(".one").evaluate_all("(all) => all.map((one) => one.textContent)")
    assert [payload in text for text, payload in zip(shown, PAYLOADS * len(WAYS), strict=True)] == [True] * len(shown)
    assert page.pdf()[:5] == b"%PDF-"  # the report's PDF is the browser's print of the same page
    assert asked == []
    page.context.close()


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of sixty patients, each of whom is called by one of the texts; so are cameras and the model."""
    folder = tmp_path_factory.mktemp("hostile") / "run"
    run = make_run(folder, exams=len(PAYLOADS), stresses=())
    eyes = run.eyes()
    text = dict(zip(run.exam_ids, PAYLOADS, strict=True))
    eyes["patient_id"] = eyes["exam_id"].map(text)
    eyes["camera"] = JOINED
    layout.write_table(layout.exams_path(folder), eyes, schemas.EXAMS_SCHEMA)
    stored = run_manifest.read_manifest(folder).model_dump(mode="json")
    change_manifest(folder, dataset=JOINED, model={**stored["model"], "name": JOINED})
    write_report(folder)
    return folder


@pytest.mark.browser
@pytest.mark.heavy
def test_sixty_patients_are_called_so_on_the_pages_and_in_the_report_on_screen_and_on_paper(
    chromium: Any, serve: Callable[[Path], str], hostile_run: Path, tmp_path: Path
) -> None:
    context = chromium.new_context(viewport={"width": 1366, "height": 768})
    context.set_default_timeout(120_000)
    page, asked = context.new_page(), []
    page.on("dialog", lambda dialog: asked.append(f"dialog: {dialog.message}"))
    page.on("pageerror", lambda error: asked.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(serve(hostile_run))
    page.get_by_text("True names", exact=True).click()
    seen = ""
    for turned in range(2):
        page.get_by_text(("1–50 of 60", "51–60 of 60")[turned]).wait_for()
        page.get_by_text("exam-0").first.wait_for()
        seen += "\n".join(page.locator("td").all_inner_texts())
        if not turned:
            page.get_by_role("button", name="Next", exact=True).click()
    assert [payload for payload in PAYLOADS if shown_as(payload) not in seen] == []
    page.get_by_role("button", name="Read next").click()
    page.locator(".who h2").wait_for()
    assert page.locator(".who h2").text_content() in PAYLOADS
    page.get_by_role("link", name="Run overview").click()
    page.get_by_text("Silent failure", exact=True).first.wait_for()
    assert [one for one in asked if not one.startswith(("http://127.0.0.1:", "blob:", "data:"))] == []

    asked.clear()
    address = (hostile_run / "report.html").as_uri()
    page.goto(address)
    page.emulate_media(media="print")
    text = page.locator("body").text_content()
    assert [payload for payload in PAYLOADS if payload not in text] == []
    assert [one for one in asked if one != address and not one.startswith("data:")] == []  # fault X2
    (tmp_path / "report.pdf").write_bytes(page.pdf())
    context.close()
    if (reader := shutil.which("pdftotext")) is not None:
        paper = subprocess.run([reader, "-raw", tmp_path / "report.pdf", "-"], capture_output=True, text=True).stdout
        plain = [payload for payload in PAYLOADS if payload.isascii()]
        assert len(plain) > 50
        assert [payload for payload in plain if letters(payload) not in letters(paper)] == []


def shown_as(payload: str) -> str:
    return " ".join(payload.split())


def letters(text: str) -> str:
    """Return a text without its spaces and line breaks, which paper sets where it likes."""
    return "".join(text.split())
