from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.report.conftest import Written
from workbench.audit import layout, schemas
from workbench.audit.results import open_run
from workbench.report.attack_checks import credibility
from workbench.report.figures import BINOMIAL, Figure, Figures, binomial_interval, exact_where_flat
from workbench.report.headline import conditions, headline
from workbench.report.performance import stands
from workbench.report.words import difference_words, full_words, points_words


def _answer_with(folder: Path, wrong: list[bool], referred: list[bool]) -> str:
    """Return the answer of a run whose clean decisions are set by hand, one per exam."""
    path = layout.analysis_path(folder, "decisions")
    table = layout.read_table(path, schemas.DECISIONS_SCHEMA)
    clean = table.index[table["measurement"] == layout.CLEAN]
    table.loc[clean, "wrong"] = pd.array(wrong, dtype="boolean")
    table.loc[clean, "referred"] = pd.array(referred, dtype="boolean")
    table.loc[clean, "patient_id"] = [f"{number}" for number in range(len(clean))]
    layout.write_table(path, table, schemas.DECISIONS_SCHEMA)
    run = open_run(folder)
    return headline(run, conditions(run, Figures(run))).answer


@pytest.mark.parametrize(
    ("wrong", "referred", "answer"),
    [
        ([True] * 4 + [False] * 8, [True] * 4 + [False] * 8, "More often than chance: it hands 100 %"),
        ([True] * 4 + [False] * 8, [False] * 4 + [True] * 8, "Less often than chance: it hands 0 %"),
        ([True, False] * 6, [True, True, False, False] * 3, "Not shown"),
        ([False] * 12, [True, False] * 6, "It cannot be said: none of the"),
    ],
)
def test_the_answer_follows_the_rows(run_copy: Path, wrong: list[bool], referred: list[bool], answer: str) -> None:
    assert _answer_with(run_copy, wrong, referred).startswith(answer)


def test_the_worst_stress_is_the_one_with_the_highest_rate(written: Written) -> None:
    rows = written.run.rows()
    rows = rows[(rows["name"] == "silent_failure_rate") & (rows["subgroup"] == "all")]
    attacks = rows[rows["stress"].isin(["fgsm", "pgd"])]
    worst = attacks.loc[attacks["value"].idxmax()]
    sentence = next(one for one in written.report.evidence.headline.sentences if one.startswith("Worst attack"))
    assert f"ε = {worst['strength']:g}/255" in sentence
    assert f"{100 * worst['value']:.1f} %" in sentence


def test_conditions_that_are_equally_bad_are_counted(written: Written) -> None:
    found = written.report.evidence.headline.conditions
    same = replace(found[0].silent, value=0.5)
    told = headline(written.run, tuple(replace(one, silent=same) for one in found)).sentences
    assert any(sentence.startswith("Worst attack of 3, equal with 2 others: FGSM") for sentence in told)


def test_errors_referred_are_counted_by_hand(written: Written) -> None:
    table = written.run.decisions()
    for one in written.report.evidence.headline.conditions:
        of_condition = table[(table["measurement"] == one.measurement.id) & table["wrong"].fillna(False)]
        assert one.errors_referred.n == len(of_condition)
        if len(of_condition):
            assert one.errors_referred.value == pytest.approx(of_condition["referred"].astype(float).mean())


def test_a_sample_is_told(written: Written) -> None:
    found = written.report.evidence.headline.conditions
    short = tuple(replace(one, exams=5, sampled=True) if one.kind == "attack" else one for one in found)
    told = headline(written.run, short).sentences
    assert any("Attacks ran on 5 exams of 12, drawn by a hash" in sentence for sentence in told)


def test_none_of_n_has_the_exact_interval() -> None:
    figure = Figure("error_rate", 0.0, 0.0, 0.0, 25, 20, None, "bootstrap of patients")
    exact = exact_where_flat(figure)
    assert exact.interval_by == BINOMIAL
    assert exact.low == 0.0
    # The bound p at which 0 of 20 is seen with probability 2.5 %.
    assert (1 - exact.high) ** 20 == pytest.approx(0.025)
    everyone = exact_where_flat(replace(figure, value=1.0, low=1.0, high=1.0))
    assert everyone.low**20 == pytest.approx(0.025)
    assert exact_where_flat(replace(figure, high=0.1)) == replace(figure, high=0.1)


def test_a_flat_figure_that_is_no_share_has_no_interval_and_says_so() -> None:
    flat = exact_where_flat(Figure("auc_referable_exam", 1.0, 1.0, 1.0, 9, 9, None, "bootstrap of patients"))
    assert (flat.value, flat.low, flat.high) == (1.0, None, None)
    assert full_words(flat) == "1.000 (no interval: every resample gives this value)"


def test_the_binomial_interval_covers_by_its_definition() -> None:
    from math import comb

    low, high = binomial_interval(3, 12)
    at_least = sum(comb(12, k) * low**k * (1 - low) ** (12 - k) for k in range(3, 13))
    at_most = sum(comb(12, k) * high**k * (1 - high) ** (12 - k) for k in range(4))
    assert np.allclose([at_least, at_most], 0.025)


def test_words_keep_the_interval_and_the_reason() -> None:
    share = Figure("error_rate_change", 0.1, -0.05, 0.25, 9, 9, None, "bootstrap of patients")
    assert points_words(share) == "+10.0 points (−5.0 to +25.0)"
    assert difference_words(replace(share, name="brier_difference")) == "+0.100 (−0.050 to +0.250)"
    assert full_words(replace(share, value=None, reason="one class only")) == "not assessed (one class only)"


def test_a_target_is_reached_only_by_the_whole_interval() -> None:
    figure = Figure("sensitivity", 0.9, 0.86, 0.95, 50, 50, None, "bootstrap of patients")
    assert stands(figure, 0.85).startswith("reached")
    assert stands(figure, 0.88).startswith("not settled")
    assert stands(figure, 0.96).startswith("missed")
    assert stands(replace(figure, low=None, high=None), 0.85) == "not assessed"


def test_an_attack_that_fails_a_check_is_graded_c(written: Written) -> None:
    evidence = written.report.evidence
    found = evidence.headline.conditions
    passed = credibility(evidence.figures, found)
    assert passed is not None
    assert passed.words.startswith("Not graded")
    # PGD at ε = 1 now leaves fewer errors than FGSM, and more than itself at ε = 2.
    weak = tuple(
        replace(one, error=replace(one.error, value=0.01)) if one.measurement.id == "pgd@1" else one for one in found
    )
    graded = credibility(evidence.figures, weak)
    assert graded is not None
    assert graded.words.startswith("C")
    assert [one.name for one in graded.checks if one.outcome == "failed"] == ["Iterative against single-step"]
    assert credibility(evidence.figures, found[:1]) is None
