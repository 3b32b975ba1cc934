"""Team mode in a real Chromium against a real login provider: who sees what, and who sees nothing."""

from __future__ import annotations

import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.apps.conftest import free_port, token
from tests.login_provider import LoginProvider, write_secrets
from workbench.audit.results import open_run
from workbench.review.access import PAGES, ROUTES
from workbench.review.desk import Desk
from workbench.review.people import People
from workbench.review.store import ReviewStore

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PATIENCE = 120_000
"""Milliseconds: a bound for a busy machine, not a measurement."""
ABSENT = {"adjudication"}
"""Pages that this protocol does not have."""
PEOPLE = {
    "chief": {"name": "Dr Chief"},
    "anna": {"name": "Dr Anna <b>Rossi</b>", "email": "anna@example.org"},
    "nobody": {"name": "Passer-by"},
}


@pytest.fixture(scope="module")
def provider() -> Iterator[LoginProvider]:
    running = LoginProvider(free_port(), PEOPLE)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def folder(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("team") / "run"))


def start(serve_command: Callable[..., str], run: Path, secrets: Path) -> str:
    command = ["workbench.cli.main", "review", str(run), "--team", str(secrets), "--first-admin", "chief", "--port"]
    return serve_command(command)


@pytest.fixture(scope="module")
def address(serve_command: Callable[..., str], provider: LoginProvider, folder: Path) -> str:
    return start(serve_command, folder, write_secrets(folder.parent / "team.toml", provider.issuer))


@pytest.fixture
def new_page(chromium: Any, provider: LoginProvider) -> Iterator[Callable[[], Any]]:
    """Return a function that opens a browser of its own, which notes what it is sent and whom it asks."""
    contexts = []

    def make() -> Any:
        context = chromium.new_context(viewport={"width": 1366, "height": 768}, color_scheme="dark")
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.frames_seen, page.origins, page.faults = [], set(), []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("request", lambda request: note(page, request))
        page.on("websocket", lambda socket: socket.on("framereceived", lambda data: page.frames_seen.append(data)))
        return page

    def note(page: Any, request: Any) -> None:
        """Note whom the app's pages ask; the test's login provider loads its own pages' style from elsewhere."""
        asked = urlsplit(request.url)
        from_provider = request.headers.get("referer", "").startswith(provider.issuer)
        if asked.scheme in ("http", "https", "ws", "wss") and not from_provider:
            page.origins.add(asked.netloc)

    yield make
    for context in contexts:
        context.close()


def shot(page: Any, name: str) -> None:
    """Keep a screenshot where WORKBENCH_SCREENSHOTS names a folder, to be looked at."""
    if folder := os.environ.get("WORKBENCH_SCREENSHOTS"):
        page.wait_for_timeout(700)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def sign_in(page: Any, address: str, sub: str) -> None:
    if not page.url.startswith(address):
        page.goto(address)
    page.get_by_role("button", name="Sign in").click()
    page.locator("input[name=sub]").fill(sub)
    page.get_by_role("button", name="Authorize").click()
    page.wait_for_url(f"{address}/**")


def patients(folder: Path) -> list[str]:
    eyes = open_run(folder).eyes()
    return sorted({*eyes["patient_id"].astype(str), *eyes["exam_id"].astype(str)})


def received(page: Any) -> bytes:
    return b"".join(one if isinstance(one, bytes) else str(one).encode() for one in page.frames_seen)


def nothing_of_a_patient(page: Any, folder: Path) -> bool:
    seen = received(page) + page.content().encode()
    return not any(name.encode() in seen for name in patients(folder))


def exam_url(address: str, folder: Path, exam_id: str) -> str:
    with closing(Desk(folder)) as desk:
        return f"{address}/exam?exam={desk.token(exam_id)}"


def read_by_keys(page: Any, grades: list[int]) -> None:
    """Grade both eyes by keys, plan a referral, save."""
    fields = page.locator('.st-key-entry [data-testid="stButtonGroup"]')
    typed = [key for grade in grades for key in ((str(grade), grade), ("0", 0), ("4", 3))]
    for place, (key, choice) in enumerate([*typed, ("1", 0)]):
        fields.nth(place).and_(page.locator("[data-here]")).wait_for()
        page.keyboard.press(key)
        fields.nth(place).locator("button").nth(choice).and_(page.locator('[aria-checked="true"]')).wait_for()
    page.get_by_role("button", name="Save", exact=True).click()
    page.locator(".st-key-entry").get_by_text("Saved 20").wait_for()


