"""A model cut at its first dropout: what stands before runs once, what stands after runs once per draw."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

from workbench.uncertainty.engine import TrunkEngine
from workbench.uncertainty.seeded_dropout import DROPOUT_MODULES, DROPOUTS, NOISE, dropout_probability


class SplitError(Exception):
    """The model cannot be cut; the message says why."""


class NothingRandomError(SplitError):
    """The whole model was traced, and no random call stands in it."""


@dataclass(frozen=True)
class Frontier:
    """What the deterministic part hands over for a batch of exams.

    Attributes:
        values: of each node that the stochastic part reads.
        outlines: every node's value with tensors on the meta device: sizes without contents.
    """

    values: dict[fx.Node, Any]
    outlines: dict[fx.Node, Any]


class _Root(nn.Module):
    """Holds the model, so that tracing leaves no attribute of its own on it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Any, present: Any) -> Any:
        return self.model(x, present)


class WholePasses:
    """The same two halves where there is no cut: nothing runs once, everything runs per draw."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def trunk(self, x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"]) -> tuple[Tensor, Tensor]:
        """Return the exams as they are."""
        return x, present

    def tail(self, frontier: tuple[Tensor, Tensor], count: int) -> Float[Tensor, "batch 2 grade"]:
        """Return the logits of ``count`` draws × exams, draw-major."""
        x, present = frontier
        logits: Tensor = self.model(x.repeat(count, 1, 1, 1), present.repeat(count, 1))
        return logits


class _Tracer(fx.Tracer):
    """Takes modules that draw random numbers as they are: their code asks for shapes that a trace does not know."""

    def __init__(self, leaves: Collection[nn.Module]) -> None:
        super().__init__()
        self.leaves = set(leaves)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether ``m`` is one node of the graph."""
        return m in self.leaves or super().is_leaf_module(m, module_qualified_name)


class _TrunkModule(nn.Module):
    def __init__(self, split: Split) -> None:
        super().__init__()
        self.root = split.root
        self.halves = split

    def forward(self, x: Any, present: Any) -> Any:
        return self.halves.crossing(x, present)


