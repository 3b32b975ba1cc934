"""Processes that measure units; one that is killed costs its unit a second try, never the run."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from workbench.audit.bench import Bench
from workbench.audit.config import AuditConfig
from workbench.audit.layout import part_path, write_table
from workbench.audit.plan import Unit
from workbench.audit.schemas import PART_SCHEMAS
from workbench.audit.units import failed_rows, make_part
from workbench.models.fast import keeping_copies
from workbench.schema.errors import WorkbenchError

TRIES: Final = 2
"""How often a unit is given to a worker before it counts as failed."""


def run_units(bench: Bench, units: Iterable[Unit], folder: Path) -> Iterator[Unit]:
    """Measure the units here, one after the other; yield each when its part is written.

    Raises:
        WorkbenchError: the disk refuses.
    """
    with keeping_copies(bench.model):
        for unit in units:
            make_part(bench, unit, folder)
            yield unit


def run_units_in_processes(
    bench: Bench, config: AuditConfig, units: Iterable[Unit], folder: Path, processes: int
) -> Iterator[Unit]:
    """Measure the units in ``processes`` processes; yield each when its part is written.

    A worker that is killed (say, for want of memory) is replaced, and its unit tried again; killed twice, the unit is
    written as failed.

    Raises:
        WorkbenchError: the disk refuses, or a worker cannot open the model or the exams.
    """
    team = _Team(config, folder, deque(units), bench.cutoff)
    try:
        for _ in range(min(processes, len(team.waiting))):
            team.hire()
        while team.workers:
            for unit, fault in team.next_events():
                if fault is not None:
                    path = part_path(folder, unit.measurement.id, unit.chunk)
                    write_table(path, failed_rows(bench, unit, fault), PART_SCHEMAS[unit.measurement.kind])
                yield unit
    finally:
        team.dismiss()


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    unit: Unit
    begun: bool = False
    """Whether it has opened the model and the exams."""


@dataclass
class _Team:
    """The workers at work, and the units that nobody has yet."""

    config: AuditConfig
    folder: Path
    waiting: deque[Unit]
    cutoff: float | None = None
    workers: list[_Worker] = field(default_factory=list)
    tries: dict[tuple[str, int], int] = field(default_factory=dict)

    def hire(self) -> None:
        """Start a worker on the next unit."""
        context = _context()
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.config, self.folder, self.cutoff), daemon=True)  # type: ignore[attr-defined]
        process.start()
        theirs.close()
        unit = self.waiting.popleft()
        self.workers.append(_Worker(process, ours, unit))
        # A worker that is already dead is found by `next_events`, with the unit in its hands.
        with suppress(BrokenPipeError, ConnectionResetError):
            ours.send(unit)

    def next_events(self) -> list[tuple[Unit, str | None]]:
        """Wait for an answer; return each finished unit, with its fault where it was given up."""
        ready = wait([worker.connection for worker in self.workers])
        events = [self._event(worker) for worker in list(self.workers) if worker.connection in ready]
        return [event for event in events if event is not None]

    def _event(self, worker: _Worker) -> tuple[Unit, str | None] | None:
        unit = worker.unit
        try:
            error = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            return self._bury(worker)
        if error is not None:
            raise WorkbenchError(*error)
        if not worker.begun:
            worker.begun = True
            return None
        if self.waiting:
            worker.unit = self.waiting.popleft()
            with suppress(BrokenPipeError, ConnectionResetError):
                worker.connection.send(worker.unit)
        else:
            self._release(worker)
        return unit, None

    def _bury(self, worker: _Worker) -> tuple[Unit, str | None] | None:
        """Replace a dead worker; give its unit a second try, or give it up."""
        unit, key = worker.unit, (worker.unit.measurement.id, worker.unit.chunk)
        self._release(worker)
        code = worker.process.exitcode
        if not worker.begun:
            raise WorkbenchError(f"a worker ended (exit code {code}) before it could begin", "try workers=1")
        self.tries[key] = self.tries.get(key, 0) + 1
        given_up = self.tries[key] >= TRIES
        if not given_up:
            self.waiting.appendleft(unit)
        if self.waiting:
            self.hire()
        return (unit, f"the worker ended {TRIES} times on it (exit code {code})") if given_up else None

    def _release(self, worker: _Worker) -> None:
        worker.connection.close()
        worker.process.join()
        self.workers.remove(worker)

    def dismiss(self) -> None:
        """End every worker that is still there."""
        for worker in self.workers:
            worker.process.terminate()
            worker.process.join()
            worker.connection.close()
        self.workers.clear()


def _context() -> BaseContext:
    """Return how workers are started: forked from a server that has imported everything once, where there are forks."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["workbench.audit.preparation"])
    return context


def _serve(connection: Connection, config: AuditConfig, folder: Path, cutoff: float | None = None) -> None:
    """Measure what is asked for until the other end closes; answer None when ready, and after each unit.

    An error that ends the run is answered as what and remedy.
    """
    from workbench.audit.preparation import open_bench

    try:
        bench = replace(open_bench(config)[0], cutoff=cutoff)
        connection.send(None)
        with keeping_copies(bench.model):
            while True:
                make_part(bench, connection.recv(), folder)
                connection.send(None)
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        return
    except WorkbenchError as error:
        connection.send((error.what, error.remedy))
