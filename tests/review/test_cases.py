from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.run_folder import make_run
from workbench.audit import layout, schemas
from workbench.audit.outcomes import what_would_flip
from workbench.audit.results import Run, open_run
from workbench.review.cases import Case, CaseBook, EyeCase, eyes_disagree, stress_summary, veiled
from workbench.review.desk import Desk
from workbench.review.draft import UNGRADABLE, Draft, agreement_of, eyes_to_read, new_draft, what_is_missing
from workbench.review.markup import chips, heading, stress_table
from workbench.review.pictures import Originals, eye_picture, largest_of, map_picture
from workbench.review.protocols import VISIBLE
from workbench.review.reads import DraftPlace
from workbench.review.trust import TrustBook
from workbench.review.trust_markup import trust_panel
from workbench.review.worklist import make_worklist
from workbench.review.worklist_index import WorklistIndex
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import sha256_file
from workbench.schema.manifest import write_manifest

PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<svg/onload=alert(1)>",
    "[a](javascript:alert(1)) **bold** :red[x] $x^2$",
    "\u202egnp.exe",
    "{{7*7}} `code` &amp;",
)


@pytest.fixture(scope="module")
def run(finished_run: Path) -> Run:
    return open_run(finished_run)


def words_of(run: Run, exam_id: str) -> list[str]:
    return [flag.words for flag in CaseBook(run).case(exam_id).flags]


def test_the_answer_is_that_of_the_run_with_its_spread_over_the_draws(run: Run) -> None:
    case = CaseBook(run).case("exam-006")
    answers = run.eye_answers()
    row = answers[
        (answers["measurement"] == "clean") & (answers["exam_id"] == "exam-006") & (answers["eye"] == "OS")
    ].iloc[0]
    answer = case.eyes["OS"].answer
    assert answer is not None
    assert answer.icdr_grade == row["grade_predicted"]
    assert answer.probabilities == pytest.approx([row[f"p{grade}"] for grade in range(5)])
    draws = run.draws("clean", "exam-006")
    assert draws is not None
    referable = draws[:, 1, 2:].sum(axis=1)
    assert (answer.p_referable_low, answer.p_referable_high) == pytest.approx(np.percentile(referable, [5, 95]))
    assert answer.p_referable_low <= answer.p_referable <= answer.p_referable_high
    assert answer.called_referable == (answer.p_referable >= 0.5)


def test_the_truth_changes_nothing_that_a_reader_sees(run_copy: Path) -> None:
    run = open_run(run_copy)
    before = CaseBook(run).case("exam-006"), list(make_worklist(run)["exam_id"])
    eyes, decisions = run.eyes(), run.decisions()
    eyes["icdr_grade"] = 4 - eyes["icdr_grade"]
    for column in ("referable", "wrong", "silent_failure"):
        decisions[column] = ~decisions[column]
    layout.write_table(layout.exams_path(run_copy), eyes, schemas.EXAMS_SCHEMA)
    layout.write_table(layout.analysis_path(run_copy, "decisions"), decisions, schemas.DECISIONS_SCHEMA)
    assert (CaseBook(run).case("exam-006"), list(make_worklist(run)["exam_id"])) == before


def test_flags_name_the_missing_eye_the_ungradable_one_and_the_withheld_map(run: Run) -> None:
    assert "Left eye (OS) missing: no photograph" in words_of(run, "exam-001")
    assert "Right eye (OD) ungradable: no disc" in words_of(run, "exam-002")
    assert any(words.startswith("Referred to a human: incomplete") for words in words_of(run, "exam-001"))
    assert any("Map withheld, OD, Integrated gradients: the attributions miss" in w for w in words_of(run, "exam-004"))
    case = CaseBook(run).case("exam-001")
    assert case.eyes["OS"].answer is None
    assert case.eyes["OD"].answer is not None
    assert eyes_to_read(case) == ("OD",)
    assert eyes_to_read(CaseBook(run).case("exam-002")) == ("OD", "OS")


@pytest.mark.parametrize(
    ("grades", "called", "expected"),
    [((0, 0), (0, 0), False), ((0, 1), (0, 0), False), ((1, 2), (0, 1), True), ((2, 4), (1, 1), True)],
)
def test_eyes_disagree_when_called_differently_or_two_grades_apart(
    grades: tuple[int, int], called: tuple[int, int], expected: bool
) -> None:
    assert eyes_disagree(np.array([grades]), np.array([called], dtype=bool))[0] == expected


