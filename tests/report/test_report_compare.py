from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.report.conftest import Written
from tests.report.hostile import change_manifest
from workbench.audit.results import open_run
from workbench.report.compare import compare, independent_difference
from workbench.report.figures import Figure
from workbench.report.write import as_html, as_json, assemble
from workbench.schema.errors import WorkbenchError


def test_another_set_stands_beside_with_the_difference(written: Written, other_runs: dict[str, Path]) -> None:
    there = open_run(other_runs["external"])
    report = assemble(written.run, [there])
    (beside,) = as_json(report)["comparisons"]
    assert beside["relation"] == "external"
    rows = {
        run: run.rows()[lambda table: (table["measurement"] == "clean") & table["of"].isna()]
        for run in (written.run, there)
    }
    for figure in beside["figures"]:
        values = [
            table[(table["name"] == figure["name"]) & (table["subgroup"] == "all")]["value"].item()
            for table in rows.values()
        ]
        assert [figure["here"]["value"], figure["there"]["value"]] == values
        assert figure["difference"]["value"] == pytest.approx(values[1] - values[0])
    page = as_html(report)
    assert "External set" in page
    assert "elsewhere (test)" in page
    assert "The external set elsewhere (test), 16 exams:" in page


def test_a_rival_with_the_same_answers_differs_by_nothing(written: Written, other_runs: dict[str, Path]) -> None:
    beside = compare(written.run, open_run(other_runs["rival"]))
    assert beside.relation == "rival"
    for one in beside.figures:
        if one.here.name == "ungradable_rate":
            assert one.difference.value is None
            assert one.difference.reason
        else:
            assert (one.difference.value, one.difference.low, one.difference.high) == (0.0, 0.0, 0.0)


def test_square_and_add_by_hand() -> None:
    here = Figure("accuracy", 0.8, 0.7, 0.86, 100, 90, None, "bootstrap of patients")
    there = Figure("accuracy", 0.6, 0.52, 0.7, 80, 75, None, "bootstrap of patients")
    found = independent_difference(here, there)
    assert found.value == pytest.approx(-0.2)
    assert found.low == pytest.approx(-0.2 - (0.08**2 + 0.06**2) ** 0.5)
    assert found.high == pytest.approx(-0.2 + (0.1**2 + 0.1**2) ** 0.5)
    assert (found.n, found.clusters) == (180, 165)


def test_what_cannot_be_compared_is_refused_in_one_line(
    written: Written, finished_run: Path, other_runs: dict[str, Path], tmp_path: Path
) -> None:
    def refused(folder: Path, words: str) -> None:
        with pytest.raises(WorkbenchError, match=words) as caught:
            compare(written.run, open_run(folder))
        assert "\n" not in str(caught.value)

    refused(finished_run, "the same model on the same exams")
    stranger = Path(shutil.copytree(other_runs["external"], tmp_path / "stranger"))
    change_manifest(stranger, model_hash="a" * 64)
    refused(stranger, "share neither the model .* nor the exams")
    strict = Path(shutil.copytree(other_runs["rival"], tmp_path / "strict"))
    policy = written.run.manifest.policy.model_dump(mode="json")
    change_manifest(strict, policy={**policy, "referral_budget": 0.1})
    refused(strict, "different policies: referral_budget is 0.2 and 0.1")
