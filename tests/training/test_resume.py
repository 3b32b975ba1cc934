import errno
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from workbench.models.checkpoint import WEIGHTS
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import sha256_file
from workbench.training import reporting
from workbench.training.loop import train
from workbench.training.state import STATE, only_one

LIVELY = ("train.epochs=3", "train.eye_dropout=0.3", "model.head_dropout=0.5", "train.class_balance=0.5")
pytestmark = pytest.mark.usefixtures("no_picture")


class Killed(BaseException):
    """Stands for the end of the process: nothing in the package may catch it."""


@pytest.mark.parametrize(("optimiser", "limits"), [("adamw", (2, 3, 5, 8)), ("sgd", (5,))])
def test_stopped_at_any_step_it_ends_with_the_same_bytes(configure, tmp_path, monkeypatch, optimiser, limits):
    config = configure(*LIVELY, f"train.optimiser={optimiser}", "train.checkpoint_minutes=0")
    train(config, tmp_path / "whole")
    shown, step = [], reporting.Reporter.step

    def stop_at(limit: int) -> None:
        def stopping(self, done, *rest):
            shown.append(done)
            if done == limit:
                raise Killed
            step(self, done, *rest)

        monkeypatch.setattr(reporting.Reporter, "step", stopping)

    for limit in limits:  # of 9 steps: within the first epoch, at its end, within the second and the last
        stop_at(limit)
        with pytest.raises(Killed):
            train(config, tmp_path / "stopped")
    stop_at(-1)
    train(config, tmp_path / "stopped")
    # A step is lost only if it was not yet on disk: it is taken again from the step before.
    assert shown == sorted([*range(1, 10), *limits])
    assert sha256_file(tmp_path / "stopped" / WEIGHTS) == sha256_file(tmp_path / "whole" / WEIGHTS)


def kill_when(process: multiprocessing.Process, state: Path, seconds: float) -> None:
    """Send SIGKILL to ``process`` some time after it wrote ``state`` anew."""
    before, deadline = state.stat().st_mtime_ns if state.is_file() else 0, time.monotonic() + 120
    while process.is_alive() and time.monotonic() < deadline:
        if state.is_file() and state.stat().st_mtime_ns != before:
            break
        time.sleep(0.005)
    time.sleep(seconds)
    process.kill()  # SIGKILL; nothing where it has ended already, which the caller counts
    process.join()


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_bytes(configure, tmp_path):
    config = configure(*LIVELY, "train.epochs=10", "train.checkpoint_minutes=0")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["workbench.training.loop"])  # imported once, so that a start costs nothing
    chance = random.Random(0)
    kills = 0
    for _ in range(4):
        process = context.Process(target=train, args=(config, tmp_path / "killed"))
        process.start()
        kill_when(process, tmp_path / "killed" / STATE, chance.uniform(0, 0.15))
        kills += process.exitcode == -signal.SIGKILL
        assert (tmp_path / "killed" / STATE).is_file()
    assert kills == 4
    train(config, tmp_path / "killed")
    train(config, tmp_path / "whole")
    assert sha256_file(tmp_path / "killed" / WEIGHTS) == sha256_file(tmp_path / "whole" / WEIGHTS)


def interrupted(config, folder, monkeypatch) -> None:
    def stopping(self, done, *rest):
        if done == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(reporting.Reporter, "step", stopping)
        with pytest.raises(Killed):
            train(config, folder)


def test_resuming_with_another_configuration_is_refused(configure, tmp_path, monkeypatch):
    interrupted(configure("train.checkpoint_minutes=0"), tmp_path, monkeypatch)
    with pytest.raises(WorkbenchError, match=r"train.weight_decay = 0.05, now it is 0.1"):
        train(configure("train.weight_decay=0.1"), tmp_path)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"x" * 99])
def test_a_damaged_state_is_one_clear_line(configure, tmp_path, monkeypatch, damage):
    interrupted(configure("train.checkpoint_minutes=0"), tmp_path, monkeypatch)
    file = tmp_path / STATE
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(WorkbenchError, match="is damaged"):
        train(configure("train.checkpoint_minutes=0"), tmp_path)


def test_a_full_disk_is_one_clear_line_and_the_state_before_stays(configure, tmp_path, monkeypatch):
    config = configure("train.checkpoint_minutes=0")
    interrupted(config, tmp_path, monkeypatch)
    before = sha256_file(tmp_path / STATE)

    def full(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(WorkbenchError, match="No space left on device"):
            train(config, tmp_path)
    assert sha256_file(tmp_path / STATE) == before
    train(config, tmp_path)


def test_two_trainings_in_one_folder_are_refused(configure, tmp_path):
    with only_one(tmp_path), pytest.raises(WorkbenchError, match="another process is training"):
        train(configure(), tmp_path)


def test_logs_that_cannot_be_written_are_one_clear_line(configure, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
    with pytest.raises(WorkbenchError, match="tensorboard: No space left on device"):
        train(configure(), tmp_path)
    assert "Traceback" not in capsys.readouterr().err
