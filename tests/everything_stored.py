"""Every byte of a folder, unpacked: what is compressed or encoded is searched as what it says."""

from __future__ import annotations

import base64
import gzip
import io
import re
import sqlite3
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq

_DATA_URL = re.compile(rb"data:[\w/+.-]+;base64,([A-Za-z0-9+/=]+)")
_STREAM = re.compile(rb"stream\r?\n(.*?)endstream", re.DOTALL)


def pieces(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each file's name and bytes, then what is inside of it."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        yield name, name.encode()
        if path.is_file():
            yield from _inside(name, path.read_bytes())


def _inside(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    yield name, data
    for number, inner in enumerate(_unpacked(data)):
        yield from _inside(f"{name}[{number}]", inner)


def _unpacked(data: bytes) -> Iterator[bytes]:
    for magic, unpack in _UNPACK.items():
        if data.startswith(magic):
            yield from unpack(data)
    yield from (base64.b64decode(found) for found in _DATA_URL.findall(data))


def _parquet(data: bytes) -> Iterator[bytes]:
    table = pq.read_table(io.BytesIO(data))
    yield str(table.schema).encode()
    for column in table.columns:
        for cell in column.to_pylist():
            if isinstance(cell, bytes):
                yield cell
            elif cell is not None:
                yield str(cell).encode()


def _sqlite(data: bytes) -> Iterator[bytes]:
    with sqlite3.connect(":memory:") as database:
        database.deserialize(data.replace(b"\x02\x02", b"\x01\x01", 1))  # read as if it had no write-ahead log
        yield "\n".join(database.iterdump()).encode()
    database.close()


def _zip(data: bytes) -> Iterator[bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        yield from (archive.read(name) for name in archive.namelist())


def _pdf(data: bytes) -> Iterator[bytes]:
    for stream in _STREAM.findall(data):
        try:
            yield zlib.decompress(stream)
        except zlib.error:
            continue


_UNPACK: dict[bytes, Callable[[bytes], Iterator[bytes]]] = {
    b"PAR1": _parquet,
    b"SQLite format 3": _sqlite,
    b"PK\x03\x04": _zip,
    b"\x1f\x8b": lambda data: iter([gzip.decompress(data)]),
    b"%PDF": _pdf,
}
