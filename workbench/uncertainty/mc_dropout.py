"""Draws from a model with dropout (Gal, Ghahramani 2016), the deterministic part computed once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.models.modes import evaluation
from workbench.models.precision import Precision, autocast, resolve_precision
from workbench.schema.errors import WorkbenchError
from workbench.uncertainty.seeded_dropout import DropoutOff, SeededDropout
from workbench.uncertainty.split import Split, SplitError, WholePasses, is_active

Exams = Float[Tensor, "exam 6 height width"]
Present = Bool[Tensor, "exam 2"]

PROBE_SEEDS: Final = (1, 2)


class StochasticPredictor:
    """Makes draws from a model with dropout; what stands before the first stochastic module runs once.

    Every dropout is active in a draw, nothing else is: BatchNorm and stochastic depth stay as in evaluation. Whatever
    mode the model is in, it has it again afterwards. Masks depend on the exam's seed alone, so an exam's draws do not
    depend on its batch nor on how the draws are cut into chunks, but for the last bits that a processor's
    matrix product gives for another batch size.

    At the first use at each image size a probe of two exams is run: with dropout off the split must equal the whole
    pass, with dropout on an exam must be the same alone as in a batch; otherwise whole passes are made, and `how`
    says why.

    Args:
        model: ``(x, present) -> logits``.
        precision: 'bf16' only where the processor has it; the probe is always fp32.
        memory_mib: bound on what the draws of one chunk hold, MiB (one draw at least is made).

    Raises:
        WorkbenchError: no active dropout in the model, or bf16 on a processor without it.
    """

    def __init__(self, model: nn.Module, *, precision: Precision = "fp32", memory_mib: int = 512) -> None:
        self.model = model
        self.device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self.precision = resolve_precision(precision, self.device)
        self.memory = memory_mib * 2**20
        self._checked: dict[tuple[int, int], _Way] = {}
        self._split: Split | None = None
        try:
            with evaluation(model):
                self._split = Split(model)
            self._how = f"split at {self._split.site}"
        except SplitError as refused:
            if not any(is_active(module) for module in model.modules()):
                raise _no_dropout(model) from refused
            self._how = f"whole passes ({refused})"

    @property
    def how(self) -> str:
        """Say how draws are made, e.g. ``split at head_dropout``, and which random layers stay off."""
        off = kept_off(self.model)
        return self._how + (f"; kept off: {', '.join(off)}" if off else "")

    def logits(self, x: Exams, present: Present) -> Float[Tensor, "exam 2 grade"]:
        """Return the model's logits with dropout off, float32."""
        with evaluation(self.model), torch.inference_mode(), autocast(self.precision, self.device), DropoutOff():
            logits: Tensor = self.model(x, present)
        return logits.to(torch.float32, copy=True)  # made outside inference mode, so that the caller may work on it

    def draws(
        self, x: Exams, present: Present, *, draws: int, seeds: Sequence[int]
    ) -> Float[Tensor, "draw exam 2 grade"]:
        """Return probabilities with dropout on, float32, NaN for an absent eye.

        Args:
            x: the exams, in [0, 1].
            present: which eyes there are.
            draws: how many forward passes this stands for.
            seeds: one per exam, e.g. of `seed_for`.

        Raises:
            WorkbenchError: no draws asked for, another number of seeds than exams, a model whose answers are random
                with dropout off, or one in which no dropout takes part.
        """
        if draws < 1:
            raise WorkbenchError(f"{draws} draws", "ask for at least 1")
        if len(seeds) != len(x):
            raise WorkbenchError(f"{len(seeds)} seeds for {len(x)} exams", "give one seed per exam")
        if not len(x):
            raise WorkbenchError("no exam to draw from", "give at least one exam")
        with ExitStack() as stack:
            stack.enter_context(evaluation(self.model))
            stack.enter_context(torch.inference_mode())
            way = self._way(x)
            stack.enter_context(autocast(self.precision, self.device))
            made = way.draws(x, present, draws, seeds, self.memory)
        return torch.where(present[None, :, :, None], made, torch.nan)

    def _way(self, x: Exams) -> _Way:
        """Return the fastest way that passes the check at this image size."""
        size = (x.shape[2], x.shape[3])
        if size not in self._checked:
            with torch.autocast(self.device.type, enabled=False):
                self._checked[size] = self._choose(*_probe(x))
        return self._checked[size]

    def _choose(self, x: Exams, present: Present) -> _Way:
        with DropoutOff():
            whole = self.model(x, present)
            once, again = (self.model(x[1:], present[1:]) for _ in range(2))
        if not _same(once, again):
            raise WorkbenchError(
                "the model's answers are random even with dropout off", "make its random layers nn.Dropout modules"
            )
        faults = []
        if self._split is not None:
            way = _Way(self._split)
            faults.append(way.fault(whole, x, present))
            if faults[-1] is None:
                self._how = f"split at {self._split.site}"
                return self._with_dropout(way)
        way = _Way(WholePasses(self.model))
        faults.append(way.fault(whole, x, present))
        if faults[-1] is not None:
            way = _Way(WholePasses(self.model), one_by_one=True)
            way.draws(x[1:], present[1:], 1, PROBE_SEEDS[1:], self.memory)
        if self._split is not None or way.one_by_one:
            said = "; ".join(dict.fromkeys(fault for fault in faults if fault))
            self._how = f"whole passes{', one exam at a time' if way.one_by_one else ''} ({said})"
        return self._with_dropout(way)

    def _with_dropout(self, way: _Way) -> _Way:
        if not way.sites:
            raise _no_dropout(self.model)
        return way


