"""Photographs under attack: kept by the audit, shown by the report, flickered in the viewer, hidden when blinded."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.audit.conftest import Small
from workbench.audit.results import Run
from workbench.audit.runner import run_audit
from workbench.report.write import write_report
from workbench.review.desk import Desk

PLAN = (
    "stresses=[{name: pgd, strengths: [2, 4], options: {steps: 2}}, {name: noise, strengths: [3]}]",
    "stressed_photographs=3",
    "explanations.methods=[]",
)


@pytest.fixture(scope="module")
def attacked(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_audit(small.config(*PLAN), tmp_path_factory.mktemp("attacked") / "run")


def pixels(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR).astype(np.int64)


def kept_exams(run: Run) -> list[str]:
    return [one for one in run.exam_ids if any(run.stressed_photograph(one, eye, "pgd@4") for eye in ("OD", "OS"))]


def test_the_strongest_budget_of_each_attack_is_kept_for_as_many_exams_as_were_asked_for(attacked: Run) -> None:
    assert [spec.measurement_id for spec in attacked.kept_stresses()] == ["pgd@4"]
    planned = next(one for one in attacked.manifest.measurements if one.kind == "stressed")
    assert planned.exams == 3
    assert 2 <= len(kept_exams(attacked)) <= 3  # an exam without a photograph keeps none
    assert attacked.stressed_photograph(attacked.exam_ids[0], "OD", "pgd@2") is None
    assert attacked.summary.failed == 0


def test_what_is_kept_is_within_the_budget_and_as_large_as_was_measured(attacked: Run) -> None:
    measured = attacked.stress_checks().query("measurement == 'pgd@4'").set_index("exam_id")
    for exam_id in kept_exams(attacked):
        for eye, column in (("OD", "linf_od"), ("OS", "linf_os")):
            kept = attacked.stressed_photograph(exam_id, eye, "pgd@4")
            if kept is not None:
                change = np.abs(pixels(kept[1]) - pixels(kept[0])).max()
                assert 0 < change <= 4
                assert change == pytest.approx(255 * measured.loc[exam_id, column], abs=0.51)


def test_the_report_shows_them_where_the_case_is_shown(attacked: Run) -> None:
    html = write_report(attacked.folder).read_text(encoding="utf-8")
    wrong = attacked.decisions().query("measurement == 'clean' and wrong == True")
    assert len(wrong)
    shown = set(wrong["exam_id"]) & set(kept_exams(attacked))
    assert ("what it changed, ×" in html) == bool(shown)


@pytest.mark.parametrize(
    ("protocol", "visible"), [("assisted", "single"), ("blinded", "first"), ("blinded", "uncertainty")]
)
def test_the_viewer_is_given_them_with_the_maps_and_never_before(
    attacked: Run, protocol: str, visible: str, tmp_path: Path
) -> None:
    desk = Desk(attacked.folder, database=f"sqlite:///{tmp_path}/reads.sqlite", protocol=protocol)
    try:
        panes = desk.viewer(kept_exams(attacked)[0], visible).panes
    finally:
        desk.close()
    names = {pair.name for pane in panes for pair in pane.comparisons}
    assert names == ({"PGD attack, ε = 4/255"} if visible == "single" else set())
