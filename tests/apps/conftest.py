"""A real app on a free port, and a real browser."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st

from tests.outbound import asked, guarded
from workbench.audit.results import open_run
from workbench.review.desk import (
    DATA_VARIABLE,
    DATABASE_VARIABLE,
    IDENTIFIERS_VARIABLE,
    READER_VARIABLE,
    Desk,
    desk_from_environment,
)

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 120
"""Seconds: a bound for a busy machine, not a measurement."""


def token(folder: Path, exam_id: str) -> str:
    """Return what stands for an exam in the browser: no page names one there."""
    return hashlib.sha256(f"{open_run(folder).manifest.run_id}/{exam_id}".encode()).hexdigest()[:16]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the app ended with code {process.returncode}"
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError("the app did not come up")


@pytest.fixture
def fresh_app(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin AppTest without anything that an earlier test opened."""
    monkeypatch.setenv(READER_VARIABLE, "Dr A")
    for name in (DATA_VARIABLE, DATABASE_VARIABLE, IDENTIFIERS_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    # AppTest has no browser, hence no address on this machine.
    monkeypatch.setattr("workbench.review.entrance._refuse_other_machines", lambda: None)
    opened: list[Desk] = []
    monkeypatch.setattr("workbench.review.entrance.desk_from_environment", lambda: _noted(opened))
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()
    for desk in opened:
        desk.close()


@pytest.fixture
def database(where: Path | str, run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path | str:
    """Return where the app keeps the reads of a run: its own SQLite file, or a PostgreSQL database."""
    if isinstance(where, Path):
        return run_copy / "reviews.sqlite"
    monkeypatch.setenv(DATABASE_VARIABLE, where)
    return where


def _noted(opened: list[Desk]) -> Desk:
    opened.append(desk_from_environment())
    return opened[-1]


@pytest.fixture(scope="module")
def serve_command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Return a function that starts a command ending in ``--some.port`` on a free port and returns its address.

    No server that a test starts may ask anything of another machine (fault P5).
    """
    started: list[subprocess.Popen[bytes]] = []
    shut = tmp_path_factory.mktemp("shut")
    inherited = guarded(shut)

    def start(command: list[str], **environment: str) -> str:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", *command, str(port)], start_new_session=True, env={**inherited, **environment}
        )
        started.append(process)
        address = f"http://127.0.0.1:{port}"
        wait_until_healthy(address, process)
        return address

    yield start
    for process in started:
        end(process, signal.SIGTERM)
    assert asked(shut) == []


def end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """End a server and all that it started."""
    os.killpg(process.pid, how)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def serve(serve_command: Callable[..., str]) -> Callable[[Path], str]:
    """Return a function that starts `workbench review` on a run and returns its address."""
    return lambda run: serve_command(["workbench.cli.main", "review", str(run), "--reader", "Dr Browser", "--port"])


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    """Return Debian's Chromium; its absence skips on a user's machine and fails in CI."""
    if not CHROMIUM.exists():
        reason = f"{CHROMIUM} is not installed (Debian: apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=CHROMIUM_FLAGS)
        yield browser
        browser.close()
