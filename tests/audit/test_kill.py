import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.audit.conftest import Small
from tests.small_audit import stored_bytes

ROOT = Path(__file__).resolve().parents[2]
KILLS = os.environ.get("WORKBENCH_KILLS", "6")
"""More of them are for the night."""


@pytest.mark.slow
def test_killed_at_any_write_flush_or_rename_a_resumed_audit_has_the_same_bytes(small: Small, tmp_path: Path) -> None:
    script = Path(__file__).with_name("killed_audit.py")
    command = [sys.executable, str(script), str(small.manifest), str(small.model), str(tmp_path / "run"), KILLS, "3"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split().count("-9") >= int(KILLS) // 2, ended.stdout
    assert stored_bytes(tmp_path / "run") == stored_bytes(small.run)
