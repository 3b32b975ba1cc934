"""The reader's form: two eyes and a patient beside the viewer, by mouse or by keys, kept with every change."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final

import streamlit as st

from workbench.review.cases import Case
from workbench.review.desk import Desk
from workbench.review.draft import UNGRADABLE, Draft, agreement_of, eyes_to_read, reasons_for
from workbench.review.presses import take
from workbench.review.reads import DME_GRADES
from workbench.review.words import EYE_NAMES, PLAN_WORDS, SURE_WORDS, grade_words
from workbench.schema.bundled import bundled
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import canonical_hash

GRADE_CHOICES: Final = (0, 1, 2, 3, 4, UNGRADABLE)
_DIGITS: Final[dict[str, dict[str, int]]] = {
    "grade": {**{str(grade): grade for grade in range(5)}, "9": 5},
    "dme": {str(grade): grade for grade in range(4)},
    "confidence": {str(sure): sure - 1 for sure in range(1, 6)},
    "plan": {"1": 0, "2": 1},
}
"""Field → key → which of its buttons."""

KEYS_HELP: Final = (
    "The marked field takes a digit and hands on to the next: grade 0 to 4, 9 for ungradable; DME 0 to 3; confidence 1 "
    "to 5; plan 1 refer, 2 rescreen. J goes on without a choice, Shift+J back. Ctrl+Enter saves. "
    f"Sure: {', '.join(f'{number} {words}' for number, words in SURE_WORDS.items())}."
)


def entries(desk: Desk, case: Case, draft: Draft) -> None:
    """Ask for everything about both eyes and the patient; each change is kept in the store.

    Args:
        desk: keeps the draft.
        case: as this reader may see it.
        draft: what the form begins with; it is changed in place.
    """
    keep = _keeper(desk, case, draft)
    for eye in eyes_to_read(case):
        _one_eye(case, draft, eye, keep)
    _patient(draft, keep)
    _listen(
        draft,
        [*(_DIGITS[name] for _ in eyes_to_read(case) for name in ("grade", "dme", "confidence")), _DIGITS["plan"]],
    )


def _one_eye(case: Case, draft: Draft, eye: str, keep: Callable[[], None]) -> None:
    said = draft.eyes[eye]
    tie = _Tie(said, f"{_prefix(draft)}|{eye}", keep)
    st.html(
        f'<div class="eye"><b>{EYE_NAMES[eye]}</b> <span class="quiet">{_about_grade(case, draft, eye)}</span></div>'
    )
    st.segmented_control("Grade", GRADE_CHOICES, format_func=_grade_label, **tie("grade"))
    if said["grade"] != UNGRADABLE:
        st.segmented_control("DME", range(len(DME_GRADES)), format_func=lambda dme: _DME_SHORT[dme], **tie("dme"))
    else:
        st.segmented_control("DME", range(len(DME_GRADES)), disabled=True, key=f"{_prefix(draft)}|{eye}|no_dme")
    st.segmented_control("Sure", range(1, 6), **tie("confidence"))
    if reasons := reasons_for(case, draft, eye):
        if said["reason"] not in reasons:
            said["reason"] = None
        st.selectbox(
            f"Reason ({eye})",
            list(reasons),
            format_func=lambda code: reasons.get(code, code),
            index=None,
            placeholder="Reason (needed)",
            label_visibility="collapsed",
            **tie("reason", "|".join(reasons)),
        )
    st.text_input(
        f"Note ({eye})",
        placeholder=f"Note on {eye} (optional)",
        max_chars=4000,
        label_visibility="collapsed",
        **tie("note"),
    )


_DME_SHORT: Final = ("None", "Mild", "Mod.", "Sev.")


def _grade_label(grade: int | str) -> str:
    return "U" if grade == UNGRADABLE else str(grade)


def _about_grade(case: Case, draft: Draft, eye: str) -> str:
    """Return what a choice means, and whether it is the model's, where the model may be seen."""
    grade = draft.eyes[eye]["grade"]
    if grade is None:
        return "ICDR grade 0 to 4, U ungradable"
    words = ["ungradable" if grade == UNGRADABLE else grade_words(int(grade))]
    if eye in draft.before and draft.before[eye] != grade:
        first = draft.before[eye]
        words.append(f"first read {'ungradable' if first == UNGRADABLE else first}")
    agreement = agreement_of(case, eye, grade)
    if agreement is not None:
        answer = case.eyes[eye].answer
        model = grade_words(answer.icdr_grade if answer else None)
        words.append("you agree with the model" if agreement == "agree" else f"you disagree; the model says {model}")
    elif draft.place.stage in ("single", "second"):
        words.append("the model gave no answer")
    return " · ".join(words)


