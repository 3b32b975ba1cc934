"""What a map beside a case has passed, in words made of the run's rows alone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.run_folder import CREDENTIALS, DRAWN, make_run
from workbench.audit import layout
from workbench.audit.map_credentials import MapCredentials
from workbench.audit.results import Run, trust_id
from workbench.report.cases import case_groups
from workbench.report.write import as_html, assemble
from workbench.review.cases import CaseBook
from workbench.review.panes import viewer_inputs
from workbench.review.pictures import Originals


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("credentials") / "run", exams=7, more=CREDENTIALS)


def paragraph(run: Run, exam_id: str, begins: str) -> str:
    return next(words for words in MapCredentials(run).paragraphs(exam_id) if words.startswith(begins))


def test_a_shown_map_has_its_checks_with_their_intervals(run: Run) -> None:
    told = paragraph(run, "exam-000", "Grad-CAM passed")
    assert "passed 3 of 3 checks asked for in this run" in told
    rows = run.rows()
    for name in ("map_randomised_likeness", "map_deletion_gain", "map_repeatability"):
        row = rows[(rows["name"] == name) & (rows["of"] == "grad_cam")].iloc[0]
        assert f"{row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})" in told
    assert "Not checked: permuted labels, a second photograph, an attack on the map." in told
    numbers = set(re.findall(r"\d\.\d\d", told))
    known = rows.loc[rows["of"] == "grad_cam", ["value", "low", "high"]].to_numpy(dtype=float)
    assert numbers <= {f"{value:.2f}" for value in known[np.isfinite(known)]}, "nothing is invented"


def test_a_gain_counts_each_eye_by_how_far_the_answer_moved(run: Run) -> None:
    told = run.rows().set_index(["name", "of"]).loc[("map_deletion_gain", "grad_cam")]
    eyes = run.rows_of(run.manifest.measurement(trust_id("grad_cam")))
    eyes = eyes[eyes["status"] == "done"]
    assert eyes["answer_change"].nunique() == len(eyes) == told["n"]
    at_stake = eyes["answer_change"].abs()
    assert told["value"] == pytest.approx((eyes["deletion_gain"] * at_stake).sum() / at_stake.sum())
    assert told["value"] != pytest.approx(eyes["deletion_gain"].mean())


def test_what_was_not_checked_is_said_and_counts_for_nothing(run: Run) -> None:
    told = paragraph(run, "exam-000", "Integrated gradients")
    assert "passed 1 of 1 checks asked for in this run: here its sum misses by 1 %" in told
    assert "Not checked: random weights, deletion, repetition" in told


def test_a_withheld_map_says_why(run: Run) -> None:
    told = paragraph(run, "exam-004", "Integrated gradients")
    assert "OD withheld: the attributions miss the logit by 40 % (at most 5 %)." in told


def test_a_method_that_failed_has_no_credentials_but_its_reason(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run", exams=3, more=CREDENTIALS)
    summary = made.summary.model_copy(update={"maps_withheld": {"grad_cam": "its maps hardly depend on the weights"}})
    layout.summary_path(made.folder).write_text(summary.model_dump_json())
    told = paragraph(Run(made.folder, made.manifest), "exam-000", "Grad-CAM, withheld")
    assert told == "Grad-CAM, withheld: its maps hardly depend on the weights."


def test_maps_over_draws_say_how_far_the_draws_agree(run: Run) -> None:
    told = paragraph(run, "exam-000", "Grad-CAM, mean of 10 draws")
    assert "OD: Of what matters in a fifth of its 10 draws, 25 % matters in nine tenths of them." in told
    assert "is checked as Grad-CAM, without draws, a map of rank correlation 0.93 with this one." in told


def test_the_report_and_the_viewer_are_given_the_agreement(run: Run) -> None:
    cases = [case for group in case_groups(run) for case in group.cases]
    assert any(picture.agreement_uri for case in cases for eye in case.eyes for picture in eye.maps)
    assert all(case.credentials for case in cases)
    page = as_html(assemble(run))
    assert "hatched: flickers" in page
    assert "OD: Of what matters in a fifth of its 10 draws" in page
    assert "checks asked for in this run" in page
    inputs = viewer_inputs(run, Originals(None), CaseBook(run).case("exam-000"))
    layers = {layer.method: layer for layer in inputs.panes[0].maps}
    assert (layers[DRAWN.key].draws, layers["grad_cam"].draws) == (10, 0)
    assert layers[DRAWN.key].agreement is not None
    assert layers["grad_cam"].agreement is None
