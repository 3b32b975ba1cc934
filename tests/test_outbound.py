"""The guard of fault P5 sees what it is there to see: a check that cannot fail would be worth nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.outbound import asked, guarded, shut_in

BY_PYTHON = """
import socket
for address in (("192.0.2.1", 53), ("127.0.0.1", 1)):
    try:
        socket.create_connection(address, 1)
    except OSError as error:
        print(error.errno)
"""
BY_NATIVE_CODE = """
import ctypes, struct
libc = ctypes.CDLL(None)
address = struct.pack("<H", 2) + struct.pack(">H", 53) + bytes([192, 0, 2, 1]) + bytes(8)
print(libc.connect(libc.socket(2, 2, 0), address, 16))
"""


def test_a_way_out_that_is_asked_for_is_refused_and_noted_and_loopback_is_not(tmp_path: Path) -> None:
    command = shut_in(tmp_path, [sys.executable, "-c", BY_PYTHON])
    done = subprocess.run(command, env=guarded(tmp_path), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["101", "111"]
    assert len(asked(tmp_path)) == 1
    assert "192.0.2.1" in asked(tmp_path)[0]


def test_the_kernel_counts_what_native_code_asks_for(tmp_path: Path) -> None:
    command = shut_in(tmp_path, [sys.executable, "-c", BY_NATIVE_CODE])
    if command[0] == sys.executable:
        pytest.skip("this kernel lets this user make no network namespace (unshare -n)")
    done = subprocess.run(command, env=guarded(tmp_path), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["-1"]
    assert asked(tmp_path) == ["IPv4 without a route: 1"]
