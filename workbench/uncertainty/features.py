"""What a model makes of an eye before its last layer: the features and logits that unlikeness is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.models.modes import evaluation
from workbench.models.paired import PairedEyeNet
from workbench.schema.errors import WorkbenchError

Exams = Float[Tensor, "exam 6 height width"]
Present = Bool[Tensor, "exam 2"]


@dataclass(frozen=True)
class EyeFeatures:
    """Features and logits per eye, dropout off, float32 on the CPU; NaN for an absent eye.

    Attributes:
        features: the input of the last linear layer.
        logits: the answers.
        answers: the same as the model gave them, for an absent eye too, where it gave them.
    """

    features: Float[Tensor, "exam 2 feature"]
    logits: Float[Tensor, "exam 2 grade"]
    answers: Float[Tensor, "exam 2 grade"]


class FeatureReader:
    """Reads the input of the last linear layer that a forward pass calls.

    A `PairedEyeNet` with late fusion gives each eye its own half of that vector; one with early fusion gives both eyes
    the exam's. In a model of others' the vector is per exam, or per eye in whatever order a probe finds.

    Attributes:
        layer: the name of the layer.
        shared: whether both eyes of an exam get the same vector.

    Args:
        model: ``(x, present) -> logits``.
        size: side of the model's input, pixels.

    Raises:
        WorkbenchError: no linear layer is called, or its rows are neither exams nor eyes.
    """

    def __init__(self, model: nn.Module, size: int) -> None:
        self.model = model
        self.device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self._own_half = isinstance(model, PairedEyeNet) and model.architecture.fusion == "late"
        self._by_eye = False
        self.layer, self.shared = self._probe(size)

    def __call__(self, x: Exams, present: Present, net: nn.Module | None = None) -> EyeFeatures:
        """Return features and logits of some exams, by the model or by ``net``, a copy with the same modules."""
        _, rows, logits = self._pass(x, present, net)
        absent = ~present[..., None].to(rows.device)
        features = self._per_eye(rows, len(x)).masked_fill(absent, torch.nan)
        return EyeFeatures(features.cpu(), logits.masked_fill(absent, torch.nan).cpu(), logits)

    def _pass(self, x: Tensor, present: Tensor, net: nn.Module | None = None) -> tuple[str, Tensor, Tensor]:
        """Return the layer's name, its input and the logits."""
        model = self.model if net is None else net
        seen: list[tuple[str, Tensor]] = []

        def remember(name: str) -> Any:
            return lambda _module, inputs: seen.append((name, inputs[0]))

        linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        handles = [module.register_forward_pre_hook(remember(name)) for name, module in linear]
        try:
            with evaluation(model), torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                logits: Tensor = model(x.to(self.device), present.to(self.device))
        finally:
            for handle in handles:
                handle.remove()
        if not seen:
            raise WorkbenchError(
                f"{type(model).__name__} calls no nn.Linear, so its features cannot be found",
                "end the model in a linear layer; without one unlikeness is not assessed",
            )
        return (*seen[-1], logits.float())

    def _per_eye(self, rows: Tensor, exams: int) -> Tensor:
        rows = rows.float()
        if rows.dim() == 3 and rows.shape[1] == 2:
            return rows[..., : rows.shape[-1] // 2] if self._own_half else rows
        if len(rows) == exams:
            return rows[:, None].expand(-1, 2, -1)
        return rows.reshape(2, exams, -1).transpose(0, 1) if self._by_eye else rows.reshape(exams, 2, -1)

    def _probe(self, size: int) -> tuple[str, bool]:
        """Change one eye of two exams and see which rows of the layer's input change."""
        x = torch.rand((2, 6, size, size), generator=torch.Generator().manual_seed(0))
        other = x.clone()
        other[0, 3:] = 1 - other[0, 3:]
        both = torch.ones((2, 2), dtype=torch.bool)
        name, rows, _ = self._pass(x, both)
        changed = (rows != self._pass(other, both)[1]).flatten(1).any(dim=1).tolist()
        per_exam = rows.dim() == 2 and changed == [True, False]
        of_eyes = rows.dim() == 3 and rows.shape[1] == 2 and changed == [True, False]
        if rows.dim() == 2 and len(rows) == 4 and changed[1] != changed[2]:
            self._by_eye = changed[2]
        elif not (per_exam or of_eyes):
            raise WorkbenchError(
                f"the input of {name!r} has the shape {tuple(rows.shape)} for two exams: neither exams nor eyes",
                "let the last linear layer see one vector per exam or per eye",
            )
        return name, per_exam


class KeptPass:
    """Makes the passes that judge exams, and keeps their features for who asks next of the same exams.

    Args:
        reader: of the model.
    """

    def __init__(self, reader: FeatureReader) -> None:
        self.reader = reader
        self._passes: list[tuple[Tensor, Tensor, EyeFeatures]] = []

    def __call__(self, net: nn.Module, x: Exams, present: Present) -> Float[Tensor, "exam 2 grade"]:
        """Return the logits of the model, or of a copy of it."""
        read = self.reader(x, present, net)
        self._passes.append((x, present, read))
        return read.answers

    def of(self, x: Exams, present: Present) -> EyeFeatures | None:
        """Return what a pass over these very pixels read."""
        for pixels, eyes, read in self._passes:
            if torch.equal(pixels, x) and torch.equal(eyes, present):
                return read
        return None
