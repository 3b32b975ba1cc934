"""What a study of readers found, as plain data: figures, tables and sentences, without any reader's name."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from workbench.schema.config import Config

Cell = str | int | float | bool | None

POOLED: Final = "all"
"""Stands where a figure is of all readers together."""


class ReaderFigure(Config):
    """One figure of one reader, or of all together.

    Args:
        words: what it is, as a reader of the page reads it.
        reader: who, by the study's own name for them; `POOLED` for all together.
        n: reads of which it is made.
        patients: theirs.
        how: how the interval was made.
        reason: why there is no value or no interval.
    """

    name: str
    words: str
    reader: str = POOLED
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    patients: int = 0
    how: str = ""
    reason: str = ""


class ReaderStudy(Config):
    """All that a page or a report says about the readers of a run.

    Args:
        design: what 'without the model' and 'with the model' are here; empty where nobody read an exam both ways.
        readers: the study's own names for them, never a person's.
        counts: how many reads of which kind, and how many were left out why.
        tables: rows of plain cells, by the table's name.
        sentences: what the page says, by section.
        not_assessed: section → why it is empty.
    """

    run_id: str
    design: str = ""
    readers: tuple[str, ...] = ()
    counts: dict[str, int] = Field(default_factory=dict)
    figures: tuple[ReaderFigure, ...] = ()
    tables: dict[str, tuple[dict[str, Cell], ...]] = Field(default_factory=dict)
    sentences: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    not_assessed: dict[str, str] = Field(default_factory=dict)

    def get(self, name: str, reader: str = POOLED) -> ReaderFigure | None:
        """Return one figure, None where the study has none."""
        return next((one for one in self.figures if (one.name, one.reader) == (name, reader)), None)
