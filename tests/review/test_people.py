from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from workbench.review.people import People
from workbench.review.store import ReviewStore
from workbench.schema.errors import WorkbenchError


def test_a_person_is_added_once_with_a_name_for_the_trail(store: ReviewStore) -> None:
    people = People(store.database)
    user = people.ensure_user("https://login|7", "Dr Rossi")
    assert people.ensure_user("https://login|7", "Another name") == user == people.user("https://login|7")
    assert user.display_name == "Dr Rossi"
    assert "Rossi" not in user.pseudonym
    assert people.ensure_user("Dr B").pseudonym != user.pseudonym
    assert [one.subject for one in people.users()] == ["https://login|7", "Dr B"]
    assert people.user("nobody") is None
    with pytest.raises(WorkbenchError, match="nobody can be called"):
        people.ensure_user("system")


def test_roles_are_what_was_last_said_and_every_word_is_kept(store: ReviewStore) -> None:
    people = People(store.database)
    assert people.roles_of("Dr A") == frozenset()
    people.grant("Dr A", "reader", by="Chief")
    people.grant("Dr A", "reader", by="Chief")
    people.grant("Dr A", "auditor", by="Chief")
    people.withdraw("Dr A", "reader", by="Chief")
    people.withdraw("Dr A", "admin", by="Chief")
    assert people.roles_of("Dr A") == {"auditor"}
    people.grant("Dr A", "reader", by="Chief")
    assert people.roles_of("Dr A") == {"auditor", "reader"}
    assert people.roles_of("Chief") == frozenset()
    with pytest.raises(WorkbenchError, match="no role 'root'"):
        people.grant("Dr A", "root", by="Chief")
    verdict = store.verify()
    assert (verdict.length, verdict.first_bad) == (2 + 4, None)


def test_a_session_ends_by_idleness_by_age_and_by_word(store: ReviewStore) -> None:
    people = People(store.database)
    token = people.open_session("Dr A")
    assert (people.touch(token).state, people.touch(token).subject) == ("open", "Dr A")
    assert people.touch("made up").state == "unknown"
    assert People(store.database, idle=timedelta(0)).touch(token).state == "locked"
    assert people.touch(token).state == "open"
    old = People(store.database, lifetime=timedelta(0)).open_session("Dr A")
    assert people.touch(old).state == "expired"
    people.revoke(token)
    people.revoke(token)
    assert people.touch(token).state == "revoked"
    others = [people.open_session("Dr A"), people.open_session("Dr A"), people.open_session("Dr B")]
    people.revoke_all("Dr A", by="Chief")
    assert [people.touch(one).state for one in others] == ["revoked", "revoked", "open"]
    assert store.verify().first_bad is None


def test_no_token_is_stored(store: ReviewStore) -> None:
    token = People(store.database).open_session("Dr A")
    with store.database.engine.connect() as connection:
        found = sa.MetaData()
        found.reflect(connection)
        stored = [str(row) for table in found.sorted_tables for row in connection.execute(sa.select(table))]
    assert not any(token in row for row in stored)
