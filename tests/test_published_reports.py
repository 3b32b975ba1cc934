"""A report that is passed on with the code shows groups only: no photograph and no single exam."""

from __future__ import annotations

from pathlib import Path

import pytest

REPORTS = sorted((Path(__file__).resolve().parents[1] / "docs" / "reports").glob("*.html"))


@pytest.mark.parametrize("page", REPORTS, ids=lambda page: page.stem)
def test_a_published_report_is_small_and_names_no_exam(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert page.stat().st_size < 400_000
    for unwanted in ("<img", "data:image", '<article class="case">', "<script"):
        assert unwanted not in text
    assert "No single exam is shown in this copy." in text


def test_there_is_one() -> None:
    assert [page.stem for page in REPORTS] == ["defauw2015"]
