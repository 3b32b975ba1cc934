"""What a training shows while it runs: a progress bar, a line per epoch, TensorBoard."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress as Bar
from rich.progress import TaskID
from torch.utils.tensorboard import SummaryWriter

from workbench.schema.errors import WorkbenchError
from workbench.schema.progress import console, progress_bar


@dataclass
class Reporter:
    """Shows steps and epochs; `open_reporter` makes one."""

    bar: Bar
    task: TaskID
    writer: SummaryWriter
    logs: Path
    epochs: int
    last: str = ""

    def step(self, done: int, epoch: int, loss: float, learning_rate: float, speed: float) -> None:
        """Show a step; ``speed`` in exams per second."""
        text = f"loss {loss:.3f}  {self.last}  {speed:.0f} exams/s"
        self.bar.update(self.task, completed=done, description=f"epoch {epoch + 1}/{self.epochs}", info=text)
        with _told(self.logs):
            self.writer.add_scalar("train/loss_of_step", loss, done)
            self.writer.add_scalar("train/learning_rate", learning_rate, done)

    def epoch(self, row: dict[str, float], best: bool, seconds_left: float) -> None:
        """Show an epoch's row of the history, and log it."""
        with _told(self.logs):
            for name, value in row.items():
                if name not in ("epoch", "step") and math.isfinite(value):
                    self.writer.add_scalar(f"epoch/{name}", value, int(row["epoch"]))
            self.writer.flush()
        self.last = f"AUC {spoken(row['auc_referable'])}  QWK {spoken(row['qwk'])}"
        console.print(
            f"epoch {row['epoch']:.0f}/{self.epochs}  loss {row['train_loss']:.3f}  "
            f"validation loss {row['validation_loss']:.3f}  {self.last}  {row['exams_per_second']:.0f} exams/s  "
            f"{seconds_left / 60:.1f} min left{'  best so far' if best else ''}",
            highlight=False,
            soft_wrap=True,
        )


def spoken(value: float) -> str:
    """Return a figure in three digits, or that there is none."""
    return f"{value:.3f}" if math.isfinite(value) else "not assessed"


@contextmanager
def open_reporter(folder: Path, *, epochs: int, total_steps: int, done: int) -> Iterator[Reporter]:
    """Yield a reporter; what TensorBoard holds of steps after ``done`` (lost by a kill) is purged.

    Raises:
        WorkbenchError: the logs cannot be written.
    """
    logs = folder / "tensorboard"
    with _quiet_threads(), progress_bar(transient=True) as bar:
        with _told(logs):
            writer = SummaryWriter(str(logs), purge_step=done or None)
        try:
            task = bar.add_task("training", total=total_steps, completed=done, info="")
            yield Reporter(bar, task, writer, logs, epochs)
        finally:
            # Every epoch's end has flushed the logs already; an error here would only hide the one that ended it.
            with suppress(OSError):
                writer.close()


@contextmanager
def _told(logs: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = "free space or choose another folder, then run the same command again"
        raise WorkbenchError(f"cannot write {logs}: {error.strerror}", remedy) from error


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Keep TensorBoard's writing thread from printing a traceback: its error is raised again by the next call."""
    before = threading.excepthook

    def hook(fault: threading.ExceptHookArgs) -> None:
        if not isinstance(fault.exc_value, OSError):
            before(fault)

    try:
        threading.excepthook = hook
        yield
    finally:
        threading.excepthook = before
