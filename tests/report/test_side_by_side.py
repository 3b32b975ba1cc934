"""Models side by side: every figure with its interval, the difference by hand, the defence as the card says it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.report.conftest import Written
from tests.report.hostile import change_manifest
from tests.run_folder import make_run
from workbench.audit import layout
from workbench.audit.results import Run, open_run
from workbench.report.side_by_side import CLEAN_ONLY, UNDER_STRESS, Cell, SideBySide, side_by_side
from workbench.report.write import as_html, as_json, assemble

PGD = "PGD on both eyes, ε < 2/255, 3 steps <script>"


@pytest.fixture(scope="module")
def hardened(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Another model on the very exams of the invented run, without its strongest stress, with a defence on its card."""
    folder = tmp_path_factory.mktemp("beside") / "hardened"
    make_run(folder, seed=1, stresses=open_stresses(finished_run)[:-1])
    kept = json.loads(layout.manifest_path(finished_run).read_text())
    model = json.loads(layout.manifest_path(folder).read_text())["model"]
    model |= {"name": "hardened", "provenance": {**model["provenance"], "defence": PGD}}
    change_manifest(folder, model=model, manifest_hash=kept["manifest_hash"], model_hash="d" * 64)
    return open_run(folder)


def open_stresses(folder: Path) -> tuple:
    specs = [one.stress for one in open_run(folder).manifest.measurements if one.kind == "draws"]
    return tuple(spec for spec in specs if spec is not None)


@pytest.fixture(scope="module")
def beside(written: Written, hardened: Run) -> SideBySide:
    found = side_by_side(written.run, [hardened])
    assert found is not None
    return found


def test_every_condition_has_its_three_rates_for_every_model_in_order(written: Written, beside: SideBySide) -> None:
    drawn = [one.id for one in written.run.manifest.measurements if one.kind == "draws"]
    clean, *stressed = beside.blocks
    assert [line.cells[0].figure.name for line in clean.lines] == list(CLEAN_ONLY)
    for block, name in zip(stressed, UNDER_STRESS, strict=True):
        assert [line.cells[0].figure.measurement for line in block.lines] == drawn
        assert {cell.figure.name for line in block.lines for cell in line.cells} == {name}
    assert [column.defence for column in beside.columns] == ["nothing stated", PGD]
    told = written.report.evidence.credibility
    assert told is not None
    assert beside.columns[0].credibility == told.short


def test_the_difference_is_that_of_the_exams_that_both_have(
    written: Written, hardened: Run, beside: SideBySide
) -> None:
    tables = [run.decisions() for run in (written.run, hardened)]
    one, other = (table[table["measurement"] == "pgd@1"].set_index("exam_id") for table in tables)
    known = one["wrong"].notna() & other["wrong"].notna()
    expected = other["wrong"][known].astype(float).mean() - one["wrong"][known].astype(float).mean()
    found = cell(beside, "error_rate", "pgd@1")
    assert found.difference is not None
    assert found.difference.value == pytest.approx(expected)
    assert found.difference.low is not None


def cell(beside: SideBySide, name: str, measurement: str, column: int = 1) -> Cell:
    cells = [line.cells[column] for block in beside.blocks for line in block.lines]
    (found,) = (one for one in cells if (one.figure.name, one.figure.measurement) == (name, measurement))
    return found


def test_a_condition_that_one_model_lacks_says_so(beside: SideBySide) -> None:
    lacking = cell(beside, "error_rate", "jpeg@5")
    assert (lacking.figure.value, lacking.difference) == (None, None)
    assert lacking.figure.reason == "not in this run"
    assert cell(beside, "error_rate", "jpeg@5", column=0).figure.value is not None


def test_better_and_worse_need_an_interval_on_one_side_of_zero(beside: SideBySide) -> None:
    for block in beside.blocks:
        for line in block.lines:
            assert line.cells[0].difference is None
            for one in line.cells[1:]:
                sided = one.difference is not None and (one.difference.low or 0) * (one.difference.high or 0) > 0
                assert not one.turn or (sided and one.figure.name != "referral_rate")


def test_a_rival_without_a_difference_is_neither_better_nor_worse(
    written: Written, other_runs: dict[str, Path]
) -> None:
    found = side_by_side(written.run, [open_run(other_runs["rival"])])
    assert found is not None
    assert {one.turn for block in found.blocks for line in block.lines for one in line.cells} == {""}
    assert len({column.name for column in found.columns}) == 2, "two models of one name are told apart"


def test_another_set_is_no_rival(written: Written, other_runs: dict[str, Path]) -> None:
    assert side_by_side(written.run, [open_run(other_runs["external"])]) is None
    assert side_by_side(written.run, []) is None


def test_page_and_json_have_the_whole_table(written: Written, hardened: Run) -> None:
    report = assemble(written.run, [hardened])
    page, figures = as_html(report), as_json(report)["side_by_side"]
    assert "ε &lt; 2/255, 3 steps &lt;script&gt;" in page
    assert "<script>" not in page
    assert "Hardened in training against" in page
    assert [model["defence"] for model in figures["models"]] == ["nothing stated", PGD]
    drawn = [one for one in written.run.manifest.measurements if one.kind == "draws"]
    assert len(figures["figures"]) == 2 * (len(CLEAN_ONLY) + len(UNDER_STRESS) * len(drawn))
