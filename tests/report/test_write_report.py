from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.payloads import PAYLOADS
from tests.report.conftest import Written
from tests.report.hostile import change_manifest, replace_text
from workbench.audit import layout, run_manifest
from workbench.audit.analysis import analyse
from workbench.report.write import as_html, assemble, write_report
from workbench.schema.errors import WorkbenchError

SIXTY = " ¦ ".join(PAYLOADS)
HOSTILE = {"exam_id": SIXTY, "camera": SIXTY, "site": SIXTY, "reason": SIXTY}
"""Column → what it says of every exam: all sixty hostile texts."""
ALLOWED = {"html", "head", "meta", "title", "style", "body", "nav", "ol", "ul", "li", "a", "main", "header", "section"}
ALLOWED |= {
    "article",
    "details",
    "summary",
    "footer",
    "div",
    "p",
    "span",
    "b",
    "i",
    "u",
    "br",
    "h1",
    "h2",
    "h3",
    "h4",
    "figure",
    "figcaption",
}
ALLOWED |= {"table", "caption", "thead", "tbody", "tr", "th", "td", "img", "bdi", "code", "pre"}
ALLOWED |= {"svg", "g", "path", "line", "rect", "text", "defs", "clippath", "lineargradient", "stop"}


class Page(HTMLParser):
    """Every element with its attributes, and the text that a reader sees."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def assert_fetches_nothing(page: Page) -> None:
    anchors = {attributes.get("id") for _, attributes in page.elements}
    for tag, attributes in page.elements:
        assert tag in ALLOWED, tag
        assert not [name for name in attributes if name.startswith("on") or name in ("srcset", "action", "xlink:href")]
        assert "url(" not in (attributes.get("style") or "")
        if tag == "img":
            assert str(attributes["src"]).startswith("data:image/jpeg;base64,")
        if "href" in attributes:
            assert str(attributes["href"]).startswith("#")
            assert str(attributes["href"])[1:] in anchors


def test_the_page_fetches_nothing_and_every_link_lands(written: Written) -> None:
    page = Page(written.page)
    assert_fetches_nothing(page)
    assert "http" not in written.page.replace("http-equiv", "")
    assert "default-src 'none'" in written.page
    assert "@import" not in written.page
    assert [attributes for tag, attributes in page.elements if tag == "img"]


def test_no_two_elements_share_an_id(written: Written) -> None:
    found = [attributes["id"] for _, attributes in Page(written.page).elements if "id" in attributes]
    assert len(found) == len(set(found))


def test_payloads_in_what_the_data_say_are_shown_literally(run_copy: Path) -> None:
    for column, payload in HOSTILE.items():
        pattern, replacement = ("exam-", f"{payload} exam-") if column == "exam_id" else ("^.+$", payload)
        replace_text(run_copy, column, pattern, replacement)
    run_json = run_manifest.read_manifest(run_copy).model_dump(mode="json")
    model = {**run_json["model"], "name": f"name {SIXTY}", "licence": f"licence {SIXTY}"}
    change_manifest(run_copy, model=model, dataset=f"dataset {SIXTY}", config={"note": f"note {SIXTY}"})
    page = Page(as_html(assemble(analyse(run_copy, resamples=20))))
    assert_fetches_nothing(page)
    for place in ("name", "dataset"):
        assert f"{place} {SIXTY}" in page.text
    assert page.text.count(SIXTY) >= 10


def test_the_figures_are_those_of_the_rows(written: Written) -> None:
    rows = written.run.rows()
    figures = written.figures["figures"]
    assert isinstance(figures, list)
    assert len(figures) == len(rows)
    for row, figure in zip(rows.to_dict("records"), figures, strict=True):
        assert (figure["name"], figure["measurement"]) == (row["name"], row["measurement"])
        assert figure["n"] == row["n"]
        if np.isnan(row["value"]):
            assert figure["value"] is None
            assert figure["reason"]
        else:
            assert figure["value"] == row["value"]
        if row["low"] != row["high"] and not np.isnan(row["low"]):
            assert (figure["low"], figure["high"]) == (row["low"], row["high"])
        assert figure["reason"] or figure["interval_by"]


def test_the_headline_table_shows_the_three_rates_of_every_condition(written: Written) -> None:
    rows = written.run.rows()
    drawn = [one for one in written.run.manifest.measurements if one.kind == "draws"]
    text = " ".join(Page(written.page).text.split())
    for one in drawn:
        chosen = rows[(rows["measurement"] == one.id) & (rows["subgroup"] == "all")].set_index("name")
        for name in ("error_rate", "referral_rate", "silent_failure_rate"):
            assert f"{100 * chosen.loc[name, 'value']:.1f} %" in text


def test_both_files_are_written_and_the_json_holds_no_nan(run_copy: Path, written: Written) -> None:
    page = write_report(run_copy)
    assert page == run_copy / "report.html"

    def refuse(text: str) -> Any:
        raise AssertionError(text)

    found = json.loads((run_copy / "report.json").read_text(), parse_constant=refuse)
    assert len(found["items"]) == 30
    assert found["headline"]["answer"] == written.report.evidence.headline.answer
    assert not list(run_copy.glob(".*.tmp"))
    assert all(math.isfinite(figure["value"]) for figure in found["figures"] if figure["value"] is not None)


def test_an_unfinished_run_is_refused_in_one_line(run_copy: Path) -> None:
    layout.part_path(run_copy, "pgd@1", 0).unlink()
    with pytest.raises(WorkbenchError, match="is not finished: 1 parts are missing") as caught:
        write_report(run_copy)
    assert "\n" not in str(caught.value)
    assert not (run_copy / "report.html").exists()


def test_a_patient_is_named_nowhere(written: Written) -> None:
    assert "exam-0" in written.page
    assert "patient-0" not in written.page
    assert "patient-0" not in json.dumps(written.figures)
