"""A real competition model by its outputs alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.audit.predictions import PredictionsConfig, audit_predictions, read_answers
from workbench.metrics import agreement, discrimination, two_eyes
from workbench.schema.bundled import bundled
from workbench.schema.config import load_config

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def folder(real_data: Path) -> Path:
    folder = real_data / "defauw2015"
    if not folder.is_dir():
        pytest.skip("the outputs are not here: see datasets/defauw2015.md")
    return folder


def config_of(predictions: Path, labels: Path) -> PredictionsConfig:
    policy = bundled("configs") / "policy" / "default.yaml"
    files = [f"predictions={predictions}", f"labels={labels}", f"policy={policy}"]
    return load_config(PredictionsConfig, bundled("configs") / "audit" / "defauw2015.yaml", files)


def test_the_whole_of_it_is_as_good_as_is_known(folder: Path) -> None:
    answers = read_answers(config_of(folder / "predictions.csv", folder / "labels.csv"))
    card, grade = answers.card, answers.eyes["icdr_grade"].to_numpy(dtype=np.int64)
    assert (card.read, card.normalised, len(grade)) == (10_906, 0, 10_906)
    assert 0 < card.largest_deviation < 1e-5
    p = answers.draws[answers.row, 0]
    referable = p[:, 2:].sum(axis=1).astype(float)
    assert discrimination.roc_auc(grade >= 2, referable) == pytest.approx(0.953, abs=0.0005)
    assert agreement.quadratic_weighted_kappa(grade, p.argmax(axis=1)) == pytest.approx(0.835, abs=0.0005)
    calls, truth = (referable >= 0.5).reshape(-1, 2), (grade >= 2).reshape(-1, 2)
    assert two_eyes.excess_correlation(*calls.T, *truth.T) > 0.05  # its network joins both eyes' features


def test_a_sample_becomes_a_run(folder: Path, tmp_path: Path) -> None:
    files = []
    for name in ("predictions.csv", "labels.csv"):
        files.append(tmp_path / name)
        pd.read_csv(folder / name, nrows=600, dtype={"image": str}).to_csv(files[-1], index=False)
    run = audit_predictions(config_of(*files), tmp_path / "run", resamples=20)
    assert len(run.exam_ids) == 300
    rows = run.rows()
    assert {"quality=good", "quality=reject"} <= set(rows["subgroup"])
    clean = rows[(rows["subgroup"] == "all") & rows["at"].isna() & rows["of"].isna()].set_index("name")["value"]
    assert clean["auc_referable_eye"] > 0.9
    assert clean["referral_rate"] == pytest.approx(0.2, abs=0.002)
