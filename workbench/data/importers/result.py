"""What an import takes and what it gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field, field_validator

from workbench.schema.config import Config
from workbench.schema.manifest import Conflict

Row = dict[str, Any]
"""One photograph as a layout lists it: the manifest's columns as far as the source knows them, plus

- ``source``: where it was listed, e.g. ``trainLabels.csv line 7``;
- ``ungraded``: why ``icdr_grade`` is null;
- ``remark``: what was read with a doubt and how it was taken.
"""


class ImportOptions(Config):
    """What a user may add to what the source says about itself."""

    quality: Path | None = Field(None, description="eyepacs: a table image,quality (EyeQ: 0 good, 1 usable, 2 reject)")
    masks: Path | None = Field(None, description="idrid: the folder of colour-coded lesion masks")
    columns: dict[str, str] = Field(default_factory=dict, description="csv: the manifest's column → the file's column")
    dataset: str | None = Field(None, description="name of the data set; default: the layout's or the folder's")
    dataset_version: str | None = None
    camera: str | None = None
    site: str | None = None
    split_fractions: tuple[float, float, float] = Field((0.7, 0.1, 0.2), description="train, validation, test")
    seed: int = Field(0, description="decides which patient goes to which split")
    allow_conflicts: bool = Field(False, description="keep photographs that contradict each other; it is recorded")
    workers: int | None = Field(None, ge=1, description="threads that read files; default: the processors, at most 8")

    @field_validator("split_fractions")
    @classmethod
    def _sum_to_one(cls, fractions: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
            raise ValueError("the three shares (train, validation, test) must be 0 or more and sum to 1")
        return fractions


@dataclass(frozen=True)
class Remark:
    """Something to tell about one photograph: where it was listed (a line or a file), and what."""

    source: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """What a layout lists, before any photograph is opened."""

    rows: list[Row]
    left_out: list[Remark] = field(default_factory=list)


@dataclass(frozen=True)
class ImportResult:
    """A manifest, and everything that did not simply go into it.

    Attributes:
        manifest: one row per photograph that was taken.
        left_out: what is not in the manifest, each with its reason.
        ungraded: what is in the manifest without a grade, each with its reason.
        remarks: what is in the manifest although a part of it was doubtful.
        conflicts: every conflict among what was listed; by default its photographs are left out.
        conflicts_allowed: the user chose to keep them in the manifest.
    """

    manifest: pd.DataFrame
    left_out: list[Remark]
    ungraded: list[Remark]
    remarks: list[Remark]
    conflicts: list[Conflict]
    conflicts_allowed: bool
