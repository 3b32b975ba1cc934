"""One exam: both eyes, what the protocol lets be seen of the model, and the reader's own grades."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from workbench.audit.attention_words import exam_sentences
from workbench.audit.outcomes import what_would_flip
from workbench.review.access import may, role_for
from workbench.review.cases import Case, stress_summary
from workbench.review.desk import Desk
from workbench.review.disputes import LETTERS, Dispute
from workbench.review.draft import Draft
from workbench.review.entrance import current, fragment, names_switch, open_page, require, true_names
from workbench.review.form import KEYS_HELP, entries, keep_draft, status
from workbench.review.markup import chips, heading, literal, reading_as, reads_table, steps, stress_table
from workbench.review.protocols import STAGE_NAMES
from workbench.review.reads import DME_GRADES, REASONS, SavedRead
from workbench.review.standing import REVEALS, Standing
from workbench.review.tour import tour
from workbench.review.trust_markup import trust_panel
from workbench.review.viewer import viewer
from workbench.review.words import EYE_NAMES, PLAN_WORDS, grade_words
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import canonical_hash

REVEAL_NAMES = {
    "grade": "the model's grade",
    "uncertainty": "how sure it is",
    "map": "its map",
    "adjudication": "the model's answer",
}
# The exams before and after this one, and the next one to be read. (A string here would be shown on the page.)
Beside = tuple[str | None, str | None, str | None]


def show(desk: Desk) -> None:
    """Show the page."""
    token = st.query_params.get("exam", "")
    exam_id = desk.exam_of(token)
    reader = st.session_state["reader"]
    try:
        if exam_id is None:
            nothing_open(desk, token, beside(desk, reader, None)[2])
            return
        around = beside_if_known(desk, reader, exam_id)
        now = desk.standing(exam_id, reader)
        case = desk.seen(exam_id, now.visible)
        content = desk.viewer(exam_id, now.visible)
        draft = draft_of(desk, case, reader, now)
        dispute = desk.dispute(exam_id) if now.protocol == "adjudication" else None
    except WorkbenchError as error:
        st.error(str(error), icon=":material/error:")
        return
    header(desk, case, now, around)
    left, right = st.columns([3.1, 1], gap="medium")
    with left:
        stage = now.form or "reveal"
        mine = replace(content, draft=canonical_hash([reader, exam_id, stage])[:16], drawn=draft.drawn)
        drawn = viewer(replace(mine, can_draw=now.form is not None))
        if drawn != draft.drawn and now.form is not None:
            draft.drawn = drawn
            draft.change()
            keep_draft(desk, case, draft)
        if dispute is not None:
            side_by_side(dispute)
            if now.next_reveal is not None and st.button(
                "Show the model's answer", help="That it was shown is stored."
            ):
                reveal(desk, case, reader, now.next_reveal)
    with right, st.container(key="entry"):
        if not may(current(), "adjudicate" if now.form == "adjudication" else "read"):
            st.info("Your role looks at exams; it does not read them.")
        elif now.form is None:
            revealing(desk, case, now, draft)
        else:
            reading(desk, case, draft, now, around[2])
    if now.shows("exam_score"):
        st.html(trust_panel(desk.trust(exam_id)))
    if now.shows("maps"):
        where_maps_lie(desk, exam_id)
        under_stress(case)


def beside(desk: Desk, reader: str, exam_id: str | None) -> Beside:
    """Return where to go from an exam: down the worklist, or down the list of disputes."""
    if desk.protocol != "adjudication":
        worklist = desk.worklist(reader, st.session_state.get("chosen"), true_names=true_names(desk))
        before, after = worklist.neighbours(exam_id) if exam_id is not None else (None, None)
        return before, after, worklist.next_undecided(after=exam_id)
    exams, done = [dispute.exam_id for dispute in desk.disputes()], desk.adjudicated()
    place = exams.index(exam_id) if exam_id in exams else -1
    left_over = [exam for exam in (*exams[place + 1 :], *exams[: max(place, 0)]) if exam not in done]
    before = exams[place - 1] if place > 0 else None
    return before, exams[place + 1] if place + 1 < len(exams) else None, left_over[0] if left_over else None


def beside_if_known(desk: Desk, reader: str, exam_id: str) -> Beside:
    """Return where to go from an exam; nowhere while the database is away: what was entered stays in sight."""
    try:
        return beside(desk, reader, exam_id)
    except WorkbenchError as error:
        st.error(str(error), icon=":material/cloud_off:")
        return None, None, None


def home(desk: Desk) -> str:
    """Return the page from which exams are opened."""
    return "worklist.py" if desk.offers("worklist") else "adjudication.py"


def nothing_open(desk: Desk, token: str, pressing: str | None) -> None:
    """Say what to do when no exam is open, and when the one that was is gone."""
    if token and desk.was_erased(token):
        st.error("This patient was erased: nothing is shown, and nothing was saved.", icon=":material/person_off:")
    else:
        st.info("No exam is open. Choose one from the list, or begin with the next one to be read.")
    left, right, _ = st.columns([1, 1, 4])
    if left.button("To the list"):
        st.switch_page(home(desk))
    if pressing is not None and right.button("Read next", type="primary"):
        go_to(desk, pressing)


def header(desk: Desk, case: Case, now: Standing, around: Beside) -> None:
    """Show whose exam this is, under which protocol, what to know first, and the way to the next ones."""
    left, named, back, before, after = st.columns([6, 1.2, 1, 1, 1], vertical_alignment="center")
    name = STAGE_NAMES[now.form or now.visible] if now.form or now.visible != "first" else "Before the reveal"
    protocol = now.protocol.replace("_", "-")
    shown = desk.shown_names(case.patient_id, case.exam_id, true_names=true_names(desk))
    left.html(heading(*shown, case.about, name if name.lower() == protocol else f"{protocol} · {name}"))
    with named:
        names_switch(desk)
    if back.button("Worklist" if desk.offers("worklist") else "Disputes", width="stretch"):
        st.switch_page(home(desk))
    for column, words, exam_id in ((before, "Previous", around[0]), (after, "Next", around[1])):
        if column.button(words, width="stretch", disabled=exam_id is None) and exam_id is not None:
            go_to(desk, exam_id)
    if case.flags:
        st.html(chips(case.flags))


def draft_of(desk: Desk, case: Case, reader: str, now: Standing) -> Draft:
    """Return the draft of this reader, exam and stage: this tab's, or what the store kept, or what was saved last."""
    stage = now.form or "first"
    drafts = st.session_state["drafts"]
    name = (reader, case.exam_id, stage)
    if name not in drafts:
        drafts[name] = desk.draft(case.exam_id, reader or "nobody yet", stage)
    draft: Draft = drafts[name]
    return draft


