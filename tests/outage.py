"""Fault R4: the database is away, really."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.postgres_server import PostgresServer


@contextmanager
def outage(where: Path | str, request: pytest.FixtureRequest) -> Iterator[None]:
    """Take the database away: the server is stopped as by a power cut, the file is held by somebody else."""
    if isinstance(where, Path):
        holder = sqlite3.connect(where, isolation_level=None, check_same_thread=False)
        holder.execute("BEGIN EXCLUSIVE")
        yield
        holder.rollback()
        holder.close()
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    server.stop()
    yield
    server.start()