class _Way:
    """One way to make draws: a trunk and a tail, over the whole batch or exam by exam and draw by draw."""

    def __init__(self, halves: Split | WholePasses, *, one_by_one: bool = False) -> None:
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

    def fault(self, whole: Tensor, x: Tensor, present: Tensor) -> str | None:
        """Return why this way must not be taken, or None."""
        try:
            with DropoutOff():
                off = self.halves.tail(self.halves.trunk(x, present), 2)
            together = self.draws(x, present, 2, PROBE_SEEDS, memory=2**40)
            alone = self.draws(x[1:], present[1:], 2, PROBE_SEEDS[1:], memory=0)
        except Exception as error:  # whatever a model of others' raises on a batch that it did not expect
            return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"
        if not _same(whole.repeat(2, 1, 1), off):
            return "the split answers differently from the whole pass"
        if not _same(together[:, 1:], alone):
            return "an exam's draws depend on its batch"
        return None


def kept_off(model: nn.Module) -> list[str]:
    """Return the kinds of random layers that draws leave in evaluation mode, with how many there are."""
    counts: dict[str, int] = {}
    for module in model.modules():
        rates = [getattr(module, name, 0) for name in ("drop_connect_rate", "drop_prob", "dropout")]
        is_random = any(isinstance(rate, float) and rate > 0 for rate in rates)
        if isinstance(module, nn.AlphaDropout | nn.FeatureAlphaDropout | nn.RReLU) or is_random:
            kind = type(module).__name__
            counts[kind] = counts.get(kind, 0) + 1
    return [f"{count} {kind}" for kind, count in counts.items()]


def _no_dropout(model: nn.Module) -> WorkbenchError:
    off = kept_off(model)
    found = f" (found {', '.join(off)}, which draws leave off)" if off else ""
    return WorkbenchError(
        f"no active dropout in {type(model).__name__}{found}, so its draws would all be equal",
        "train it with head_dropout or feature_dropout above 0",
    )


def _probe(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return two unlike exams of this size, the second with one eye; the same ones whatever ``x`` holds."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((2, *x.shape[1:]), generator=generator)
    noise[1] = noise[1] * 0.2 + torch.linspace(0, 0.8, x.shape[3])
    return noise.to(x), torch.tensor([[True, True], [True, False]], device=x.device)


def _same(one: Tensor, other: Tensor) -> bool:
    """Return whether two answers differ by rounding only, however small the answers are (fp32)."""
    difference = (one - other).abs().nan_to_num(0).max()
    return one.shape == other.shape and bool(difference <= 1e-4 * one.abs().nan_to_num(0).max())