@fragment
def reading(desk: Desk, case: Case, draft: Draft, now: Standing, following: str | None) -> None:
    """Show the reader's form; a draft belongs to one reader and one exam, and stays until it is saved."""
    st.html(reading_as(current().name))
    entries(desk, case, draft)
    first = now.form == "first"
    if first:
        later, here = False, save_button("Save first read and lock it")
    else:
        left, right = st.columns([1.7, 1])
        with left:
            later = save_button("Save and next", disabled=following is None)
        here = right.button("Save", width="stretch")
    if (later or here) and saved(desk, case, draft, now):
        if later and following is not None:
            go_to(desk, following)
        if first:
            st.rerun(scope="app")
    status(draft)
    st.caption("Keys: digits · J next field · Ctrl+Enter saves", help=KEYS_HELP)
    tour("exam", desk.protocol)


def save_button(words: str, *, disabled: bool = False) -> bool:
    """Show the button that the keyboard presses."""
    return st.button(words, type="primary", width="stretch", disabled=disabled, shortcut="Ctrl+Enter")


def saved(desk: Desk, case: Case, draft: Draft, now: Standing) -> bool:
    """Save the draft; where that fails, say so and keep it. What is saved already is not saved again."""
    if draft.saved_at and not draft.touched:
        return True
    draft.attempted = draft.seconds
    try:
        if not current().subject.strip():
            raise WorkbenchError("your name is not set", "type it on the worklist")
        require("adjudicate" if now.form == "adjudication" else "read")
        rows = desk.save(case, draft, now, role_for(current(), str(now.form)))
    except WorkbenchError as error:
        draft.failure = str(error)
        return False
    draft.saved_at, draft.touched, draft.failure = rows[0].saved_at, False, ""
    return True


