"""A real OpenID Connect provider in a process of its own, and the file of secrets that points at it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PATIENCE = 120
"""Seconds: a bound for a busy machine, not a measurement."""


class LoginProvider:
    """Started at once; every person is known by a ``sub``, and there is no password to type."""

    def __init__(self, port: int, people: dict[str, dict[str, Any]]) -> None:
        claims = [json.dumps({"sub": sub, **more}) for sub, more in people.items()]
        named = [word for one in claims for word in ("--user-claims", one)]
        self.issuer = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), "--require-nonce", *named],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the login provider ended with code {self.process.returncode}"
            try:
                with urllib.request.urlopen(f"{self.issuer}/.well-known/openid-configuration", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise AssertionError("the login provider did not come up")

    def subject(self, sub: str) -> str:
        """Return under which subject a person's reads are stored."""
        return f"{self.issuer}|{sub}"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)


def write_secrets(path: Path, issuer: str, **changed: str) -> Path:
    """Write a file of secrets that a team may start with; ``changed`` replaces values, ``limits`` is a section."""
    values = {
        "redirect_uri": '"http://127.0.0.1:{port}/oauth2callback"',
        "cookie_secret": '"0123456789abcdef0123456789abcdef"',
        "client_id": '"workbench"',
        "client_secret": '"secret-of-the-client"',
        "server_metadata_url": f'"{issuer}/.well-known/openid-configuration"',
        "client_kwargs": '{ prompt = "login" }',
    }
    limits = changed.pop("limits", "")
    lines = [f"{name} = {value}" for name, value in {**values, **changed}.items() if value]
    path.write_text("\n".join(["[auth]", *lines, "[team]", limits]), encoding="utf-8")
    path.chmod(0o600)
    return path