def test_every_stress_of_the_run_has_its_outcome_and_the_summary_counts_them(run: Run) -> None:
    decisions = run.decisions()
    case = CaseBook(run).case("exam-011")
    assert [outcome.measurement for outcome in case.stresses] == [
        measurement.id for measurement in run.manifest.measurements if measurement.stress
    ]
    clean = decisions[(decisions["exam_id"] == "exam-011") & (decisions["measurement"] == "clean")].iloc[0]
    for outcome in case.stresses:
        row = decisions[(decisions["exam_id"] == "exam-011") & (decisions["measurement"] == outcome.measurement)]
        assert outcome.flipped == (row.iloc[0]["called_referable"] != clean["called_referable"])
        assert outcome.referred == row.iloc[0]["referred"]
    flipped = sum(outcome.flipped for outcome in case.stresses)
    assert flipped > 0
    assert f"flipped under {flipped} of 6 stresses" in stress_summary(case)
    table = stress_table(case)
    assert table.count("flipped to") == flipped
    assert table.count("unnoticed") == sum(outcome.silent for outcome in case.stresses)


def test_an_exam_that_failed_under_a_stress_says_no_answer(run: Run) -> None:
    case = CaseBook(run).case("exam-005")
    failed = [outcome for outcome in case.stresses if outcome.measurement == "pgd@2"]
    assert all(outcome.called_referable is None and not outcome.flipped for outcome in failed)


def test_an_unknown_exam_is_one_line(run: Run) -> None:
    with pytest.raises(WorkbenchError, match="no exam 'x'"):
        CaseBook(run).case("x")


def test_a_map_of_zeros_is_no_evidence_and_the_extremes_are_clipped() -> None:
    zeros = np.zeros((4, 4), np.float32)
    grey = np.asarray(Image.open(io.BytesIO(map_picture(zeros, largest_of([zeros])).png)))
    assert (grey == 128).all()
    ramp = np.array([[-9.0, -1.0, 0.0, 0.5, 1.0, 9.0]], np.float32)
    grey = np.asarray(Image.open(io.BytesIO(map_picture(ramp, 1.0).png)))
    assert grey.tolist() == [[1, 1, 128, 192, 255, 255]]


def original(tmp_path: Path, size: tuple[int, int]) -> tuple[Path, str]:
    picture = Image.new("RGB", size, (200, 90, 40))
    exif = Image.Exif()
    exif[0x010E] = "PATIENT-NAME-CANARY"
    path = tmp_path / "photo.jpeg"
    picture.save(path, exif=exif, comment=b"PATIENT-NAME-CANARY")
    return path, sha256_file(path)


def manifest_of(tmp_path: Path, path: Path, sha256: str) -> Path:
    row = {"patient_id": "p", "exam_id": "e", "eye": "OD", "image_path": str(path), "sha256": sha256, "split": "test"}
    write_manifest(pd.DataFrame([row]), tmp_path / "manifest.csv")
    return tmp_path


def eye_case(sha256: str, size: tuple[int, int], crop: tuple[float, float, float]) -> EyeCase:
    return EyeCase("OD", "ok", "", sha256, crop, size, None)


def test_an_original_is_shown_with_all_its_pixels_and_its_crop_and_without_its_metadata(
    run: Run, tmp_path: Path
) -> None:
    path, sha256 = original(tmp_path, (4000, 3000))
    originals = Originals(manifest_of(tmp_path, path, sha256))
    picture = eye_picture(run, originals, "exam-006", eye_case(sha256, (4000, 3000), (500.0, -10.0, 3020.0)))
    assert picture is not None
    assert picture.original
    assert picture.native
    assert (picture.width, picture.height) == (4000, 3000)
    assert picture.crop == (500.0, -10.0, 3020.0)
    assert b"CANARY" in path.read_bytes()
    assert b"CANARY" not in picture.jpeg
    assert Image.open(io.BytesIO(picture.jpeg)).getexif() == {}


