"""An erasure while the app is open: the next press shows nothing of the patient, and saves nothing."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.apps.app_by_hand import EXAM, choose, open_app, open_exam, page, press, sent
from tests.reader_words import submission
from workbench.audit.results import open_run
from workbench.review.desk import Desk
from workbench.review.erasure import erase_patient
from workbench.review.forgotten import erased_in, forget
from workbench.review.pseudonyms import Pseudonyms
from workbench.review.store import NotSavedError, ReviewStore
from workbench.schema.errors import WorkbenchError

pytestmark = [
    pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning"),
    pytest.mark.usefixtures("fresh_app"),
]
Place = Path | str


@pytest.fixture
def patient(run_copy: Path) -> str:
    """Return the patient of `EXAM`, under a name that stands nowhere else."""
    eyes = open_run(run_copy).eyes()
    return str(eyes.loc[eyes["exam_id"] == EXAM, "patient_id"].iloc[0])


def elsewhere(database: Place, folder: Path, patient: str) -> None:
    """Erase as the command line does, from another process's point of view: the app's desk hears nothing of it."""
    store = ReviewStore(database)
    erase_patient(store.database, patient, Pseudonyms.open(), by="Chief", runs=[folder])
    store.close()


def stored(database: Place, patient: str) -> list[str]:
    store, found = ReviewStore(database), sa.MetaData()
    with store.database.engine.connect() as connection:
        found.reflect(connection)
        rows = [str(row) for table in found.sorted_tables for row in connection.execute(sa.select(table))]
    assert store.verify().first_bad is None
    store.close()
    return [row for row in rows if patient in row or EXAM in row]


@pytest.mark.parametrize("pressed", ["Save", "Next", ""])
def test_an_open_exam_is_gone_at_the_next_press_and_a_save_says_so(
    database: Place, run_copy: Path, patient: str, monkeypatch: pytest.MonkeyPatch, pressed: str
) -> None:
    app = open_exam(run_copy, "assisted", monkeypatch)
    choose(choose(app, "OD", "grade", 1), "OS", "grade", 3)
    assert patient in page(app)
    assert stored(database, patient)
    elsewhere(database, run_copy, patient)
    app = press(app, pressed) if pressed else app.run()
    assert "This patient was erased: nothing is shown, and nothing was saved." in page(app)
    assert patient not in sent(app)
    assert [one.key for one in app.get("bidi_component")] == ["theme"]  # neither photographs nor maps
    assert app.session_state["drafts"] == {}
    assert stored(database, patient) == []
    app = press(app, "Read next")
    assert "grade" in page(app)
    app = press(app, "Worklist")
    assert "of 11 exams read by you" in str(app.get("progress")[0].proto)
    assert EXAM not in sent(app)


def test_disputes_lists_and_caches_lose_an_erased_patient(
    database: Place, run_copy: Path, patient: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(run_copy, database=None if isinstance(database, Path) else database, protocol="adjudication")
    for reader, grade in (("Dr A", 0), ("Dr B", 4)):
        said = submission(f"{reader}-{grade:08d}", reader=reader, run_id=desk.run_id, exam_id=EXAM, patient_id=patient)
        eyes = tuple(one.model_copy(update={"icdr_grade": grade, "gradable": True}) for one in said.eyes)
        desk.store.save(said.model_copy(update={"eyes": eyes, "disposition": None, "rescreen_months": None}))
    app = open_app(run_copy, monkeypatch, "adjudication")
    assert EXAM in sent(app)
    assert "1 exams in dispute" in sent(app)
    kept = (desk.case(EXAM), desk.viewer(EXAM, "single"), desk.trust(EXAM), desk.disputes())
    elsewhere(database, run_copy, patient)
    desk.notice_erasures()
    app.run()
    assert "No two readers differ" in page(app)
    assert all(kept)
    for asked in (desk.case, lambda exam: desk.viewer(exam, "single")):
        with pytest.raises(WorkbenchError, match="this run has no exam"):
            asked(EXAM)
    assert (desk.exam_of(desk.token(EXAM)), desk.was_erased(desk.token(EXAM))) == (None, True)
    assert not desk.was_erased(desk.token("exam-000"))
    assert desk.disputes() == []
    assert EXAM not in [exam for _, exam in desk.worklist("Dr A").first(99)]
    assert desk.study(desk.store.head()).counts.get("exams read", 0) == 0
    desk.close()


def test_a_save_that_races_an_erasure_is_refused_by_the_store(database: Place, run_copy: Path, patient: str) -> None:
    """The page was drawn before; its entries come after."""
    desk = Desk(run_copy, database=None if isinstance(database, Path) else database)
    draft, case, now = desk.draft(EXAM, "Dr A", "single"), desk.case(EXAM), desk.standing(EXAM, "Dr A")
    for said in draft.eyes.values():
        said["grade"] = "ungradable"
        said["reason"] = "image_quality"
    elsewhere(database, run_copy, patient)
    for late in (
        lambda: desk.save(case, draft, now),
        lambda: desk.keep(draft, case),
        lambda: desk.reveal(EXAM, "Dr A", "single"),
    ):
        with pytest.raises(NotSavedError, match=r"^not saved: this patient was erased"):
            late()
    assert stored(database, patient) == []
    desk.close()


def test_of_saves_and_an_erasure_at_once_nothing_is_left(database: Place, run_copy: Path, patient: str) -> None:
    desk = Desk(run_copy, database=None if isinstance(database, Path) else database)
    answers: list[str] = []

    def save_on() -> None:
        for number in range(40):
            try:
                desk.store.save(submission(f"race-{number:08d}", exam_id=EXAM, patient_id=patient))
                answers.append("saved")
            except NotSavedError:
                answers.append("erased")

    thread = threading.Thread(target=save_on)
    thread.start()
    elsewhere(database, run_copy, patient)
    thread.join()
    assert answers == sorted(answers, reverse=True)  # once it is refused, it stays so
    assert stored(database, patient) == []
    desk.close()


@pytest.mark.parametrize("given_as", ["id", "pseudonym"])
def test_a_patient_whom_nobody_has_read_is_erased_too(
    database: Place, run_copy: Path, patient: str, monkeypatch: pytest.MonkeyPatch, given_as: str
) -> None:
    app = open_app(run_copy, monkeypatch)
    desk: Desk = app.session_state["desk"]
    before = desk.store.verify()
    assert EXAM in sent(app)
    with pytest.raises(WorkbenchError, match="nothing of the patient"):
        desk.erase("nobody of this run", "Chief")
    gone = desk.erase(f" {patient if given_as == 'id' else desk.names.patient(patient)} ", "Chief")
    assert (gone.patient_id, gone.events, gone.exams) == (patient, 0, ())
    app.run()
    assert EXAM not in sent(app)
    after = desk.store.verify()
    assert (after.first_bad, after.length, after.erased) == (None, before.length + 2, 0)  # the eraser's name, and it
    assert stored(database, patient) == []
    assert patient not in (run_copy / "erased.json").read_text()
    assert len(json.loads((run_copy / "erased.json").read_text())["patients"]) == 1
    with pytest.raises(WorkbenchError, match="nothing of the patient"):
        desk.erase(patient, "Chief")


def test_only_an_administrator_is_offered_it(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_app(run_copy, monkeypatch)
    assert "erase_patient" in [button.key for button in app.button]
    monkeypatch.setattr("workbench.review.entrance.ALL_ROLES", frozenset({"reader", "adjudicator", "auditor"}))
    app.run()
    assert "erase_patient" not in [button.key for button in app.button]


def test_a_damaged_list_shuts_every_page_in_one_line(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_exam(run_copy, "assisted", monkeypatch)
    (run_copy / "erased.json").write_text("{}")
    app.run()
    assert not app.exception
    assert "is damaged" in page(app)
    assert EXAM not in sent(app)


def test_two_erasures_at_once_are_both_on_the_list(run_copy: Path) -> None:
    patients = [f"p{number}" for number in range(12)]
    threads = [threading.Thread(target=forget, args=(run_copy, patient)) for patient in patients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(map(erased_in(run_copy), patients))
