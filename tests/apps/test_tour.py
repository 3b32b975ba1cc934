"""The tour of a first-time reader, and the theme that a reader chooses, in a real Chromium."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from workbench.review.protocols import Protocol
from workbench.review.tour import STEPS, steps_of

PATIENCE = 120_000
WORDS_A_MINUTE = 220
"""What an adult reads on a screen, silently (Brysbaert 2019: 238 for non-fiction)."""


@pytest.mark.parametrize("protocol", get_args(Protocol))
def test_it_takes_two_minutes_under_every_protocol(protocol):
    shown = [
        step for page in STEPS for step in steps_of(page, protocol) if page != "worklist" or protocol != "adjudication"
    ]
    assert len(shown) >= 4
    assert sum(len(f"{step.title} {step.words}".split()) for step in shown) <= 2 * WORDS_A_MINUTE


def test_a_blinded_reader_is_told_nothing_of_a_models_answer_by_where_a_step_stands():
    of_the_model = (".answer", ".trust")
    blind = [step for page in STEPS for protocol in ("blinded", "review_only") for step in steps_of(page, protocol)]
    assert [step.title for step in blind if step.where.endswith(of_the_model)] == []


@pytest.fixture(scope="module")
def address(serve: Callable[[Path], str], finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    import shutil

    return serve(Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("tour") / "run")))


def paper(page: Any) -> str:
    return str(page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor"))


@pytest.mark.browser
def test_the_tour_goes_from_the_worklist_to_the_exam_and_keeps_every_key_to_itself(chromium, address):
    page = chromium.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark").new_page()
    page.set_default_timeout(PATIENCE)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(address)
    page.locator(".st-key-exams table").wait_for()  # a part that is not there yet is left out
    page.get_by_role("button", name="First time here?").click()
    card = page.locator(".workbench-tour .card")
    for step in steps_of("worklist", "assisted"):
        assert card.locator("h3").inner_text() == step.title
        if step.where:
            assert page.locator(step.where).first.is_visible()
        page.keyboard.press("ArrowRight")
    card.wait_for(state="detached")
    page.get_by_role("button", name="Read next").click()
    card.wait_for()  # it goes on by itself
    page.locator(".viewer[data-ready]").wait_for()
    page.keyboard.press("2")  # would grade the eye, were the sheet not over the form
    seen = []
    while card.count():
        seen.append(card.locator("h3").inner_text())
        page.keyboard.press("Enter")  # the button that is in focus: Next
        page.wait_for_timeout(100)
    assert seen == [step.title for step in steps_of("exam", "assisted")]
    assert page.locator('.st-key-entry [aria-checked="true"]').count() == 0
    page.locator(".st-key-entry [data-here]").wait_for()
    page.keyboard.press("2")
    page.locator('.st-key-entry [aria-checked="true"]').wait_for()
    page.get_by_role("button", name="Tour of this page").click()
    page.keyboard.press("Escape")
    card.wait_for(state="detached")
    assert faults == []


@pytest.mark.browser
def test_dark_by_default_and_a_chosen_theme_holds_on_every_page(chromium, address):
    page = chromium.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light").new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    dark = "getComputedStyle(document.querySelector('.stApp')).backgroundColor === 'rgb(14, 17, 22)'"
    page.wait_for_function(f"document.querySelector('.stApp') && {dark}")
    page.get_by_role("button", name="Read next").wait_for()
    page.locator('[data-testid="stMainMenuButton"]').click()
    page.locator('[data-testid="stMainMenuItem-theme-Light"]').click()
    page.wait_for_function("localStorage.getItem('workbench-theme') === '\"Light\"'")
    for name in ("overview", ""):
        page.goto(f"{address}/{name}")
        page.locator(".stApp").wait_for()
        page.get_by_role("link", name="Readers").wait_for()
        assert paper(page) == "rgb(255, 255, 255)"
