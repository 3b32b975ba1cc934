from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from workbench.cli import review
from workbench.cli.main import app
from workbench.schema.errors import WorkbenchError


def test_help_is_complete_and_loads_no_heavy_module() -> None:
    result = CliRunner().invoke(app, ["review", "--help"])
    assert result.exit_code == 0
    for words in ("--port", "--reader", "--data", "workbench review runs/demo"):
        assert words in result.output
    code = (
        "import sys, workbench.cli.review; "
        "sys.exit(bool({'streamlit', 'pandas', 'sqlalchemy', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_folder_that_is_no_run_and_a_port_that_is_taken_are_one_line(tmp_path: Path, run_copy: Path) -> None:
    with pytest.raises(WorkbenchError, match="no run at"):
        review.start_app(tmp_path / "nothing")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(WorkbenchError, match=f"port {port} .* choose another: --port"):
            review.start_app(run_copy, port=port)


def test_the_app_answers_to_this_machine_alone_and_reports_to_nobody() -> None:
    options = review._options(8501)
    for option in (
        "--server.address=127.0.0.1",
        "--server.headless=true",
        "--browser.gatherUsageStats=false",
        "--client.showErrorDetails=none",
        "--theme.base=dark",
    ):
        assert option in options


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_app_starts_and_ends_cleanly(run_copy: Path, ending: signal.Signals) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "workbench.cli.main", "review", str(run_copy), "--port", str(port)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        healthy = False
        deadline = time.monotonic() + 120
        while not healthy and time.monotonic() < deadline:
            assert process.poll() is None
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5) as answer:
                    healthy = answer.status == 200
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        assert healthy
        if ending == signal.SIGINT:
            os.killpg(process.pid, ending)  # Ctrl-C reaches the whole group
        else:
            process.send_signal(ending)
        _, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors
    assert b"reviews.sqlite" in errors
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))  # nothing is left behind
