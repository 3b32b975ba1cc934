"""Ways to change a run folder by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workbench.audit import layout


def change_manifest(folder: Path, **values: Any) -> None:
    """Write other values into ``run.json``."""
    path = layout.manifest_path(folder)
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def replace_text(folder: Path, column: str, pattern: str, replacement: str) -> None:
    """Replace a pattern in one column of every table of a run that has it."""
    for path in folder.rglob("*.parquet"):
        table = pq.ParquetFile(path).read()
        if column in table.column_names:
            changed = pc.replace_substring_regex(table[column], pattern, replacement.replace("\\", "\\\\"))
            place = table.column_names.index(column)
            pq.write_table(table.set_column(place, pa.field(column, pa.string()), changed), path)
