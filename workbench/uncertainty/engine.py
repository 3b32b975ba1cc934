"""Engines for the part of a model that runs once, behind the same interface as torch's own passes."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from workbench.schema.errors import WorkbenchError

Engine = Literal["auto", "eager", "openvino"]

WORTH_COMPILING: Final = 200_000_000
"""Operations that two exams must take before 'auto' tries to compile: a smaller part gains less than it costs."""


class TrunkEngine(Protocol):
    """Computes what stands before the first dropout."""

    name: str
    precision: Literal["fp32", "bf16"]

    @property
    def is_differentiable(self) -> bool:
        """Whether a backward pass to the pixels goes through it, and stays true."""

    def crossing(self, x: Tensor, present: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors that the stochastic part reads."""

    def is_stale(self, trunk: nn.Module) -> bool:
        """Return whether a weight has changed since."""

    def renewed(self, trunk: nn.Module, x: Tensor, present: Tensor) -> TrunkEngine | None:
        """Return the same engine with the weights as they are now; None where it does not suit them."""


def has_openvino() -> bool:
    """Return whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def refuse_missing(engine: Engine) -> None:
    """Refuse an engine that is not installed.

    Raises:
        WorkbenchError: OpenVINO is asked for and not there.
    """
    if engine == "openvino" and not has_openvino():
        raise WorkbenchError("engine openvino, but OpenVINO is not installed", "pip install openvino, or engine=eager")


class CompiledTrunk:
    """A function from exams to tensors, compiled for one image size and any number of exams.

    Weights are copied into the engine: `is_stale` says when they have changed.

    Args:
        trunk: ``(x, present) -> tuple of tensors``, deterministic.
        x: two exams to trace with.
        present: their eyes.
        precision: bf16 is used only where the engine says that the processor has it.
    """

    is_differentiable = False

    def __init__(self, trunk: nn.Module, x: Tensor, present: Tensor, precision: Literal["fp32", "bf16"]) -> None:
        import openvino

        self._state = fingerprint(trunk)
        graph = _converted(trunk, x, present)
        graph.reshape({graph.input(0): [-1, *x.shape[1:]], graph.input(1): [-1, 2]})
        core = openvino.Core()
        capable = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision: Literal["fp32", "bf16"] = precision if capable else "fp32"
        settings = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[self.precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._compiled = core.compile_model(graph, "CPU", settings)
        self.name = f"OpenVINO {openvino.__version__.split('-')[0]} {self.precision}"

    def crossing(self, x: Tensor, present: Tensor) -> tuple[Tensor, ...]:
        """Return the trunk's tensors; those of four dimensions lie channels-last, as torch's would."""
        answered = self._compiled([x.contiguous().numpy(), present.numpy()])
        tensors = (torch.from_numpy(answered[index].copy()) for index in range(len(self._compiled.outputs)))
        return tuple(t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in tensors)

    def is_stale(self, trunk: nn.Module) -> bool:
        """Return whether a weight has changed since."""
        return self._state != fingerprint(trunk)

    def renewed(self, trunk: nn.Module, x: Tensor, present: Tensor) -> CompiledTrunk:
        """Compile again."""
        return CompiledTrunk(trunk, x[:1], present[:1], self.precision)


def _converted(trunk: nn.Module, x: Tensor, present: Tensor) -> Any:
    """Return OpenVINO's graph, by its frontend alone: its converter's telemetry would call home."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings(), torch.no_grad():
        # Torch calls its own tracer old; OpenVINO's reader of torch.export does not take a batch of any size.
        warnings.filterwarnings("ignore", message=".*torch.jit.trace.*", category=DeprecationWarning)
        traced = torch.jit.trace(trunk, (x, present), check_trace=False)  # type: ignore[no-untyped-call]
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced)  # must outlive the conversion
    return frontend.convert(frontend.load(decoder))


def fingerprint(trunk: nn.Module) -> tuple[tuple[int, int], ...]:
    """Return what changes when a weight does."""
    tensors = [*trunk.parameters(), *trunk.buffers()]
    return tuple((tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors)


def operations(work: Callable[[], object]) -> int:
    """Return the multiplications and additions of the convolutions and matrix products in ``work``."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def faster(one: Callable[[], object], other: Callable[[], object], seconds: Callable[[], float]) -> bool:
    """Return whether ``other`` takes less time than ``one``: the better of two runs each, taken in turn."""
    best = [float("inf"), float("inf")]
    for _ in range(2):
        for index, work in enumerate((one, other)):
            begun = seconds()
            work()
            best[index] = min(best[index], seconds() - begun)
    return best[1] < best[0]
