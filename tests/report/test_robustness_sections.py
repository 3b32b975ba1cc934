"""The matrix of stresses, the weak eye, the severity search and what would flip a case, against the run's rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.report.conftest import Written
from tests.run_folder import STRESSES, make_run
from workbench.audit import layout, schemas
from workbench.audit.results import Run, open_run
from workbench.report.certified import Smoothed, sentence
from workbench.report.drawing import inline_svg
from workbench.report.figures import Figure, Figures
from workbench.report.headline import conditions
from workbench.report.matrix import matrix, matrix_chart
from workbench.report.severity import searches, severity_chart
from workbench.report.weak_eye import weak_eyes
from workbench.report.write import Report, as_html, as_json, assemble
from workbench.schema.specs import SmoothingSpec, StressSpec
from workbench.schema.words import ATTACKS, MIX_UPS, percent, stress_words
from workbench.stress import registry
from workbench.stress.exam import EXAM_STRESSES

ONE_EYE = tuple(StressSpec.model_validate({"name": "pgd", "strength": 4, "eyes": eyes}) for eyes in ("OD", "OS"))


@pytest.fixture(scope="module")
def one_eyed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run whose left eye is the weak one: nearly every exam is wrong once that eye is changed."""
    folder = tmp_path_factory.mktemp("one_eyed") / "run"
    make_run(folder, 20, 1, (*STRESSES, *ONE_EYE), ("defocus", "haze"))
    path = layout.analysis_path(folder, "decisions")
    table = layout.read_table(path, schemas.DECISIONS_SCHEMA)
    judged = table["wrong"].notna()
    for eye, wrong in (("OD", table["exam_id"].str.endswith("4")), ("OS", ~table["exam_id"].str.endswith("7"))):
        table.loc[judged & (table["measurement"] == f"pgd@4.{eye}"), ["wrong", "silent_failure"]] = wrong
    layout.write_table(path, table, schemas.DECISIONS_SCHEMA)
    return open_run(folder)


@pytest.fixture(scope="module")
def report(one_eyed: Run) -> Report:
    return assemble(one_eyed)


def test_every_attack_and_every_mix_up_has_its_words() -> None:
    assert set(ATTACKS) == set(registry.ATTACKS)
    assert set(MIX_UPS) == set(EXAM_STRESSES)
    assert stress_words(StressSpec(name="missing_eye", strength=1, eyes="OS")) == "Missing eye, once, OS only"


def test_the_matrix_holds_every_condition_once_and_its_darkest_cell_is_the_largest_rate(one_eyed: Run) -> None:
    found = conditions(one_eyed, Figures(one_eyed))
    made = matrix(found)
    assert made is not None
    assert [block.title for block in made.blocks] == ["Attacks", "Corruptions"]
    for place, largest in enumerate(made.darkest):
        cells = [cell for block in made.blocks for line in block.lines for cell in line.rates[place] if cell]
        rates = [(one.error, one.referral, one.silent)[place] for one in found]
        assert sorted(cell.words for cell in cells) == sorted(percent(one.value)[:-2] for one in rates[1:])
        assert largest.value == max(one.value or 0.0 for one in rates)
        clean = made.blocks[0].clean[place]
        shades = [cell.shade or 0.0 for cell in (*cells, clean)]
        assert max(shades) == 1.0
        assert np.allclose(sorted(shades), sorted((one.value or 0.0) / (largest.value or 1.0) for one in rates))


@pytest.mark.parametrize("dark", [False, True])
def test_the_matrix_as_a_picture_says_what_its_cells_say(one_eyed: Run, dark: bool) -> None:
    made = matrix(conditions(one_eyed, Figures(one_eyed)))
    assert made is not None
    chart = matrix_chart(Figures(one_eyed), dark=dark)
    rows = [row for rows in chart.to_dict()["datasets"].values() for row in rows]
    cells = [cell for block in made.blocks for line in block.lines for rate in line.rates for cell in rate if cell]
    assert {cell.told for cell in cells} <= {row["told"] for row in rows}
    strongest = {row["colour"] for row in rows if row["told"] in {cell.told for cell in cells if cell.shade == 1}}
    assert len(strongest) == 3
    assert inline_svg(chart, "matrix").startswith("<svg")


def test_what_the_plan_does_not_hold_is_an_empty_cell(one_eyed: Run) -> None:
    made = matrix(conditions(one_eyed, Figures(one_eyed)))
    assert made is not None
    attacks = {line.words: line.rates[0] for line in made.blocks[0].lines}
    assert made.blocks[0].strengths == ("1", "2", "4")
    assert [cell is not None for cell in attacks["PGD attack"]] == [True, True, False]
    assert [cell is not None for cell in attacks["PGD attack, OS only"]] == [False, False, True]
    assert matrix(conditions(one_eyed, Figures(one_eyed))[:1]) is None


