"""Faults R1 to R5 on both kinds of database: small counts in every run, the large ones under the marker `faults`."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.outage import outage
from tests.postgres_server import PostgresServer
from tests.reader_words import blinded, place, submission
from workbench.review.erasure import erase_patient
from workbench.review.pseudonyms import Pseudonyms
from workbench.review.reads import EyeRead
from workbench.review.store import NotSavedError, ReviewStore

Place = Path | str
large = [pytest.mark.faults, pytest.mark.timeout(7200)]


@pytest.mark.parametrize(
    ("readers", "decisions", "kills"), [(4, 8, 8), pytest.param(20, 500, 500, marks=large)], ids=["small", "large"]
)
def test_r1_r2_what_was_acknowledged_before_a_kill_is_stored_exactly_once(
    where: Place, tmp_path: Path, readers: int, decisions: int, kills: int
) -> None:
    command = [sys.executable, str(Path(__file__).with_name("reviewers.py")), str(where), str(tmp_path)]
    done = subprocess.run([*command, str(readers), str(decisions), str(kills), "7"], stdout=subprocess.PIPE, check=True)
    told = [line for file in tmp_path.glob("acknowledged-*") for line in file.read_text().splitlines()]
    store = ReviewStore(where)
    stored = Counter(read.submission_key for read in store.reads_of(None, history=True))
    everything = {f"reader-{reader:03d}-turn-{turn:05d}" for reader in range(readers) for turn in range(decisions)}
    died = len(list(tmp_path.glob("died-*")))
    shown = (tmp_path / "shown").read_text() if (tmp_path / "shown").exists() else ""
    assert shown == ""  # neither 'database is locked' nor anything else
    assert set(told) == everything
    assert set(stored) == everything  # nothing lost, and nothing that nobody sent
    assert set(stored.values()) == {2}  # both eyes, once
    assert died > 0
    verdict = store.verify()
    assert (verdict.first_bad, verdict.length) == (None, readers * decisions + readers)
    current = Counter((read.exam_id, read.reader, read.eye) for read in store.current("run-1"))
    assert set(current.values()) == {1}  # corrections form a chain, never a fork
    store.close()
    print(
        f"{int(done.stdout)} kills from outside, {died} between commit and answer: {len(told)} told, {len(stored)} kept"
    )


@pytest.mark.parametrize("races", [15, pytest.param(1000, marks=large)], ids=["small", "large"])
def test_r3_two_blind_reads_of_one_case_are_both_kept(where: Place, races: int) -> None:
    start = threading.Barrier(2)
    failures: list[Exception] = []

    def read_all(reader: str, grade: int) -> None:
        mine = ReviewStore(where)
        try:
            for race in range(races):
                start.wait()
                mine.save(blinded(f"{reader}-{race:05d}", "first", reader=reader, exam_id=f"e{race}", grade=grade))
        except Exception as error:
            failures.append(error)
            start.abort()
        finally:
            mine.close()

    threads = [threading.Thread(target=read_all, args=one) for one in (("Dr A", 1), ("Dr B", 4))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    store = ReviewStore(where)
    found = {(read.exam_id, read.reader, read.icdr_grade) for read in store.current("run-1", stage="first")}
    assert found == {(f"e{race}", *one) for race in range(races) for one in (("Dr A", 1), ("Dr B", 4))}
    assert store.verify().first_bad is None
    store.close()


@pytest.mark.parametrize("seconds", [0.3, pytest.param(60.0, marks=large)], ids=["small", "large"])
def test_r4_an_outage_past_the_patience_is_said_and_the_draft_is_kept_and_saved_once_after(
    where: Place, request: pytest.FixtureRequest, seconds: float
) -> None:
    store = ReviewStore(where, patience=0.3)
    store.save_draft(place(), "p1", {"grade": 3})
    with outage(where, request):
        until = time.monotonic() + seconds
        while True:
            with pytest.raises(NotSavedError, match=r"not saved: the database (is busy|does not answer)") as caught:
                store.save(submission())
            assert "locked" not in str(caught.value)
            if time.monotonic() >= until:
                break
    assert store.load_draft(place()) == {"grade": 3}
    store.save(submission())
    store.save(submission())
    assert len(store.reads_of(None, history=True)) == 2
    assert store.load_draft(place()) is None
    assert store.verify().first_bad is None
    store.close()


def test_r4_an_outage_within_the_patience_is_not_noticed(where: Place, request: pytest.FixtureRequest) -> None:
    store = ReviewStore(where, patience=60.0)
    saved: list[object] = []
    with outage(where, request):
        thread = threading.Thread(target=lambda: saved.append(store.save(submission())))
        thread.start()
        thread.join(timeout=1)
        assert saved == []
    thread.join()
    assert len(store.reads_of(None, history=True)) == 2
    assert store.verify().first_bad is None
    store.close()


@pytest.mark.parametrize("decisions", [25, pytest.param(500, marks=large)], ids=["small", "large"])
def test_r2_a_connection_that_the_server_drops_at_any_moment_loses_and_doubles_nothing(
    postgres: PostgresServer, decisions: int
) -> None:
    store = ReviewStore(postgres.url(), patience=60.0)
    over = threading.Event()
    pauses = random.Random(7)

    def drop() -> None:
        while not over.wait(pauses.uniform(0, 0.5)):
            postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )

    thread = threading.Thread(target=drop)
    thread.start()
    try:
        for number in range(decisions):
            store.save(submission(f"key-{number:08d}"))
    finally:
        over.set()
        thread.join()
    assert len(store.reads_of(None, history=True)) == 2 * decisions
    assert store.verify().first_bad is None
    store.close()


readers = st.sampled_from(["Dr A", "Dr B"])
exams = st.sampled_from(["e1", "e2", "e3"])
grades = st.integers(0, 4)


def store_machine(new_place: Callable[[], Place]) -> type[RuleBasedStateMachine]:
    """Return a machine that does what readers do to a store, and holds it against dictionaries."""

    class Machine(RuleBasedStateMachine):
        @initialize()
        def open(self) -> None:
            self.where = new_place()
            self.store = ReviewStore(self.where)
            self.number = 0
            self.sent: list[object] = []
            self.newest: dict[tuple[str, str], int] = {}
            self.drafts: dict[tuple[str, str], int] = {}

        @rule(reader=readers, exam=exams, grade=grades)
        def save(self, reader: str, exam: str, grade: int) -> None:
            self.number += 1
            eye = EyeRead(eye="OD", gradable=True, icdr_grade=grade)
            one = submission(f"key-{self.number:08d}", reader=reader, exam_id=exam, patient_id=f"p-{exam}", eyes=(eye,))
            self.store.save(one)
            self.sent.append(one)
            self.newest[reader, exam] = grade
            self.drafts.pop((reader, exam), None)

        @precondition(lambda self: self.sent)
        @rule(data=st.data())
        def send_again(self, data: st.DataObject) -> None:
            one = data.draw(st.sampled_from(self.sent))
            self.store.save(one)  # type: ignore[arg-type]

        @rule(reader=readers, exam=exams, grade=grades)
        def draft(self, reader: str, exam: str, grade: int) -> None:
            self.store.save_draft(place(reader, exam), f"p-{exam}", {"grade": grade})
            self.drafts[reader, exam] = grade

        @rule(reader=readers, exam=exams)
        def clear(self, reader: str, exam: str) -> None:
            self.store.clear_draft(place(reader, exam))
            self.drafts.pop((reader, exam), None)

        @rule()
        def restart(self) -> None:
            self.store.close()
            self.store = ReviewStore(self.where)

        @precondition(lambda self: self.newest)
        @rule(data=st.data())
        def erase(self, data: st.DataObject) -> None:
            _, exam = data.draw(st.sampled_from(sorted(self.newest)))
            erase_patient(self.store.database, f"p-{exam}", Pseudonyms(b"k" * 32), by="Chief")
            self.sent = [one for one in self.sent if one.exam_id != exam]  # type: ignore[attr-defined]
            for kept in (self.newest, self.drafts):
                for key in [key for key in kept if key[1] == exam]:
                    del kept[key]

        @invariant()
        def is_what_was_said(self) -> None:
            if not hasattr(self, "store"):
                return
            current = {(read.reader, read.exam_id): read.icdr_grade for read in self.store.current("run-1")}
            assert current == self.newest
            assert len(self.store.reads_of(None, history=True)) == len(self.sent)
            places = [(reader, exam) for reader in ("Dr A", "Dr B") for exam in ("e1", "e2", "e3")]
            found = {key: self.store.load_draft(place(*key)) for key in places}
            assert {key: draft["grade"] for key, draft in found.items() if draft is not None} == self.drafts
            assert self.store.verify().first_bad is None

        def teardown(self) -> None:
            if hasattr(self, "store"):
                self.store.close()

    return Machine


@pytest.mark.parametrize("examples", [6, pytest.param(200, marks=large)], ids=["small", "large"])
def test_r5_whatever_readers_do_each_finds_their_own_words_and_no_others(
    new_place: Callable[[], Place], examples: int
) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    run_state_machine_as_test(
        store_machine(new_place),
        settings=settings(max_examples=examples, stateful_step_count=12, deadline=None, suppress_health_check=checks),
    )
