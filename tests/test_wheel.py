"""The built wheel finds its configs, cards and app outside the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_wheel_carries_what_is_not_code(tmp_path):
    wheels = tmp_path / "dist"
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = wheels.glob("retina_trust_workbench-*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    code = (
        "from workbench.schema.bundled import bundled\n"
        "from workbench.review import migrations\n"
        "import workbench\n"
        "print(workbench.__file__)\n"
        "for room in ('apps', 'configs', 'datasets'): print(bundled(room))\n"
        "for name in ('apps/review.py', 'apps/viewer/viewer.js', 'configs/train/synthetic.yaml',\n"
        "             'configs/audit/synthetic.yaml', 'datasets/eyepacs.md'):\n"
        "    room, _, rest = name.partition('/')\n"
        "    assert (bundled(room) / rest).is_file(), name\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert all(line.startswith(str(site)) for line in run.stdout.splitlines()), run.stdout
    templates = {path.name for path in (site / "workbench" / "report" / "templates").iterdir()}
    assert any(name.endswith((".html", ".j2")) for name in templates)