def _patient(draft: Draft, keep: Callable[[], None]) -> None:
    tie = _Tie(draft.__dict__, f"{_prefix(draft)}|patient", keep)
    plan, months = st.columns([2.1, 1], vertical_alignment="center")
    plan.segmented_control("Plan", list(PLAN_WORDS), format_func=PLAN_WORDS.get, **tie("disposition"))
    if draft.disposition == "rescreen":
        months.number_input(
            "Months until the rescreen",
            min_value=1,
            max_value=120,
            label_visibility="collapsed",
            help="Months until the rescreen",
            **tie("months"),
        )
    st.text_input(
        "Note (patient)",
        placeholder="Note on the patient (optional)",
        max_chars=4000,
        label_visibility="collapsed",
        **tie("note"),
    )


class _Tie:
    """Ties widgets to the fields of a draft: Streamlit forgets a widget that is off the page."""

    def __init__(self, said: dict[str, Any], prefix: str, keep: Callable[[], None]) -> None:
        self._said, self._prefix, self._keep = said, prefix, keep

    def __call__(self, name: str, kind: str = "") -> dict[str, Any]:
        """Return the widget's key, already holding the draft's value, and what to do when it changes."""
        key = f"{self._prefix}|{name}" + (f"|{kind}" if kind else "")
        if key not in st.session_state:
            st.session_state[key] = self._said[name]

        def keep(value: Any) -> None:
            self._said[name] = value
            self._keep()

        return {"key": key, "on_change": partial(take, key, keep)}


def _prefix(draft: Draft) -> str:
    place = draft.place
    # Streamlit sends the keys of widgets to the browser, where neither a patient nor a reader is named.
    return canonical_hash([place.reader, place.run_id, place.exam_id, place.protocol, place.stage])[:16]


def _keeper(desk: Desk, case: Case, draft: Draft) -> Callable[[], None]:
    """Return what to do after a change: it is another save from now on, and the store holds it at once."""

    def keep() -> None:
        draft.change()
        keep_draft(desk, case, draft)

    return keep


def keep_draft(desk: Desk, case: Case, draft: Draft) -> None:
    """Keep a draft in the store; where that fails, say so and keep it in this tab."""
    try:
        desk.keep(draft, case)
    except WorkbenchError as error:
        draft.failure = f"{error.what}; your entries are in this tab alone"


def _listen(draft: Draft, fields: list[dict[str, int]]) -> None:
    """Put the keys on the page, and note the time that the reader was at work."""
    mount = st.components.v2.component("retina_trust_workbench.entry", js=_script())
    identity = f"{_prefix(draft)}|{draft.opened_at}"
    state = mount(data={"draft": identity, "fields": fields}, key="entry_keys", on_active_change=lambda: None, height=1)
    said = state.get("active")
    if isinstance(said, dict) and said.get("draft") == identity and isinstance(said.get("seconds"), (int, float)):
        draft.seconds_here = max(0.0, float(said["seconds"]))


@cache
def _script() -> str:
    return (bundled("apps") / "entry" / "entry.js").read_text(encoding="utf-8")


def status(draft: Draft) -> None:
    """Say whether what is on the page is in the database."""
    if draft.failure:
        words = draft.failure
        st.error(words if words.startswith("not saved") else f"not saved: {words}", icon=":material/error:")
    elif draft.touched:
        st.warning("Not saved yet; the draft is kept", icon=":material/edit:")
    elif draft.saved_at:
        st.success(f"Saved {draft.saved_at[:16].replace('T', ' ')} UTC", icon=":material/check:")
    else:
        st.caption("Nothing saved for this exam yet.")
