"""The worklist: which exams need a human, the most pressing first; filters, queues, who has what, how far it is."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from workbench.review.access import may
from workbench.review.desk import Desk
from workbench.review.entrance import current, dialog, names_switch, open_page, reader_name, require, true_names
from workbench.review.erase_dialog import erase_button
from workbench.review.people import People
from workbench.review.tour import tour
from workbench.review.worklist import ReaderWorklist, WorklistFilter, next_undecided
from workbench.review.worklist_index import BLIND_ORDER
from workbench.review.worklist_rows import message, show_rows, turned
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import GRADES

PAGE = 50
MOST_AT_ONCE = 1000  # exams that one press gives out: each is a row of the audit trail
CONDITIONS = {
    "undecided": "Not read by me",
    "assigned": "Given to me",
    "unread": "Read by nobody",
    "referred": "Referred",
    "incomplete": "Eye missing or ungradable",
    "eyes_disagree": "Eyes disagree",
    "flagged": "Flagged photograph",
}
NEED_NO_MODEL = ("undecided", "assigned", "unread", "incomplete")
ORDER_NAMES = {
    "priority": "What needs a human first",
    "risk": "Silent-failure risk",
    "uncertainty": "Uncertainty",
    "disagreement": "Eye disagreement",
    "severity": "Severity",
    "patient": "Patient",
    BLIND_ORDER: "Shuffled",
}
WIDGETS = ("conditions", "grades", "search", "order", "camera", "site")


def show(desk: Desk) -> None:
    """Show the page."""
    opened = st.session_state.pop("opening", None)
    if opened is not None:
        open_exam(desk, desk.exam_of(opened))
    title, named, begin, name = st.columns([4, 1.1, 1, 1.5], vertical_alignment="bottom")
    title.subheader("Worklist", anchor=False)
    with named:
        names_switch(desk)
    with name:
        reader = reader_name(desk)
    try:
        everything = desk.worklist(reader)
        total, done = everything.counts()
        summary(desk, total, done)
        tour("worklist", desk.protocol, first=done == 0)
        chosen = filters(desk, reader)
        shown = desk.worklist(reader, chosen, true_names=true_names(desk))
        passing = total if not chosen.active else len(shown)
        if done == total:
            st.success("You have read every exam of this run. See the run overview for what the model does to it.")
        elif begin.button(
            "Read next",
            type="primary",
            icon=":material/arrow_forward:",
            help="The most pressing unread exam of these",
            key="read_next",
        ):
            open_exam(desk, next_undecided(shown) or next_undecided(everything))
        if passing == 0:
            st.info(f"None of the {total} exams passes these filters. Take one away to see more.")
            return
        table(desk, shown, passing)
    except WorkbenchError as error:
        st.error(str(error), icon=":material/error:")


def summary(desk: Desk, total: int, done: int) -> None:
    """Say how much there is and how much is done."""
    st.progress(done / max(1, total), text=f"{done:,} of {total:,} exams read by you")
    referred, check, routine = desk.index.tiers
    words = (
        f"{referred:,} referred by the model’s policy, {check:,} not referred but worth a check, {routine:,} routine. "
    )
    st.caption(f"{'' if desk.blind else words}Model and audit: run {desk.run_id}.")


def filters(desk: Desk, reader: str) -> WorklistFilter:
    """Return what the reader wants to see; it stays while the reader is on other pages."""
    restore(st.session_state.setdefault("chosen", WorklistFilter(order=BLIND_ORDER if desk.blind else "priority")))
    line = st.columns([1.2, 1.6, 1.2, 1, 1, 2.3], vertical_alignment="bottom")
    with line[0]:
        queue_choice(desk, reader)
    orders = [BLIND_ORDER] if desk.blind else [name for name in ORDER_NAMES if name != BLIND_ORDER]
    order = line[1].selectbox("Order", orders, format_func=ORDER_NAMES.get, key="order")
    search = line[2].text_input("Search", placeholder="Patient or exam", key="search", max_chars=200)
    places: dict[str, Any] = {name: place(line[at], desk, name) for at, name in ((3, "camera"), (4, "site"))}
    with line[5]:
        tools(desk, reader)
    left, right = st.columns([3, 1.25], vertical_alignment="bottom")
    known = [name for name in CONDITIONS if not desk.blind or name in NEED_NO_MODEL]
    if not desk.index.has_flags and "flagged" in known:
        known.remove("flagged")
    conditions = left.pills("Show only", known, format_func=CONDITIONS.get, selection_mode="multi", key="conditions")
    grades: list[int] = []
    if not desk.blind:
        grades = right.pills(
            "Model’s grade, either eye", list(range(len(GRADES))), selection_mode="multi", key="grades"
        )
    held: dict[str, Any] = dict.fromkeys(conditions, True)
    chosen = WorklistFilter(grades=tuple(sorted(grades)), search=search.strip(), order=order, **places, **held)
    if chosen != st.session_state["chosen"]:
        st.session_state.update(chosen=chosen, page=0)
    return chosen


def restore(chosen: WorklistFilter) -> None:
    """Set the widgets that Streamlit forgot, because their page was left, to what was chosen there."""
    if "order" not in st.session_state:
        put(chosen)


def put(chosen: WorklistFilter) -> None:
    """Set the widgets to a filter."""
    held = [name for name in CONDITIONS if getattr(chosen, name)]
    values = {**chosen.kept(), "conditions": held}
    for name in WIDGETS:
        st.session_state[name] = values.get(name, [] if name in ("conditions", "grades") else "")


def place(where: Any, desk: Desk, name: str) -> str:
    """Return the camera or site that is asked for; empty for all."""
    options = ["", *desk.index.places[name]]
    if len(options) <= 2:
        return ""
    chosen: str = where.selectbox(
        name.capitalize(), options, format_func=lambda value: value or "All", key=name, disabled=len(options) <= 2
    )
    return chosen


def queue_choice(desk: Desk, reader: str) -> None:
    """Offer the saved queues; choosing one sets the filters and the order."""
    kept = {
        f"{queue.name}{'' if queue.owner == reader else f' ({queue.owner})'}": queue
        for queue in desk.queues.kept(reader)
    }

    def choose() -> None:
        queue = kept.get(st.session_state["queue"])
        put(WorklistFilter.from_kept(queue.filters) if queue else WorklistFilter())

    if st.session_state.get("queue") not in (None, "", *kept):
        del st.session_state["queue"]
    st.selectbox("Queue", ["", *kept], format_func=lambda name: name or "All exams", key="queue", on_change=choose)


def tools(desk: Desk, reader: str) -> None:
    """Show the buttons for what is done with a whole list."""
    keep, give, far, *last = st.columns([1.35, 1, 1.15, 0.85] if may(current(), "erase") else 3)
    if keep.button("Save queue", width="stretch", help="Keep these filters and this order under a name"):
        keep_queue(desk, reader)
    if give.button(
        "Assign",
        width="stretch",
        disabled=not may(current(), "assign"),
        help="Give the first exams of this list to a reader",
    ):
        assign(desk, reader)
    if far.button("Progress", width="stretch", help="How far each queue and each reader is"):
        progress(desk, reader)
    for column in last:
        with column:
            erase_button(desk)


@dialog("Save queue")
def keep_queue(desk: Desk, reader: str) -> None:
    """Keep the filters and the order under a name."""
    name = st.text_input("Name", max_chars=100, placeholder="e.g. Unsure, clinic North")
    shared = may(current(), "share_queue") and st.checkbox("Everybody may use it")
    mine = [queue.name for queue in desk.queues.kept(reader) if queue.owner == reader]
    if st.button("Save", type="primary", disabled=not name.strip()):
        said(lambda: desk.queues.keep(reader, name.strip(), st.session_state["chosen"].kept(), shared=shared))
    if mine:
        gone = st.selectbox("Or throw one of yours away", mine, index=None, placeholder="Choose one")
        if gone is not None and st.button(f"Throw ‘{gone}’ away"):
            said(lambda: desk.queues.forget(reader, gone))


@dialog("Assign exams")
def assign(desk: Desk, reader: str) -> None:
    """Give the first exams of the list to a reader, or take them back."""
    shown = desk.worklist(reader, st.session_state["chosen"], true_names=true_names(desk))
    passing = len(shown)
    if passing == 0:
        st.info("No exam passes the filters: there is nothing to assign.")
        return
    known = [user.subject for user in People(desk.store.database).users()]
    to = st.selectbox("To", known, index=None, placeholder="Choose or type a reader", accept_new_options=True)
    most = min(MOST_AT_ONCE, passing)
    count = st.number_input(f"How many, from the top of these {passing:,}", 1, most, min(PAGE, most))
    give, back = st.columns(2)
    if give.button("Assign", type="primary", width="stretch", disabled=not to):
        said(lambda: _hand(desk, shown, int(count), str(to), reader, back=False), "assign")
    if back.button("Take back", width="stretch", disabled=not to):
        said(lambda: _hand(desk, shown, int(count), str(to), reader, back=True), "assign")


def _hand(desk: Desk, shown: ReaderWorklist, count: int, to: str, by: str, *, back: bool) -> None:
    hand = desk.queues.take_back if back else desk.queues.assign
    hand(desk.run_id, shown.first(count), to.strip(), by=by)


def said(work: Any, action: str = "") -> None:
    """Do what was pressed and close the dialog, or say why it was not done."""
    try:
        if action:
            require(action)
        work()
    except WorkbenchError as error:
        st.error(str(error), icon=":material/error:")
        return
    st.rerun()


@dialog("Progress", width="large")
def progress(desk: Desk, reader: str) -> None:
    """Show how far each queue and each reader is."""
    lines = [("All exams", *desk.worklist(reader).counts())]
    for queue in desk.queues.kept(reader):
        lines.append(
            (
                queue.name,
                *desk.worklist(reader, WorklistFilter.from_kept(queue.filters), true_names=true_names(desk)).counts(),
            )
        )
    st.markdown("**Queues**")
    st.table(pd.DataFrame(lines, columns=["Queue", "Exams", "Read by you"]).set_index("Queue"))
    st.markdown("**Readers**")
    found = (
        desk.progress() if may(current(), "see_readers") else [one for one in desk.progress() if one.reader == reader]
    )
    if not found:
        st.info("Nobody has read or been given an exam of this run yet.")
        return
    columns = {"Reader": "reader", "Given": "assigned", "Of these read": "assigned_read", "Read in all": "read"}
    rows = [{title: getattr(one, name) for title, name in columns.items()} for one in found]
    st.table(pd.DataFrame(rows).set_index("Reader"))


def table(desk: Desk, shown: ReaderWorklist, passing: int) -> None:
    """Show a page of the exams and do what is pressed in it."""
    last = (passing - 1) // PAGE
    at = min(st.session_state.setdefault("page", 0), last)
    page = shown.page(at * PAGE, PAGE)
    names = [
        desk.shown_names(patient, exam, true_names=true_names(desk))
        for patient, exam in zip(page["patient_id"], page["exam_id"], strict=True)
    ]
    content = message(
        page.assign(patient_id=[patient for patient, _ in names], exam_id=[exam for _, exam in names]),
        begin=at * PAGE,
        total=passing,
        order=shown.chosen.order,
        with_model=not desk.blind,
    )
    st.session_state["page"] = at
    show_rows(content, hear)


def hear(what: str, value: str) -> None:
    """Do what was pressed in the table, before the page is made anew."""
    if what == "open":
        st.session_state["opening"] = value
    elif what == "turn":
        st.session_state["page"] = turned(st.session_state["page"], value)
    elif value in ORDER_NAMES:
        st.session_state["order"] = value


def open_exam(desk: Desk, exam_id: str | None) -> None:
    """Go to the page of an exam."""
    if exam_id is not None:
        st.switch_page("exam.py", query_params={"exam": desk.token(exam_id)})


show(open_page("worklist"))
