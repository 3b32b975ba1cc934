"""What a manifest holds, counted; and whether the files that it names are still the ones that it means."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pandas as pd

from workbench.data.importers.photographs import in_threads
from workbench.data.importers.result import Remark
from workbench.schema.files import sha256_file
from workbench.schema.grades import EYES
from workbench.schema.manifest import SPLITS, find_conflicts

NO_GRADE: Final = "none"
SIDES: Final = (*EYES, "unknown")


def summarise(manifest: pd.DataFrame) -> dict[str, Any]:
    """Return counts of a manifest as a JSON-able dict.

    Keys: ``photographs, patients, exams, complete_pairs, eyes`` (by laterality), ``grades`` (laterality → grade →
    photographs; 'none' for no grade), ``patients_by_split, photographs_by_split, grades_by_split``, ``quality``,
    ``with_mask`` and ``conflicts`` (kind → count).
    """
    grade = manifest["icdr_grade"].astype("string").fillna(NO_GRADE)
    pairs = manifest[manifest["eye"].isin(EYES)].groupby("exam_id")["eye"].nunique()
    patients = manifest.groupby("split")["patient_id"].nunique()
    return {
        "photographs": len(manifest),
        "patients": int(manifest["patient_id"].nunique()),
        "exams": int(manifest["exam_id"].nunique()),
        "complete_pairs": int((pairs == 2).sum()),
        "eyes": _counts(manifest["eye"], SIDES),
        "grades": _counts_by(manifest["eye"], grade, SIDES),
        "patients_by_split": {name: int(patients.get(name, 0)) for name in SPLITS},
        "photographs_by_split": _counts(manifest["split"], SPLITS),
        "grades_by_split": _counts_by(manifest["split"], grade, SPLITS),
        "quality": _counts(manifest["quality"].dropna(), sorted(manifest["quality"].dropna().unique())),
        "with_mask": int(manifest["mask_path"].notna().sum()),
        "conflicts": dict(Counter(conflict.kind for conflict in find_conflicts(manifest))),
    }


def _counts(values: pd.Series, keys: Iterable[str]) -> dict[str, int]:
    return {str(key): int((values == key).sum()) for key in keys}


def _counts_by(groups: pd.Series, grade: pd.Series, keys: Iterable[str]) -> dict[str, dict[str, int]]:
    table = pd.crosstab(groups, grade)
    return {key: {str(name): int(table.loc[key, name]) for name in table.columns} for key in keys if key in table.index}


def by_reason(remarks: Iterable[Remark]) -> dict[str, list[str]]:
    """Group remarks by reason, the most frequent first; details after a colon do not make a new reason."""
    groups: dict[str, list[str]] = defaultdict(list)
    for remark in remarks:
        reason, _, detail = remark.reason.partition(": ")
        groups[reason].append(f"{remark.source}: {detail}" if detail else remark.source)
    return dict(sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])))


def verify_files(manifest: pd.DataFrame, *, hashes: bool = True, workers: int | None = None) -> list[Remark]:
    """Return every photograph or mask that is missing, and (with ``hashes``) every photograph whose bytes changed."""
    expected = dict(zip(manifest["image_path"], manifest["sha256"], strict=True))
    masks = dict.fromkeys(manifest["mask_path"].dropna())

    def fault(item: tuple[str, str | None]) -> str:
        path, digest = Path(item[0]), item[1]
        try:
            if not path.is_file():
                return "missing"
            changed = hashes and digest is not None and sha256_file(path) != digest
        except (OSError, ValueError) as error:
            return f"cannot be read: {getattr(error, 'strerror', None) or error}"
        return "its bytes changed since the import (sha256 differs)" if changed else ""

    items = list({**masks, **expected}.items())
    faults = in_threads(fault, items, "Verifying files", workers)
    return [Remark(path, reason) for (path, _), reason in zip(items, faults, strict=True) if reason]
