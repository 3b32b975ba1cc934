"""Team mode: what the file of secrets must hold before the app opens to more than one machine."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import stat
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from workbench.schema.config import Config
from workbench.schema.errors import WorkbenchError

TEAM_VARIABLE: Final = "WORKBENCH_REVIEW_TEAM"
FIRST_ADMIN_VARIABLE: Final = "WORKBENCH_REVIEW_FIRST_ADMIN"
"""How `workbench review` tells the app that people log in, and who may appoint the others."""

CALLBACK: Final = "/oauth2callback"
SHORTEST_SECRET: Final = 32
_NEEDED: Final = ("client_id", "client_secret", "server_metadata_url", "redirect_uri", "cookie_secret")


class Limits(Config):
    """How long a login lasts.

    Args:
        session_hours: after which a session ends, however busy.
        idle_minutes: after which a session that nobody touched is locked.
    """

    session_hours: float = Field(12, gt=0, le=168)
    idle_minutes: float = Field(15, gt=0, le=480)

    @property
    def lifetime(self) -> timedelta:
        """How long a session lasts."""
        return timedelta(hours=self.session_hours)

    @property
    def idle(self) -> timedelta:
        """After how long without a touch it is locked."""
        return timedelta(minutes=self.idle_minutes)


class Team(Config):
    """What of the file matters outside Streamlit, which reads the secrets itself."""

    redirect_uri: str
    limits: Limits

    @property
    def host(self) -> str:
        """The host name under which browsers reach the app."""
        return urlsplit(self.redirect_uri).hostname or ""

    @property
    def address(self) -> str:
        """What a person types to come to the app."""
        return self.redirect_uri.removesuffix(CALLBACK)


def read_team(path: Path) -> Team:
    """Read and check a file of secrets; no secret is ever part of a message.

    Raises:
        WorkbenchError: it cannot be read, others can read it, or something in it is missing or too weak.
    """
    values = _values(path)
    auth = values.get("auth")
    if not isinstance(auth, dict):
        raise WorkbenchError(f"{path} has no section [auth]", "begin with configs/review/team.example.toml")
    for name in _NEEDED:
        if not isinstance(auth.get(name), str) or not auth[name].strip():
            raise WorkbenchError(f"[auth] of {path} has no {name}", "see docs/team_mode.md")
    _check_the_secret(auth["cookie_secret"], path)
    _check_the_addresses(auth)
    if not isinstance(auth.get("client_kwargs"), dict) or auth["client_kwargs"].get("prompt") != "login":
        raise WorkbenchError(
            f"[auth] of {path} does not ask the provider for a fresh login, so a lock would open by itself",
            'add client_kwargs = { prompt = "login" }',
        )
    try:
        return Team(redirect_uri=auth["redirect_uri"], limits=Limits.model_validate(values.get("team", {})))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise WorkbenchError(
            f"[team] of {path}: {name} = {first['input']!r}: {first['msg']}", "it knows session_hours and idle_minutes"
        ) from None


def refuse_without_login_library() -> None:
    """Say so when the package is missing that talks to the provider.

    Raises:
        WorkbenchError: it is missing.
    """
    if importlib.util.find_spec("authlib") is None:
        raise WorkbenchError(
            "team mode needs the package Authlib, which is not installed", "pip install 'retina-trust-workbench[team]'"
        )


def is_loopback(host: str) -> bool:
    """Return whether a host name or an address means this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("")
    (True, True, False, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _values(path: Path) -> dict[str, Any]:
    try:
        mode = path.stat().st_mode
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise WorkbenchError(f"{path} holds secrets and others may read it", f"chmod 600 {path}")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkbenchError(
            f"cannot read {path}: {error.strerror}", "name the file with the login's secrets"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):  # its words may hold a piece of a secret
        raise WorkbenchError(f"{path} is no TOML file", "begin with configs/review/team.example.toml") from None


def _check_the_secret(secret: str, path: Path) -> None:
    if len(secret) < SHORTEST_SECRET or len(set(secret)) < 8:
        raise WorkbenchError(
            f"cookie_secret in {path} is too short or too plain: {len(secret)} of {SHORTEST_SECRET} characters",
            "make one with: openssl rand -hex 32",
        )


def _check_the_addresses(auth: dict[str, Any]) -> None:
    if not auth["redirect_uri"].endswith(CALLBACK):
        raise WorkbenchError(
            f"redirect_uri is {auth['redirect_uri']!r}", f"it must be the app's address followed by {CALLBACK}"
        )
    for name in ("redirect_uri", "server_metadata_url"):
        parts = urlsplit(auth[name])
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            raise WorkbenchError(f"{name} is {auth[name]!r}", "it must begin with https:// (see docs/team_mode.md)")
