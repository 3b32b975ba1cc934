"""Many reviewers at once, each in a process of its own that is killed again and again; run by test_review_faults.py.

Usage: reviewers.py PLACE FOLDER READERS DECISIONS KILLS SEED

A reviewer acknowledges a save by one line in FOLDER/acknowledged, after the store said that it is saved. One in seven
first attempts dies between the commit and that line. A reviewer that comes back sends again what was not acknowledged.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from workbench.review.reads import EyeRead, Submission
from workbench.review.store import ReviewStore
from workbench.schema.errors import WorkbenchError


def submission(reader: int, turn: int) -> Submission:
    """Two readers share each exam; every exam is corrected several times."""
    eyes = tuple(EyeRead(eye=eye, gradable=True, icdr_grade=turn % 5) for eye in ("OD", "OS"))
    return Submission(
        submission_key=f"reader-{reader:03d}-turn-{turn:05d}",
        reader=f"Dr {reader}",
        run_id="run-1",
        patient_id=f"p{reader // 2}",
        exam_id=f"e{reader // 2}-{turn % 20}",
        eyes=eyes,
    )


def append(file: Path, line: str) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode() + b"\n")
    os.close(handle)


def review(place: Path | str, folder: Path, reader: int, decisions: int) -> None:
    """Go on where the last acknowledgement stands."""
    told = folder / f"acknowledged-{reader}"
    done = len(told.read_text().splitlines()) if told.exists() else 0
    store = ReviewStore(place, patience=60)
    for turn in range(done, decisions):
        sent = submission(reader, turn)
        while True:
            try:
                store.save(sent)
                break
            except WorkbenchError as error:
                append(folder / "shown", str(error))
        died = folder / f"died-{reader}-{turn}"
        if (reader + turn) % 7 == 3 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)  # saved, but nobody was told
        append(told, sent.submission_key)
    store.close()


def start(place: Path | str, folder: Path, reader: int, decisions: int) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            review(place, folder, reader, decisions)
            code = 0
        finally:
            os._exit(code)
    return child


def main() -> None:
    where, folder = sys.argv[1], Path(sys.argv[2])
    place = where if "://" in where else Path(where)
    readers, decisions, kills, seed = map(int, sys.argv[3:])
    generator = random.Random(seed)
    running = {start(place, folder, reader, decisions): reader for reader in range(readers)}
    killed = 0
    while running:
        time.sleep(generator.uniform(0, 0.05))
        if killed < kills:
            os.kill(generator.choice(list(running)), signal.SIGKILL)
            killed += 1
        for child in list(running):
            ended, status = os.waitpid(child, os.WNOHANG)
            if not ended:
                continue
            reader = running.pop(child)
            if os.WIFSIGNALED(status):
                running[start(place, folder, reader, decisions)] = reader
            elif os.waitstatus_to_exitcode(status) != 0:
                append(folder / "shown", f"reviewer {reader} ended with {status}")
    print(killed, flush=True)


if __name__ == "__main__":
    main()