def test_a_changed_a_gone_or_a_differently_sized_original_is_not_shown(run: Run, tmp_path: Path) -> None:
    path, sha256 = original(tmp_path, (300, 200))
    originals = Originals(manifest_of(tmp_path, path, sha256))
    other_size = eye_picture(run, originals, "exam-006", eye_case(sha256, (999, 200), (0.0, 0.0, 200.0)))
    assert other_size is not None
    assert not other_size.original
    path.write_bytes(path.read_bytes() + b" ")
    changed = eye_picture(run, originals, "exam-006", eye_case(sha256, (300, 200), (0.0, 0.0, 200.0)))
    assert changed is not None
    assert not changed.original
    path.unlink()
    assert originals.content(sha256) is None


@pytest.mark.parametrize("payload", PAYLOADS)
def test_markup_shows_text_from_data_literally(payload: str) -> None:
    from workbench.review.cases import Flag

    for markup in (heading(payload, payload, payload, payload), chips([Flag("alert", payload)])):
        assert "<script" not in markup
        assert "<img" not in markup
        assert "<svg" not in markup
        assert "<bdi>" in markup


def draft_with(case: Case, grades: dict[str, Any], stage: str = "single") -> Draft:
    protocol = {"single": "assisted", "first": "blinded", "second": "blinded"}[stage]
    place = DraftPlace.model_validate(
        {"reader": "Dr A", "run_id": "run-1", "exam_id": case.exam_id, "protocol": protocol, "stage": stage}
    )
    draft = new_draft(place, case)
    for eye, grade in grades.items():
        draft.eyes[eye]["grade"] = grade
    return draft


def test_a_save_needs_every_grade_and_a_reason_where_it_differs_or_changed(run: Run) -> None:
    case = CaseBook(run).case("exam-006")
    models = {eye: case.eyes[eye].answer.icdr_grade for eye in ("OD", "OS")}  # type: ignore[union-attr]
    assert what_is_missing(case, draft_with(case, models)) == []
    assert what_is_missing(case, draft_with(case, {"OD": models["OD"]})) == ["OS has no grade"]
    differs = draft_with(case, {**models, "OS": UNGRADABLE})
    assert what_is_missing(case, differs) == ["OS differs from the model without a reason"]
    differs.eyes["OS"]["reason"] = "image_quality"
    assert what_is_missing(case, differs) == []
    second = draft_with(case, models, "second")
    second.before = {"OD": models["OD"], "OS": (models["OS"] + 1) % 5}
    for said in second.eyes.values():
        said["confidence"] = 3
    assert what_is_missing(case, second) == ["OS was changed without a reason"]
    assert what_is_missing(veiled(case, "first"), draft_with(case, {"OD": 0, "OS": 4}, "first")) == [
        "OD has no confidence",
        "OS has no confidence",
    ]
    assert agreement_of(case, "OS", UNGRADABLE) == "disagree"
    assert agreement_of(veiled(case, "first"), "OS", UNGRADABLE) is None
    assert agreement_of(CaseBook(run).case("exam-002"), "OD", 3) is None


def test_a_stage_holds_of_the_model_what_it_may_show_and_no_more(run: Run) -> None:
    case = CaseBook(run).case("exam-004")
    for stage, keys in VISIBLE.items():
        seen = veiled(case, stage)
        for eye in seen.eyes:
            held = {
                name for name, value in seen.model_answer(eye).items() if value not in (None, [], [None, None], False)
            }
            assert held <= keys
        assert (seen.stresses != ()) == ("maps" in keys)
        assert not [flag for flag in seen.flags if flag.tells and flag.tells not in keys]
        assert any("Map withheld" in flag.words for flag in seen.flags) == ("maps" in keys)
    blind = repr(veiled(case, "first"))
    assert "referable" not in blind.replace("called_referable=None", "").replace("p_referable=None", "")


def test_what_the_model_doubts_is_told_in_words_and_never_as_nan(run: Run) -> None:
    index = WorklistIndex(run)
    book = TrustBook(run, index)
    scores = run.decisions().query("measurement == 'clean'").set_index("exam_id")["score"].dropna()
    for exam_id in run.exam_ids:
        trust = book.trust(exam_id)
        panel = trust_panel(trust)
        assert "nan" not in panel.lower()
        assert "None" not in panel
        if exam_id in scores.index:
            assert trust.place == pytest.approx((scores < scores[exam_id]).mean())
            assert sum(trust.counts) == len(scores)
        for eye in trust.eyes:
            draws = run.draws("clean", exam_id)
            assert draws is not None
            assert eye.draws == pytest.approx(draws[:, ("OD", "OS").index(eye.eye), 2:].sum(axis=1))
    index.close()


