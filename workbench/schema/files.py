"""Files that are either whole or absent, and the hashes that name them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.schema.errors import WorkbenchError


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; on success flush it and rename it into place.

    A reader sees the old file or the new one, never half of either.

    Raises:
        WorkbenchError: the disk is full, read-only or failing; names the path, leaves ``target`` as it was.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(target)
        _flush_folder(target.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM):
            remedy = "free space or choose another folder, then run the same command again"
            raise WorkbenchError(f"cannot write {target}: {os.strerror(error.errno)}", remedy) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text atomically (see `atomic_path`)."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, value: Any) -> None:
    """Write sorted, indented JSON atomically; NaN is refused rather than written."""
    write_text(target, json.dumps(value, indent=2, sort_keys=True, allow_nan=False, default=str) + "\n")


def sha256_file(path: Path) -> str:
    """Return the hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def canonical_hash(value: Any) -> str:
    """Return the sha256 of a JSON-able value, the same for any order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
