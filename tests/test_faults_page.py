"""`docs/faults.md` names tests: each is there, and each fault of the reviews and of access has its row."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT
from tests.named_tests import collected, named, table

ROWS = table("faults.md")
NAMED = named((ROOT / "docs" / "faults.md").read_text(encoding="utf-8"))
FAULTS = ("R1", "R2", "R3", "R4", "R5", "R7", "A1", "A8", "A9", "X1", "X2", "X3", "P1", "P5")


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_a_row_with_what_was_injected_what_was_lost_and_a_test(fault: str) -> None:
    (row,) = [cells for cells in ROWS if cells[0].split()[0] == fault]
    assert len(row) == 5
    assert all(row)
    assert "tests/" in row[4]


def test_every_test_that_is_named_exists() -> None:
    assert len(NAMED) > 30
    assert [test for test in NAMED if not collected(*test)] == []


def test_a_row_that_says_both_names_a_test_that_runs_on_both() -> None:
    """Some test of the row takes a fixture that is made once per kind of database, by itself or through another."""
    for cells in ROWS:
        if len(cells) == 5 and cells[2] == "both":
            files = {file for file, _ in named(cells[4])}
            assert any(re.search(r"\b(where|new_place|store|filled|database)\b:", text_of(file)) for file in files)


def text_of(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")
