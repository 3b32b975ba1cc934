"""The 25 checks: their page, their grade, and what an attack's figures may claim."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.conftest import ROOT
from tests.named_tests import collected, named, table
from tests.report.conftest import Written
from workbench.report.attack_checks import credibility
from workbench.schema.credibility import CHECKS, DECISIVE, Outcome, grade_of

PASSED: dict[int, Outcome] = dict.fromkeys(CHECKS, "passed")


def test_the_page_says_what_the_code_says() -> None:
    page = (ROOT / "docs" / "credibility.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert rows == [f"| {number} | {' | '.join(words)} |" for number, words in CHECKS.items()]
    assert len(CHECKS) == 25


def test_each_check_has_a_row_of_self_tests_and_each_test_that_is_named_exists() -> None:
    rows = {cells[0]: cells for cells in table("credibility.md") if cells[0].startswith("check ")}
    assert list(rows) == [f"check {number}" for number in CHECKS]
    for _, known, held_by in rows.values():
        assert known
        assert named(held_by)
    tests = named((ROOT / "docs" / "credibility.md").read_text(encoding="utf-8"))
    assert [test for test in tests if not collected(*test)] == []


@pytest.mark.parametrize("number", CHECKS)
def test_what_each_check_does_to_the_grade(number: int) -> None:
    assert grade_of(PASSED | {number: "failed"}) == ("C" if number in DECISIVE else "B")
    assert grade_of(PASSED | {number: "warning"}) == "B"
    assert grade_of(PASSED | {number: "not run"}) is None
    assert grade_of(PASSED | {number: "not applicable"}) == "A"


def test_every_check_stands_in_the_report_and_none_passes_unseen(written: Written) -> None:
    told = written.report.evidence.credibility
    assert told is not None
    assert [one.number for one in told.checks] == list(CHECKS)
    assert {one.number for one in told.checks if one.outcome != "not run"} <= {7, 9, 19, 20}
    assert all(one.words for one in told.checks)
    attacks = sum(one.kind == "attack" for one in written.report.evidence.headline.conditions)
    assert written.page.count(f"credibility: {told.short}") == attacks + len(written.report.evidence.worst_cases) > 0


def test_the_worst_case_of_an_exam_is_over_attacks_before_the_mean(written: Written) -> None:
    (worst,) = written.report.evidence.worst_cases
    assert worst.attacks == ("FGSM attack, ε = 1/255", "PGD attack, ε = 1/255")
    table = written.run.decisions()
    wrong = {
        name: table[table["measurement"] == name].set_index("exam_id")["wrong"].dropna() for name in ("fgsm@1", "pgd@1")
    }
    exams = wrong["fgsm@1"].index.intersection(wrong["pgd@1"].index)
    by_hand = sum(wrong["fgsm@1"][exam] or wrong["pgd@1"][exam] for exam in exams) / len(exams)
    assert worst.error.value == pytest.approx(by_hand)
    assert worst.error.value >= max(values[exams].mean() for values in wrong.values())
    assert worst.error.low is not None


def test_signs_by_lot_are_compared_with_the_attack_of_the_same_budget_and_eyes(written: Written) -> None:
    evidence = written.report.evidence
    pgd = next(one for one in evidence.headline.conditions if one.measurement.id == "pgd@1")
    assert pgd.error.value is not None
    assert pgd.measurement.stress is not None

    def outcome(error: float, **of: object) -> str:
        spec = pgd.measurement.stress.model_copy(update={"name": "universal_noise", **of})  # type: ignore[union-attr]
        measurement = pgd.measurement.model_copy(update={"id": spec.measurement_id, "stress": spec})
        noise = replace(pgd, measurement=measurement, error=replace(pgd.error, value=error))
        told = credibility(evidence.figures, (*evidence.headline.conditions, noise))
        assert told is not None
        return next(one.outcome for one in told.checks if one.number == 12)

    least = min(one.error.value or 0.0 for one in evidence.headline.conditions if one.measurement.id.endswith("@1"))
    assert outcome(least) == "passed"
    assert outcome(pgd.error.value + 0.01) == "failed"
    assert outcome(1.0, strength=77.0) == outcome(1.0, eyes="OS") == "not run"
