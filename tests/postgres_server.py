"""A throw-away PostgreSQL server: its own folder, its own socket, never as root."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest


def binaries() -> Path | None:
    """Return the folder of initdb and pg_ctl: Debian's newest, else what the PATH holds."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    found = [*reversed(debian), *([Path(on_path)] if (on_path := shutil.which("initdb")) else [])]
    return next((path.parent for path in found if (path.parent / "pg_ctl").exists()), None)


def binaries_or_skip() -> Path:
    """Return the folder, or skip with the reason; where PostgreSQL is required (CI) its absence fails."""
    folder = binaries()
    if folder is None:
        reason = "PostgreSQL is not installed (Debian: apt-get install postgresql)"
        if os.environ.get("CI") == "true" or os.environ.get("WORKBENCH_REQUIRE_POSTGRES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


class PostgresServer:
    """One cluster; `url` makes a new, empty place in it."""

    def __init__(self) -> None:
        self._binaries = binaries_or_skip()
        self.folder = Path(tempfile.mkdtemp(prefix="workbench-pg-", dir="/tmp"))  # a socket's path must be short
        self._user = self._other_user() if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self._numbers = itertools.count()
        options = [
            "--username=tester",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
            "--wal-segsize=4",
        ]
        self._run("initdb", f"--pgdata={self.folder / 'data'}", *options)
        self.start()

    def start(self) -> None:
        settings = (
            f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off -c max_connections=150"
        )
        self._run("pg_ctl", "start", "-w", "-t", "60", "-o", settings, "-l", str(self.folder / "log"), *self._data)

    def stop(self, mode: str = "immediate") -> None:
        """Stop it as a power cut does, or ``fast``."""
        self._run("pg_ctl", "stop", "-w", "-m", mode, *self._data)

    def url(self) -> str:
        """Return the address of a new, empty schema, which is quicker to make and to remove than a database."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE SCHEMA {name}")
        return f"postgresql://tester@/postgres?host={self.folder}&options=-csearch_path%3D{name}"

    def execute(self, statement: str) -> None:
        with psycopg.connect(host=str(self.folder), user="tester", dbname="postgres", autocommit=True) as connection:
            connection.execute(statement)

    def remove(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _data(self) -> tuple[str, str]:
        return ("-D", str(self.folder / "data"))

    @staticmethod
    def _other_user() -> str:
        known = {entry.pw_name for entry in pwd.getpwall()}
        return "postgres" if "postgres" in known else "nobody"

    def _run(self, program: str, *arguments: str) -> None:
        group = pwd.getpwnam(self._user).pw_gid if self._user else None
        extra = [] if self._user else None
        done = subprocess.run(
            [str(self._binaries / program), *arguments],
            user=self._user,
            group=group,
            extra_groups=extra,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if program == "pg_ctl" else subprocess.PIPE,  # the server would keep a pipe open
            stderr=subprocess.DEVNULL if program == "pg_ctl" else subprocess.STDOUT,
            check=False,
        )
        assert done.returncode == 0, f"{program} failed: {done.stdout!r}"
