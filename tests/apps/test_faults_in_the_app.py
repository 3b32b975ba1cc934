"""Faults R4 and R5 at the page: an outage is said and nothing entered is lost; no draft lands elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.apps.app_by_hand import EXAM, choose, open_exam, page, press
from tests.apps.conftest import end, free_port, token, wait_until_healthy
from tests.outage import outage
from tests.outbound import asked, guarded
from workbench.audit.results import open_run
from workbench.review.store import ReviewStore

PATIENCE = 120_000
"""Milliseconds: a bound for a busy machine, not a measurement."""
Place = Path | str


def stored(where: Place, folder: Path) -> list[tuple[str, str, str, int | None]]:
    with closing(ReviewStore(where)) as store:
        assert store.verify().first_bad is None
        found = store.reads_of(open_run(folder).manifest.run_id, history=True)
    return sorted((read.reader, read.exam_id, read.eye, read.icdr_grade) for read in found)


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
@pytest.mark.usefixtures("fresh_app")
@pytest.mark.parametrize(
    "seconds", [0.3, pytest.param(60.0, marks=[pytest.mark.faults, pytest.mark.timeout(1800)])], ids=["small", "large"]
)
def test_r4_an_outage_is_said_the_entries_stay_in_sight_and_are_saved_once_after(
    database: Place,
    run_copy: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
) -> None:
    monkeypatch.setattr("workbench.review.desk.ReviewStore", partial(ReviewStore, patience=0.3))
    app = open_exam(run_copy, "review_only", monkeypatch)
    choose(choose(app, "OD", "grade", 1), "OS", "grade", 3)
    assert "Not saved yet; the draft is kept" in page(app)
    with outage(database, request):
        until = time.monotonic() + seconds
        while True:
            app = press(app, "Save")
            assert "not saved: the database" in page(app)
            assert "Saved 20" not in page(app)
            assert "locked" not in page(app)
            if time.monotonic() >= until:
                break
        app = choose(app, "OD", "confidence", 4)  # goes on in this tab, which says that it is in this tab alone
        assert "your entries are in this tab alone" in page(app)
    app = press(press(app, "Save"), "Save")
    assert "Saved 20" in page(app)
    assert stored(database, run_copy) == [("Dr A", EXAM, "OD", 1), ("Dr A", EXAM, "OS", 3)]


class Server:
    """`workbench review` in a process of its own, which can be killed and started again at the same address."""

    def __init__(self, folder: Path, where: Place, shut: Path) -> None:
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        more = [] if isinstance(where, Path) else ["--database", where]
        words = ["review", str(folder), "--protocol", "review_only", "--reader", "Dr A", "--port", str(port), *more]
        self._command = [sys.executable, "-m", "workbench.cli.main", *words]
        self._environment = guarded(shut)
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, start_new_session=True, env=self._environment)
        wait_until_healthy(self.address, self._process)

    def stop(self, how: signal.Signals) -> None:
        end(self._process, how)


@pytest.fixture
def server(where: Place, run_copy: Path, tmp_path: Path) -> Iterator[Server]:
    running = Server(run_copy, where if isinstance(where, str) else run_copy / "reviews.sqlite", tmp_path / "shut")
    yield running
    running.stop(signal.SIGTERM)
    assert asked(tmp_path / "shut") == []


@pytest.fixture
def open_tab(chromium: Any, server: Server, run_copy: Path) -> Iterator[Callable[[str], Any]]:
    """Return a function that opens an exam in a new tab of one browser."""
    # Dark, as the app begins: from a light system its first page is loaded twice, which may undo a quick step onwards.
    context = chromium.new_context(viewport={"width": 1366, "height": 768}, color_scheme="dark")
    context.set_default_timeout(PATIENCE)

    def open_exam_in_a_tab(exam_id: str) -> Any:
        tab = context.new_page()
        tab.goto(server.address)
        tab.get_by_role("button", name="Read next").wait_for()
        tab.goto(f"{server.address}/exam?exam={token(run_copy, exam_id)}")
        ready(tab, run_copy, exam_id)
        return tab

    yield open_exam_in_a_tab
    context.close()


def ready(tab: Any, folder: Path, exam_id: str) -> None:
    tab.locator(f'.viewer[data-ready="{token(folder, exam_id)}"]').wait_for()
    tab.locator(".st-key-entry [data-here]").wait_for()


def grade(tab: Any, eye: int, value: int) -> None:
    buttons = tab.locator('.st-key-entry [data-testid="stButtonGroup"]').nth(3 * eye).locator("button")
    buttons.nth(value).click()
    buttons.nth(value).and_(tab.locator('[aria-checked="true"]')).wait_for()
    tab.get_by_text("Not saved yet").wait_for()


def chosen(tab: Any) -> list[str]:
    return list(tab.locator('.st-key-entry [aria-checked="true"]').all_inner_texts())


@pytest.mark.browser
@pytest.mark.heavy
def test_r5_a_refresh_a_second_tab_and_a_killed_server_bring_each_draft_back_to_its_exam_and_reader(
    server: Server, open_tab: Callable[[str], Any], where: Place, run_copy: Path
) -> None:
    first, second = open_tab("exam-000"), open_tab(EXAM)
    grade(first, 0, 1)
    grade(second, 0, 4)
    first.reload()
    ready(first, run_copy, "exam-000")
    assert (chosen(first), chosen(second)) == (["1"], ["4"])
    grade(first, 1, 2)
    third = open_tab("exam-000")  # the same exam twice
    assert chosen(third) == ["1", "2"]
    third.close()
    server.stop(signal.SIGKILL)
    server.start()
    for tab, exam_id, drafted in ((first, "exam-000", ["1", "2"]), (second, EXAM, ["4"])):
        tab.reload()
        ready(tab, run_copy, exam_id)
        tab.get_by_text("Not saved yet").wait_for()
        assert chosen(tab) == drafted
    other = open_tab("exam-000")
    other.get_by_role("button", name="Worklist", exact=True).click()
    other.get_by_label("Reading as").fill("Dr B")
    other.get_by_label("Reading as").press("Enter")
    other.get_by_role("progressbar").wait_for()
    other.get_by_role("button", name="Read next").click()
    other.locator(".st-key-entry").get_by_text("Dr B").wait_for()
    other.locator(".st-key-entry [data-here]").wait_for()
    assert chosen(other) == []
    first.get_by_role("button", name="Save", exact=True).click()
    first.locator(".st-key-entry").get_by_text("Saved 20").wait_for()
    if folder := os.environ.get("WORKBENCH_SCREENSHOTS"):
        second.screenshot(path=str(Path(folder) / "r5.png"))
    place = where if isinstance(where, str) else run_copy / "reviews.sqlite"
    assert stored(place, run_copy) == [("Dr A", "exam-000", "OD", 1), ("Dr A", "exam-000", "OS", 2)]