def pick_person(page: Any, number: int) -> None:
    """Press the row of a person, counted from 0, in the table of people."""
    page.locator(".rows tbody tr").nth(number).click()


def test_without_a_login_no_page_and_no_address_says_anything_of_a_patient(
    new_page: Callable[[], Any], address: str, folder: Path, provider: LoginProvider
) -> None:
    page = new_page()
    for name in ("", *PAGES):
        page.goto(f"{address}/{name}")
        page.get_by_role("button", name="Sign in").wait_for()
    page.goto(exam_url(address, folder, "exam-000"))
    page.get_by_role("button", name="Sign in").wait_for()
    shot(page, "signed_out")
    assert page.locator("[data-testid=stDataFrame], .rows, .viewer, canvas").count() == 0
    assert nothing_of_a_patient(page, folder)
    assert page.origins == {urlsplit(address).netloc}
    assert page.faults == []
    for route in ROUTES:
        if route.startswith(("/auth", "/oauth2")) or route == "/_stcore/stream":
            continue
        plain = route.replace("{path:path}", "exam-000").replace("{file_id:path}", "exam-000.png")
        plain = plain.replace("{session_id}", "x").replace("{file_id}", "exam-000")
        try:
            with urllib.request.urlopen(f"{address}{plain}", timeout=60) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            body = error.read()
        assert not any(name.encode() in body for name in patients(folder) if name not in plain), route


@pytest.mark.parametrize(
    ("changed", "status"), [({}, 101), ({"Host": "evil.example"}, 403), ({"Origin": "http://evil.example"}, 403)]
)
def test_another_sites_page_cannot_open_the_way_to_a_page(address: str, changed: dict[str, str], status: int) -> None:
    host = urlsplit(address).netloc
    asked = {
        "Host": host,
        "Origin": f"http://{host}",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
        **changed,
    }
    with closing(http.client.HTTPConnection(host, timeout=60)) as connection:
        connection.request("GET", "/_stcore/stream", headers=asked)
        assert connection.getresponse().status == status


def test_a_role_opens_a_page_and_its_end_shuts_it(
    new_page: Callable[[], Any], address: str, folder: Path, provider: LoginProvider
) -> None:
    anna, chief = new_page(), new_page()
    sign_in(anna, address, "anna")
    anna.get_by_text("No role yet").wait_for()
    anna.get_by_text("Dr Anna <b>Rossi</b>").wait_for()
    anna.get_by_text(provider.subject("anna")).wait_for()
    shot(anna, "no_role")
    for name in (*(name for name in PAGES if name != "exam"), "exam"):
        anna.goto(f"{address}/{name}" if name != "exam" else exam_url(address, folder, "exam-000"))
        anna.get_by_text("No role yet").wait_for()
    assert nothing_of_a_patient(anna, folder)

    sign_in(chief, address, "chief")
    chief.get_by_role("link", name="People").click()
    chief.get_by_text("Pick a person").wait_for()
    shot(chief, "people")
    pick_person(chief, 0)
    chief.get_by_text("Roles of Dr Anna").wait_for()
    chief.get_by_text("reader: reads exams").click()
    chief.get_by_text("Not saved yet").wait_for()
    chief.get_by_role("button", name="Save roles").click()
    chief.get_by_text("Not saved yet").wait_for(state="hidden")
    shot(chief, "people_picked")
    shut = refused_pages(chief, address, folder, {"admin"})
    shot(chief, "refused")
    assert shut == {"worklist", "exam"}
    assert chief.locator(".viewer").count() == 0
    assert nothing_of_a_patient(chief, folder)

    anna.get_by_role("button", name="Check again").click()
    anna.locator(f'.viewer[data-ready="{token(folder, "exam-000")}"]').wait_for()
    assert anna.get_by_text("People").count() == 0
    shot(anna, "reader_exam")
    with closing(Desk(folder)) as desk:  # the model's own grades: a disagreement would want its reason
        eyes = desk.case("exam-000").eyes
    grades = [answer.icdr_grade for eye in eyes.values() if (answer := eye.answer)]
    read_by_keys(anna, grades)
    with closing(ReviewStore(folder / "reviews.sqlite")) as store:
        saved = store.current(open_run(folder).manifest.run_id, exam_id="exam-000")
        assert {(read.eye, read.icdr_grade, read.reader, read.role) for read in saved} == {
            (eye, grade, provider.subject("anna"), "reader") for eye, grade in zip(eyes, grades, strict=True)
        }
        assert store.verify().first_bad is None
    assert refused_pages(anna, address, folder, {"reader"}) == {"readers", "people"}
    assert anna.locator(".rows").count() == 0
    anna.goto(f"{address}/account")
    anna.get_by_text("Your sessions").wait_for()
    shot(anna, "account")
    anna.goto(exam_url(address, folder, "exam-000"))
    anna.locator(f'.viewer[data-ready="{token(folder, "exam-000")}"]').wait_for()

    with closing(ReviewStore(folder / "reviews.sqlite")) as store:
        People(store.database).revoke_all(provider.subject("anna"), by=provider.subject("chief"))
    anna.get_by_text("This session was ended").wait_for()  # by itself: the page looks now and then
    anna.locator(".viewer").wait_for(state="detached")
    shot(anna, "revoked")
    anna.reload()
    anna.get_by_text("This session was ended").wait_for()
    other_tab = anna.context.new_page()
    other_tab.set_default_timeout(PATIENCE)
    other_tab.goto(exam_url(address, folder, "exam-000"))
    other_tab.get_by_text("This session was ended").wait_for()
    other_tab.close()

    sign_in(anna, address, "anna")
    anna.get_by_role("link", name="Account").click()
    anna.get_by_role("button", name="Sign out", exact=True).click()
    anna.wait_for_url(f"{provider.issuer}/**")
    anna.get_by_role("button").first.click()
    anna.get_by_role("button", name="Sign in").wait_for()
    assert anna.origins == chief.origins == {urlsplit(address).netloc, urlsplit(provider.issuer).netloc}
    assert anna.faults == chief.faults == []

    with closing(ReviewStore(folder / "reviews.sqlite")) as store:
        assert store.verify().first_bad is None
        states = [one.state for one in People(store.database).sessions_of(provider.subject("anna"))]
        assert states == ["revoked", "revoked"]


