"""Rules of pages, actions and routes; the file of secrets; from a login's claims to a session."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from streamlit.web.server.starlette.starlette_app import create_streamlit_routes

from tests.login_provider import write_secrets
from workbench.cli.review import start_app
from workbench.review import access
from workbench.review.access import ACTIONS, PAGES, ROUTES, Identity, may, may_open, role_for
from workbench.review.people import ROLES, People
from workbench.review.sessions import Door, login_of
from workbench.review.store import ReviewStore
from workbench.review.team import is_loopback, read_team
from workbench.schema.bundled import bundled
from workbench.schema.errors import WorkbenchError

APPS = bundled("apps")
PAGE_FILES = sorted(path.stem for path in APPS.glob("*.py") if path.stem not in ("__init__", "review"))
NO_FILES = ("image", "audio", "video", "pdf", "pyplot", "logo", "download_button", "file_uploader", "camera_input")
"""Widgets of Streamlit whose content gets an address of its own, which opens without a login."""


def who(*roles: str, team: bool = True) -> Identity:
    return Identity("issuer|sub", "A", frozenset(roles), team)


def calls(page: str) -> list[ast.Call]:
    tree = ast.parse((APPS / f"{page}.py").read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_every_page_file_has_a_rule_and_no_rule_is_without_a_page() -> None:
    assert PAGE_FILES
    assert set(PAGE_FILES) - set(PAGES) == set()
    entry = ast.parse((APPS / "review.py").read_text(encoding="utf-8"))
    named = next(
        ast.literal_eval(node.value)
        for node in ast.walk(entry)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "TITLES"
    )
    assert set(named) == set(PAGE_FILES)


@pytest.mark.parametrize("page", PAGE_FILES)
def test_every_page_gets_its_desk_from_the_rule_of_its_own_name_alone(page: str) -> None:
    source = (APPS / f"{page}.py").read_text(encoding="utf-8")
    asked = [call.args[0].value for call in calls(page) if getattr(call.func, "id", "") == "open_page"]  # type: ignore[attr-defined]
    assert asked == [page]
    assert 'session_state["desk"]' not in source
    assert "desk_from_environment" not in source
    for call in calls(page):
        if isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "st":
            assert call.func.attr not in NO_FILES, f"st.{call.func.attr} makes a file with an address"
            assert call.func.attr not in ("fragment", "dialog"), (
                "use review.entrance.fragment, which looks at the session"
            )
    tree = ast.parse(source)
    bare = [
        decorator
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if ast.unparse(decorator).startswith(("st.fragment", "st.dialog"))
    ]
    assert bare == []


def test_what_has_no_rule_is_refused_to_everybody() -> None:
    everybody = who(*ROLES)
    assert not may_open(everybody, "a new page")
    assert not may(everybody, "a new action")
    assert not any(may_open(who(), page) for page in PAGES if page != "account")
    assert not any(may(who(), action) for action in ACTIONS)
    assert not may_open(who(*ROLES, team=False), "people")


def test_each_role_opens_and_does_what_the_table_says() -> None:
    opened = {role: {page for page in PAGES if may_open(who(role), page)} for role in ROLES}
    assert {"people"} == opened["admin"] - opened["auditor"] - {"account"}
    assert not opened["admin"] & {"worklist", "exam"}
    assert opened["reader"] == {"worklist", "exam", "overview", "account"}
    done = {role: {action for action in ACTIONS if may(who(role), action)} for role in ROLES}
    assert done["reader"] == {"read", "see_identifiers"}
    assert not done["auditor"] & {"read", "adjudicate", "assign", "erase", "manage_people"}
    assert {role for role in ROLES if "manage_people" in done[role]} == {"admin"}
    for rules in (*PAGES.values(), *ACTIONS.values()):
        assert rules == access.ANYBODY_SIGNED_IN or rules <= set(ROLES)


def test_a_read_is_made_in_a_role_that_is_held() -> None:
    assert role_for(who("reader"), "single") == "reader"
    assert role_for(who("adjudicator"), "single") == "adjudicator"
    assert role_for(who("reader", "adjudicator"), "adjudication") == "adjudicator"


def test_every_address_of_the_server_has_a_rule() -> None:
    routes = create_streamlit_routes(MagicMock())
    found = {getattr(route, "path", "").removesuffix("/") for route in routes}
    assert "/_stcore/stream" in found
    assert found - set(ROUTES) == set()


def claims(**changed: Any) -> dict[str, Any]:
    now = int(datetime.now(UTC).timestamp())
    return {"is_logged_in": True, "iss": "https://login", "sub": "7", "nonce": "n1", "iat": now, **changed}


@pytest.fixture
def make_door(store: ReviewStore) -> Callable[..., Door]:
    def make(first_admin: str = "", **limits: timedelta) -> Door:
        return Door(People(store.database, **limits), first_admin)

    return make


def test_a_login_without_a_role_opens_nothing_and_a_role_opens(make_door: Callable[..., Door]) -> None:
    door = make_door()
    assert door.enter({}).state == door.enter({"is_logged_in": False}).state == "signed_out"
    entry = door.enter(claims(name="Dr Rossi", email="rossi@example.org"))
    assert (entry.state, entry.identity) == ("no_role", Identity("https://login|7", "Dr Rossi", frozenset(), True))
    door.people.grant("https://login|7", "reader", by="system")
    entry = door.enter(claims(name="Dr Rossi"))
    assert entry.state == "open"
    assert entry.identity is not None
    assert entry.identity.roles == {"reader"}
    door.people.withdraw("https://login|7", "reader", by="system")
    assert door.enter(claims()).state == "no_role"


def test_one_login_is_one_session_and_another_login_another(make_door: Callable[..., Door]) -> None:
    door, first = make_door(), claims()
    door.enter(first)
    door.enter(first)
    assert len(door.people.sessions_of("https://login|7")) == 1
    door.leave(first)
    assert door.enter(first).state == door.look(first) == "revoked"
    second = claims(nonce="n2")
    assert door.enter(second).state == "no_role"
    assert door.enter(claims(sub="8", nonce="n2")).identity.subject == "https://login|8"  # type: ignore[union-attr]
    door.people.revoke_all("https://login|7", by="https://login|8")
    assert door.enter(second).state == "revoked"


def test_an_old_cookie_begins_no_session(make_door: Callable[..., Door]) -> None:
    door = make_door(idle=timedelta(minutes=5))
    old = claims(iat=int((datetime.now(UTC) - timedelta(minutes=6)).timestamp()))
    assert door.enter(old).state == "expired"
    assert door.people.sessions_of("https://login|7") == []


@pytest.mark.parametrize("missing", ["iss", "sub", "nonce", "iat"])
def test_a_login_without_a_claim_that_names_it_is_refused(make_door: Callable[..., Door], missing: str) -> None:
    entry = make_door().enter(claims(**{missing: None}))
    assert (entry.state, entry.missing, entry.identity) == ("unusable", missing, None)


def test_looking_does_not_keep_a_session_awake_and_a_touch_does(
    make_door: Callable[..., Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    door, mine = make_door(idle=timedelta(minutes=10)), claims()
    door.enter(mine)
    minutes = 0

    def later(span: timedelta = timedelta(0)) -> str:
        return (datetime.now(UTC) + timedelta(minutes=minutes) + span).isoformat(timespec="milliseconds")

    monkeypatch.setattr("workbench.review.people._stamp", later)
    for minutes in (6, 12, 18):  # noqa: B007 (read by the clock)
        assert door.enter(mine).state == "no_role"
    minutes = 24
    assert door.look(mine) == "open"
    minutes = 29
    assert door.look(mine) == door.enter(mine).state == "locked"
    minutes = 12 * 60
    assert door.enter(mine).state == "expired"


def test_the_first_administrator_is_named_and_only_while_there_is_none(make_door: Callable[..., Door]) -> None:
    assert make_door().enter(claims()).state == "no_role"
    assert make_door("9").enter(claims(sub="9")).identity.roles == {"admin"}  # type: ignore[union-attr]
    other = make_door("https://login|10")
    assert other.enter(claims(sub="10")).state == "no_role"
    assert other.people.holders("admin") == ["https://login|9"]
    with pytest.raises(WorkbenchError, match="only administrator"):
        other.people.withdraw("https://login|9", "admin", by="https://login|9")
    other.people.grant("https://login|10", "admin", by="https://login|9")
    other.people.withdraw("https://login|9", "admin", by="https://login|10")
    assert other.people.holders("admin") == ["https://login|10"]


def test_an_administrator_ends_one_session_by_its_handle(make_door: Callable[..., Door], store: ReviewStore) -> None:
    door, first, second = make_door(), claims(), claims(nonce="n2")
    door.enter(first)
    door.enter(second)
    token = login_of(first).token
    handle = door.people.look(token).handle
    assert handle != token
    door.people.revoke_one(handle, by="Chief")
    assert (door.look(first), door.look(second)) == ("revoked", "open")
    assert store.verify().first_bad is None


def test_a_subject_is_the_issuer_and_its_name_of_the_person_never_an_e_mail() -> None:
    one = login_of(claims(email="a@example.org"))
    assert (one.subject, one.name) == ("https://login|7", "7")
    assert login_of(claims(iss="https://other")).subject != one.subject
    long = login_of(claims(sub="x" * 300)).subject
    assert len(long) <= 200
    assert long != login_of(claims(sub="x" * 301)).subject


def test_a_place_is_recalled_once(make_door: Callable[..., Door]) -> None:
    door = make_door()
    door.remember("a", "exam", {"exam": "1"})
    assert (door.recall("a"), door.recall("a"), door.recall("b")) == (("exam", {"exam": "1"}), None, None)


def test_a_whole_file_of_secrets_is_read(tmp_path: Path) -> None:
    path = write_secrets(tmp_path / "team.toml", "https://login.example", limits="idle_minutes = 5")
    team = read_team(path)
    assert (team.host, team.limits.idle, team.limits.lifetime) == (
        "127.0.0.1",
        timedelta(minutes=5),
        timedelta(hours=12),
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"cookie_secret": '""'}, "no cookie_secret"),
        ({"cookie_secret": '"change-me"'}, "too short"),
        ({"cookie_secret": f'"{"a" * 64}"'}, "too plain"),
        ({"client_id": ""}, "no client_id"),
        ({"client_secret": "5"}, "no client_secret"),
        ({"redirect_uri": '"http://review.example/oauth2callback"'}, "https"),
        ({"redirect_uri": '"https://review.example/"'}, "oauth2callback"),
        ({"server_metadata_url": '"http://login.example/.well-known/openid-configuration"'}, "https"),
        ({"client_kwargs": ""}, "prompt"),
        ({"client_kwargs": '{ prompt = "none" }'}, "prompt"),
        ({"limits": "idle_minutes = 0"}, "idle_minutes"),
        ({"limits": "idle = 3"}, "it knows"),
        ({"limits": "["}, "no TOML"),
    ],
)
def test_a_weak_or_incomplete_file_of_secrets_is_refused(tmp_path: Path, changed: dict[str, str], words: str) -> None:
    path = write_secrets(tmp_path / "team.toml", "https://login.example", **changed)
    with pytest.raises(WorkbenchError, match=words) as caught:
        read_team(path)
    assert "0123456789abcdef" not in str(caught.value)
    assert "secret-of-the-client" not in str(caught.value)


def test_a_file_of_secrets_that_others_may_read_or_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = write_secrets(tmp_path / "team.toml", "https://login.example")
    path.chmod(0o644)
    with pytest.raises(WorkbenchError, match="others may read it"):
        read_team(path)
    with pytest.raises(WorkbenchError, match="cannot read"):
        read_team(tmp_path / "none.toml")


def test_the_example_is_whole_but_for_the_secrets(tmp_path: Path) -> None:
    text = (bundled("configs") / "review" / "team.example.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["auth"]["cookie_secret"] == tomllib.loads(text)["auth"]["client_secret"] == ""
    path = tmp_path / "team.toml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(WorkbenchError, match="no client_id"):
        read_team(path)
    for name, value in (("client_id", "a"), ("client_secret", "b"), ("cookie_secret", "0123456789abcdef" * 2)):
        text = text.replace(f'{name} = ""', f'{name} = "{value}"')
    path.write_text(text, encoding="utf-8")
    assert read_team(path).address == "https://review.hospital.example"


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_no_other_machine_is_let_in_without_a_login(run_copy: Path, address: str) -> None:
    assert not is_loopback(address)
    with pytest.raises(WorkbenchError, match="without a login"):
        start_app(run_copy, address=address)


def test_options_that_do_not_go_together_are_refused(run_copy: Path, tmp_path: Path) -> None:
    secrets = write_secrets(tmp_path / "team.toml", "https://login.example")
    with pytest.raises(WorkbenchError, match="--reader does not go with --team"):
        start_app(run_copy, team=secrets, reader="Dr A")
    with pytest.raises(WorkbenchError, match="goes with --team"):
        start_app(run_copy, first_admin="7")
    inside = write_secrets(run_copy / "team.toml", "https://login.example")
    with pytest.raises(WorkbenchError, match="lies in the run"):
        start_app(run_copy, team=inside)
