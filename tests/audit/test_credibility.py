"""An audit examines its attack by itself, and its report grades the figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small_audit import small_config, write_cohort, write_model
from workbench.audit.layout import CREDIBILITY
from workbench.audit.preparation import measurements_of
from workbench.audit.runner import run_audit
from workbench.report.attack_checks import credibility_of
from workbench.report.figures import Figures
from workbench.report.headline import conditions
from workbench.report.write import write_report

FEW = ("explanations.methods=[]", "draws=3", "stresses=[{name: pgd, strengths: [1, 2], exams: 2}]")
EFFORT = "credibility={exams: 3, steps: 2, tries: 5, queries: 12}"


def test_a_run_ends_in_25_judged_checks_and_a_grade(tmp_path: Path) -> None:
    config = small_config(write_cohort(tmp_path / "cohort"), write_model(tmp_path / "model"), *FEW, EFFORT)
    run = run_audit(config, tmp_path / "run")
    facts = run.examined()
    assert 2 <= len(facts) <= 3
    assert facts["exam_id"].is_unique
    assert facts["self_test"].eq("").all()
    figures = Figures(run)
    worth = credibility_of(run, figures, conditions(run, figures))
    assert worth is not None
    assert [one.number for one in worth.checks if one.outcome == "not run"] in ([], [19], [20])
    assert {one.outcome for one in worth.checks} >= {"passed", "not applicable"}
    told = "Checked <i>by hand</i>: the mask is not hidden."
    page = write_report(tmp_path / "run", note=told)
    assert "Checked &lt;i&gt;by hand&lt;/i&gt;" in page.read_text(encoding="utf-8")
    write_report(tmp_path / "run")
    assert "by hand" in page.read_text(encoding="utf-8"), "a note stays until another is given"


@pytest.mark.parametrize(
    ("overrides", "epsilon"),
    [
        (("credibility.exams=2",), 2.0),
        (("credibility={exams: 2, epsilon: 0.5}",), 0.5),
        (("credibility.exams=0",), None),
        (("credibility.exams=2", "stresses=[{name: noise, strengths: [1]}]"), None),
    ],
)
def test_the_strongest_attack_is_examined_unless_another_is_named(
    tmp_path: Path, overrides: tuple[str, ...], epsilon: float | None
) -> None:
    planned = measurements_of(small_config(tmp_path, tmp_path, *overrides))
    examined = [one.examined for one in planned if one.id == CREDIBILITY]
    assert [one.epsilon for one in examined if one is not None] == ([] if epsilon is None else [epsilon])
