"""Fault P5: every way out of this machine is shut and written down, by a hook in each Python process and by the kernel.

The hook sees who asked for what in every process that inherits the environment; it does not see native code. Where the
kernel lets this user make a network namespace, commands run in one that has nothing but loopback, and its own counters
tell how often anything, native code included, asked for a way out.

Usage: python outbound.py COUNTS COMMAND... (inside such a namespace; writes the counters of the kernel)
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

NOTES = "WORKBENCH_TEST_OUTBOUND"
_HOOK = """
import ipaddress, os, sys
_notes = os.environ["WORKBENCH_TEST_OUTBOUND"]
def _is_here(host):
    text = host.decode() if isinstance(host, bytes) else host
    if text in (None, "", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
def _shut(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        if not isinstance(arguments[1], tuple):  # a socket in the file system, or one that is connected already
            return
        host = arguments[1][0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if not _is_here(host):
        with open(_notes, "a") as notes:
            notes.write(f"{event} {arguments[:2]!r} by {sys.argv[:3]}\\n")
        raise OSError(101, "Network is unreachable")
sys.addaudithook(_shut)
"""


def guarded(folder: Path) -> dict[str, str]:
    """Return an environment whose Python processes refuse and note every way out; notes lie in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_HOOK, encoding="utf-8")
    before = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), *([before] if before else [])]),
        NOTES: str(folder / "asked"),
    }


def asked(folder: Path) -> list[str]:
    """Return what processes with the environment of `guarded` asked of the world."""
    notes, counts = folder / "asked", folder / "counts"
    told = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
    if counts.exists():
        told += [f"{name}: {count}" for name, count in json.loads(counts.read_text()).items() if count]
    return told


def shut_in(folder: Path, command: list[str]) -> list[str]:
    """Return a command that runs in a namespace without a way out where the kernel permits one, else as it is."""
    how = _namespace()
    return [*how, sys.executable, __file__, str(folder / "counts"), *command] if how else command


@functools.cache
def _namespace() -> tuple[str, ...]:
    for how in (("unshare", "-n"), ("unshare", "-rn")):
        try:
            if subprocess.run([*how, "true"], capture_output=True, check=False).returncode == 0:
                return how
        except FileNotFoundError:
            break
    return ()


def main() -> int:
    """Raise loopback, run the command, write down what found no route, and end as the command did."""
    with socket.socket() as any_socket:
        up_and_running = struct.pack("16sh22x", b"lo", 0x1 | 0x40)
        fcntl.ioctl(any_socket, 0x8914, up_and_running)  # SIOCSIFFLAGS
    done = subprocess.run(sys.argv[2:], check=False)
    names, values = [
        line.split()[1:] for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:")
    ]
    counts = {"IPv4 without a route": int(dict(zip(names, values, strict=True))["OutNoRoutes"])}
    six = Path("/proc/net/snmp6")
    for line in six.read_text().splitlines() if six.exists() else ():
        if line.startswith("Ip6OutNoRoutes"):
            counts["IPv6 without a route"] = int(line.split()[1])
    Path(sys.argv[1]).write_text(json.dumps(counts))
    return done.returncode


if __name__ == "__main__":
    raise SystemExit(main())