class Split:
    """The traced model in two halves; parameters and modules stay the model's own.

    Args:
        model: ``(x, present) -> logits``.
        random: modules that draw random numbers in their own code; each is taken whole, but for the model itself.

    Attributes:
        site: the name of the first stochastic module or call.

    Raises:
        SplitError: tracing failed, or found no dropout before the output.
    """

    def __init__(self, model: nn.Module, random: Collection[nn.Module] = ()) -> None:
        self.root = root = _Root(model)
        leaves = {module for module in random if module is not model}
        try:
            self.graph = _Tracer(leaves).trace(root)
        except Exception as error:
            raise SplitError(f"not traceable: {type(error).__name__}: {first_line(error)}") from error
        self._interpreter = fx.Interpreter(root, garbage_collect_values=False, graph=self.graph)
        nodes = list(self.graph.nodes)
        sites = [node for node in nodes if _is_stochastic(node, root, leaves)]
        tail = _downstream(nodes, sites)
        if not sites:
            raise NothingRandomError("the trace shows no dropout")
        if nodes[-1] not in tail:
            raise SplitError("the trace shows no dropout before the output")
        self.site = str(sites[0].target).removeprefix("model.") if sites[0].op == "call_module" else sites[0].name
        self._from_input = _downstream(nodes, [node for node in nodes if node.op == "placeholder"])
        self._trunk = [node for node in nodes if node not in tail]
        self._tail = [node for node in nodes if node in tail]
        self._crossing = [node for node in self._trunk if any(user in tail for user in node.users)]
        self.crosses_tensors_only = False
        self.engine: TrunkEngine | None = None
        self._frees = _last_uses(self._trunk, keep=set(self._crossing)), _last_uses(self._tail, keep=set())

    def crossing(self, x: Tensor, present: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors that the stochastic part reads, computed by torch."""
        values = self._computed(x, present).values
        self.crosses_tensors_only = all(isinstance(value, Tensor) for value in values.values())
        return tuple(value for value in values.values() if isinstance(value, Tensor))

    def trunk_module(self) -> nn.Module:
        """Return the deterministic part as a module of tensors, for an engine to compile."""
        return _TrunkModule(self)

    def trunk(self, x: Float[Tensor, "exam 6 height width"], present: Bool[Tensor, "exam 2"]) -> Frontier:
        """Return what stands before the first dropout, computed once."""
        if self.engine is not None and self.engine.is_stale(self.root):
            self.engine = self.engine.renewed(self.trunk_module(), x, present)
        if self.engine is None or x.dtype != torch.float32:
            return self._computed(x, present)
        if torch.is_grad_enabled() and not self.engine.is_differentiable:
            return self._computed(x, present)
        return Frontier(dict(zip(self._crossing, self.engine.crossing(x, present), strict=True)), {})

    def _computed(self, x: Tensor, present: Tensor) -> Frontier:
        values: dict[fx.Node, Any] = {}
        outlines: dict[fx.Node, Any] = {}
        given = iter((x, present))
        for node in self._trunk:
            values[node] = next(given) if node.op == "placeholder" else self._value(node, values)
            outlines[node] = pytree.tree_map_only(Tensor, lambda tensor: tensor.to("meta"), values[node])
            for done in self._frees[0].get(node, ()):
                del values[done]
        return Frontier({node: values[node] for node in self._crossing}, outlines)

    def tail(self, frontier: Frontier, count: int) -> Float[Tensor, "batch 2 grade"]:
        """Return the logits of ``count`` draws × exams, draw-major."""
        values = {node: self._times(node, value, frontier, count) for node, value in frontier.values.items()}
        for node in self._tail:
            values[node] = self._value(node, values)
            for done in self._frees[1].get(node, ()):
                values.pop(done, None)
        logits: Tensor = values[self._tail[-1]]
        return logits

    def _value(self, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        self._interpreter.env = values
        return self._interpreter.run_node(node)

    def _times(self, node: fx.Node, value: Any, frontier: Frontier, count: int) -> Any:
        """Return a value for ``count`` copies of the batch: tensors repeated, sizes computed again."""
        if node not in self._from_input:
            return value
        if _holds_tensors(value):
            return pytree.tree_map_only(Tensor, lambda tensor: repeat(tensor, count), value)
        return self._resized(node, frontier.outlines, count)

    def _resized(self, node: fx.Node, outlines: dict[fx.Node, Any], count: int) -> Any:
        value = outlines[node]
        if node not in self._from_input:
            return value
        if _holds_tensors(value):
            return pytree.tree_map_only(Tensor, lambda tensor: repeat(tensor, count), value)
        args, kwargs = map_arg((node.args, node.kwargs), lambda other: self._resized(other, outlines, count))
        return getattr(self._interpreter, node.op)(node.target, args, kwargs)


def first_line(error: Exception) -> str:
    """Return the start of what an error says."""
    return (str(error).strip().splitlines() or [""])[0][:120]


def _is_stochastic(node: fx.Node, root: nn.Module, random: Collection[nn.Module]) -> bool:
    if node.op == "call_module":
        return any(is_active(module) or module in random for module in root.get_submodule(str(node.target)).modules())
    if node.op == "call_method":
        return getattr(Tensor, str(node.target), None) in NOISE
    if node.op == "call_function" and node.target in DROPOUTS:
        return dropout_probability(node.args, node.kwargs) > 0
    return node.op == "call_function" and node.target in NOISE


def is_active(module: nn.Module) -> bool:
    """Return whether this very module is a dropout that drops anything."""
    return isinstance(module, DROPOUT_MODULES) and module.p > 0


def _downstream(nodes: list[fx.Node], sources: list[fx.Node]) -> set[fx.Node]:
    """Return the sources and every node that depends on one."""
    found = set(sources)
    for node in nodes:
        if any(source in found for source in node.all_input_nodes):
            found.add(node)
    return found


def _last_uses(nodes: list[fx.Node], keep: set[fx.Node]) -> dict[fx.Node, list[fx.Node]]:
    """Return, for each node, the values that nobody reads after it."""
    last = {source: node for node in nodes for source in node.all_input_nodes if source not in keep}
    frees: dict[fx.Node, list[fx.Node]] = {}
    for source, node in last.items():
        frees.setdefault(node, []).append(source)
    return frees


def _holds_tensors(value: Any) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(value))


def repeat(tensor: Tensor, count: int) -> Tensor:
    """Return ``count`` copies along the batch (a copy even for one: the tail may work in place)."""
    if not tensor.dim():
        return tensor
    if count == 1:
        return tensor.clone()
    if _is_channels_last(tensor):  # copied in memory's own order, not through another
        return tensor.permute(0, 2, 3, 1).repeat(count, 1, 1, 1).permute(0, 3, 1, 2)
    return tensor.repeat(count, *[1] * (tensor.dim() - 1))


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
