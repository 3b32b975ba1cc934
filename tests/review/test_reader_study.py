from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.review.simulated_readers import InventedRun, Trust, saved, simulate
from workbench.audit.layout import CLEAN
from workbench.audit.results import Run, open_run
from workbench.metrics.reader_agreement import cohen_kappa
from workbench.metrics.sufficient import once
from workbench.review.reader_study import reader_study, stored_study
from workbench.review.readers import read_tables
from workbench.review.reads import EyeRead, SavedRead, Submission
from workbench.review.store import ReviewStore
from workbench.schema.reader_study import ReaderStudy

READERS = [Trust("Dr Rossi"), Trust("=cmd|calc"), Trust("Dr <b>Bold</b>", skill=0.9)]


@pytest.fixture(scope="module")
def run(finished_run: Path) -> Run:
    return InventedRun(open_run(finished_run), exams=60, seed=4)


@pytest.fixture(scope="module")
def reads(run: Run) -> list[SavedRead]:
    return simulate(run, READERS, seed=1)


@pytest.fixture(scope="module")
def study(run: Run, reads: list[SavedRead]) -> ReaderStudy:
    return reader_study(run, reads, resamples=200)


def clean(run: Run) -> pd.DataFrame:
    decided = run.decisions()
    return decided[decided["measurement"] == CLEAN].set_index("exam_id")


def test_the_pooled_rates_are_counted_slowly(run: Run, reads: list[SavedRead], study: ReaderStudy) -> None:
    truth, model = clean(run)["referable"], clean(run)["called_referable"]
    said: dict[tuple[str, str, str], bool] = {}
    for read in reads:
        place = (read.reader, read.exam_id, read.stage)
        said[place] = said.get(place, False) or (read.icdr_grade or 0) >= 2
    met, switched, wrong = 0, 0, 0
    known = {(reader, exam) for reader, exam, _ in said if not pd.isna(truth[exam])}
    for reader, exam in known:
        first, second = said[reader, exam, "first"], said[reader, exam, "second"]
        wrong += second != truth[exam]
        if first == truth[exam] and model[exam] != truth[exam]:
            met += 1
            switched += second != truth[exam]
    over, error = study.get("over_reliance"), study.get("error_after")
    assert over is not None
    assert error is not None
    assert (over.n, over.value) == (met, pytest.approx(switched / met))
    assert (error.n, error.value) == (len(known), pytest.approx(wrong / len(known)))
    assert over.low is not None
    assert over.low <= switched / met <= (over.high or 0)


def test_every_figure_has_words_and_a_value_or_a_reason(study: ReaderStudy) -> None:
    assert len({(one.name, one.reader) for one in study.figures}) == len(study.figures)
    for one in study.figures:
        assert " " in one.words
        if one.value is None or one.low is None:
            assert one.reason
        else:
            assert one.low <= one.value <= (one.high if one.high is not None else -1)
            assert one.how


def test_no_reader_is_named_unless_asked(run: Run, reads: list[SavedRead], study: ReaderStudy) -> None:
    assert study.readers == ("Reader 1", "Reader 2", "Reader 3")
    text = study.model_dump_json()
    for reader in READERS:
        assert reader.name not in text
    for exam in run.exam_ids:
        assert exam not in text
    named = read_tables(run, reads, names={"Dr Rossi": "R-1"})
    assert named.readers == ("R-1", "Reader 2", "Reader 3")


def test_the_study_repeats_and_survives_json(run: Run, reads: list[SavedRead], study: ReaderStudy) -> None:
    assert reader_study(run, reads, resamples=200) == study
    assert ReaderStudy.model_validate_json(study.model_dump_json()) == study


def test_kappa_of_two_readers_is_that_of_their_first_reads(reads: list[SavedRead], study: ReaderStudy) -> None:
    first = {(read.reader, read.exam_id, read.eye): read.icdr_grade for read in reads if read.stage == "first"}
    eyes = sorted({(exam, eye) for _, exam, eye in first})
    one, other = (np.array([first[reader.name, *eye] for eye in eyes]) for reader in READERS[:2])
    row = next(
        row
        for row in study.tables["pairs of readers"]
        if (row["condition"], row["first"], row["second"], row["figure"])
        == ("without the model", "Reader 1", "Reader 2", "quadratic weighted kappa")
    )
    assert row["eyes"] == len(eyes)
    assert row["value"] == pytest.approx(once(cohen_kappa(one, other, 5, "quadratic")))


