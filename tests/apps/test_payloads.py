"""Hostile texts, sixty of them, through every way by which a text of the data becomes HTML: shown letter by letter."""

from __future__ import annotations

import html
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.payloads import PAYLOADS
from workbench.report.write import literal as in_report
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
