"""How the facts of an examination become outcomes: each check passes on an honest sample, and each can be raised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.report.conftest import Written
from workbench.audit import layout, schemas
from workbench.audit.results import open_run, trust_id
from workbench.report.attack_checks import credibility
from workbench.report.examined import JUDGES, JUDGES_WITH_THE_PLAN, examined
from workbench.report.figures import Figures
from workbench.report.map_checks import maps_that_are_shown
from workbench.schema.credibility import CHECKS
from workbench.schema.files import write_text
from workbench.schema.specs import CredibilityPolicySpec

HONEST: dict[str, Any] = {
    "norms_training": 0, "buffers_changed": False, "probabilities": False, "passes_differ": False, "averages": False,
    "classes": 5, "gradient_fault": False, "gradient_cut": False, "difference_cosine": 0.99, "difference_sign": True,
    "already": False, "fgsm": False, "pgd": True, "pgd_more": True, "pgd_rises": 0.8, "best_kept": True,
    "within_budget": True, "survives_8bit": True, "untargeted": True, "targeted": False,
    "ladder_epsilon": [0.5, 2.0, 255.0], "ladder": [False, True, True], "unbounded": True, "held_epsilon": 0.5,
    "holds": True, "square": False, "label_only": False, "noise": False, "transfer": False, "no_draws": None,
    "draws_spread": 0.05, "clean_flip_share": 0.02, "fixed_mask": True, "averaged": [True, True, True, True],
    "selected": True, "fresh_wrong": 38, "fresh_draws": 40, "silent_by_crossing": False, "silent": False,
    "self_test": "",
}  # fmt: skip
POLICY = CredibilityPolicySpec.model_validate({})
RAISED: list[tuple[int, dict[str, Any]]] = [
    (1, {"norms_training": 2}),
    (1, {"buffers_changed": True}),
    (1, {"draws_spread": 0.0}),
    (2, {"probabilities": True}),
    (3, {"passes_differ": True}),
    (5, {"gradient_fault": True}),
    (6, {"difference_cosine": 0.5}),
    (6, {"difference_sign": False}),
    (7, {"fgsm": True, "pgd": False}),
    (8, {"pgd": False}),
    (9, {"ladder": [True, False, True]}),
    (9, {"ladder": [False, False, False]}),
    (10, {"unbounded": False}),
    (11, {"square": True}),
    (11, {"label_only": True}),
    (12, {"noise": True}),
    (13, {"transfer": True}),
    (14, {"fixed_mask": False}),
    (15, {"averaged": [True, False, False, True]}),
    (16, {"fresh_wrong": 4}),
    (17, {"clean_flip_share": None}),
    (18, {"best_kept": False}),
    (19, {"within_budget": False}),
    (19, {"survives_8bit": False}),
    (23, {"self_test": "a masked gradient was not flagged"}),
]


def sample(**changed: Any) -> pd.DataFrame:
    return pd.DataFrame([HONEST | changed for _ in range(8)])


@pytest.mark.parametrize("number", JUDGES)
def test_an_honest_sample_passes(number: int) -> None:
    outcome, words = JUDGES[number](sample(), POLICY)
    assert outcome == "passed", words


@pytest.mark.parametrize(("number", "changed"), RAISED)
def test_each_check_can_be_raised(number: int, changed: dict[str, Any]) -> None:
    outcome, words = JUDGES[number](sample(**changed), POLICY)
    assert outcome == "failed", words


@pytest.mark.parametrize("number", JUDGES_WITH_THE_PLAN)
def test_an_honest_sample_of_a_run_passes(number: int, written: Written) -> None:
    outcome, words = JUDGES_WITH_THE_PLAN[number](written.run, sample(silent_by_crossing=True, silent=True))
    assert outcome == "passed", words


@pytest.mark.parametrize(
    ("number", "changed", "outcome"),
    [
        (4, {"classes": 1}, "failed"),
        (21, {"no_draws": "draws are made by Ensemble"}, "failed"),
        (21, {"silent_by_crossing": False, "silent": True}, "warning"),
        (22, {"gradient_cut": True}, "warning"),
        (22, {"gradient_cut": True, "square": None, "label_only": None}, "failed"),
        (24, {"targeted": None}, "failed"),
        (24, {"untargeted": None}, "failed"),
    ],
)
def test_each_check_of_a_run_can_be_raised(
    number: int, changed: dict[str, Any], outcome: str, written: Written
) -> None:
    found, words = JUDGES_WITH_THE_PLAN[number](written.run, sample(**changed))
    assert found == outcome, words


def test_every_check_but_that_of_the_maps_has_a_judge() -> None:
    assert {*JUDGES, *JUDGES_WITH_THE_PLAN, 25} == set(CHECKS)
    assert {number for number, _ in RAISED} | {4, 20, 21, 22, 24, 25} == set(CHECKS)


@pytest.mark.parametrize(
    ("name", "value", "outcome"),
    [("map_repeatability", 0.99, "passed"), ("map_repeatability", 0.01, "failed"),
     ("map_randomised_likeness", 0.99, "failed"), ("map_randomised_likeness", None, "not run")],
)  # fmt: skip
def test_a_map_beyond_the_default_thresholds_is_raised_whatever_the_runs_policy(
    run_copy: Path, name: str, value: float | None, outcome: str
) -> None:
    rows = open_run(run_copy).rows()
    told = {"map_randomised_likeness": 0.0, "map_repeatability": 1.0, name: value}
    like = {"measurement": trust_id("grad_cam"), "of": "grad_cam", "subgroup": "all", "at": None}
    more = [rows.iloc[0].to_dict() | like | {"name": one, "value": number} for one, number in told.items()]
    rows = pd.concat([rows[~rows["name"].isin(told)], pd.DataFrame(more).astype(rows.dtypes)], ignore_index=True)
    layout.write_table(layout.analysis_path(run_copy, "rows"), rows, schemas.ROWS_SCHEMA)
    summary = open_run(run_copy).summary.model_copy(update={"maps_withheld": {"integrated_gradients": "not checked"}})
    write_text(layout.summary_path(run_copy), summary.model_dump_json())
    changed = open_run(run_copy)
    found, words = maps_that_are_shown(changed, Figures(changed))
    assert found == outcome, words


@pytest.mark.parametrize("number", [6, 7, 8, 11, 12, 13, 15, 16])
def test_one_exam_of_a_sample_is_a_warning(number: int) -> None:
    changed = next(changed for of, changed in RAISED if of == number)
    table = sample()
    for column, value in changed.items():
        table.at[3, column] = value
    assert JUDGES[number](table, POLICY)[0] == "warning"


def test_without_a_descent_what_needs_one_fails_and_without_draws_theirs_do_not_apply() -> None:
    none = sample(**dict.fromkeys(("pgd", "fgsm", "pgd_more", "pgd_rises", "best_kept", "unbounded", "ladder"), None))
    assert {JUDGES[number](none, POLICY)[0] for number in (7, 8, 9, 10, 18)} == {"failed"}
    drawn = ("averaged", "fixed_mask", "draws_spread", "clean_flip_share", "selected", "silent", "silent_by_crossing")
    plain = sample(no_draws="draws are made by Ensemble", **dict.fromkeys(drawn, None))
    assert {JUDGES[number](plain, POLICY)[0] for number in (14, 15, 16, 17)} == {"not applicable"}


def test_rows_and_sample_together_give_the_grade(written: Written) -> None:
    evidence = written.report.evidence
    found, worst = evidence.headline.conditions, evidence.worst_cases
    all_well = dict.fromkeys(CHECKS, ("passed", "seen"))
    rising = tuple(
        replace(one, error=replace(one.error, value=0.1 * one.measurement.stress.strength))
        for one in found
        if one.kind == "attack" and one.measurement.stress is not None
    )
    graded = credibility(evidence.figures, rising, worst, all_well)
    assert graded is not None
    told = {one.number: one.outcome for one in graded.checks}
    assert told[8] == "passed"
    assert told[20] == "passed"
    doubted = credibility(evidence.figures, rising, worst, all_well | {11: ("failed", "Square breaks 3")})
    assert doubted is not None
    assert doubted.grade == "C"


def test_a_run_that_was_not_examined_says_so(written: Written) -> None:
    assert set(examined(written.run, written.report.evidence.figures)) == {25}
