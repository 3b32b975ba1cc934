"""The smallest ε as a measurement of a run: its parts, its curve beside attacks of one ε, its words, its plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from tests.audit.conftest import Small
from tests.small_audit import small_config, stored_bytes, write_cohort, write_model
from workbench.audit.config import SmallestEpsilonPlan
from workbench.audit.figures.smallest import epsilons
from workbench.audit.layout import part_path
from workbench.audit.outcomes import smallest as words
from workbench.audit.results import Run
from workbench.audit.runner import run_audit
from workbench.report.figures import Figures
from workbench.report.smallest import smallest
from workbench.report.write import as_html, assemble
from workbench.review.cases import CaseBook
from workbench.schema.specs import SmallestSpec

EXAMS = 10
LADDER = (0.5, 8.0, 16.0, 32.0)
PLAN = (
    f"stresses=[{{name: pgd, strengths: {list(LADDER)}, options: {{steps: 6}}}}]",
    "smallest_epsilon={largest: {linf: 32, l2: 16}, steps: 6, halvings: 4, exams: null}",
    "explanations.methods=[]",
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("many")
    return write_cohort(root / "cohort", EXAMS), write_model(root / "model", seed=3)


@pytest.fixture(scope="module")
def searched(cohort: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_audit(small_config(*cohort, *PLAN), tmp_path_factory.mktemp("smallest") / "run")


def exams_of(run: Run, norm: str, measurement: str | None = None) -> pd.DataFrame:
    name = measurement or f"smallest.{norm}"
    parts = pd.concat([run.part(name, chunk) for chunk in range(-(-EXAMS // run.manifest.chunk))])
    return parts[parts["status"] == "done"].groupby("exam_id", sort=False).first()


def test_every_planned_row_is_there_and_says_what_was_found(searched: Run) -> None:
    summary = searched.summary
    assert summary.done + summary.failed + summary.skipped == 2 * EXAMS * len(searched.manifest.measurements)
    assert summary.failed == 0
    for norm in ("linf", "l2"):
        exams = exams_of(searched, norm)
        assert exams["epsilon"].notna().any()
        assert ((exams["epsilon"] == 0) == exams["already"]).all()
        assert (exams["epsilon"].dropna() <= {"linf": 32, "l2": 16}[norm]).all()
        assert exams["survives_8bit"].notna().equals(exams["epsilon"].notna())


def test_an_eye_moves_no_farther_than_the_exams_epsilon_and_one_moves_as_far(searched: Run) -> None:
    part = pd.concat([searched.part("smallest.l2", chunk) for chunk in range(3)])
    found = part[(part["status"] == "done") & part["epsilon"].notna()]
    assert (found["distance"] <= found["epsilon"] * (1 + 1e-5)).all()
    farthest = found.groupby("exam_id")["distance"].max()
    np.testing.assert_allclose(farthest, found.groupby("exam_id")["epsilon"].first(), rtol=1e-4)


def test_at_each_epsilon_of_the_ladder_the_search_leaves_no_more_right_than_pgd(searched: Run) -> None:
    figures = Figures(searched)
    (of_linf,) = [one for one in smallest(searched, figures) if one.spec.norm == "linf"]
    assert [one.epsilon for one in of_linf.beside] == list(LADDER)
    for one in of_linf.beside:
        success = exams_of(searched, "", f"pgd@{one.epsilon:g}")["success"].astype(bool)
        epsilon = exams_of(searched, "linf")["epsilon"].fillna(np.inf)
        assert ((epsilon <= one.epsilon * (1 + 1e-4)) | ~success).all(), "PGD turned what the search did not"
        assert one.beaten.value == 0
        assert one.left.value == pytest.approx(1 - success.mean())
        assert one.searched.value == pytest.approx((epsilon > one.epsilon).mean())
        assert (one.searched.value or 0) <= (one.left.value or 0)


def test_the_curve_falls_from_what_is_called_rightly(searched: Run) -> None:
    for one in smallest(searched, Figures(searched)):
        values = [point.value for point in one.curve]
        assert [point.at for point in one.curve] == epsilons(searched, one.spec)
        assert values == sorted(values, reverse=True)
        assert values[0] == pytest.approx(1 - exams_of(searched, one.spec.norm)["already"].mean())


def test_no_chunk_and_no_resumption_changes_what_is_found(
    searched: Run, cohort: tuple[Path, Path], tmp_path: Path
) -> None:
    before = stored_bytes(searched.folder)
    part_path(searched.folder, "smallest.linf", 1).unlink()
    run_audit(small_config(*cohort, *PLAN), searched.folder)
    assert stored_bytes(searched.folder) == before
    alone = run_audit(small_config(*cohort, *PLAN, "batch_size=3"), tmp_path / "run")
    for norm in ("linf", "l2"):
        one, other = (exams_of(run, norm)["epsilon"].astype(float) for run in (searched, alone))
        pd.testing.assert_series_equal(one, other, rtol=1e-3)


def test_a_case_says_what_its_smallest_attack_is(searched: Run) -> None:
    book = CaseBook(searched)
    page = as_html(assemble(searched))
    assert "<h3>The smallest ε that turns the call</h3>" in page
    for exam_id, row in exams_of(searched, "linf").iterrows():
        told = [line for line in book.case(str(exam_id)).searched if "(linf, both eyes)" in line]
        assert len(told) == 1
        says = "none up to ε = 32/255" if pd.isna(row["epsilon"]) else f"turns at ε = {row['epsilon']:.2g}/255"
        assert ("wrong without any" if row["already"] else says) in told[0]
    spec, row = SmallestSpec(norm="l2", largest=3, eyes="OD"), {"already": False, "epsilon": 0.123, "survives_8bit": 0}
    assert words([(spec, row)]) == (
        "Smallest attack, searched without draws (l2, OD only): turns at l2 ε = 0.12, "
        "but not once saved as an 8-bit picture.",
    )


def test_an_eye_that_is_not_there_cannot_be_moved_and_a_plan_without_a_search_says_how(
    small: Small, tmp_path: Path
) -> None:
    plan = ("stresses=[]", "explanations.methods=[]")
    search = "smallest_epsilon={largest: {linf: 2}, eyes: OS, steps: 2, halvings: 1, exams: null}"
    run = run_audit(small.config(*plan, search), tmp_path / "run")
    part = pd.concat([run.part("smallest.linf.OS", chunk) for chunk in range(2)]).set_index(["exam_id", "eye"])
    assert part.loc[("e1", "OD"), "reason"] == "not applicable: no eye that may be changed is present"
    assert (part[part["status"] == "done"].loc[(slice(None), "OD"), "distance"] == 0).all()
    bare = small.config(*plan)
    assert "smallest_epsilon" not in bare.for_the_record(), "a plan made before keeps its hash"
    without = as_html(assemble(run_audit(bare, tmp_path / "bare")))
    assert "plan it with smallest_epsilon: {largest: {linf: 4}, exams: 64}" in without


@pytest.mark.parametrize("largest", [{"linf": 0}, {"linf": 256}, {"l0": 3}, {"l2": -1}])
def test_an_epsilon_that_cannot_be_is_refused(largest: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        SmallestEpsilonPlan.model_validate({"largest": largest})
