"""Files are whole or absent; hashes name bytes and values."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from workbench.schema.errors import WorkbenchError
from workbench.schema.files import atomic_path, canonical_hash, sha256_file, write_json, write_text


def test_written_whole_and_nothing_left_behind(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "a.txt", "ε\n")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "ε\n".encode()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def fail_in_the_middle() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        fail_in_the_middle()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EACCES, errno.EDQUOT, errno.EPERM])
def test_a_full_or_failing_disk_names_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def refuse(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(WorkbenchError, match=r"cannot write .*a\.txt: ") as caught:
        write_text(target, "new")
    assert os.strerror(code) in str(caught.value)
    assert target.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_another_error_is_not_disguised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EBADF, "bad")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="bad"):
        write_text(tmp_path / "a.txt", "new")


def test_json_is_sorted_and_refuses_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5]})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    1.5\n  ],\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_sha256_of_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_canonical_hash_does_not_see_the_order_of_keys() -> None:
    assert canonical_hash({"a": 1, "b": 2}) == canonical_hash({"b": 2, "a": 1}) != canonical_hash({"a": 1, "b": 3})