def test_the_comparison_speaks_for_the_exams_that_all_read(run: Run, reads: list[SavedRead]) -> None:
    gone = [read for read in reads if (read.reader, read.exam_id) != ("Dr Rossi", "exam-010")]
    study = reader_study(run, gone, resamples=100)
    rows = study.tables["multi-reader"]
    assert {row["method"] for row in rows} == {"Obuchowski-Rockette", "Dorfman-Berbaum-Metz"}
    labelled = int(clean(run)["referable"].notna().sum())
    assert {row["exams"] for row in rows} == {labelled - 1}
    error = study.get("error_change")
    assert error is not None
    assert error.n == 3 * labelled - 1


def test_who_follows_always_over_relies_always(run: Run) -> None:
    obedient = simulate(run, [Trust("A", 0.8, 1.0, 1.0), Trust("B", 0.8, 1.0, 1.0)], seed=2)
    study = reader_study(run, obedient, resamples=100)
    over, team = study.get("over_reliance"), study.get("team_against_model")
    assert over is not None
    assert team is not None
    assert (over.value, over.high, over.how) == (1, 1, "exact binomial on patients, 95 %")
    assert over.low is not None
    assert 0 < over.low < 1
    assert (team.value, team.low) == (0, None)
    assert "every resample" in team.reason


def test_one_reader_has_own_figures_and_nothing_pooled(run: Run) -> None:
    study = reader_study(run, simulate(run, [Trust("A")], seed=3), resamples=100)
    pooled, own = study.get("error_change"), study.get("error_change", "Reader 1")
    assert pooled is not None
    assert own is not None
    assert pooled.low is None
    assert own.low is not None
    assert study.not_assessed["agreement"] == "1 reader: agreement needs two"
    assert any("fixed readers" in said for said in study.sentences["multi-reader"])


def test_nobody_read_anything(run: Run) -> None:
    study = reader_study(run, [], resamples=100)
    assert study.figures == ()
    assert study.readers == ()
    assert set(study.not_assessed) >= {"reveal", "agreement", "confidence", "time", "multi-reader"}
    for section, why in study.not_assessed.items():
        assert study.sentences[section] == (f"Not assessed: {why}.",)


def test_assisted_reads_alone_show_agreement_with_the_model_in_sight_only(run: Run, reads: list[SavedRead]) -> None:
    assisted = [
        read.model_copy(update={"protocol": "assisted", "stage": "single"}) for read in reads if read.stage == "second"
    ]
    study = reader_study(run, assisted, resamples=100)
    assert study.get("krippendorff_alpha_without") is None
    assert study.get("krippendorff_alpha_with") is not None
    assert "agreement" in study.not_assessed
    assert "reveal" in study.not_assessed


def test_two_protocols_make_a_crossover_and_two_blind_reads_an_intra_grader_pair(
    run: Run, reads: list[SavedRead]
) -> None:
    alone = [
        read.model_copy(update={"protocol": "review_only", "stage": "review_only"})
        for read in reads
        if read.stage == "first"
    ]
    seen = [
        read.model_copy(update={"protocol": "assisted", "stage": "single"}) for read in reads if read.stage == "second"
    ]
    crossover, blinded = reader_study(run, [*alone, *seen], resamples=100), reader_study(run, reads, resamples=100)
    assert "once without a model" in crossover.design
    one, other = crossover.get("error_change"), blinded.get("error_change")
    assert one is not None
    assert other is not None
    assert one.value == other.value
    both = reader_study(run, [*reads, *alone], resamples=100)
    again = [row for row in both.tables["pairs of readers"] if row["condition"] == "without the model, twice"]
    assert {row["value"] for row in again} == {1.0}
    assert len(again) == 5 * len(READERS)


def one_exam(run: Run, *grades: tuple[str, int | None], stage: str = "first") -> pd.Series:
    reads = [
        saved(n, "A", "patient-000", "exam-000", eye, stage, run_id=run.manifest.run_id, icdr_grade=grade)
        for n, (eye, grade) in enumerate(grades, start=1)
    ]
    return read_tables(run, reads).exams.iloc[0]


def test_an_exam_is_called_by_its_worse_eye_and_not_called_where_an_eye_is_open(run: Run) -> None:
    assert one_exam(run, ("OD", 0), ("OS", 3))["called"]
    assert one_exam(run, ("OD", 0), ("OS", 3))["grade"] == 3
    assert not one_exam(run, ("OD", 1), ("OS", 0))["called"]
    assert one_exam(run, ("OD", 2), ("OS", None))["called"]
    assert pd.isna(one_exam(run, ("OD", 1), ("OS", None))["called"])
    assert pd.isna(one_exam(run, ("OD", 1))["called"])


