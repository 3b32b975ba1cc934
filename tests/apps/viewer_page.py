"""A Streamlit page with the viewer alone, for its tests and its benchmark: counts its runs and shows what came back.

WORKBENCH_VIEWER_FOLDER names a folder with OD.jpg, OS.jpg and perhaps OD_other.jpg, OS_other.jpg. The query ``case``
chooses what is shown; ``exam`` names it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import streamlit as st

from workbench.review.drawn import Drawn
from workbench.review.pictures import agreement_png, map_picture, original_picture
from workbench.review.viewer import Comparison, EyePane, MapLayer, Shown, ViewerInputs, viewer

FOLDER = Path(os.environ["WORKBENCH_VIEWER_FOLDER"])
TITLES = {"OD": "Right eye (OD)", "OS": "Left eye (OS)"}
NAME = '<img src=x onerror="window.hacked=1">'


def shown(name: str, label: str) -> Shown | None:
    path = FOLDER / f"{name}.jpg"
    picture = original_picture(path.read_bytes()) if path.exists() else None
    return None if picture is None else Shown(label, picture)


def heat(eye: str) -> bytes:
    """Return one patch for and one against, each in another place per eye."""
    y, x = np.mgrid[:128, :128] / 128
    near = [(x - a) ** 2 + (y - b) ** 2 for a, b in ((0.35, 0.45), (0.6, 0.62))]
    values = np.exp(-near[0] / 0.006) - 0.8 * np.exp(-near[1] / 0.01)
    return map_picture((values if eye == "OD" else values[:, ::-1]).astype(np.float32), 1.0).png


def agreement() -> bytes:
    """Return a square that is stable within one that flickers."""
    shares = np.zeros((128, 128), np.float32)
    shares[40:80, 40:80], shares[50:60, 50:60] = 0.5, 1.0
    return agreement_png(shares)


def pane(eye: str, case: str) -> EyePane:
    photograph = shown(eye, "Photograph")
    if case == "missing" and eye == "OS":
        return EyePane(eye, TITLES[eye], (0.0, 0.0, 1.0), status="missing", reason=f"no photograph {NAME}")
    assert photograph is not None
    picture = photograph.picture
    side = float(min(picture.width, picture.height) * 1.2)
    square = ((picture.width - side) / 2, (picture.height - side) / 2, side)
    withheld = case == "all_withheld" or (case == "withheld" and eye == "OD")
    layers = (
        MapLayer(
            "grad_cam",
            "Grad-CAM",
            None if withheld else heat(eye),
            0.012,
            "relative evidence",
            withheld * NAME,
            draws=16,
            agreement=agreement(),
        ),
        MapLayer("other", f"Other {NAME}", heat(eye), 0.5, "log-odds per pixel"),
    )
    pairs = (Comparison("PGD attack", shown(f"{eye}_other", "PGD attack, ε = 4/255")),) if case == "compare" else ()
    photograph = Shown("Clean" if pairs else "Photograph", replace(picture, crop=square))
    after = pairs[0].after if pairs else None
    pairs = (Comparison("PGD attack", Shown(after.label, replace(after.picture, crop=square))),) if after else ()
    return EyePane(
        eye=eye,
        title=TITLES[eye],
        square=square,
        shown=photograph,
        about=f"{picture.width} × {picture.height} pixels",
        status="ungradable" if case == "ungradable" and eye == "OS" else "",
        reason="blurred" if case == "ungradable" and eye == "OS" else "",
        maps=layers if case != "plain" else (),
        comparisons=pairs,
    )


@st.cache_resource
def panes(case: str) -> tuple[EyePane, EyePane]:
    return pane("OD", case), pane("OS", case)


case = st.query_params.get("case", "plain")
st.set_page_config(page_title="viewer", layout="wide")
st.html('<style>[data-testid="stMainBlockContainer"] { padding: 4.4rem 1.4rem 1rem; }</style>')
st.session_state["runs"] = st.session_state.get("runs", 0) + 1
exam = st.session_state.setdefault("exam", st.query_params.get("exam", "one"))
drafts = st.session_state.setdefault("drafts", {})
if not st.session_state.get("away"):
    kept = drafts.get(exam, Drawn())
    chosen = panes(case)
    drafts[exam] = viewer(
        ViewerInputs(exam=exam, panes=chosen, draft=f"reader|{exam}", drawn=kept, can_draw=case != "no_marks")
    )
left, middle, right = st.columns(3)
left.button("Run again")
middle.checkbox("Away", key="away")
right.button("Other exam", on_click=lambda: st.session_state.update(exam="two" if exam == "one" else "one"))
st.text_input("Note")
st.text(f"runs {st.session_state['runs']}")
st.text(f"drawn {drafts.get(exam, Drawn()).model_dump_json()}")
