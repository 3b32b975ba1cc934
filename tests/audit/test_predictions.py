"""Outputs alone become a run: every shape of them, and every way in which they may be wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.outputs_folder import invented, write_outputs
from workbench.audit.predictions import Answers, PredictionsConfig, audit_predictions, describe, read_answers
from workbench.audit.predictions_lacks import NEEDS_DRAWS, NO_EYE, NO_GRADE, NO_PROBABILITY
from workbench.audit.results import Run, open_run
from workbench.metrics.discrimination import roc_auc
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import sha256_file

GRADES = [f"p{grade}" for grade in range(5)]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return write_outputs(tmp_path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("plain")
    predictions, labels = write_outputs(folder)
    return audit_predictions(PredictionsConfig(predictions=predictions, labels=labels), folder / "run", resamples=20)


def audited(files: tuple[Path, Path], **changes: Any) -> Run:
    config = PredictionsConfig.model_validate({"predictions": files[0], "labels": files[1], **changes})
    return audit_predictions(config, files[0].parent / "run", resamples=20)


def read(files: tuple[Path, Path], **changes: Any) -> Answers:
    """Return what an audit would be made of, without making it."""
    return read_answers(PredictionsConfig.model_validate({"predictions": files[0], "labels": files[1], **changes}))


def same(one: Answers, other: Answers) -> bool:
    draws = [answers.draws[answers.row] for answers in (one, other)]
    return one.eyes.equals(other.eyes) and bool(np.allclose(*draws, atol=1e-6))


def change(path: Path, how: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    how(pd.read_csv(path, dtype={"image": str})).to_csv(path, index=False)


def row(run: Run, name: str) -> pd.Series:
    rows = run.rows()
    chosen = rows[(rows["name"] == name) & (rows["subgroup"] == "all") & rows["at"].isna() & rows["of"].isna()]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_the_room_needs_no_torch() -> None:
    code = "import sys, workbench.audit.predictions; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_run_holds_what_the_files_say(plain: Run, tmp_path: Path) -> None:
    outputs, labels = invented()
    run = open_run(plain.folder)
    assert run.manifest.kind == "predictions"
    assert run.manifest.outputs is not None
    assert run.manifest.outputs.predictions_sha256 == sha256_file(plain.folder.parent / "predictions.csv")
    assert (run.manifest.draws, len(run.exam_ids), run.summary.done) == (1, 30, 60)
    answers = run.eye_answers().set_index(["exam_id", "eye"])
    for given, truth in zip(outputs.to_dict("records"), labels.to_dict("records"), strict=True):
        patient, side = given["image"].split("_")
        answer = answers.loc[(patient, {"left": "OS", "right": "OD"}[side])]
        assert answer["icdr_grade"] == truth["level"]
        assert answer["p_referable"] == pytest.approx(given["p2"] + given["p3"] + given["p4"], abs=1e-6)
        assert answer[GRADES].astype(float).tolist() == pytest.approx([given[name] for name in GRADES], abs=1e-6)
    p = outputs[["p2", "p3", "p4"]].sum(axis=1).to_numpy()
    assert row(run, "auc_referable_eye")["value"] == pytest.approx(roc_auc(labels["level"].to_numpy() >= 2, p))


def test_the_subgroups_are_those_of_the_labels(plain: Run) -> None:
    groups = set(plain.rows()["subgroup"])
    assert {"site=north", "site=south", "quality=good", "quality=usable", "quality=reject", "age=40-49"} <= groups


def test_no_path_and_no_file_name_stands_in_the_run(plain: Run) -> None:
    text = (plain.folder / "run.json").read_text()
    assert "csv" not in text
    assert str(plain.folder.parent) not in text


def test_one_draw_allows_entropy_and_margin_only(plain: Run) -> None:
    answers = plain.eye_answers()
    assert answers[["predictive_entropy", "margin"]].notna().all().all()
    assert answers[["mutual_information", "p_referable_sd"]].isna().all().all()


def test_a_score_of_draws_is_refused_for_one_draw(files: tuple[Path, Path]) -> None:
    with pytest.raises(WorkbenchError, match=f"mutual_information {NEEDS_DRAWS}"):
        audited(files, policy={"referral_score": "mutual_information"})


def test_the_order_of_the_rows_changes_nothing(files: tuple[Path, Path]) -> None:
    before = read(files)
    for path in files:
        change(path, lambda table: table.sample(frac=1, random_state=1))
    assert same(read(files), before)


@pytest.mark.parametrize("kind", ["tsv", "semicolons", "parquet", "columns", "mixed names", "gzip"])
def test_every_way_to_write_the_same_table(kind: str, files: tuple[Path, Path]) -> None:
    before = read(files)
    files = [*files]
    columns: dict[str, str] = {}
    for place, path in enumerate(files):
        table = pd.read_csv(path, dtype={"image": str})
        if kind == "tsv":
            files[place] = path.with_suffix(".tsv")
            table.to_csv(files[place], sep="\t", index=False)
        elif kind == "semicolons":
            path.write_text("\ufeff" + table.to_csv(sep=";", index=False), encoding="utf-8")
        elif kind == "parquet":
            files[place] = path.with_suffix(".parquet")
            table.to_parquet(files[place])
        elif kind == "gzip":
            files[place] = path.with_suffix(".csv.gz")
            table.to_csv(files[place], index=False)
        elif kind == "columns":
            names = table.pop("image").str.split("_", expand=True)
            table.insert(0, "Patient", names[0])
            table.insert(1, "side", names[1].map({"left": "L", "right": "r"}))
            table.to_csv(path, index=False)
            columns = {"patient_id": "Patient", "eye": "side"}
        else:
            sides = {"left": "OS", "right": "OD"} if place else {"left": "left.jpeg", "right": "RIGHT.png"}
            folder = "" if place else "some/folder/"
            parts = table["image"].str.split("_", expand=True)
            table["image"] = folder + parts[0] + "_" + parts[1].map(sides)
            table.to_csv(path, index=False)
    assert same(read((files[0], files[1]), columns=columns), before)


def test_the_labels_may_say_whose_image_it_is(files: tuple[Path, Path]) -> None:
    """Names that tell nothing are no obstacle where the labels tell patient and eye."""
    before = read(files)
    labels = pd.read_csv(files[1], dtype={"image": str})
    parts = labels["image"].str.split("_", expand=True)
    names = {image: f"photo{number}" for number, image in enumerate(labels["image"])}
    labels = labels.assign(patient_id=parts[0], eye=parts[1], image=labels["image"].map(names))
    labels.to_csv(files[1], index=False)
    change(files[0], lambda table: table.assign(image=table["image"].map(names)))
    assert same(read(files), before)


def test_several_draws_become_the_axis_of_draws(files: tuple[Path, Path]) -> None:
    table = pd.read_csv(files[0], dtype={"image": str})
    draws = []
    for number in (2, 10, 1):  # by number, not by name: 10 is last
        p = table[GRADES] * np.random.default_rng(number).uniform(0.5, 1.5, (len(table), 5))
        draws.append(table.assign(draw=number, **p.div(p.sum(axis=1), axis=0)))
    pd.concat(draws).to_csv(files[0], index=False)
    run = audited(files, policy={"referral_score": "mutual_information"})
    assert run.manifest.draws == 3
    drawn = run.draws("clean", "100")
    assert drawn is not None
    for place, number in ((0, 2), (1, 0), (2, 1)):
        left = draws[number].iloc[0]
        assert left["image"] == "100_left"
        assert drawn[place, 1] == pytest.approx(left[GRADES].astype(float).to_numpy(), abs=1e-6)
    assert (run.eye_answers()["mutual_information"] > 0).all()


def binary(table: pd.DataFrame, form: str) -> pd.DataFrame:
    p = table[["p2", "p3", "p4"]].sum(axis=1)
    named = {"p": {"p": p}, "p_referable": {"P_Referable": p}, "p0 and p1": {"p0": 1 - p, "p1": p}}[form]
    return table[["image"]].assign(**named)


@pytest.mark.parametrize("form", ["p_referable", "p0 and p1"])
def test_p_referable_may_be_written_in_three_ways(form: str, files: tuple[Path, Path]) -> None:
    plain = pd.read_csv(files[0], dtype={"image": str})
    binary(plain, "p").to_csv(files[0], index=False)
    before = read(files)
    binary(plain, form).to_csv(files[0], index=False)
    assert same(read(files), before)


def test_binary_outputs_have_no_grade(files: tuple[Path, Path], plain: Run) -> None:
    change(files[0], lambda table: binary(table, "p"))
    run = audited(files)
    answers = run.eye_answers()
    assert answers["grade_predicted"].isna().all()
    assert answers[GRADES].isna().all().all()
    p = answers["p_referable"].to_numpy(dtype=float)
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    assert answers["predictive_entropy"].to_numpy(dtype=float) == pytest.approx(entropy, abs=1e-4)
    for name in ("quadratic_weighted_kappa", "accuracy", "eye_kappa"):
        assert (pd.isna(row(run, name)["value"]), row(run, name)["reason"]) == (True, NO_GRADE)
    for name in ("auc_referable_exam", "auc_referable_eye", "brier", "sensitivity"):
        assert row(run, name)["value"] == pytest.approx(row(plain, name)["value"], abs=1e-6)


def expected(table: pd.DataFrame) -> pd.DataFrame:
    return table[["image"]].assign(expected_grade=(table[GRADES] * np.arange(5)).sum(axis=1))


def test_expected_grades_are_ranked_and_called_but_are_no_probabilities(files: tuple[Path, Path]) -> None:
    change(files[0], expected)
    run = audited(files)
    given = pd.read_csv(files[0], dtype={"image": str})["expected_grade"].to_numpy()
    truth = pd.read_csv(files[1])["level"].to_numpy()
    assert row(run, "auc_referable_eye")["value"] == pytest.approx(roc_auc(truth >= 2, given))
    assert row(run, "accuracy")["value"] == pytest.approx(np.mean(np.floor(given + 0.5) == truth))
    exams = given.reshape(-1, 2).max(axis=1) >= 1.5
    decisions = run.decisions()
    assert decisions["called_referable"].astype(bool).tolist() == exams.tolist()
    assert run.manifest.policy.referral_score == "margin"
    for name in ("brier", "expected_calibration_error"):
        assert (pd.isna(row(run, name)["value"]), row(run, name)["reason"]) == (True, NO_PROBABILITY)
    benefit = run.rows()[lambda rows: rows["name"] == "net_benefit"]
    assert set(benefit["reason"]) <= {NO_PROBABILITY}
    assert benefit["value"].isna().all()
    assert run.eye_answers()["predictive_entropy"].isna().all()


def test_a_threshold_on_the_grade(files: tuple[Path, Path]) -> None:
    change(files[0], expected)
    config = PredictionsConfig(predictions=files[0], labels=files[1], threshold=2.5)
    run = describe(config, read_answers(config))
    assert run.referable_threshold == run.policy.referable_threshold == 2.5 / 4


def test_expected_grades_outside_the_scale_are_moved_and_counted(files: tuple[Path, Path]) -> None:
    def outside(table: pd.DataFrame) -> pd.DataFrame:
        table = expected(table)
        table.loc[[0, 5], "expected_grade"] = [-0.2, 4.3]
        return table

    change(files[0], outside)
    assert read(files).card.clipped == 2


def per_exam(table: pd.DataFrame, value: str) -> pd.DataFrame:
    patient = table.pop("image").str.split("_").str[0]
    kept = table.groupby(patient).max() if value == "max" else table.groupby(patient).first()
    return kept.rename_axis("exam_id").reset_index()


@pytest.mark.parametrize("labels_too", [False, True])
def test_one_answer_per_exam_says_nothing_per_eye(labels_too: bool, files: tuple[Path, Path]) -> None:
    change(files[0], lambda table: per_exam(table, "first"))
    if labels_too:
        change(files[1], lambda table: per_exam(table, "max"))
    run = audited(files)
    assert run.manifest.outputs is not None
    assert run.manifest.outputs.per == "exam"
    assert row(run, "auc_referable_exam")["n"] == 30
    for name in ("auc_referable_eye", "quadratic_weighted_kappa", "worse_eye_ranked_higher"):
        assert (pd.isna(row(run, name)["value"]), row(run, name)["reason"]) == (True, NO_EYE)
    p = pd.read_csv(files[0])[["p2", "p3", "p4"]].sum(axis=1).to_numpy()
    assert run.decisions()["p_referable"].to_numpy(dtype=float) == pytest.approx(p, abs=1e-6)


def test_a_label_of_the_patient_is_none_of_an_eye(files: tuple[Path, Path]) -> None:
    change(files[1], lambda table: per_exam(table, "max"))
    assert set(read(files).eyes["label_level"]) == {"patient"}


def test_rows_that_do_not_sum_to_1_are_normalised_and_counted(files: tuple[Path, Path]) -> None:
    def uneven(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[[3, 4, 7], GRADES] *= np.array([[1.5], [0.8], [1.0005]])
        return table

    change(files[0], uneven)
    found = read(files)
    assert (found.card.read, found.card.normalised) == (60, 2)  # the third is within the tolerance
    assert found.card.largest_deviation == pytest.approx(0.5, abs=1e-6)
    place = found.row[found.eyes.set_index(["exam_id", "eye"]).index.get_loc(("101", "OD"))]
    given = pd.read_csv(files[0]).loc[3, GRADES].to_numpy(dtype=float)
    assert found.draws[place, 0] == pytest.approx(given / 1.5, abs=1e-6)


def set_to(column: str, rows: list[int], value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def how(table: pd.DataFrame) -> pd.DataFrame:
        table[column] = table[column].astype(object)
        table.loc[rows, column] = value
        return table

    return how


def again(rows: list[int]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: pd.concat([table, table.iloc[rows]])


REFUSED = [
    ("predictions", set_to("p3", [4], None), "no number (first: p3 is empty) in 1 row (line 6)"),
    ("predictions", set_to("p3", [4, 5], "many"), "first: p3 is 'many') in 2 rows (lines 6, 7)"),
    ("predictions", set_to("p3", [1], "inf"), "first: p3 is 'inf') in 1 row (line 3)"),
    ("predictions", set_to("p0", [0, 9], -0.1), "a negative probability in 2 rows (lines 2, 11)"),
    ("predictions", set_to("p0", list(range(8)), -0.1), "in 8 rows (lines 2, 3, 4, 5, 6, …)"),
    ("predictions", again([2]), "one eye twice (first 101 OS) in 2 rows (lines 4, 62)"),
    ("labels", again([2]), "labels.csv: one eye twice (first 101 OS) in 2 rows (lines 4, 62)"),
    ("predictions", lambda table: table.drop(index=[3]), "labels.csv: a label without a prediction in 1 row (line 5)"),
    ("labels", lambda table: table.drop(index=[3]), "predictions.csv: a prediction without a label in 1 row (line 5)"),
    ("labels", set_to("level", [6], None), "labels.csv: no level in 1 row (line 8)"),
    ("labels", set_to("level", [6], 5), "a level that is no grade from 0 to 4 in 1 row (line 8)"),
    ("labels", set_to("level", [6], 1.5), "a level that is no grade from 0 to 4 in 1 row (line 8)"),
    ("labels", set_to("quality", [6], "fine"), "an unknown quality in 1 row (line 8)"),
    ("labels", set_to("age", [6], 300), "an age that is none in 1 row (line 8)"),
    ("predictions", set_to("image", [8], "108"), "no patient can be told in 1 row (line 10)"),
    ("predictions", lambda table: table.rename(columns={"image": "file"}), "no column image, patient_id or exam_id"),
    ("predictions", lambda table: table.drop(columns="p4"), "no columns that could be outputs"),
    ("predictions", lambda table: table.assign(expected_grade=1), "columns of grades and expected_grade"),
    ("labels", lambda table: table.drop(columns="level"), "no column level; it has"),
    ("predictions", lambda table: table.iloc[:0], "predictions.csv holds no row"),
    ("predictions", lambda table: table.assign(p_0=0).rename(columns={"p_0": "P0"}), "two columns for 'p0'"),
    ("predictions", set_to("p0", list(range(60)), 0), None),
]


@pytest.mark.parametrize(("which", "how", "said"), REFUSED)
def test_what_is_wrong_is_refused_with_its_lines_and_nothing_is_written(
    which: str, how: Callable[[pd.DataFrame], pd.DataFrame], said: str | None, files: tuple[Path, Path]
) -> None:
    change(files[0] if which == "predictions" else files[1], how)
    if said is None:  # rows that sum to less than 1 are no mistake
        assert read(files).card.normalised == 60
        return
    with pytest.raises(WorkbenchError) as refused:
        audited(files)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (files[0].parent / "run").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"threshold": 1.5}, "--threshold 1.5 is no probability"),
        ({"threshold": 0.4, "policy": {"referable_threshold": 0.3}}, "differ"),
        ({"columns": {"eye": "laterality"}}, "has a column 'laterality', named for eye"),
        ({"outputs": "binary"}, "has no columns of binary"),
        ({"predictions": Path("none.csv")}, "no table at none.csv"),
    ],
)
def test_what_is_asked_and_cannot_be_is_refused(changes: dict, said: str, files: tuple[Path, Path]) -> None:
    with pytest.raises(WorkbenchError, match=said):
        audited(files, **changes)
    assert not (files[0].parent / "run").exists()


def test_an_exam_of_two_patients_is_refused(files: tuple[Path, Path]) -> None:
    change(files[0], lambda table: table.assign(exam_id="one"))
    with pytest.raises(WorkbenchError, match="an exam of two patients in 60 rows"):
        audited(files)


def test_eyes_with_fewer_draws_are_refused(files: tuple[Path, Path]) -> None:
    change(files[0], lambda table: pd.concat([table.assign(draw=0), table.assign(draw=1)]).iloc[:-1])
    with pytest.raises(WorkbenchError, match=r"an eye with fewer than 2 draws in 1 row \(line 61\)"):
        audited(files)


def test_a_row_without_fields_is_skipped_and_lines_still_count(files: tuple[Path, Path]) -> None:
    lines = files[0].read_text().splitlines()
    lines[1:1] = [""]
    lines[5] = lines[5].replace(",0.", ",-0.", 1)
    files[0].write_text("\n".join(lines) + "\n")
    with pytest.raises(WorkbenchError, match=r"a negative probability in 1 row \(line 6\)"):
        audited(files)


def test_what_is_missing_may_be_counted_instead(files: tuple[Path, Path]) -> None:
    change(files[0], lambda table: table.drop(index=[3, 8, 9]))
    change(files[1], lambda table: set_to("level", [20], None)(table.drop(index=[30])))
    run = audited(files, missing="count")
    card = run.manifest.outputs
    assert card is not None
    assert (card.without_prediction, card.without_label) == (3, 2)
    eyes = run.eyes().set_index(["exam_id", "eye"])
    assert tuple(eyes.loc[("101", "OD"), ["status", "reason"]]) == ("ungradable", "no prediction")
    decisions = run.decisions().set_index("exam_id")
    assert decisions.loc["101", "referred_why"] == "incomplete"
    assert pd.isna(decisions.loc["104", "p_referable"])
    assert decisions.loc["104", "referred"]
    assert row(run, "ungradable_rate")["value"] == pytest.approx(3 / 60)


def test_an_eye_in_neither_file_is_missing_and_its_exam_kept(files: tuple[Path, Path]) -> None:
    for path in files:
        change(path, lambda table: table.drop(index=[0]))
    eyes = read(files).eyes.set_index(["exam_id", "eye"])
    assert eyes.loc[("100", "OS"), "status"] == "missing"
    assert (eyes.loc[("100", "OS"), "site"], eyes.loc[("100", "OS"), "patient_id"]) == ("north", "100")
    assert len(eyes) == 60


def test_the_same_audit_twice_is_one_run_and_another_is_refused(files: tuple[Path, Path]) -> None:
    first = audited(files)
    assert audited(files).manifest.run_id == first.manifest.run_id
    with pytest.raises(WorkbenchError, match=r"holds another audit: .*policy"):
        audited(files, policy={"referral_budget": 0.1})
    change(files[0], lambda table: table.iloc[::-1])
    with pytest.raises(WorkbenchError, match="holds another audit: model hash"):
        audited(files)


def test_the_policy_is_followed(files: tuple[Path, Path]) -> None:
    run = audited(files, policy={"referral_budget": 0.1, "referral_score": "margin"}, threshold=0.3)
    assert run.manifest.policy.referable_threshold == 0.3
    assert row(run, "referral_rate")["value"] == pytest.approx(0.1, abs=0.5 / 30)
    called = run.decisions()
    assert (called["called_referable"] == (called["p_referable"] >= 0.3)).all()


def test_an_old_run_still_opens(finished_run: Path) -> None:
    import json

    values = json.loads((finished_run / "run.json").read_text())
    assert values.pop("kind") == "model"
    from workbench.audit.run_manifest import RunManifest

    manifest = RunManifest.model_validate(values)
    assert manifest.outputs is None
    assert manifest.card.architecture.grades == 5
