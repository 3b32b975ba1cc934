"""Names that stand for patients, exams and photographs wherever the true ones need not stand."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from workbench.schema.errors import WorkbenchError

KEY_VARIABLE: Final = "WORKBENCH_PSEUDONYM_KEY"
"""Names the key's file; without it the key lies in the user's own settings, apart from every run and database."""

ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
"""In which pseudonyms are written, 5 bits a letter (base 32, RFC 4648)."""


def key_path() -> Path:
    """Return where the key lies."""
    named = os.environ.get(KEY_VARIABLE)
    if named:
        return Path(named)
    settings = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(settings) / "retina-trust-workbench" / "pseudonym.key"


class Pseudonyms:
    """A keyed hash: one key gives one person one name everywhere, and without the key nobody gets back.

    Args:
        key: 32 bytes or more. Who holds it can test whether a known patient is among the pseudonyms.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def open(cls, path: Path | None = None) -> Pseudonyms:
        """Read the key, made on first use and readable by its owner alone.

        Raises:
            WorkbenchError: the file cannot be read or made, or holds no key.
        """
        file = path or key_path()
        try:
            return cls(_read(file) or _make(file))
        except OSError as error:
            raise WorkbenchError(
                f"cannot use the pseudonym key {file}: {os.strerror(error.errno or 0)}",
                f"name a file that you may write with --key or {KEY_VARIABLE}",
            ) from None

    def patient(self, patient_id: str) -> str:
        """Return what stands for a patient, e.g. ``P-7KQ2M4XWZAAB``."""
        return self._name("P", patient_id)

    def exam(self, exam_id: str) -> str:
        """Return what stands for an exam; ids of exams often hold those of patients."""
        return self._name("E", exam_id)

    def photograph(self, sha256: str) -> str:
        """Return what stands for a photograph: its plain hash would tell whoever has the file; empty stays empty."""
        return self._name("I", sha256) if sha256 else ""

    def uid(self, kind: str, name: str) -> str:
        """Return a DICOM identifier for a thing of this kind and name (PS3.5 B.2: a number below 2.25)."""
        return f"2.25.{int.from_bytes(self._hash('uid ' + kind, name)[:16])}"

    def pads(self) -> tuple[bytes, bytes]:
        """Return the inner and the outer pad of the keyed hash (RFC 2104), for who works out many names at once."""
        key = self._key if len(self._key) <= 64 else hashlib.sha256(self._key).digest()
        padded = key.ljust(64, b"\x00")
        return bytes(byte ^ 0x36 for byte in padded), bytes(byte ^ 0x5C for byte in padded)

    def _name(self, letter: str, name: str) -> str:
        return f"{letter}-{base64.b32encode(self._hash(letter, name))[:12].decode()}"

    def _hash(self, kind: str, name: str) -> bytes:
        return hmac.new(self._key, f"{kind}\x00{name}".encode(), hashlib.sha256).digest()


def _read(file: Path) -> bytes | None:
    try:
        text = file.read_text(encoding="ascii").strip()
        key = bytes.fromhex(text)
    except FileNotFoundError:
        return None
    except (ValueError, UnicodeDecodeError):
        raise WorkbenchError(
            f"{file} holds no pseudonym key", "restore it from a backup, or name another file"
        ) from None
    if len(key) < 32:
        raise WorkbenchError(
            f"the pseudonym key in {file} has {len(key)} bytes, 32 are needed", "restore it, or name another file"
        )
    return key


def _make(file: Path) -> bytes:
    """Write a new key; of several processes that begin at once, all use the key of the first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    key = secrets.token_bytes(32)
    own = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    handle = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as written:
            written.write(key.hex() + "\n")
            written.flush()
            os.fsync(written.fileno())
        try:
            file.hardlink_to(own)
        except FileExistsError:
            return _read(file) or key
    finally:
        own.unlink()
    return key
