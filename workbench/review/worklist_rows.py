"""A page of a list as our own table in the browser: light, by keyboard, every text shown letter by letter."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Any, Final

import pandas as pd

from workbench.review.words import grade_words
from workbench.review.worklist import TIERS
from workbench.review.worklist_risk import RISK_WORDS
from workbench.schema.bundled import bundled
from workbench.schema.files import canonical_hash

ALWAYS: Final = ("Patient", "Exam", "You", "Read by", "Given to")
"""What may be shown where the model must not be: the rest is the model's."""

_COLUMNS: Final[tuple[dict[str, str], ...]] = (
    {"name": "Patient", "kind": "text", "order": "patient"},
    {"name": "Exam", "kind": "text"},
    {"name": "Priority", "kind": "tag", "order": "priority", "help": "Referred by the policy; worth a check; routine"},
    {"name": "Why", "kind": "wide"},
    {"name": "OD", "kind": "text", "order": "severity", "help": "The model's grade of the right eye"},
    {"name": "OS", "kind": "text", "order": "severity", "help": "The model's grade of the left eye"},
    {"name": "P(referable)", "kind": "share", "help": "Of the worse eye"},
    {
        "name": "Uncertainty",
        "kind": "share",
        "order": "uncertainty",
        "help": "Share of this run's exams about which the model is at least as sure",
    },
    {"name": "Silent-failure risk", "kind": "share", "order": "risk", "help": RISK_WORDS},
    {"name": "You", "kind": "done"},
    {"name": "Read by", "kind": "text"},
    {"name": "Given to", "kind": "text"},
)


def message(page: pd.DataFrame, *, begin: int, total: int, order: str, with_model: bool) -> dict[str, Any]:
    """Return what travels to the browser.

    Args:
        page: of `ReaderWorklist.page`.
        begin: its first exam's place among those that pass.
        total: how many pass.
        order: by which they are ordered.
        with_model: False leaves everything of the model out, for a blinded read.
    """
    columns = [column for column in _COLUMNS if with_model or column["name"] in ALWAYS]
    if not with_model:
        columns = [{**column, "order": ""} for column in columns]
    cells = [_cells(row) for row in page.to_dict("records")]
    rows = [
        {"token": token, "cells": [one[column["name"]] for column in columns]}
        for token, one in zip(page["token"], cells, strict=True)
    ]
    content = {"columns": columns, "rows": rows, "begin": begin, "total": total, "order": order, "search": True}
    return {**content, "shown": canonical_hash(content)[:16]}


def plain_message(
    columns: dict[str, str], rows: Iterable[tuple[str, Sequence[str]]], *, begin: int, total: int
) -> dict[str, Any]:
    """Return what travels to the browser of another list: rows that open, in one order, without a search.

    Args:
        columns: name → kind (text, wide or done).
        rows: a token and its cells each.
        begin: the first row's place.
        total: how many rows there are.
    """
    heads = [{"name": name, "kind": kind} for name, kind in columns.items()]
    lines = [{"token": token, "cells": list(cells)} for token, cells in rows]
    content = {"columns": heads, "rows": lines, "begin": begin, "total": total, "order": "", "search": False}
    return {**content, "shown": canonical_hash(content)[:16]}


def turned(at: int, how: str) -> int:
    """Return the page to which somebody turned; past the last one is for whoever shows it to cut."""
    return {"first": 0, "previous": max(0, at - 1), "next": at + 1}.get(how, sys.maxsize)


def pressed_into(opened: str, page: str) -> Callable[[str, str], None]:
    """Return the ``hear`` of `show_rows` for a list that opens rows and is turned, and nothing else.

    Args:
        opened: of the session, where the token of the row that was opened goes.
        page: of the session, where the number of the page stands.
    """
    import streamlit as st

    def hear(what: str, value: str) -> None:
        if what == "open":
            st.session_state[opened] = value
        elif what == "turn":
            st.session_state[page] = turned(st.session_state[page], value)

    return hear


def show_rows(content: dict[str, Any], hear: Callable[[str, str], None], key: str = "exams") -> None:
    """Show a page of rows.

    Args:
        content: made by `message` or `plain_message`.
        hear: told what was pressed before the page is made anew: (open, a row's token), (order, its name) or
            (turn, one of first, previous, next, last).
        key: of the component in the session.
    """
    import streamlit as st

    def told(what: str) -> None:
        said = st.session_state[key].get(what)
        if isinstance(said, str):
            hear(what, said)

    mount = st.components.v2.component("retina_trust_workbench.rows", **_assets())
    heard = {f"on_{what}_change": partial(told, what) for what in ("open", "order", "turn")}
    mount(data=content, key=key, **heard)


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "Patient": str(row["patient_id"]),
        "Exam": str(row["exam_id"]),
        "Priority": TIERS[row["tier"]],
        "Why": row["why"],
        "OD": _grade(row["grade_OD"], row["status_OD"]),
        "OS": _grade(row["grade_OS"], row["status_OS"]),
        "P(referable)": _share(row["p_referable"]),
        "Uncertainty": _share(row["rank"]),
        "Silent-failure risk": _share(row["risk"]),
        "You": "read" if row["decided"] else "",
        "Read by": row["read_by"],
        "Given to": row["assigned_to"],
    }


def _grade(grade: Any, status: str) -> str:
    return status if status != "ok" else grade_words(None if pd.isna(grade) else int(grade))


def _share(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else round(100 * float(value), 1)


@cache
def _assets() -> dict[str, str]:
    folder = bundled("apps") / "rows"
    return {kind: (folder / f"rows.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")}
