"""The rows on two eyes, counted again from the tables of a run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.outputs_folder import write_outputs
from workbench.audit.figures.two_eyes import FELLOW_HEALTHY, FELLOW_REFERABLE
from workbench.audit.predictions import PredictionsConfig, audit_predictions
from workbench.audit.results import Run
from workbench.audit.row_names import ROW_NAMES


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("two_eyes")
    predictions, labels = write_outputs(folder, patients=40, seed=2)
    config = PredictionsConfig(predictions=predictions, labels=labels)
    return audit_predictions(config, folder / "run", resamples=40)


@pytest.fixture(scope="module")
def pairs(run: Run) -> pd.DataFrame:
    """Return one row per exam: grade and call of either eye."""
    eyes = run.eye_answers().assign(called=lambda table: table["p_referable"] >= 0.5)
    return eyes.pivot(index="exam_id", columns="eye", values=["icdr_grade", "called", "p_referable"])


def value(run: Run, name: str, at: float | None = None, of: str | None = None) -> pd.Series:
    rows = run.rows()
    chosen = rows[rows["name"] == name]
    chosen = chosen[chosen["at"].isna() if at is None else chosen["at"] == at]
    chosen = chosen[chosen["of"].isna() if of is None else chosen["of"] == of]
    assert len(chosen) == 1, (name, at, of)
    return chosen.iloc[0]


def test_every_row_has_a_name_that_says_what_it_is(run: Run) -> None:
    assert set(run.rows()["name"]) <= set(ROW_NAMES)


def test_healthy_eyes_by_their_fellow_counted_eye_by_eye(run: Run, pairs: pd.DataFrame) -> None:
    counts = {FELLOW_HEALTHY: [0, 0], FELLOW_REFERABLE: [0, 0]}
    by_grade = {grade: [0, 0] for grade in range(5)}
    for _, row in pairs.iterrows():
        for own, other in (("OD", "OS"), ("OS", "OD")):
            if row["icdr_grade", own] >= 2:
                continue
            fellow = row["icdr_grade", other]
            for tally in (counts[FELLOW_REFERABLE if fellow >= 2 else FELLOW_HEALTHY], by_grade[fellow]):
                tally[0] += bool(row["called", own])
                tally[1] += 1
    for of, (called, n) in counts.items():
        found = value(run, "healthy_eye_called", of=of)
        assert (found["value"], found["n"]) == (pytest.approx(called / n), n)
    for grade, (called, n) in by_grade.items():
        found = value(run, "healthy_eye_called", at=float(grade))
        assert found["n"] == n
        assert pd.isna(found["value"]) if not n else found["value"] == pytest.approx(called / n)
    rates = {of: called / n for of, (called, n) in counts.items()}
    rise = value(run, "healthy_eye_called_rise")
    assert rise["value"] == pytest.approx(rates[FELLOW_REFERABLE] - rates[FELLOW_HEALTHY])
    assert rise["low"] <= rise["value"] <= rise["high"]


def test_asymmetric_and_discordant_pairs_counted_pair_by_pair(run: Run, pairs: pd.DataFrame) -> None:
    higher, both, discordant = [], 0, 0
    for _, row in pairs.iterrows():
        grade, p, called = row["icdr_grade"], row["p_referable"], row["called"]
        if grade["OD"] != grade["OS"]:
            higher.append((p["OD"] > p["OS"]) == (grade["OD"] > grade["OS"]))
        if (grade["OD"] >= 2) != (grade["OS"] >= 2):
            discordant += 1
            both += all(bool(called[eye]) == (grade[eye] >= 2) for eye in ("OD", "OS"))
    assert value(run, "worse_eye_ranked_higher")["value"] == pytest.approx(sum(higher) / len(higher))
    found = value(run, "discordant_pair_right")
    assert (found["value"], found["n"]) == (pytest.approx(both / discordant), discordant)


def test_correlations_are_those_of_the_pairs(run: Run, pairs: pd.DataFrame) -> None:
    for of, column in (("pearson", "p_referable"), ("calls", "called")):
        right, left = (pairs[column, eye].astype(float) for eye in ("OD", "OS"))
        assert value(run, "eye_correlation", of=of)["value"] == pytest.approx(right.corr(left))
    truth = (pairs["icdr_grade"].astype(int) >= 2).astype(float)
    assert value(run, "eye_correlation_true", of="calls")["value"] == pytest.approx(truth["OD"].corr(truth["OS"]))
    excess = value(run, "eye_correlation_excess", of="calls")["value"]
    named = [value(run, name, of="calls")["value"] for name in ("eye_correlation", "eye_correlation_true")]
    assert excess == pytest.approx(named[0] - named[1])


def test_a_model_that_copies_the_worse_eye_couples_them_more(tmp_path: Path) -> None:
    predictions, labels = write_outputs(tmp_path, patients=60, seed=4)
    table = pd.read_csv(predictions)
    columns = [f"p{grade}" for grade in range(5)]
    patient = table["image"].str.split("_").str[0]
    table[columns] = table[columns].groupby(patient).transform("mean")
    table.to_csv(predictions, index=False)
    run = audit_predictions(PredictionsConfig(predictions=predictions, labels=labels), tmp_path / "run", resamples=60)
    assert value(run, "eye_correlation", of="calls")["value"] == pytest.approx(1)
    assert value(run, "eye_correlation_excess", of="calls")["low"] > 0
    assert value(run, "worse_eye_ranked_higher")["value"] == 0.5
    assert value(run, "discordant_pair_right")["value"] == 0
    assert value(run, "healthy_eye_called_rise", of="same grade")["low"] > 0