def revealing(desk: Desk, case: Case, now: Standing, draft: Draft) -> None:
    """Show the locked first read and one button: its press is stored before anything is shown."""
    st.html("<b>Your first read is saved and locked</b>")
    mine = desk.current_reads(case.exam_id, draft.place.reader, "first")
    st.html(reads_table(["", "You", "Model"], [_compared(case, eye, read) for eye, read in mine.items()]))
    seen = REVEALS[: REVEALS.index(str(now.next_reveal))]
    following = str(now.next_reveal)
    st.html(steps([REVEAL_NAMES[stage].capitalize() for stage in seen], REVEAL_NAMES[following].capitalize()))
    if st.button(f"Show {REVEAL_NAMES[following]}", type="primary", width="stretch", shortcut="Ctrl+Enter"):
        reveal(desk, case, draft.place.reader, following)
    st.caption("Each step is noted with its time. After the map you read the exam again.")


def _compared(case: Case, eye: str, read: SavedRead) -> tuple[str, str, str]:
    answer = case.eyes[eye].answer
    mine = "ungradable" if read.icdr_grade is None else grade_words(read.icdr_grade)
    return eye, mine, grade_words(answer.icdr_grade) if answer else "not shown"


def reveal(desk: Desk, case: Case, reader: str, stage: str) -> None:
    """Store a reveal, then show it; what cannot be stored is not shown."""
    try:
        require("adjudicate" if stage == "adjudication" else "read")
        desk.reveal(case.exam_id, reader, stage)
    except WorkbenchError as error:
        st.error(f"not shown: {error}", icon=":material/error:")
        return
    st.rerun(scope="app")


def side_by_side(dispute: Dispute) -> None:
    """Show what the readers said, without their names."""
    about = "; ".join(f"{eye}: {words}" for eye, words in dispute.why.items())
    st.html(f"<b>The readers differ</b> <span class='quiet'>{literal(about)}</span>")
    names = [f"Read {LETTERS[place % len(LETTERS)]}" for place in range(len(dispute.reads))]
    by_eye: list[dict[str, SavedRead]] = [{read.eye: read for read in of_reader} for of_reader in dispute.reads]
    lines = [
        (EYE_NAMES[eye], *(_said(reads.get(eye)) for reads in by_eye))
        for eye in EYE_NAMES
        if any(eye in reads for reads in by_eye)
    ]
    lines.append(("Patient", *(_plan(of_reader[0]) for of_reader in dispute.reads)))
    st.html(reads_table(["", *names], lines))


def _said(read: SavedRead | None) -> str:
    if read is None:
        return "not read"
    parts = [
        "ungradable" if read.icdr_grade is None else grade_words(read.icdr_grade),
        DME_GRADES[read.dme] if read.dme is not None else "",
        f"confidence {read.confidence} of 5" if read.confidence is not None else "",
        REASONS.get(read.reason_code or "", ""),
        f"“{read.note}”" if read.note else "",
        f"{marks} mark{'s' * (marks > 1)}" if (marks := sum(one.eye == read.eye for one in read.drawn.marks)) else "",
    ]
    return " · ".join(part for part in parts if part)


def _plan(read: SavedRead) -> str:
    plan = PLAN_WORDS.get(read.disposition or "", "no plan")
    months = f" in {read.rescreen_months} months" if read.rescreen_months else ""
    return plan + months + (f" · “{read.patient_note}”" if read.patient_note else "")


def where_maps_lie(desk: Desk, exam_id: str) -> None:
    """Say what each map has passed, what an eye's answer owes to the other, and where its maps lie."""
    passed, told = desk.credentials(exam_id), exam_sentences(desk.run, exam_id)
    if passed or any(told.values()):
        st.html(
            "<b>What the maps are worth</b> <span class='quiet'>where the model looked; not where disease is</span>"
        )
    lines = [f"<li>{literal(words)}</li>" for words in passed]
    lines += [f"<li>{eye}: {literal(sentence)}</li>" for eye, sentences in told.items() for sentence in sentences]
    if lines:
        st.html(f'<ul class="told">{"".join(lines)}</ul>')


def under_stress(case: Case) -> None:
    """Show what each stress did to the call, and whether a human would have been asked."""
    told = " ".join((stress_summary(case), what_would_flip(case.stresses), *case.searched))
    st.html(f"<b>Under stress</b> <span class='quiet'>{literal(told)}</span>")
    if case.stresses:
        st.html(stress_table(case))


def go_to(desk: Desk, exam_id: str) -> None:
    """Open another exam on this page."""
    st.query_params["exam"] = desk.token(exam_id)
    st.rerun(scope="app")


show(open_page("exam"))
