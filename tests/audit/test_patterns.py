"""Perturbations that are one for all exams, as measurements of a run: fitted once, on others, kept with their hash."""

from __future__ import annotations

import json
import shutil
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.audit.conftest import Small
from tests.small_audit import stored_bytes
from workbench.audit.layout import part_path
from workbench.audit.patterns import manifest_to_fit_on, places_not_judged
from workbench.audit.results import Run
from workbench.audit.runner import run_audit
from workbench.report.write import write_report
from workbench.schema.errors import WorkbenchError

PLAN = (
    "stresses=[{name: universal, strengths: [2, 4], exams: 3, options: {passes: 2}}, "
    "{name: sensor_locked, strengths: [4], exams: 3, options: {passes: 2}}, "
    "{name: universal, strengths: [4], exams: 3, eyes: OS, aim: {goal: silent}, options: {passes: 2, draws: 2}}, "
    "{name: universal_noise, strengths: [4], exams: 3}]",
    "explanations.methods=[]",
    "stressed_photographs=2",
)


@pytest.fixture(scope="module")
def fitted(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_audit(small.config(*PLAN), tmp_path_factory.mktemp("fitted") / "run")


def rows_of(run: Run, measurement: str) -> pd.DataFrame:
    return run.part(measurement, 0).set_index(["exam_id", "eye"])


def test_every_planned_row_is_done_failed_or_skipped(fitted: Run) -> None:
    counts = {"draws": 3, "stressed": 2, "pattern": 1, "photographs": 6}
    planned = sum(2 * (6 if one.id == "clean" else counts[one.kind]) for one in fitted.manifest.measurements)
    summary = fitted.summary
    assert summary.done + summary.failed + summary.skipped == planned
    assert summary.failed == 0, fitted.failures()


def test_what_was_added_is_the_pattern_and_it_is_the_same_in_both_eyes_where_it_lies_on_the_camera(
    fitted: Run,
) -> None:
    for stress in ("universal@2", "universal@4", "sensor_locked@4", "universal@4.OS.silent", "universal_noise@4"):
        pattern, rows = fitted.pattern(stress), rows_of(fitted, stress)
        done = rows[(rows["status"] == "done") & rows["success"].notna()]
        assert len(done)
        assert set(done["pattern_sha256"]) == {pattern.sha256}
        size = 2 if "@2" in stress else 4
        assert np.abs(pattern.values).max() == pytest.approx(size / 255)
        assert (done.xs("OS", level="eye")["linf"] > 0.5 * size / 255).all()
        assert done["within_budget"].all()
        assert pattern.fitted_on == (0 if "noise" in stress else 3)
    locked = fitted.pattern("sensor_locked@4").values
    assert np.array_equal(locked[:3], locked[3:])
    alone = fitted.pattern("universal@4.OS.silent").values
    assert not alone[:3].any()
    assert (rows_of(fitted, "universal@4.OS.silent").xs("OD", level="eye")["linf"].dropna() == 0).all()
    assert not rows_of(fitted, "clean")["pattern_sha256"].notna().any()


def test_no_patient_is_fitted_on_and_judged(fitted: Run) -> None:
    told = fitted.manifest.fitted_on
    assert told is not None
    assert told.exams == 3
    assert told.words == "audited exams that are not judged under it"
    judged = set(rows_of(fitted, "universal@4").index.get_level_values("exam_id"))
    assert len(judged) == 3


def test_the_same_bytes_by_two_workers_and_resumed_without_the_pattern(
    fitted: Run, small: Small, tmp_path: Path
) -> None:
    before = stored_bytes(fitted.folder)
    run_audit(small.config(*PLAN, "workers=2"), tmp_path / "two")
    assert stored_bytes(tmp_path / "two") == before
    for gone in ("pattern.universal@4", "universal@4", "pattern.universal@4.OS.silent", "analysis"):
        shutil.rmtree(tmp_path / "two" / ("analysis" if gone == "analysis" else f"parts/{gone}"))
    run_audit(small.config(*PLAN), tmp_path / "two")
    assert stored_bytes(tmp_path / "two") == before


def test_another_pattern_than_was_measured_under_is_refused(fitted: Run, small: Small, tmp_path: Path) -> None:
    shutil.copytree(fitted.folder, tmp_path / "run")
    one, other = (part_path(tmp_path / "run", f"pattern.{name}", 0) for name in ("universal@4", "sensor_locked@4"))
    one.write_bytes(other.read_bytes())
    with pytest.raises(WorkbenchError, match="is not the pattern that universal@4 was measured under"):
        run_audit(small.config(*PLAN), tmp_path / "run")
    one.unlink()
    run_audit(small.config(*PLAN), tmp_path / "run")
    assert stored_bytes(tmp_path / "run") == stored_bytes(fitted.folder)


def test_the_report_shows_the_patterns_and_how_much_of_it_survives_in_both_eyes_alike(fitted: Run) -> None:
    html = write_report(fitted.folder).read_text(encoding="utf-8")
    told = json.loads((fitted.folder / "report.json").read_text(encoding="utf-8"))["one_for_all"]
    assert told["fitted_on"] == "3 exams of other patients: audited exams that are not judged under it"
    assert html.count("data:image/png;base64") == 2 + 1 + 1 + 2  # universal, locked, OS alone, signs by lot
    assert html.count("OD and OS alike") == 2  # the name and its alternative text
    checks = fitted.stress_checks().set_index(["measurement", "exam_id"])
    budget = next(one for one in told["budgets"] if one["budget"] == "ε = 4/255")
    assert budget["sentence"] in unescape(html)
    for name, share in budget["turned"].items():
        own = checks.loc[f"{name}@4"]
        fresh = own[~own["already"].astype(bool)]
        assert share["n"] == len(fresh)
        assert share["value"] == pytest.approx(fresh["success"].mean())
    universal, locked = (budget["turned"][name]["value"] for name in ("universal", "sensor_locked"))
    assert budget["survives"]["value"] == (pytest.approx(locked / universal) if universal else None)
    if budget["turned"]["sensor_locked"]["value"]:
        assert "pattern makes" in budget["sentence"]
    alone = next(one for one in told["budgets"] if "OS only" in one["budget"])
    assert alone["turned"]["sensor_locked"]["reason"] == "sensor-locked attack is not in the plan at this budget"


def test_what_cannot_be_fitted_fails_with_its_reason_and_the_rest_goes_on(small: Small, tmp_path: Path) -> None:
    plan = "stresses=[{name: universal, strengths: [2], exams: 3, options: {passes: 0}}, {name: noise, strengths: [1]}]"
    run = run_audit(small.config(plan, "explanations.methods=[]"), tmp_path / "run")
    assert "no pattern could be made" in write_report(run.folder).read_text(encoding="utf-8")
    failures = run.failures().set_index("measurement")["reason"]
    assert failures.loc["pattern.universal@2"].str.startswith("passes: 0").all()
    assert failures.loc["universal@2"].str.startswith("no pattern could be made: passes: 0").all()
    assert (run.rows().query("measurement == 'noise@1' and name == 'referral_rate'")["n"] == 6).any()


def test_where_every_patient_is_judged_there_is_nobody_to_fit_on(small: Small, tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="no exam is left to fit"):
        run_audit(small.config("stresses=[{name: universal, strengths: [2]}]"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    by_lot = "stresses=[{name: universal_noise, strengths: [2]}]"
    run = run_audit(small.config(by_lot, "explanations.methods=[]"), tmp_path / "run")
    assert run.summary.failed == 0, "signs by lot are fitted on nobody"
    assert run.manifest.fitted_on is None


def test_exams_to_fit_on_are_of_other_patients_and_first_of_the_validation_split() -> None:
    splits = {"a": "test", "b": "train", "c": "validation", "d": "test"}
    manifest = pd.DataFrame({"patient_id": list(splits), "split": list(splits.values())})
    for audited, split, wanted, words in (
        ("ad", None, "c", "validation"),
        ("adc", None, "b", "train"),
        ("a", "test", "d", "test"),
        ("abc", None, "d", "leaves out"),
    ):
        found = manifest_to_fit_on(manifest, list(audited), split)
        assert found is not None
        assert found[0]["patient_id"].tolist() == [wanted]
        assert words in found[1]
    assert manifest_to_fit_on(manifest, list(splits), None) is None
    with pytest.raises(WorkbenchError, match=r"fitting\.split is train"):
        manifest_to_fit_on(manifest, ["b"], "train")
    ids, patients = [f"e{number}" for number in range(8)], list("aabbccdd")
    left = places_not_judged(patients, ids, 2, seed=0)
    assert left
    assert len({patients[place] for place in left}) <= 3, "a patient with one judged exam is not fitted on"
