"""The referral rows of an audit: every score, the baselines, the targets, all named and all at their shares."""

import numpy as np
import pandas as pd
import pytest

from workbench.audit.figures.figure import Answered, Figure, Found
from workbench.audit.figures.referral import SHARES, referral_figures
from workbench.audit.layout import CLEAN
from workbench.audit.row_names import ROW_NAMES
from workbench.audit.run_manifest import MeasurementSpec
from workbench.schema.specs import StressSpec


def answered(exams=120, seed=0, stress=None):
    generator = np.random.default_rng(seed)
    truth = generator.random(exams) < 0.4
    p = np.clip(0.4 * truth + generator.normal(0.3, 0.2, exams), 0, 1)
    margin = -np.abs(p - 0.5)
    called = p >= 0.5
    wrong = pd.array(called != truth, dtype="boolean")
    wrong[0] = pd.NA
    nothing = np.full((exams, 2), np.nan)
    decisions = pd.DataFrame(
        {
            "patient_id": [f"p{number // 2}" for number in range(exams)],
            "p_referable": p,
            "score": margin,
            "referable": pd.array(truth, dtype="boolean"),
            "called_referable": pd.array(called, dtype="boolean"),
            "wrong": wrong,
            "referred": False,
            "silent_failure": wrong,
        }
    )
    empty = pd.DataFrame()
    return Answered(
        measurement=MeasurementSpec(id=CLEAN if stress is None else stress.measurement_id, kind="draws", stress=stress),
        table=empty,
        present=np.ones((exams, 2), dtype=bool),
        photographed=np.ones((exams, 2), dtype=bool),
        grade=np.zeros((exams, 2), dtype=np.int64),
        answers={
            "margin": np.stack([margin, margin - 1], axis=1),
            "predictive_entropy": nothing,
            "p_referable": nothing,
        },
        checks=None,
        decisions=decisions,
        eyes=empty,
    )


@pytest.fixture(scope="module")
def rows():
    return list(referral_figures(answered(), resamples=50, seed=1))


def named(rows, name, of):
    return [row for row in rows if row.name == name and row.of == of]


def test_every_row_has_a_known_name_and_a_place_of_its_own(rows):
    assert {row.name for row in rows} <= set(ROW_NAMES)
    places = [(row.name, row.of, row.at) for row in rows]
    assert len(places) == len(set(places))


def test_the_policys_score_and_the_same_score_by_name_give_the_same_values(rows):
    for name in ("error_rate_at_retained", "auc_at_retained", "sensitivity_at_retained", "specificity_at_retained"):
        of_policy, of_score = named(rows, name, None), named(rows, name, "margin")
        assert [row.interval.value for row in of_policy] == [row.interval.value for row in of_score]
        assert len(of_policy) == len(SHARES)
        assert [row.interval.n for row in of_policy] == [int(np.ceil(round(119 * share, 9))) for share in SHARES]
    assert not named(rows, "aurc", "predictive_entropy")  # nothing ranks by it


def test_the_baselines_frame_the_score(rows):
    for name in ("error_rate_at_retained", "auc_at_retained"):
        score, chance, best = (named(rows, name, of) for of in (None, "random", "oracle"))
        assert score[0].interval.value == chance[0].interval.value == best[0].interval.value
        sign = -1 if name.startswith("error") else 1
        for one, other in zip(score, best, strict=True):
            assert sign * (other.interval.value - one.interval.value) >= -1e-12
    gain = named(rows, "auc_gain_over_random", None)[0].interval
    assert gain.value == named(rows, "auc_at_retained", None)[2].interval.value - score[0].interval.value


def test_a_target_that_is_not_reached_says_so():
    hopeless = answered()
    hopeless.decisions["called_referable"] = ~hopeless.decisions["referable"]
    hopeless.decisions["wrong"] = pd.array([True] * 120, dtype="boolean")
    found = list(referral_figures(hopeless, resamples=50, seed=1))
    row = named(found, "smallest_referral_nhs", None)[0]
    assert np.isnan(row.interval.value)
    assert row.reason == "not reached at any share, nor in 100% of the resamples of patients"
    assert named(found, "smallest_referral_nhs_team", None)[0].interval.value > 0.5


def test_a_stress_has_the_policys_score_only():
    rows = list(referral_figures(answered(stress=StressSpec(name="jpeg", strength=3)), resamples=20, seed=1))
    assert {row.of for row in rows} == {None}
    assert all(isinstance(row, Found | Figure) for row in rows)


def test_no_exam_no_row():
    nobody = answered()
    nobody.decisions["wrong"] = pd.array([None] * 120, dtype="boolean")
    assert list(referral_figures(nobody, resamples=20, seed=1)) == []
