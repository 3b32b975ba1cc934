"""The patients whom the worklist of a run must not hold again; the tables of the run are its owner's to delete."""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path
from typing import Any, Final

from workbench.schema.errors import WorkbenchError
from workbench.schema.files import write_json

FILE: Final = "erased.json"


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


def forget(folder: Path, patient_id: str) -> None:
    """Put a patient on a run's list, and delete the worklist's index: it is made again without the patient.

    Args:
        folder: of the run.
        patient_id: in the list as a salted hash alone.
    """
    known = forgotten(folder) or {"salt": secrets.token_hex(16), "patients": []}
    mine = hashlib.sha256(f"{known['salt']}{patient_id}".encode()).hexdigest()
    write_json(folder / FILE, {**known, "patients": sorted({*known["patients"], mine})})
    (folder / "analysis" / "worklist.duckdb").unlink(missing_ok=True)
