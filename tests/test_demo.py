"""The main job, end to end, as a user runs it."""

import json
import re
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_makes_everything_and_a_second_call_makes_nothing_again(tmp_path):
    command = [sys.executable, "-m", "workbench.cli.main", "demo", "--out", "demo", "--patients", "60", "--no-app"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr[-2000:]
    for step in range(1, 5):
        assert f"{step} of 5" in first.stderr
    assert re.search(r"Next:.*workbench review demo/run", first.stderr)
    report = (tmp_path / "demo/run/report.html").read_text(encoding="utf-8")
    assert "silent failure" in report.lower()
    figures = json.loads((tmp_path / "demo/run/report.json").read_text(encoding="utf-8"))
    assert len(figures["items"]) == 30
    kept = [tmp_path / "demo" / name for name in ("cohort/manifest.csv", "model/weights.safetensors", "run/run.json")]
    before = [path.stat().st_mtime_ns for path in kept]
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr[-2000:]
    assert [path.stat().st_mtime_ns for path in kept] == before
