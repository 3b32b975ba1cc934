"""Run one audit again and again, killed each time at another write, flush or rename; then let it finish.

usage: killed_audit.py MANIFEST MODEL OUT KILLS SEED; run by test_kill.py.
"""

import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.small_audit import small_config
from workbench.audit.runner import run_audit


def die_at(step: int) -> None:
    """Be killed at the given file operation: a table half written, a file not flushed, or not renamed."""
    done = 0

    def count() -> bool:
        nonlocal done
        done += 1
        return done == step

    def wrap(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            if count():
                if owner is pq:
                    Path(arguments[1]).write_bytes(b"PAR1 half a table")
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **keywords)

        setattr(owner, name, wrapped)

    wrap(pq, "write_table")
    wrap(os, "fsync")
    wrap(os, "replace")


def run_in_a_fork(arguments: list[str], out: Path, step: int | None) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if step is not None:
                die_at(step)
            run_audit(small_config(Path(arguments[0]), Path(arguments[1])), out)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    *arguments, out, kills, seed = sys.argv[1:]
    generator = random.Random(int(seed))
    # A killed run goes on where it stopped, so a few steps each bring the kills through the whole of it.
    for _ in range(int(kills)):
        code = run_in_a_fork(arguments, Path(out), generator.randint(1, 16))
        assert code in (0, -signal.SIGKILL), code
        print(code)
    assert run_in_a_fork(arguments, Path(out), None) == 0


if __name__ == "__main__":
    main()
