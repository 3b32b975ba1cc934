"""Tests that a page of the documentation names: whether pytest would collect them, read from their files."""

from __future__ import annotations

import ast
import re

from tests.conftest import ROOT


def table(page: str) -> list[list[str]]:
    """Return the cells of every row of the tables of a page in `docs`."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]


def named(text: str) -> list[tuple[str, str]]:
    """Return file and function of every test that a text names."""
    return sorted(set(re.findall(r"`(tests/[\w/.]+)::(\w+)`", text)))


def collected(file: str, name: str) -> bool:
    """Return whether pytest finds the test: its file is one of tests, and it is defined there exactly once."""
    path = ROOT / file
    if not re.fullmatch(r"test_\w+\.py", path.name) or not name.startswith("test_") or not path.exists():
        return False
    tree = ast.parse(path.read_text(encoding="utf-8"))
    scopes = [tree, *(one for one in tree.body if isinstance(one, ast.ClassDef) and one.name.startswith("Test"))]
    return sum(isinstance(one, ast.FunctionDef) and one.name == name for scope in scopes for one in scope.body) == 1
