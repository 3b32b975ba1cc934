"""Draws from a model with dropout (Gal, Ghahramani 2016), the deterministic part computed once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.models.modes import evaluation
from workbench.models.precision import Precision, autocast, resolve_precision
from workbench.schema.errors import WorkbenchError
from workbench.uncertainty.discovery import Randomness, find_randomness, kept_off, may_draw_in_training
from workbench.uncertainty.engine import (
    WORTH_COMPILING,
    CompiledTrunk,
    Engine,
    faster,
    has_openvino,
    operations,
    refuse_missing,
)
from workbench.uncertainty.folded import FoldedTrunk
from workbench.uncertainty.replay import Replay
from workbench.uncertainty.seeded_dropout import DROPOUT_MODULES, DropoutOff, SeededDropout, training_flags
from workbench.uncertainty.split import NothingRandomError, Split, SplitError, WholePasses, first_line

Exams = Float[Tensor, "exam 6 height width"]
Present = Bool[Tensor, "exam 2"]

PROBE_SEEDS: Final = (1, 2)

ROUNDED: Final = 5e-2
"""How far tensors in bf16 may lie from those in fp32 on the probe, as a share of the largest."""


class StochasticPredictor:
    """Makes draws from a model with dropout; what stands before the first stochastic module runs once.

    Every dropout is active in a draw, whether a module, a function, or a function behind ``if self.training``; nothing
    else is: BatchNorm stays as in evaluation, and so does stochastic depth, unless it is asked for. Whatever mode the
    model is in, it has it again afterwards. Masks depend on the exam's seed alone, so an exam's draws do not depend on
    its batch nor on how the draws are cut into chunks, but for the last bits that a processor's matrix product gives
    for another batch size.

    How draws are made is tried in turn: the traced model cut at its first dropout; where it cannot be traced, its
    modules before the first dropout answering from memory (`Replay`); else whole passes; else whole passes exam by
    exam. At the first use at each image size a probe of two exams is run: an exam's draws must be those of a whole
    pass with the same masks, alone and in a batch; a way that fails is left, and `how` says which was taken and why.

    Args:
        model: ``(x, present) -> logits``.
        precision: 'bf16' only where the processor has it; the probe is always fp32.
        memory_mib: bound on what the draws of one chunk hold, MiB (one draw at least is made).
        stochastic_depth: let drop path, drop connect and noise layers take part, seeded as the masks are.
        engine: what computes the part that runs once; 'auto' compiles it where OpenVINO is installed, its answers
            equal torch's on the probe, and it is faster. Where torch computes it in bf16 and it is large, it does so
            with a faithful copy (`folded`).

    Raises:
        WorkbenchError: no active dropout in the model, bf16 on a processor without it, an engine that is not there.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        precision: Precision = "fp32",
        memory_mib: int = 512,
        stochastic_depth: bool = False,
        engine: Engine = "auto",
    ) -> None:
        refuse_missing(engine)
        self.model = model
        self.device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self.precision = resolve_precision(precision, self.device)
        self.memory = memory_mib * 2**20
        self.stochastic_depth = stochastic_depth
        self.engine: Engine = engine
        """As asked; after the first use what is used: 'eager' or 'openvino'."""
        self._found: Randomness | None = None
        self._ways: dict[tuple[int, int], _Way] = {}
        try:
            with evaluation(model):
                self._how = f"split at {Split(model).site}"
        except SplitError as refused:
            if isinstance(refused, NothingRandomError) and not may_draw_in_training(model):
                raise self._no_dropout() from refused
            self._how = f"whole passes ({refused})"

    @property
    def how(self) -> str:
        """Say how draws are made, e.g. ``split at head_dropout``, and which random layers stay off."""
        off = kept_off(self.model, self._found)
        return self._how + (f"; kept off: {', '.join(off)}" if off else "")

    @property
    def flagged(self) -> tuple[nn.Module, ...]:
        """Modules that draw only where they are told that they train; known after the first use."""
        return tuple(self._found.flagged) if self._found else ()

    def folded(self, x: Exams) -> FoldedTrunk | None:
        """Return the copy that computes what runs once of exams of this size, where one does."""
        with evaluation(self.model), torch.inference_mode():
            engine = getattr(self._way(x.detach()).halves, "engine", None)
        return engine if isinstance(engine, FoldedTrunk) and not engine.is_stale(self.model) else None

    def logits(self, x: Exams, present: Present) -> Float[Tensor, "exam 2 grade"]:
        """Return the model's logits with dropout off, float32."""
        with evaluation(self.model), torch.inference_mode(), autocast(self.precision, self.device), DropoutOff():
            logits: Tensor = self.model(x, present)
        return logits.to(torch.float32, copy=True)  # made outside inference mode, so that the caller may work on it

    def draws(
        self, x: Exams, present: Present, *, draws: int, seeds: Sequence[int], gradient: bool = False
    ) -> Float[Tensor, "draw exam 2 grade"]:
        """Return probabilities with dropout on, float32, NaN for an absent eye.

        Args:
            x: the exams, in [0, 1].
            present: which eyes there are.
            draws: how many forward passes this stands for.
            seeds: one per exam, e.g. of `seed_for`.
            gradient: keep what a backward pass to ``x`` needs, in fp32 or by a copy whose gradient is the model's; what
                runs once is passed once backwards too.

        Raises:
            WorkbenchError: no draws asked for, another number of seeds than exams, a model whose answers are random
                with dropout off, or one in which no dropout takes part.
        """
        refuse_request(x, draws, seeds)
        with evaluation(self.model), torch.inference_mode(not gradient):
            with torch.inference_mode():
                way = self._way(x.detach())
            precision = "fp32" if gradient else self.precision
            with self._drawing(), autocast(precision, self.device):
                made = way.draws(x, present, draws, seeds, self.memory)
        return torch.where(present[None, :, :, None], made, torch.nan)

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Set the training flag of the modules that ask for it before they draw, and of no other."""
        with training_flags(self._found.flagged if self._found else ()):
            yield

    def _way(self, x: Exams) -> _Way:
        """Return the fastest way that passes the check at this image size."""
        size = (x.shape[2], x.shape[3])
        if size not in self._ways:
            with torch.autocast(self.device.type, enabled=False):
                probe = _probe(x)
                self._refuse_other_randomness(*probe)
                if self._found is None:
                    self._found = find_randomness(self.model, *probe, stochastic_depth=self.stochastic_depth)
                with self._drawing():
                    self._ways[size] = self._choose(*probe)
        return self._ways[size]

    def _refuse_other_randomness(self, x: Exams, present: Present) -> None:
        with DropoutOff():
            once, again = (self.model(x[1:], present[1:]) for _ in range(2))
        if not same(once, again):
            raise WorkbenchError(
                "the model's answers are random even with dropout off", "make its random layers nn.Dropout modules"
            )

    def _choose(self, x: Exams, present: Present) -> _Way:
        """Return the first way whose draws are right on the probe; `how` tells the faults of those before it."""
        whole = WholePasses(self.model)
        truth = _Way(whole, one_by_one=True)
        reference = truth.draws(x[1:], present[1:], 2, PROBE_SEEDS[1:], memory=0)
        if not truth.sites:
            raise self._no_dropout()
        faults: list[str] = []
        for name, make in (
            ("split at ", lambda: Split(self.model, self._found.modules if self._found else ())),
            ("replay after ", lambda: Replay(self.model, x, present)),
            ("whole passes", lambda: whole),
        ):
            try:
                way = _Way(make())
                fault = way.fault(reference, x, present)
            except SplitError as refused:
                fault = str(refused)
            if fault is None:
                self._how = name + getattr(way.halves, "site", "") + _because(faults)
                return self._with_engine(way, x, present)
            faults.append(fault)
        self._how = f"whole passes, one exam at a time{_because(faults)}"
        return truth

    def _with_engine(self, way: _Way, x: Exams, present: Present) -> _Way:
        """Let the part that runs once be computed by what is right there, and faster."""
        halves = way.halves
        if not isinstance(halves, Split) or self.device.type != "cpu":
            self.engine = "eager"
            return way
        eager = halves.crossing(x, present)
        if not halves.crosses_tensors_only:
            fault: str | None = "the engine cannot hand over sizes"
        elif self.engine == "eager" or not has_openvino():
            fault = ""
        elif self.engine == "auto" and operations(lambda: halves.crossing(x, present)) < WORTH_COMPILING:
            fault = "too small to be worth it"
        else:
            fault = self._compile(halves, eager, x, present)
        if fault and self.engine == "openvino":
            self._how += f"; OpenVINO left out ({fault})"
        self.engine = "eager" if fault is not None else "openvino"
        if halves.engine is None and halves.crosses_tensors_only and self.precision == "bf16":
            self._fold(halves, eager, x, present)
        if halves.engine is not None:
            self._how += f"; trunk by {halves.engine.name}"
        return way

    def _fold(self, halves: Split, eager: tuple[Tensor, ...], x: Exams, present: Present) -> None:
        """Take a copy in bf16 where it is worth one and answers as the model does."""
        drawing = self._found.modules if self._found else ()
        if not all(isinstance(module, DROPOUT_MODULES) for module in drawing):
            return
        if operations(lambda: halves.crossing(x, present)) < WORTH_COMPILING:
            return
        try:
            folded = FoldedTrunk(self.model, x)
            answers = folded.crossing(x, present)
        except Exception:  # whatever a model of others' raises where it is copied
            return
        if len(answers) == len(eager) and all(same(*pair, ROUNDED) for pair in zip(eager, answers, strict=True)):
            halves.engine = folded

    def _compile(self, halves: Split, eager: tuple[Tensor, ...], x: Exams, present: Present) -> str | None:
        trunk = halves.trunk_module()
        try:
            compiled = CompiledTrunk(trunk, x, present, self.precision)
            answers = compiled.crossing(x, present)
        except Exception as error:  # whatever an engine raises on an operation that it does not know
            return f"{type(error).__name__}: {first_line(error)}"
        tolerance = 1e-4 if compiled.precision == "fp32" else ROUNDED
        if not all(same(one, other, tolerance) for one, other in zip(eager, answers, strict=True)):
            return "it answers differently from torch"
        if self.engine == "auto":
            many = x.repeat(4, 1, 1, 1), present.repeat(4, 1)
            if not faster(lambda: halves.crossing(*many), lambda: compiled.crossing(*many), time.perf_counter):
                return "it is not faster than torch"
        halves.engine = compiled
        return None

    def _no_dropout(self) -> WorkbenchError:
        off = kept_off(self.model, self._found)
        found = f" (found {', '.join(off)}, which draws leave off)" if off else ""
        return WorkbenchError(
            f"no active dropout in {type(self.model).__name__}{found}, so its draws would all be equal",
            "train it with head_dropout or feature_dropout above 0, or draw from views, an ensemble or checkpoints "
            "(draws_from)",
        )


def refuse_request(x: Exams, draws: int, seeds: Sequence[int]) -> None:
    """Refuse what no maker of draws can answer.

    Raises:
        WorkbenchError: no draws, no exam, or another number of seeds than exams.
    """
    if draws < 1:
        raise WorkbenchError(f"{draws} draws", "ask for at least 1")
    if len(seeds) != len(x):
        raise WorkbenchError(f"{len(seeds)} seeds for {len(x)} exams", "give one seed per exam")
    if not len(x):
        raise WorkbenchError("no exam to draw from", "give at least one exam")


class _Way:
    """One way to make draws: a trunk and a tail, over the whole batch or exam by exam and draw by draw."""

    def __init__(self, halves: Split | Replay | WholePasses, *, one_by_one: bool = False) -> None:
        self.halves: Any = halves
        self.one_by_one = one_by_one
        self.sites = 0
        self.bytes_per_draw = 0
        """Of one exam."""

    def draws(self, x: Tensor, present: Tensor, draws: int, seeds: Sequence[int], memory: int) -> Tensor:
        if self.one_by_one and len(x) > 1:
            alone = (
                self.draws(x[i : i + 1], present[i : i + 1], draws, [seed], memory) for i, seed in enumerate(seeds)
            )
            return torch.cat(list(alone), dim=1)
        fitting = 1 if self.one_by_one else memory // max(self.bytes_per_draw * len(x), 1)
        chunk = max(1, min(draws, fitting))
        frontier = self.halves.trunk(x, present)
        parts = [self._chunk(frontier, seeds, first, min(chunk, draws - first)) for first in range(0, draws, chunk)]
        return torch.cat(parts)

    def _chunk(self, frontier: Any, seeds: Sequence[int], first: int, count: int) -> Tensor:
        with SeededDropout(seeds, first, count) as dropout:
            logits = self.halves.tail(frontier, count)
        self.sites = dropout.sites
        self.bytes_per_draw = max(self.bytes_per_draw, dropout.bytes // (count * len(seeds)))
        return logits.float().softmax(dim=-1).unflatten(0, (count, len(seeds)))

    def fault(self, reference: Tensor, x: Tensor, present: Tensor) -> str | None:
        """Return why this way must not be taken, or None.

        Args:
            reference: two draws of the second exam, by whole passes.
            x: the probe.
            present: its eyes.
        """
        try:
            alone = self.draws(x[1:], present[1:], 2, PROBE_SEEDS[1:], memory=0)
            together = self.draws(x, present, 2, PROBE_SEEDS, memory=2**40)
        except Exception as error:  # whatever a model of others' raises on a batch that it did not expect
            return f"{type(error).__name__}: {first_line(error)}"
        if not same(reference, alone):
            return "the split answers differently from the whole pass"
        if not same(together[:, 1:], alone):
            return "an exam's draws depend on its batch"
        return None


def _because(faults: Sequence[str]) -> str:
    return f" ({'; '.join(dict.fromkeys(faults))})" if faults else ""


def _probe(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return two unlike exams of this size, the second with one eye; the same ones whatever ``x`` holds."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((2, *x.shape[1:]), generator=generator)
    noise[1] = noise[1] * 0.2 + torch.linspace(0, 0.8, x.shape[3])
    return noise.to(x), torch.tensor([[True, True], [True, False]], device=x.device)


def same(one: Tensor, other: Tensor, tolerance: float = 1e-4) -> bool:
    """Return whether two answers differ by rounding only, however small the answers are (fp32)."""
    if one.shape != other.shape:
        return False
    difference = (one - other).abs().nan_to_num(0).max()
    return bool(difference <= tolerance * one.abs().nan_to_num(0).max())
