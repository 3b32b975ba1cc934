"""No patient is judged by what was fitted on it; an eye is shown what the rows measure; refusals have reasons."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.audit.cross_fit import FOLDS, cross_fit, patient_folds, shown
from workbench.audit.figures.calibration import calibration_figures
from workbench.audit.figures.conformal import conformal_figures
from workbench.audit.figures.figure import Answered, Figure
from workbench.audit.results import open_run
from workbench.audit.run_manifest import MeasurementSpec, RunManifest
from workbench.metrics.calibration import brier
from workbench.schema.specs import PolicySpec
from workbench.uncertainty.calibration import CALIBRATIONS, fit_logistic
from workbench.uncertainty.conformal import KINDS, fit_grade_sets
from workbench.uncertainty.scores import p_referable

EXAMS = 600


@pytest.fixture
def manifest(finished_run: Path) -> RunManifest:
    return open_run(finished_run).manifest


@pytest.fixture(scope="module")
def clean() -> Answered:
    """Return invented answers, twice too sure: 600 exams of 500 patients."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(EXAMS, 1, 5)) + generator.normal(size=(EXAMS, 2, 5)) + [1.0, 0, 0.5, 0, 0]
    right = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    grade = (right.cumsum(axis=-1) < generator.random((EXAMS, 2, 1))).sum(axis=-1)
    p = right**2 / (right**2).sum(axis=-1, keepdims=True)
    p[7, 1] = np.nan  # an eye without an answer
    grade[9, 0] = -1
    answers = {f"p{number}": p[..., number] for number in range(5)} | {"p_referable": p_referable(p)}
    patients = [f"patient-{number % 500}" for number in range(EXAMS)]
    table = pd.DataFrame({"patient_id": np.repeat(patients, 2), "label_level": "eye"})
    every, nothing = np.ones((EXAMS, 2), dtype=bool), pd.DataFrame()
    measurement = MeasurementSpec(id="clean", kind="draws")
    return Answered(measurement, table, every, every, grade, answers, None, nothing, nothing)


def eyes_of(answered: Answered, patient: str) -> np.ndarray:
    return (answered.table["patient_id"] == patient).to_numpy().reshape(-1, 2)


def test_folds_depend_on_the_patient_alone_and_are_of_like_size() -> None:
    patients = np.array([f"p{number}" for number in range(1000)])
    folds = patient_folds(patients, seed=3)
    assert (patient_folds(patients[::-7], seed=3) == folds[::-7]).all()
    assert (patient_folds(np.repeat(patients, 2), seed=3) == np.repeat(folds, 2)).all()
    assert np.bincount(folds, minlength=FOLDS).min() > 150
    assert (patient_folds(patients, seed=4) != folds).any()


def test_what_is_applied_to_a_patient_was_fitted_without_it(manifest: RunManifest, clean: Answered) -> None:
    before = cross_fit(manifest, clean).apply(clean)
    own = eyes_of(clean, "patient-3")
    assert own.sum() == 4  # two exams of two eyes
    fold = patient_folds(clean.table["patient_id"].to_numpy(dtype=str), manifest.seed).reshape(-1, 2)
    neighbours = (fold == fold[own][0]) & ~own
    changed = replace(clean, grade=np.where(own, np.where(clean.grade >= 2, 0, 4), clean.grade))
    after = cross_fit(manifest, changed).apply(changed)
    for kind in CALIBRATIONS:
        np.testing.assert_array_equal(
            after.p_referable[kind][own | neighbours], before.p_referable[kind][own | neighbours]
        )
    for kind in KINDS:
        np.testing.assert_array_equal(after.members[kind][own | neighbours], before.members[kind][own | neighbours])
    others = ~(own | neighbours) & ~np.isnan(clean.answers["p_referable"])
    assert (after.p_referable["logistic"][others] != before.p_referable["logistic"][others]).any()


def test_each_fold_is_the_plain_fit_on_the_other_folds(manifest: RunManifest, clean: Answered) -> None:
    refitted = cross_fit(manifest, clean).apply(clean)
    patients = clean.table["patient_id"].to_numpy(dtype=str)
    fold = patient_folds(patients, manifest.seed)
    p = np.stack([clean.answers[f"p{number}"].ravel() for number in range(5)], axis=1)
    grade = clean.grade.ravel()
    judged = (grade != -1) & ~np.isnan(p[:, 0])
    rest, own = judged & (fold != 2), fold == 2
    curve = fit_logistic(p_referable(p[rest]), grade[rest] >= 2, patients[rest])
    np.testing.assert_array_equal(refitted.p_referable["logistic"].ravel()[own], curve.apply(p_referable(p[own])))
    sets = fit_grade_sets(p[rest], grade[rest], patients[rest], coverage=manifest.policy.conformal_coverage)
    np.testing.assert_array_equal(refitted.members["ordinal"].reshape(-1, 5)[own], sets.members(p[own]))


def test_a_stress_is_answered_by_what_was_fitted_on_the_clean_exams(manifest: RunManifest, clean: Answered) -> None:
    fitted = cross_fit(manifest, clean)
    some = slice(100, 130)
    part = replace(
        clean,
        table=clean.table.iloc[200:260].reset_index(drop=True),
        present=clean.present[some],
        photographed=clean.photographed[some],
        grade=clean.grade[some],
        answers={name: values[some] for name, values in clean.answers.items()},
    )
    whole, alone = fitted.apply(clean), fitted.apply(part)
    for kind in CALIBRATIONS:
        np.testing.assert_array_equal(alone.p_referable[kind], whole.p_referable[kind][some])
    for kind in KINDS:
        np.testing.assert_array_equal(alone.members[kind], whole.members[kind][some])


