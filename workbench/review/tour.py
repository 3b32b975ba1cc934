"""A two-minute tour for a first-time reader: one thing at a time, where it stands on the page."""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

from workbench.review.protocols import Protocol
from workbench.schema.bundled import bundled


class Step(NamedTuple):
    """One thing to know: where it stands (empty: nowhere in particular), its name, what to say of it.

    ``where`` is a CSS selector; behind `` >>> `` stands one of a component's inside. A step whose thing is not on the
    page is left out. ``protocols`` are those in which it is true.
    """

    where: str
    title: str
    words: str
    protocols: tuple[str, ...] = ("assisted", "blinded", "adjudication", "review_only")


OPEN: Final = ("assisted",)
BLIND: Final = ("blinded",)
VIEWER: Final = ".st-key-viewer"

WORKLIST: Final = (
    Step(
        "",
        "Does the model know when it is wrong?",
        "You read exams of both eyes, and see where the model answered, how sure it was, and where it would have "
        "failed without telling anybody. This is a tool for research and validation, not a medical device.",
        OPEN,
    ),
    Step(
        "",
        "First alone, then with the model",
        "You read each exam before anything of the model is shown. Your read is locked; then the model's grade, "
        "its doubt and its map are shown one after the other, and you read again.",
        BLIND,
    ),
    Step(
        "",
        "Reading without a model",
        "Nothing of a model is shown anywhere here: what is stored is your reading alone.",
        ("review_only",),
    ),
    Step(
        ".st-key-exams",
        "What needs a human stands first",
        "Exams that the model hands to a human, then those whose call turned unnoticed under a stress. ‘Why’ says"
        " it in words. Choose with the arrow keys, open with Enter.",
        OPEN,
    ),
    Step(
        ".st-key-exams",
        "The exams, shuffled",
        "The order tells nothing about the model. Choose with the arrow keys, open with Enter.",
        (*BLIND, "review_only"),
    ),
    Step(
        ".st-key-conditions",
        "Filters and queues",
        "Show only what you want to read, search for a patient, change the order; a set of filters can be saved "
        "as a queue and found again above.",
    ),
    Step(
        ".st-key-read_next",
        "Begin here",
        "‘Read next’ opens the next exam that you have not read. The tour goes on there.",
    ),
)

EXAM: Final = (
    Step(
        VIEWER,
        "Both eyes, as you face the patient",
        "The right eye stands on the left. Wheel or pinch zooms, dragging pans, both eyes together, down to the "
        "photograph's own pixels. Z fits again.",
    ),
    Step(
        f"{VIEWER} >>> [data-act=green]",
        "Looks",
        "Red-free (G), local contrast (C), contrast and brightness change the picture on your screen alone. X "
        "goes back to the plain photograph.",
    ),
    Step(
        f"{VIEWER} >>> .tools",
        "Marks, ruler, ETDRS grid",
        "Mark a lesion by a point (P) or an outline (L), measure (R), lay the grid (E). U takes back the last "
        "step. Marks are saved with your read.",
    ),
    Step(
        f"{VIEWER} >>> [data-act=map]",
        "The heat map is off until you ask",
        "M shows what moved the model's answer. It is no map of disease; one that failed its checks is withheld, "
        "and the reason is said. Look first, then compare.",
        ("assisted", "blinded", "adjudication"),
    ),
    Step(
        f"{VIEWER} >>> .answer",
        "The model's answer, and how far it spreads",
        "Each bar is a grade's probability; the whisker is where nine in ten of the model's answers lie when "
        "parts of it are switched off at random. Long whiskers: it does not know.",
        OPEN,
    ),
    Step(
        ".trust",
        "How sure, among all exams",
        "Where this exam stands among all of them, which grades cannot be ruled out, and whether the photograph "
        "is unlike those that the model learned from. Below: what each stress did to the call.",
        OPEN,
    ),
    Step(
        ".st-key-entry",
        "Your reading",
        "The marked field takes a digit and hands on to the next: grade, macular oedema, how sure you are. J goes"
        " on without a choice. Every change is kept as a draft, also through a reload.",
    ),
    Step(
        '.st-key-entry [data-testid="stButton"]',
        "Nothing is lost",
        "Ctrl+Enter saves; the page says so only when it is stored. A saved read is never overwritten: a later "
        "one takes its place, and both stay on record. All keys: press ? over the photographs.",
    ),
)
STEPS: Final = {"worklist": WORKLIST, "exam": EXAM}
"""Page → its part of the tour, in order; the exam's follows the worklist's."""


def steps_of(page: str, protocol: Protocol) -> tuple[Step, ...]:
    """Return the steps of a page that are true under a protocol."""
    return tuple(step for step in STEPS[page] if protocol in step.protocols)


def tour(page: str, protocol: Protocol, *, first: bool = False) -> None:
    """Offer the tour of a page.

    Args:
        page: a key of `STEPS`.
        protocol: under which the run is read.
        first: the reader has read nothing yet: the offer is made plainly.
    """
    import streamlit as st

    steps = [{"where": step.where, "title": step.title, "words": step.words} for step in steps_of(page, protocol)]
    mount = st.components.v2.component("retina_trust_workbench.tour", js=_asset("tour.js"), css=_asset("tour.css"))
    then = "exam" if page == "worklist" else ""
    mount(
        data={"page": page, "then": then, "first": first, "steps": steps, "style": _asset("sheet.css")},
        key=f"tour_{page}",
        height="content",
    )


@cache
def _asset(name: str) -> str:
    return (bundled("apps") / "tour" / name).read_text(encoding="utf-8")