def test_an_eye_that_was_never_photographed_is_not_waited_for(run: Run) -> None:
    reads = [saved(1, "A", "patient-000", "exam-001", "OD", "first", run_id=run.manifest.run_id, icdr_grade=0)]
    assert not read_tables(run, reads).exams.iloc[0]["called"]


def test_ungradable_is_left_out_or_referable_as_asked(run: Run, reads: list[SavedRead]) -> None:
    changed = [
        read.model_copy(update={"icdr_grade": None, "gradable": False})
        if (read.exam_id, read.reader) == ("exam-020", "Dr Rossi")
        else read
        for read in reads
    ]
    out, called = (read_tables(run, changed, ungradable_is_referable=asked) for asked in (False, True))
    assert out.left_out["an eye was called ungradable or not read"] == 1
    row = called.pairs[(called.pairs["exam_id"] == "exam-020") & (called.pairs["reader"] == "Reader 1")]
    assert row["first_called"].all()
    assert pd.isna(row["first_grade"]).all()
    assert reader_study(run, changed, ungradable_is_referable=True, resamples=100).counts["eyes called ungradable"] == 4


def test_another_answer_than_the_runs_is_not_judged(run: Run, reads: list[SavedRead]) -> None:
    model = clean(run)["called_referable"]
    changed = [
        read.model_copy(update={"model_answer": {"exam_called_referable": not model[read.exam_id]}})
        if read.stage == "second" and read.exam_id == "exam-021"
        else read
        for read in reads
    ]
    tables = read_tables(run, changed)
    assert tables.left_out["another call of the model was shown than stands in the run"] == 3
    assert "exam-021" not in set(tables.pairs["exam_id"])


def test_reads_of_another_run_and_unlabelled_exams_are_not_counted(run: Run, reads: list[SavedRead]) -> None:
    other = [read.model_copy(update={"run_id": "another"}) for read in reads]
    assert read_tables(run, [*reads, *other]).pairs.equals(read_tables(run, reads).pairs)
    assert read_tables(run, reads).left_out == {"the run has no label": 3}


def test_the_time_of_a_second_read_counts_every_save_after_the_first(run: Run) -> None:
    reads = [
        saved(
            n, "A", "patient-000", "exam-000", eye, stage,
            run_id=run.manifest.run_id, icdr_grade=1, seconds_active=seconds,
        )
        for n, (stage, seconds, eye) in enumerate(
            [(s, t, e) for s, t in (("first", 30.0), ("grade", 4.0), ("second", 8.0)) for e in ("OD", "OS")], start=1
        )
    ]  # fmt: skip
    pair = read_tables(run, reads).pairs.iloc[0]
    assert (pair["first_seconds"], pair["second_seconds"]) == (30, 12)


def test_known_trust_is_found_again(run: Run) -> None:
    crowd = [Trust(f"R{n}", 0.75, 0.4, 0.7) for n in range(5)]
    study = reader_study(run, simulate(run, crowd, seed=6), resamples=300)
    over, under = study.get("over_reliance"), study.get("under_reliance")
    assert over is not None
    assert under is not None
    assert over.low is not None
    assert under.low is not None
    assert over.low <= 0.4 <= (over.high or 0)
    assert under.low <= 0.3 <= (under.high or 0)


def test_from_the_database_readers_stand_under_their_pseudonyms(run: Run, tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "reviews.sqlite")
    for exam in ("exam-000", "exam-004"):
        for reader in ("Dr Rossi", "Dr Verdi"):
            for stage in ("first", "second"):
                shown = (
                    {} if stage == "first" else {"exam_called_referable": bool(clean(run)["called_referable"][exam])}
                )
                eyes = tuple(EyeRead(eye=eye, gradable=True, icdr_grade=1, model_answer=shown) for eye in ("OD", "OS"))
                store.save(
                    Submission(
                        submission_key=f"key-{exam}-{reader}-{stage}",
                        reader=reader,
                        run_id=run.manifest.run_id,
                        patient_id=str(clean(run)["patient_id"][exam]),
                        exam_id=exam,
                        protocol="blinded",
                        stage=stage,  # type: ignore[arg-type]
                        eyes=eyes,
                    )
                )
    store.close()
    study, tables = stored_study(tmp_path / "reviews.sqlite", run, resamples=100)
    assert len(tables.pairs) == 4
    assert len(set(study.readers)) == 2
    assert not any("Dr" in reader for reader in study.readers)
