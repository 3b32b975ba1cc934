"""The report of outputs alone: what needs the model is said not to be assessed, and nothing untrue is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.outputs_folder import invented, write_outputs
from tests.report.test_write_report import Page
from workbench.audit.predictions import PredictionsConfig, audit_predictions
from workbench.audit.predictions_lacks import NEEDS_MODEL, NO_EYE, NO_GRADE, NO_PROBABILITY
from workbench.audit.results import Run, open_run
from workbench.report.compare import compare
from workbench.report.write import Report, as_html, as_json, assemble, write_report
from workbench.schema.errors import WorkbenchError

NEED_THE_MODEL = (4, 9, 22, 23, 26)
GRADES = [f"p{grade}" for grade in range(5)]


def made(folder: Path, table: pd.DataFrame | None = None, **changes: object) -> Run:
    predictions, labels = write_outputs(folder)
    if table is not None:
        table.to_csv(predictions, index=False)
    config = PredictionsConfig.model_validate({"predictions": predictions, "labels": labels, **changes})
    return audit_predictions(config, folder / "run", resamples=20)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made(tmp_path_factory.mktemp("plain"), name="theirs")


@pytest.fixture(scope="module")
def report(plain: Run) -> Report:
    return assemble(plain)


def test_what_needs_the_model_is_not_assessed_and_says_so(report: Report) -> None:
    found = {item.number: item for item in report.items}
    assert len(found) == 30
    for number in NEED_THE_MODEL:
        assert (found[number].status, found[number].words) == ("not assessed", NEEDS_MODEL)
    page = as_html(report)
    for section in ("Attacks", "Corruptions"):
        assert f"<b>{section}: not assessed</b> ({NEEDS_MODEL})" in page
    assert f"Corruptions, attacks and maps: not assessed ({NEEDS_MODEL})." in report.evidence.headline.sentences
    for untrue in ("the plan of the run", "as given to the model</figcaption>", "validation split", "manifest)"):
        assert untrue not in page, untrue


def test_no_photograph_is_promised(report: Report) -> None:
    page = Page(as_html(report))
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert [group.title for group in report.groups] == [
        "Silent failures on clean photographs",
        "Wrong on clean photographs, and referred",
    ]
    assert "± nan" not in page.text
    assert report.evidence.cohort.duplicates is None


def test_the_scores_that_need_draws_are_named(report: Report) -> None:
    assert "mutual information" in report.items[24].lacking
    assert "needs several draws per eye" in report.items[24].lacking


def test_the_two_eyes_are_a_section_of_their_own(report: Report) -> None:
    eyes = report.evidence.two_eyes
    assert eyes.why is None
    assert len(eyes.sentences) == 4
    page = as_html(report)
    assert 'id="two-eyes"' in page
    assert 'href="#two-eyes"' in page
    for sentence in eyes.sentences:
        assert sentence in Page(page).text


def test_a_copy_without_cases_names_no_exam(plain: Run) -> None:
    shown = assemble(plain)
    ids = [case.exam_id for group in shown.groups for case in group.cases]
    assert ids
    copy = assemble(plain, cases=False)
    page, figures = as_html(copy), as_json(copy)
    assert [group.total for group in copy.groups] == [group.total for group in shown.groups]
    assert not [one for one in ids if f"<bdi>{one}</bdi>" in page]
    assert all(group["shown"] == [] for group in figures["cases"])
    assert "No single exam is shown in this copy." in page


def test_the_report_is_written_as_ever(plain: Run) -> None:
    page = write_report(plain.folder)
    values = json.loads(page.with_suffix(".json").read_text())
    assert values["run"]["kind"] == "predictions"
    assert sum(map(sum, values["confusion"])) == 60


def test_what_was_done_to_rows_stands_in_front(tmp_path: Path) -> None:
    table = invented()[0]
    table.loc[[3, 4], GRADES] *= 1.5
    run = made(tmp_path, table.drop(index=[9]), missing="count")
    sentences = " ".join(assemble(run).evidence.headline.sentences)
    assert "2 rows of 59 did not sum to 1 (by more than 0.001, at most 0.5 off) and were normalised." in sentences
    assert "1 labelled eye had no prediction: counted as no answer." in sentences


def test_binary_outputs_in_a_report(tmp_path: Path) -> None:
    table = invented()[0]
    run = made(tmp_path, table[["image"]].assign(p=table[["p2", "p3", "p4"]].sum(axis=1)))
    report = assemble(run)
    assert (report.items[14].status, report.items[14].words) == ("not assessed", NO_GRADE)
    assert report.items[17].status == "reported"
    assert f"not assessed ({NO_GRADE})" in as_html(report)
    assert as_json(report)["confusion"] is None


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Run:
    table = invented()[0]
    grade = (table[GRADES] * np.arange(5)).sum(axis=1)
    return made(tmp_path_factory.mktemp("expected"), table[["image"]].assign(expected_grade=grade))


def test_an_expected_grade_is_called_by_its_name(expected: Run) -> None:
    report = assemble(expected)
    page = as_html(report)
    assert f"<b>Not assessed</b> ({NO_PROBABILITY})" in page
    assert "expected grade ≥ 1.50" in page
    assert f"Net benefit is not assessed ({NO_PROBABILITY})." in page
    assert f"Sets of grades are not assessed ({NO_PROBABILITY})." in page
    assert (report.items[17].status, report.items[17].words) == ("not assessed", NO_PROBABILITY)
    cases = [case for group in report.groups for case in group.cases]
    assert cases
    for case in cases:
        assert case.decision.startswith("expected grade ")
        assert "P(referable)" not in case.decision


def test_one_answer_per_exam_in_a_report(tmp_path: Path) -> None:
    table = invented()[0]
    patient = table.pop("image").str.split("_").str[0]
    run = made(tmp_path, table.groupby(patient).first().rename_axis("exam_id").reset_index())
    report = assemble(run)
    assert report.evidence.two_eyes.why == NO_EYE
    assert f"<p><b>Not assessed</b> ({NO_EYE}).</p>" in as_html(report)


def test_two_models_on_the_same_exams_are_rivals(plain: Run, tmp_path: Path) -> None:
    table = invented()[0]
    table[GRADES] = 0.7 * table[GRADES] + 0.06
    found = compare(plain, made(tmp_path, table, name="ours"))
    assert (found.relation, found.name) == ("rival", "ours")
    differences = {one.here.name: one.difference for one in found.figures}
    assert differences["auc_referable_exam"].value == pytest.approx(0, abs=1e-9)  # the order is the same
    assert differences["brier"].value != 0
    assert "Called referable from P(referable) ≥ 50.0 % here" in " ".join(found.notes)


def test_a_figure_that_one_run_cannot_have_has_no_difference(plain: Run, expected: Run, tmp_path: Path) -> None:
    other = made(tmp_path, policy={"referral_score": "margin"})
    differences = {one.here.name: one.difference for one in compare(other, expected).figures}
    assert differences["brier"].reason == "not measured in both runs"
    assert differences["auc_referable_eye"].value is not None
    with pytest.raises(WorkbenchError, match="referral_score is predictive_entropy and margin"):
        compare(plain, expected)


def test_outputs_of_one_name_on_another_set_are_external(plain: Run, tmp_path: Path) -> None:
    predictions, labels = write_outputs(tmp_path, patients=20, seed=9)
    named = PredictionsConfig(predictions=predictions, labels=labels, name="theirs")
    found = compare(plain, audit_predictions(named, tmp_path / "run", resamples=20))
    assert found.relation == "external"
    assert "said by its name, and not verified" in " ".join(found.notes)
    other = named.model_copy(update={"name": "others"})
    with pytest.raises(WorkbenchError, match="share neither the model"):
        compare(plain, audit_predictions(other, tmp_path / "other", resamples=20))


def test_the_report_of_a_model_has_the_section_too(finished_run: Path) -> None:
    report = assemble(open_run(finished_run))
    assert report.evidence.two_eyes.couplings[0].truth.value is not None
    assert "the plan of the run" in as_html(report) or report.items[21].status == "reported"
