"""The patients whom the pages of a run must not show again; the tables of the run are its owner's to delete."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from workbench.schema.errors import WorkbenchError
from workbench.schema.files import write_json

FILE: Final = "erased.json"

Stamp = tuple[int, int, int]
"""What changes whenever a run's list does."""


def forgotten(folder: Path) -> dict[str, Any]:
    """Return the salt and the salted hashes of a run's erased patients; empty where there are none.

    Raises:
        WorkbenchError: the list is damaged; without it an erased patient would be shown again.
    """
    file = folder / FILE
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not (isinstance(found["salt"], str) and all(isinstance(one, str) for one in found["patients"])):
            raise ValueError
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise WorkbenchError(f"{file} is damaged", "restore it, or delete it and erase again") from None
    return dict(found)


def erased_in(folder: Path) -> Callable[[str], bool]:
    """Return what tells whether a patient stands on a run's list, as the list is at this moment.

    Raises:
        WorkbenchError: the list is damaged.
    """
    known = forgotten(folder)
    marks = frozenset(known.get("patients", ()))
    return lambda patient_id: bool(marks) and _mark(known["salt"], patient_id) in marks


def stamp_of(folder: Path) -> Stamp | None:
    """Return what names the present state of a run's list, cheap enough for every interaction; None without a list."""
    try:
        state = (folder / FILE).stat()
    except FileNotFoundError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


def forget(folder: Path, patient_id: str) -> None:
    """Put a patient on a run's list, and delete the worklist's index: it is made again without the patient.

    Args:
        folder: of the run.
        patient_id: in the list as a salted hash alone.
    """
    with _alone(folder):
        known = forgotten(folder) or {"salt": secrets.token_hex(16), "patients": []}
        patients = sorted({*known["patients"], _mark(known["salt"], patient_id)})
        write_json(folder / FILE, {**known, "patients": patients})
    (folder / "analysis" / "worklist.duckdb").unlink(missing_ok=True)


def _mark(salt: str, patient_id: str) -> str:
    return hashlib.sha256(f"{salt}{patient_id}".encode()).hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a run's list: of two erasures at once neither may lose the other's patient."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