def refused_pages(page: Any, address: str, folder: Path, roles: set[str]) -> set[str]:
    """Open every page that somebody in these roles must not see, at its address; return which they are."""
    shut = {name for name, rule in PAGES.items() if not (rule & roles or "*" in rule) and name not in ABSENT}
    for name in sorted(shut):
        page.goto(f"{address}/{name}" if name != "exam" else exam_url(address, folder, "exam-000"))
        page.get_by_text("Your role does not open this page").wait_for()
        assert page.locator("[data-testid=stDataFrame], .rows, .viewer, canvas").count() == 0
    return shut


def test_an_untouched_page_locks_and_goes_on_where_it_was_after_a_login(
    new_page: Callable[[], Any], serve_command: Callable[..., str], provider: LoginProvider, folder: Path
) -> None:
    with closing(ReviewStore(folder / "reviews.sqlite")) as store:
        People(store.database).grant(provider.subject("anna"), "reader", by=provider.subject("chief"))
    secrets = write_secrets(folder.parent / "short.toml", provider.issuer, limits="idle_minutes = 0.5")
    address = start(serve_command, folder, secrets)
    anna = new_page()
    sign_in(anna, address, "anna")
    anna.get_by_role("button", name="Read next").wait_for()
    anna.goto(exam_url(address, folder, "exam-000"))
    anna.locator(f'.viewer[data-ready="{token(folder, "exam-000")}"]').wait_for()
    anna.get_by_text("Nobody touched this page").wait_for()
    anna.locator(".viewer").wait_for(state="detached")
    shot(anna, "locked")
    sign_in(anna, address, "anna")
    anna.locator(f'.viewer[data-ready="{token(folder, "exam-000")}"]').wait_for()
    assert anna.faults == []


def test_a_session_ends_however_busy(
    new_page: Callable[[], Any], serve_command: Callable[..., str], provider: LoginProvider, folder: Path
) -> None:
    with closing(ReviewStore(folder / "reviews.sqlite")) as store:
        People(store.database).grant(provider.subject("anna"), "reader", by=provider.subject("chief"))
    secrets = write_secrets(folder.parent / "brief.toml", provider.issuer, limits="session_hours = 0.006")
    address = start(serve_command, folder, secrets)
    anna = new_page()
    sign_in(anna, address, "anna")
    anna.get_by_role("button", name="Read next").wait_for()
    for _ in range(200):
        if anna.get_by_text("Your session has reached its end").count():
            break
        anna.mouse.move(300, 300)
        anna.wait_for_timeout(500)
    assert anna.get_by_text("Your session has reached its end").is_visible()
    shot(anna, "expired")
    anna.reload()
    anna.get_by_text("Your session has reached its end").wait_for()
    assert anna.locator(".rows").count() == 0