def test_columns_show_what_the_policy_names(manifest: RunManifest, clean: Answered) -> None:
    answered = replace(clean, refitted=cross_fit(manifest, clean).apply(clean))
    columns = shown(answered, PolicySpec(calibration="isotonic", conformal="class_conditional"))
    np.testing.assert_array_equal(columns["p_referable_calibrated"], answered.refitted.p_referable["isotonic"].ravel())
    members = answered.refitted.members["class_conditional"].reshape(-1, 5)
    for eye in (0, 40, 500):
        grades = range(columns["set_low"][eye], columns["set_high"][eye] + 1)
        assert np.flatnonzero(members[eye]).tolist() == list(grades)
    assert columns["set_low"].isna().sum() == columns["set_high"].isna().sum() == 1
    assert columns["set_low"].isna()[15]
    assert shown(answered, PolicySpec(calibration="none"))["p_referable_calibrated"].isna().all()


def test_every_figure_is_of_held_out_patients_and_calibration_helps(manifest: RunManifest, clean: Answered) -> None:
    answered = replace(clean, refitted=cross_fit(manifest, clean).apply(clean))
    wanted = [*calibration_figures(answered, PolicySpec()), *conformal_figures(answered, PolicySpec())]
    assert len({(one.name, one.at, one.of) for one in wanted}) == len(wanted)
    values = {
        (one.name, one.of): one.metric(*one.arrays) for one in wanted if isinstance(one, Figure) and one.at is None
    }
    judged = (clean.grade != -1) & ~np.isnan(clean.answers["p_referable"])
    score = clean.answers["p_referable"][judged]
    assert values["brier", "none"] == pytest.approx(brier(clean.grade[judged] >= 2, score))
    for kind in ("temperature", "vector", "isotonic", "logistic"):
        assert values["brier", kind] < values["brier", "none"]
        assert values["expected_calibration_error", kind] < values["expected_calibration_error", "none"]
        assert abs(values["calibration_slope", kind] - 1) < abs(values["calibration_slope", "none"] - 1)
        parts = [values[f"brier_{part}", kind] for part in ("reliability", "uncertainty", "within_bins", "resolution")]
        assert sum(parts[:3]) - parts[3] == pytest.approx(values["brier", kind])
    for kind in KINDS:
        assert values["conformal_coverage", kind] > 0.86
        assert values["conformal_coverage_patient", kind] <= values["conformal_coverage", kind]
        members = answered.refitted.members[kind][judged]
        assert values["conformal_set_size", kind] == pytest.approx(members.sum(axis=1).mean())
    bins = [one for one in wanted if one.name == "reliability_observed" and one.of == "none"]
    assert sum(len(one.patients) for one in bins if isinstance(one, Figure)) == judged.sum()


def test_a_small_run_has_reasons_instead(finished_run: Path) -> None:
    run = open_run(finished_run)
    rows = run.rows()
    few = rows[(rows["of"] == "isotonic") & (rows["measurement"] == "clean")]
    assert len(few)
    assert few["value"].isna().all()
    assert few["reason"].str.startswith("not calibrated: ").all()
    answers = run.eye_answers()
    assert answers["set_low"].notna().all()
    assert (answers["set_low"] <= answers["set_high"]).all()
    coverage = rows[(rows["name"] == "conformal_coverage") & (rows["of"] == "ordinal")]
    assert set(coverage["measurement"]) == {one.id for one in run.manifest.measurements if one.kind == "draws"}


def test_what_outputs_alone_cannot_say_is_refused(manifest: RunManifest, clean: Answered) -> None:
    from workbench.audit.cross_fit import groundless
    from workbench.schema.model_card import PredictionsCard

    def of(**fields: object) -> dict[str, str]:
        made = {"name": "theirs", "predictions_sha256": "", "labels_sha256": "", "read": 1, "tolerance": 0.01, **fields}
        return groundless(manifest.model_copy(update={"model": PredictionsCard.model_validate(made)}))

    assert groundless(manifest) == of(outputs="grades") == {}
    assert set(of(outputs="binary")) == {"temperature", "vector", *KINDS}
    assert set(of(outputs="expected_grade")) == {"none", "temperature", "vector", *KINDS}
    assert set(of(outputs="grades", per="exam")) == {*CALIBRATIONS, *KINDS}
    binary = manifest.model_copy(
        update={
            "model": PredictionsCard(
                name="theirs", outputs="binary", predictions_sha256="", labels_sha256="", read=1, tolerance=0.01
            )
        }
    )
    answered = replace(clean, refitted=cross_fit(binary, clean).apply(clean))
    assert set(answered.refitted.p_referable) == {"none", "isotonic", "logistic"}
    assert not answered.refitted.members
    wanted = [*calibration_figures(answered, PolicySpec()), *conformal_figures(answered, PolicySpec())]
    assert all(one.reason for one in wanted if one.of in ("temperature", "ordinal") and not isinstance(one, Figure))
    assert shown(answered, PolicySpec())["set_low"].isna().all()
