"""The steps that every layout shares: look at each file, find conflicts, split by patient, type the table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from workbench.data.importers.photographs import in_threads, look_at
from workbench.data.importers.result import ImportOptions, ImportResult, Listing, Remark, Row
from workbench.data.splits import complete_splits
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import EYES
from workbench.schema.manifest import BLOCKING, COLUMNS, Conflict, as_manifest, find_conflicts

TWO_SPLITS = "patient in two splits"


def assemble(listing: Listing, options: ImportOptions) -> ImportResult:
    """Turn what a layout lists into a manifest.

    A missing file, a file that is no image and photographs that contradict each other (two of one eye, one image
    twice) are left out with the reason; which of two is the right one is never guessed.

    Raises:
        WorkbenchError: a patient is in two splits (unless allowed), or nothing remains.
    """
    rows, repeated = _once(listing.rows)
    rows, unusable = _check_files(rows, options.workers)
    left_out = [*listing.left_out, *repeated, *unusable]
    _refuse_none(rows, left_out)
    table = _typed(rows, options)
    conflicts = find_conflicts(table)
    if not options.allow_conflicts:
        _refuse_two_splits(conflicts)
        contradicting = _contradictions(conflicts)
        left_out += [Remark(str(rows[index]["source"]), reason) for index, reason in contradicting.items()]
        table = table.drop(index=list(contradicting))
        rows = [row for index, row in enumerate(rows) if index not in contradicting]
        _refuse_none(rows, left_out)
    table["split"] = complete_splits(table, options.split_fractions, options.seed)
    order = table.assign(_eye=table["eye"].map({eye: place for place, eye in enumerate(EYES)})).sort_values(
        ["patient_id", "exam_id", "_eye", "sha256"], kind="stable"
    )
    return ImportResult(
        manifest=as_manifest(table.loc[order.index]),
        left_out=left_out,
        ungraded=[Remark(str(row["source"]), row["ungraded"]) for row in rows if row.get("ungraded")],
        remarks=[Remark(str(row["source"]), row["remark"]) for row in rows if row.get("remark")],
        conflicts=conflicts,
        conflicts_allowed=options.allow_conflicts,
    )


def _once(rows: list[Row]) -> tuple[list[Row], list[Remark]]:
    """Drop a line that repeats another word for word; one that differs stays, and shows as a duplicate image."""
    seen: set[tuple[tuple[str, str], ...]] = set()
    kept, repeated = [], []
    for row in rows:
        said = tuple(sorted((name, str(value)) for name, value in row.items() if name != "source"))
        if said in seen:
            repeated.append(Remark(str(row["source"]), "repeats an earlier line"))
        else:
            seen.add(said)
            kept.append(row)
    return kept, repeated


def _check_files(rows: list[Row], workers: int | None) -> tuple[list[Row], list[Remark]]:
    paths = sorted({Path(row["image_path"]) for row in rows})
    facts = dict(zip(paths, in_threads(look_at, paths, "Reading photographs", workers), strict=True))
    kept, unusable = [], []
    for row in rows:
        path, source = Path(row["image_path"]), str(row["source"])
        if facts[path].fault:
            named = source if path.name in source else f"{source} ({path.name})"
            unusable.append(Remark(named, facts[path].fault))
        else:
            kept.append({**row, "sha256": facts[path].sha256})
    return kept, unusable


def _refuse_none(rows: list[Row], left_out: list[Remark]) -> None:
    if rows:
        return
    first = f"; the first: {left_out[0].source}: {left_out[0].reason}" if left_out else ""
    raise WorkbenchError(
        f"no photograph could be imported, {len(left_out)} left out{first}", "check --images, --labels and the layout"
    )


def _typed(rows: list[Row], options: ImportOptions) -> pd.DataFrame:
    told = {
        name: getattr(options, name)
        for name in ("dataset", "dataset_version", "camera", "site")
        if getattr(options, name) is not None
    }
    table = pd.DataFrame([{**dict.fromkeys(COLUMNS), **row, **told} for row in rows])
    table["image_path"] = table["image_path"].map(str)
    table["mask_path"] = table["mask_path"].map(str, na_action="ignore")
    return as_manifest(table)


def _refuse_two_splits(conflicts: list[Conflict]) -> None:
    found = [conflict for conflict in conflicts if conflict.kind == TWO_SPLITS]
    if found:
        raise WorkbenchError(
            f"{found[0].message} ({len(found)} such patient{'s' * (len(found) > 1)})",
            "mend the split column, leave it out, or record the choice with --allow-conflicts",
        )


def _contradictions(conflicts: list[Conflict]) -> dict[int, str]:
    return {
        index: f"{conflict.kind}: {conflict.message}"
        for conflict in conflicts
        if conflict.kind in BLOCKING
        for index in conflict.rows
    }