def test_a_run_that_was_analysed_before_there_were_sets_says_not_assessed(run_copy: Path) -> None:
    eyes = pd.read_parquet(layout.analysis_path(run_copy, "eyes"))
    gone = ["p_referable_calibrated", "set_low", "set_high", "flag", "unlike_training"]
    eyes.drop(columns=gone).to_parquet(layout.analysis_path(run_copy, "eyes"))
    run = open_run(run_copy)
    index = WorklistIndex(run)
    panel = trust_panel(TrustBook(run, index).trust("exam-006"))
    assert panel.count("not assessed") >= 4
    assert "no promise" not in panel
    index.close()


def test_the_desk_saves_what_was_seen_and_answers_a_token_only_for_its_own_exams(run_copy: Path) -> None:
    desk = Desk(run_copy)
    now = desk.standing("exam-002", "Dr A")
    case = desk.seen("exam-002", now.visible)
    left = case.eyes["OS"].answer
    assert left is not None
    draft = desk.draft("exam-002", "Dr A", "single")
    draft.eyes["OD"].update(grade=UNGRADABLE, note=" blurred ")
    draft.eyes["OS"].update(grade=left.icdr_grade)
    right_row, left_row = desk.save(case, draft, now)
    assert (right_row.gradable, right_row.agreement, right_row.note) == (False, None, "blurred")
    assert (left_row.agreement, left_row.icdr_grade) == ("agree", left.icdr_grade)
    assert left_row.model_answer["p_referable"] == left.p_referable
    assert left_row.image_sha256 == case.eyes["OS"].sha256
    assert desk.worklist("Dr A").counts() == (12, 1)
    assert desk.worklist("Dr B").counts() == (12, 0)
    token = desk.token("exam-002")
    assert "exam" not in token
    assert desk.exam_of(token) == "exam-002"
    assert desk.exam_of("exam-002") is None
    desk.close()


def test_what_would_flip_names_the_mildest_strength_of_each_stress_and_is_veiled(finished_run: Path) -> None:
    run = open_run(finished_run)
    book, told = CaseBook(run), 0
    for exam_id in run.exam_ids:
        case = book.case(exam_id)
        words = what_would_flip(case.stresses)
        flipped = [outcome for outcome in case.stresses if outcome.flipped]
        assert bool(words) == bool(flipped)
        for outcome in flipped:
            milder = any(other.family == outcome.family and other.size < outcome.size for other in flipped)
            assert (f"{outcome.stress}, {outcome.strength} (" in words) != milder
            told += 1
        assert what_would_flip(veiled(case, "first").stresses) == ""
    assert told > 0


def test_the_severity_search_stands_in_the_case_and_is_veiled(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", exams=8, searched=("haze",))
    said = {exam_id: CaseBook(run).case(exam_id) for exam_id in run.exam_ids}
    assert said["exam-003"].searched == ("Haze, searched without draws: no severity up to 5 flips it.",)
    flipped = "Haze, searched without draws: flipped from severity 0.5, at a quality that graders would still accept"
    assert said["exam-005"].searched == (f"{flipped}.",)
    assert said["exam-000"].searched == (f"{flipped}; a higher level flips it back.",)
    assert veiled(said["exam-000"], "first").searched == ()


def test_what_is_withheld_of_both_eyes_for_one_reason_is_said_once(run: Run) -> None:
    book = CaseBook(run)
    eyes = book.case("exam-003").eyes
    of_both = book._flags(eyes, None, {eye: {"grad_cam": "it is empty"} for eye in ("OD", "OS")})
    apart = book._flags(eyes, None, {"OD": {"grad_cam": "it is empty"}, "OS": {"grad_cam": "it leaves the disc"}})
    assert [flag.words for flag in of_both if flag.words.startswith("Map")] == [
        "Map withheld, OD and OS, Grad-CAM: it is empty"
    ]
    assert len([flag for flag in apart if flag.words.startswith("Map")]) == 2
