"""An import's folder: ``manifest.csv``, and ``import.json`` with all that did not simply go into it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from workbench import __version__
from workbench.data.importers.result import ImportOptions, ImportResult
from workbench.data.summary import summarise
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import sha256_file, write_json
from workbench.schema.manifest import manifest_hash, write_manifest

RECORD: Final = "import.json"


def require_output(out: Path) -> Path:
    """Return ``out``; called before the work, so that a wrong folder costs no time.

    Raises:
        WorkbenchError: something that is no folder stands in its place.
    """
    for place in (out, *out.parents):
        if place.exists():
            if not place.is_dir():
                raise WorkbenchError(f"{place} is a file, not a folder", "choose another --out")
            break
    return out


def write_import(
    out: Path, result: ImportResult, *, layout: str, images: Path, labels: Path | None, options: ImportOptions
) -> dict[str, Any]:
    """Write an import into ``out`` and return what ``import.json`` holds.

    The record stands before the manifest does: a manifest without its record cannot come to be.

    Raises:
        WorkbenchError: the folder cannot be written.
    """
    record: dict[str, Any] = {
        "layout": layout,
        "images": str(images.resolve()),
        "labels": str(labels.resolve()) if labels else None,
        "labels_sha256": sha256_file(labels) if labels else None,
        "options": options.model_dump(mode="json"),
        "workbench_version": __version__,
        "manifest_hash": manifest_hash(result.manifest),
        "summary": summarise(result.manifest),
        "conflicts_allowed": result.conflicts_allowed,
        "conflicts": [{"kind": conflict.kind, "message": conflict.message} for conflict in result.conflicts],
        **{name: [asdict(remark) for remark in getattr(result, name)] for name in ("left_out", "ungraded", "remarks")},
    }
    write_json(out / RECORD, record)
    write_manifest(result.manifest, out / "manifest.csv")
    return record


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record beside a manifest, or None where there is none (a synthetic cohort has none).

    Raises:
        WorkbenchError: it is not readable.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WorkbenchError(f"{path} is not readable JSON: {error}", "import the photographs again") from None
    return record