def test_the_eyes_are_compared_exam_by_exam_where_both_are_there(one_eyed: Run) -> None:
    error, silent = weak_eyes(one_eyed, conditions(one_eyed, Figures(one_eyed)))
    table = one_eyed.decisions().dropna(subset="wrong").set_index("exam_id")
    both = set(one_eyed.exam_ids) - {"exam-001", "exam-002"}  # each lacks an eye
    slow = [
        float(table.loc[exam][table.loc[exam, "measurement"] == "pgd@4.OS"]["wrong"].item())
        - float(table.loc[exam][table.loc[exam, "measurement"] == "pgd@4.OD"]["wrong"].item())
        for exam in sorted(both & set(table.index))
    ]
    assert error.difference.value == pytest.approx(np.mean(slow))
    assert error.difference.n == silent.difference.n == len(slow)
    assert (error.weak, silent.weak) == ("OS", "OS")
    assert error.of_eyes["both"].reason == "not in the plan"


def test_where_no_eye_is_stressed_alone_the_report_says_how_to_plan_it(written: Written) -> None:
    assert written.report.evidence.weak_eyes == ()
    assert "plan it with two lines, {name: pgd, strengths: [1], exams: 64, eyes: OD}" in written.page
    assert "plan it with severity_search: {corruptions: [defocus, haze], exams: 64}" in written.page


def test_the_severity_curve_is_the_rows_and_begins_at_nothing(one_eyed: Run) -> None:
    found = searches(one_eyed, Figures(one_eyed))
    assert [one.words for one in found] == ["Defocus", "Haze"]
    assert [one.at for one in found[0].flipped] == [1.0, 2.0, 3.0, 4.0, 5.0]
    data = [row for rows in severity_chart(found).to_dict()["datasets"].values() for row in rows]
    assert all(row["value"] == 0 for row in data if row["severity"] == 0)
    drawn = {row["value"] for row in data if row["severity"] == 2 and row["rate"] == "at any quality"}
    assert drawn == {100 * (found[0].flipped[1].value or 0.0)}


def test_a_case_says_what_would_flip_it(one_eyed: Run, report: Report) -> None:
    cases = [case for group in report.groups for case in group.cases]
    assert cases
    for case in cases:
        measured, *searched = case.flips
        assert measured.startswith(("What would flip this call", "None of the 8 measured stresses flips"))
        severity = one_eyed.mildest(case.exam_id)["defocus"]["severity"]
        said = "no severity up to 5" if severity is None else f"from severity {severity:.3g}"
        assert said in searched[0]


def test_every_section_is_in_the_page_and_in_the_json(report: Report) -> None:
    page = as_html(report)
    for words in ("Every stress by strength", "The weak eye", "The mildest severity that flips"):
        assert f"<h3>{words}</h3>" in page
    assert page.count('<table class="matrix wide">') == 2
    assert 'title="PGD attack, ε = 4/255, OS only: ' in page
    assert [one["rate"] for one in as_json(report)["weak_eyes"]] == ["error", "silent failure"]


def test_a_run_without_certificates_says_how_to_plan_them(written: Written) -> None:
    assert "plan it with certified: {sigmas: [0.1, 0.25], exams: 32}" in written.page


@pytest.mark.parametrize(
    ("abstained", "called", "says"),
    [
        (1.0, None, "σ = 0.1: every exam abstains; nothing is certified."),
        (0.1, 0.99, "99.0 % (98.0–100.0) referable: nearly a constant, which is easily proved."),
        (0.1, 0.4, "it is the deployed call in 90.0 % (80.0–95.0)."),
    ],
)
def test_the_sentence_of_a_certificate_follows_the_rows(abstained: float, called: float | None, says: str) -> None:
    def share(name: str, value: float, low: float, high: float) -> Figure:
        return Figure(name, value, low, high, 20, 20, None, "bootstrap of patients", at=0.0)

    found = Smoothed(
        SmoothingSpec(sigma=0.1),
        (share("certified_accuracy", 0.5, 0.4, 0.6),),
        (share("certified_sensitivity", 0.3, 0.2, 0.4),),
        share("abstention_rate", abstained, abstained, abstained),
        share("certified_radius_median", 0.2, 0.1, 0.3),
        share("smoothed_agreement", 0.9, 0.8, 0.95),
        share("smoothed_called_share", called or 0.0, (called or 0.0) - 0.01, (called or 0.0) + 0.01),
    )
    assert sentence(found).endswith(says)


def test_a_search_reads_one_exam(finished_run: Path) -> None:
    assert open_run(finished_run).mildest("exam-000") == {}
