"""Where the configs, dataset cards and the app lie: in a checkout, or inside the installed wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from workbench.schema.errors import WorkbenchError


def bundled(room: Literal["apps", "configs", "datasets"]) -> Path:
    """Return the folder of what ships beside the package.

    Raises:
        WorkbenchError: neither the wheel nor a checkout holds it.
    """
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "bundled" / room, package.parent / room):
        if candidate.is_dir():
            return candidate
    raise WorkbenchError(f"the folder {room}/ is missing beside {package}", "reinstall the package")
