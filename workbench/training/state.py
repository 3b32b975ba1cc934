"""The state of a training on disk: one safetensors file, whole or absent, from which it continues exactly."""

from __future__ import annotations

import copy
import fcntl
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from workbench.models.paired import PairedEyeNet
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import atomic_path

STATE: Final = "training.safetensors"


@dataclass
class Progress:
    """Where the training stands; with the weights and the optimiser's moments this is all of it.

    Random numbers need no state: each step's seed is made from the training's seed, the epoch and the step.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    best_score: float = -math.inf
    best_epoch: int = -1
    stopped: str = ""
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass
class TrainingState:
    """The learning model, its running average, the best average so far, and the optimiser."""

    model: PairedEyeNet
    average: PairedEyeNet
    best: dict[str, Tensor]
    optimiser: torch.optim.Optimizer
    progress: Progress

    @classmethod
    def start(cls, model: PairedEyeNet, optimiser: torch.optim.Optimizer) -> TrainingState:
        """Return the state before the first step."""
        average = copy.deepcopy(model).requires_grad_(False)
        return cls(model, average, {}, optimiser, Progress())

    @torch.no_grad()
    def follow(self, decay: float, steps_done: int) -> None:
        """Move the average one step towards the model; it starts fast, so that the first steps are soon forgotten."""
        weight = 1 - min(decay, (1 + steps_done) / (10 + steps_done))
        own, new = self.average.state_dict(), self.model.state_dict()
        floats = [name for name in own if own[name].is_floating_point()]
        torch._foreach_lerp_([own[name] for name in floats], [new[name] for name in floats], weight)
        for name in own.keys() - set(floats):
            own[name].copy_(new[name])

    def keep_as_best(self) -> None:
        """Remember the average's weights."""
        self.best = {name: value.detach().clone() for name, value in self.average.state_dict().items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor under a name that says whose it is."""
        parts = {"model": self.model.state_dict(), "average": self.average.state_dict(), "best": self.best}
        named = {f"{part}/{name}": value for part, state in parts.items() for name, value in state.items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            named |= {f"optimiser/{index}/{name}": value for name, value in moments.items() if value is not None}
        return {name: value.detach().cpu().contiguous() for name, value in named.items()}


def save_state(state: TrainingState, signature: dict[str, Any], folder: Path) -> None:
    """Write the state and the signature of what made it, atomically.

    Raises:
        WorkbenchError: the disk refuses; the state before stays.
    """
    header = {"progress": json.dumps(asdict(state.progress)), "signature": json.dumps(signature)}
    with atomic_path(folder / STATE) as temporary:
        temporary.write_bytes(tensor_bytes(state.tensors(), metadata=header))


def save_finished(progress: Progress, signature: dict[str, Any], folder: Path) -> None:
    """Replace the state by a note that the training is over: the weights are the model's now."""
    header = {"progress": json.dumps(asdict(progress)), "signature": json.dumps(signature), "finished": "true"}
    with atomic_path(folder / STATE) as temporary:
        temporary.write_bytes(tensor_bytes({}, metadata=header))


def is_finished(signature: dict[str, Any], folder: Path) -> bool:
    """Return whether the training in ``folder`` is over.

    Raises:
        WorkbenchError: the file is damaged, or something that decides the weights has changed; it is named.
    """
    with _opened(folder) as opened:
        if opened is None:
            return False
        header = opened.metadata()
        refuse_change(json.loads(header["signature"]), signature, folder)
        return "finished" in header


def resume_state(state: TrainingState, folder: Path) -> bool:
    """Bring ``state`` to where the training in ``folder`` stood; False if there is none.

    Raises:
        WorkbenchError: the file is damaged.
    """
    with _opened(folder) as opened:
        if opened is None:
            return False
        kept = json.loads(opened.metadata()["progress"])
        state.progress = Progress(**{name.name: kept[name.name] for name in fields(Progress)})
        _restore(state, {name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118  # no mapping
        return True


@contextmanager
def _opened(folder: Path) -> Iterator[Any]:
    file = folder / STATE
    if not file.is_file():
        yield None
        return
    try:
        with safe_open(file, framework="pt") as opened:
            yield opened
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WorkbenchError(f"{file} is damaged: {error}", "delete it to start the training again") from None


def refuse_change(then: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Refuse to continue what something else began.

    Raises:
        WorkbenchError: names the first thing that differs, with both values.
    """
    changed = [key for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)]
    if changed:
        key = changed[0]
        more = f" (and {', '.join(changed[1:4])})" if len(changed) > 1 else ""
        raise WorkbenchError(
            f"{folder} was begun with {key} = {then.get(key)!r}, now it is {now.get(key)!r}{more}",
            "set it back to continue, or choose another folder with --out",
        )


def _restore(state: TrainingState, tensors: dict[str, Tensor]) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}

    state.model.load_state_dict(part("model/"))
    state.average.load_state_dict(part("average/"))
    like = state.average.state_dict()
    state.best = {name: torch.empty_like(like[name]).copy_(value) for name, value in part("best/").items()}
    whole = state.optimiser.state_dict()
    parameters = [parameter for group in state.optimiser.param_groups for parameter in group["params"]]
    whole["state"] = {}
    for name, value in part("optimiser/").items():
        index, moment = name.split("/")
        # The moments lie in memory as their parameter does, or the next step would run on another path.
        like_parameter = value.shape == parameters[int(index)].shape
        placed = torch.empty_like(parameters[int(index)]).copy_(value) if like_parameter else value
        whole["state"].setdefault(int(index), {})[moment] = placed
    state.optimiser.load_state_dict(whole)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process; a killed process lets go by itself.

    Raises:
        WorkbenchError: another process is training there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WorkbenchError(
                f"another process is training in {folder}", "wait for it, or choose another folder with --out"
            ) from None
        yield
