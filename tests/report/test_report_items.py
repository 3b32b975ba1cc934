from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.report.conftest import Written
from tests.report.test_write_report import Page
from workbench.audit.results import Run, open_run
from workbench.report.compare import compare
from workbench.report.items import Item, items
from workbench.schema.specs import PolicySpec

STATUSES = {"reported", "not assessed", "not applicable"}


def test_every_one_of_the_30_items_has_a_status_and_says_something(written: Written) -> None:
    found = written.report.items
    assert [item.number for item in found] == list(range(1, 31))
    for item in found:
        assert item.status in STATUSES
        assert len(item.words) > 10
    page = Page(written.page)
    rows = {str(attributes.get("id")) for tag, attributes in page.elements if tag == "tr"}
    assert {f"item-{number}" for number in range(1, 31)} <= rows
    for item in found:
        assert item.words in page.text


def test_the_page_claims_no_compliance(written: Written) -> None:
    assert "complian" not in written.page.lower()
    assert "supports" in written.page


def _item(written: Written, number: int, **changes: object) -> Item:
    return items(replace(written.report.evidence, **changes))[number - 1]


def _manifest_with(run: Run, **changes: object) -> Run:
    return Run(run.folder, run.manifest.model_copy(update=changes))


def test_external_validation_is_reported_only_beside_a_run_on_another_set(
    written: Written, other_runs: dict[str, Path]
) -> None:
    assert written.report.items[20].status == "not assessed"
    assert "--compare" in written.report.items[20].words
    for name, status in (("external", "reported"), ("rival", "not assessed")):
        beside = compare(written.run, open_run(other_runs[name]))
        assert _item(written, 21, comparisons=(beside,)).status == status


@pytest.mark.parametrize(("number", "kind"), [(22, "corruption"), (23, "attack")])
def test_a_stress_that_was_not_measured_is_not_assessed(written: Written, number: int, kind: str) -> None:
    told = written.report.evidence.headline
    left = replace(told, conditions=tuple(one for one in told.conditions if one.kind != kind))
    assert written.report.items[number - 1].status == "reported"
    assert _item(written, number, headline=left).status == "not assessed"


def test_without_maps_or_attributes_those_items_are_not_assessed(written: Written) -> None:
    assert _item(written, 26, maps=()).status == "not assessed"
    none = tuple(replace(one, groups=()) for one in written.report.evidence.attributes)
    assert _item(written, 20, attributes=none).status == "not assessed"


def test_leakage_is_judged_by_the_model_card(written: Written) -> None:
    run = written.run
    card = run.manifest.model

    def words(trained_on: str, split: str = "test", conflicts: tuple[str, ...] = ()) -> str:
        trained = card.provenance.model_copy(update={"manifest_hash": trained_on, "conflicts_allowed": conflicts})
        model = card.model_copy(update={"provenance": trained})
        item = _item(written, 8, run=_manifest_with(run, model=model, split=split))
        return f"{item.status}: {item.words}"

    own = run.manifest.manifest_hash
    assert words("").startswith("not assessed")
    assert "no patient in two splits" in words(own)
    assert "include those trained on" in words(own, split="all")
    assert "allowed these conflicts: patient in two splits" in words(own, conflicts=("patient in two splits",))
    assert "another manifest" in words("e" * 64)


def test_where_the_threshold_comes_from_is_told(written: Written) -> None:
    assert "validation split" in written.report.items[15].words
    stated = _manifest_with(written.run, policy=PolicySpec(referable_threshold=0.3))
    assert "by the policy" in _item(written, 16, run=stated).words
