"""The run at a glance: the three rates under every condition, and the report's plots."""

from __future__ import annotations

from typing import Any

import streamlit as st

from workbench.report import charts, uncertainty_charts
from workbench.report.attack_checks import credibility_of
from workbench.report.attention import MEAN_CAPTION, mean_pictures
from workbench.report.figures import Figures
from workbench.report.headline import conditions, headline
from workbench.report.matrix import matrix_chart
from workbench.report.words import counted, full_words
from workbench.review.desk import Desk
from workbench.review.entrance import open_page
from workbench.review.markup import answer_box, picture_strip, rates_table
from workbench.schema.errors import WorkbenchError
from workbench.schema.words import percent

PLOTS = {
    "The three rates under every condition": charts.three_rates_chart,
    "Reliability of P(referable)": uncertainty_charts.reliability_chart,
    "What acting on the model is worth (decision curve)": uncertainty_charts.net_benefit_chart,
    "Every stress by its strength: the stronger the colour, the more exams": matrix_chart,
    "Error against the strength of each stress": charts.stress_chart,
    "What the model keeps, if it refers the exams that it is least sure of": uncertainty_charts.referral_chart,
}


@st.cache_resource(max_entries=4, show_spinner="Drawing the run")  # type: ignore[untyped-decorator]
def content(run_id: str, _desk: Desk) -> tuple[str, tuple[str, ...], str, str, dict[str, Any]]:  # noqa: ARG001
    """Return the answer, the sentences that it stands on, the table of rates and the plots, made once per run."""
    run = _desk.run
    figures = Figures(run)
    found = conditions(run, figures)
    top, worth = headline(run, found), credibility_of(run, figures, found)
    graded = "" if worth is None else f" · credibility {worth.grade or 'not graded'}"
    lines = [
        (
            one.words + (graded if one.kind == "attack" else ""),
            str(one.exams),
            full_words(one.error),
            full_words(one.referral),
            full_words(one.silent),
        )
        for one in found
    ]
    drawn = {title: make(figures, dark=True) for title, make in PLOTS.items()}
    told = "" if worth is None else f"Credibility of the figures under attack: {worth.words}"
    return top.answer, top.sentences, rates_table(lines), told, drawn


def show(desk: Desk) -> None:
    """Show the page."""
    manifest = desk.run.manifest
    st.subheader("When the model is wrong, does it know?", anchor=False)
    try:
        answer, sentences, table, worth, drawn = content(desk.run_id, desk)
    except WorkbenchError as error:
        st.error(str(error), icon=":material/error:")
        return
    st.html(answer_box(answer, sentences))
    st.text(
        f"Model {manifest.model.name} on {manifest.exams} exams of {manifest.dataset} ({manifest.split} split), "
        f"{manifest.draws} draws per exam, referral budget {percent(manifest.policy.referral_budget)}."
    )
    st.html(table)
    st.caption(
        "Error: called differently from the true referable status. Silent failure: wrong and not referred to a human. "
        "In brackets the 95 % interval, clustered by patient. The cut-off is fixed on the clean exams. " + worth
    )
    columns = st.columns([1.35, 1], gap="large")
    for place, (title, chart) in enumerate(drawn.items()):
        with columns[place] if place < len(columns) else st.container():
            st.markdown(f"**{title}**")
            st.altair_chart(chart, theme=None, width="content")
    global_view(desk)
    if not (desk.run.folder / "report.html").exists():
        st.info("The full report, with worst cases and all items, is one command away: workbench report RUN")


@st.cache_resource(max_entries=4, show_spinner=False)  # type: ignore[untyped-decorator]
def mean_attention(run_id: str, _desk: Desk) -> str:  # noqa: ARG001
    """Return the pictures of mean attention, made once per run; empty where there is none."""
    found = mean_pictures(_desk.run)
    told = [(one.uri, one.method, f"{one.eyes_of}, {counted(one.eyes, 'eye')}") for one in found]
    return picture_strip(told) if told else ""


def global_view(desk: Desk) -> None:
    """Show where each method that is shown looks on average, per grade."""
    pictures = mean_attention(desk.run_id, desk)
    if pictures:
        st.markdown("**Where the model looks, on average**")
        st.html(pictures)
        st.caption(MEAN_CAPTION)


show(open_page("overview"))
