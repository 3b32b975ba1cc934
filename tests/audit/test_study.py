"""A study: the same figures as an audit's own, paired differences, tables, resumed from its parts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.small_audit import write_cohort, write_model
from workbench.audit import workers
from workbench.audit.results import open_run
from workbench.audit.study.analysis import FIGURES, compare
from workbench.audit.study.config import StudyConfig
from workbench.audit.study.measure import run_study
from workbench.metrics.discrimination import roc_auc
from workbench.schema.config import load_config
from workbench.schema.errors import WorkbenchError

MAKERS = "[{name: first, model: MODEL, draws: 4}, {name: turned, model: MODEL, draws_from: views, draws: 3}]"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyConfig, Path, pd.DataFrame]:
    root = tmp_path_factory.mktemp("study")
    manifest, model = write_cohort(root / "cohort", exams=10), write_model(root / "model")
    config = load_config(
        StudyConfig,
        None,
        [
            f"data.manifest={manifest}", f"makers={MAKERS.replace('MODEL', str(model))}", "poolings=[mean, median]",
            "scores=[margin, predictive_entropy]", "resamples=100", "workers=1", "batch_size=4", "engine=eager",
            f"out={root / 'out'}",
        ],
    )  # fmt: skip
    table, folder = run_study(config)
    return config, folder, table


def test_every_combination_has_every_figure(study):
    _config, folder, table = study
    assert len(table) == 2 * 2 * 2 * len(FIGURES)
    assert not table.duplicated(["maker", "pooling", "score", "figure"]).any()
    pd.testing.assert_frame_equal(
        pd.read_csv(folder / "study.csv"), table, check_exact=False, rtol=1e-9, check_dtype=False
    )
    assert (table[table["figure"] != "referral_rate"].groupby("figure")["n"].nunique() == 1).all()
    sure = table[table["low"].notna() & (table["figure"] != "expected_calibration_error")]  # ECE grows in a resample
    assert len(sure) > len(table) // 2
    assert (sure["low"] <= sure["value"]).all()
    assert (sure["value"] <= sure["high"]).all()


def test_the_figures_are_those_of_the_audit_itself(study):
    _config, folder, table = study
    run = open_run(folder / "first")
    rows = run.rows()
    clean = rows[(rows["measurement"] == "clean") & (rows["subgroup"] == "all") & rows["at"].isna()]
    own = table[(table["maker"] == "first") & (table["pooling"] == "mean") & (table["score"] == "predictive_entropy")]
    for name in ("error_rate", "referral_rate", "silent_failure_rate", "quadratic_weighted_kappa"):
        expected = clean.loc[clean["name"] == name, "value"].iloc[0]
        assert own.loc[own["figure"] == name, "value"].iloc[0] == pytest.approx(expected), name


def test_a_difference_is_that_of_the_two_values(study):
    _, _, table = study
    for _, group in table.groupby("figure"):
        first = group.iloc[0]["value"]
        known = group["difference"].notna()
        np.testing.assert_allclose(group.loc[known, "difference"], group.loc[known, "value"] - first, atol=1e-12)
    assert (table.iloc[: len(FIGURES)]["difference"] == 0).all()


def test_the_auc_is_that_of_the_pooled_draws(study):
    _, folder, table = study
    run = open_run(folder / "turned")
    decisions = run.decisions().dropna(subset=["referable", "p_referable"])
    expected = roc_auc(decisions["referable"].to_numpy(bool), decisions["p_referable"].to_numpy(float))
    row = table[(table["maker"] == "turned") & (table["pooling"] == "mean") & (table["figure"] == "auc_referable_exam")]
    assert row["value"].iloc[0] == pytest.approx(expected)


def test_a_second_call_measures_nothing(study, monkeypatch):
    config, _folder, table = study
    monkeypatch.setattr(workers, "make_part", lambda *_: pytest.fail("a part was made again"))
    again, _ = run_study(config)
    pd.testing.assert_frame_equal(again, table)


def test_the_page_tells_who_draws_and_how(study):
    _, folder, _ = study
    for name in ("study.md", "study.html"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "split at head_dropout" in text
        assert "views: up to 10" in text
        assert "nan" not in text.lower().replace("finance", "")
    assert (folder / "study.md").read_text().count("\n| first |") == 4


def test_other_exams_cannot_be_compared(study, tmp_path):
    config, folder, _ = study
    run = open_run(folder / "first")
    other = open_run(folder / "turned")
    other.eyes = lambda: run.eyes().assign(icdr_grade=0)
    with pytest.raises(WorkbenchError, match="first and turned are of other exams"):
        compare({"first": run, "turned": other}, config)


def test_a_maker_twice_is_refused():
    with pytest.raises(WorkbenchError, match="first is listed twice"):
        load_config(StudyConfig, None, ["data.manifest=m", "makers=[{name: first, model: a}, {name: first, model: b}]"])


def test_the_shipped_config_is_complete():
    config = load_config(StudyConfig, Path(__file__).parents[2] / "configs" / "study" / "draws.yaml")
    assert next(maker.name for maker in config.makers) == "mc_dropout"
    assert [config.audit_of(maker).draws_from for maker in config.makers] == ["mc_dropout", "views", "views"]
