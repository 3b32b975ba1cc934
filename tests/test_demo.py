"""The main job, end to end, as a user runs it."""

import json
import re
import subprocess
import sys

import pytest

from tests.outbound import asked, guarded, shut_in

FEW = ("explanations.trust_exams=1", "explanations.exams=8", "credibility.exams=1")
"""What is examined on a sample of 8 exams is two thirds of the demo's audit; here on 1."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_makes_everything_and_a_second_call_makes_nothing_again(tmp_path):
    command = [
        sys.executable,
        "-m",
        "workbench.cli.main",
        "demo",
        "--out",
        "demo",
        "--patients",
        "60",
        "--no-app",
        *FEW,
    ]
    shut = tmp_path / "shut"  # fault P5: the whole job with every way out of the machine shut
    environment = guarded(shut)
    first = subprocess.run(shut_in(shut, command), cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert asked(shut) == []
    assert first.returncode == 0, first.stderr[-2000:]
    for step in range(1, 5):
        assert f"{step} of 5" in first.stderr
    assert re.search(r"Next:.*workbench review demo/run", first.stderr)
    report = (tmp_path / "demo/run/report.html").read_text(encoding="utf-8")
    assert "silent failure" in report.lower()
    figures = json.loads((tmp_path / "demo/run/report.json").read_text(encoding="utf-8"))
    assert len(figures["items"]) == 30
    audited = json.loads((tmp_path / "demo/run/run.json").read_text(encoding="utf-8"))["measurements"]
    assert {one["id"]: one["exams"] for one in audited}["credibility"] == 1
    kept = [tmp_path / "demo" / name for name in ("cohort/manifest.csv", "model/weights.safetensors", "run/run.json")]
    before = [path.stat().st_mtime_ns for path in kept]
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr[-2000:]
    assert [path.stat().st_mtime_ns for path in kept] == before
