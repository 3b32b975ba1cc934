"""The draws of one exam as deterministic networks: each by itself, or all of them behind one trunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.models.modes import evaluation
from workbench.schema.errors import WorkbenchError
from workbench.schema.seeds import seed_for
from workbench.uncertainty.makers import Deterministic, DrawMaker, Ensemble
from workbench.uncertainty.mc_dropout import StochasticPredictor, same
from workbench.uncertainty.replay import Replay
from workbench.uncertainty.seeded_dropout import SeededDropout, training_flags
from workbench.uncertainty.split import SplitError, WholePasses


class OneDraw(nn.Module):
    """A model with the masks of one draw of one exam; each row of a batch stands for that exam.

    Args:
        model: ``(x, present) -> logits``, in evaluation mode.
        seed: of the exam.
        number: of the draw.
        flagged: modules that draw only where they are told that they train.
    """

    def __init__(self, model: nn.Module, seed: int, number: int, flagged: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.model, self.seed, self.number, self.flagged = model, seed, number, tuple(flagged)
        # What a map asks of the model itself: whether it mirrors an eye, and which layer makes its feature map.
        self.architecture = getattr(model, "architecture", None)
        layer = getattr(model, "feature_layer", None)
        self.feature_layer = None if layer is None else f"model.{layer}"

    def forward(
        self, x: Float[Tensor, "row 6 height width"], present: Bool[Tensor, "row 2"]
    ) -> Float[Tensor, "row 2 grade"]:
        """Return the draw's logits."""
        with training_flags(self.flagged), SeededDropout([self.seed] * len(x), self.number, 1):
            logits: Tensor = self.model(x, present)
        return logits


class DrawnNet(nn.Module):
    """All draws of one exam as one network; its answers have the draws in front.

    Args:
        nets: a network per draw.
    """

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(
        self, x: Float[Tensor, "row 6 height width"], present: Bool[Tensor, "row 2"]
    ) -> Float[Tensor, "draw row 2 grade"]:
        """Return every draw's logits; each row of a batch stands for the one exam."""
        return torch.stack([net(x, present) for net in self.nets])


class SharedTrunk(DrawnNet):
    """The draws of a model with dropout: what stands before its first mask runs once, forwards and backwards.

    Args:
        model: ``(x, present) -> logits``.
        seed: of the exam.
        draws: how many.
        halves: the model's two.
    """

    def __init__(self, model: nn.Module, seed: int, draws: int, halves: Replay) -> None:
        super().__init__([OneDraw(model, seed, number) for number in range(draws)])
        self.model, self.seed, self.draws, self.halves = model, seed, draws, halves

    def trunk(self, x: Float[Tensor, "row 6 height width"], present: Bool[Tensor, "row 2"]) -> Any:
        """Return what the model has made of the exam before its first mask."""
        return self.halves.trunk(x, present), len(x)

    def tail(self, frontier: Any) -> Float[Tensor, "draw row 2 grade"]:
        """Return every draw's logits."""
        halfway, rows = frontier
        with SeededDropout([self.seed] * rows, 0, self.draws):
            logits: Tensor = self.halves.tail(halfway, self.draws)
        return logits.reshape(self.draws, rows, *logits.shape[1:])

    def forward(
        self, x: Float[Tensor, "row 6 height width"], present: Bool[Tensor, "row 2"]
    ) -> Float[Tensor, "draw row 2 grade"]:
        """Return every draw's logits; each row of a batch stands for the one exam."""
        return self.tail(self.trunk(x, present))


def drawn_net(
    maker: DrawMaker,
    x: Float[Tensor, "1 6 height width"],
    present: Bool[Tensor, "1 2"],
    *,
    seed: int,
    draws: int,
    net: nn.Module | None = None,
) -> DrawnNet:
    """Return the first draws that a maker would make of one exam, as a network whose gradient can be taken.

    Args:
        maker: of MC-dropout, or an ensemble.
        x: the exam.
        present: its eyes.
        seed: of the exam, as `DrawMaker.draws` is given it.
        draws: how many.
        net: a faster copy of the maker's model; None: the model.

    Raises:
        WorkbenchError: draws that are no networks (test-time views).
    """
    if isinstance(maker, Ensemble):
        count = len(maker.members)
        own = [seed_for(seed, "member", number) for number in range(count)]
        return DrawnNet([_one(maker.members[draw % count], own[draw % count], draw // count) for draw in range(draws)])
    if not isinstance(maker, StochasticPredictor):
        return DrawnNet([_one(maker, seed, draw) for draw in range(draws)])
    if maker.flagged:  # they are modules of the model itself
        return DrawnNet([_one(maker, seed, draw) for draw in range(draws)])
    model = maker.model if net is None else net
    return _shared(model, x, present, seed, draws) or DrawnNet([OneDraw(model, seed, draw) for draw in range(draws)])


def _one(maker: DrawMaker, seed: int, number: int) -> nn.Module:
    if isinstance(maker, Deterministic):
        return maker.model
    if isinstance(maker, StochasticPredictor):
        return OneDraw(maker.model, seed, number, maker.flagged)
    raise WorkbenchError(
        f"maps over draws that are made by {type(maker).__name__}",
        "draw them from dropout, an ensemble or checkpoints (draws_from), or ask for draws: 0",
    )


def _shared(model: nn.Module, x: Tensor, present: Tensor, seed: int, draws: int) -> SharedTrunk | None:
    """Return the draws behind one trunk, if that gives the answers of whole passes on this exam."""
    with evaluation(model), torch.no_grad():
        try:
            shared = SharedTrunk(model, seed, draws, Replay(model, x, present))
            answers = shared(x, present)[:2]
        except (SplitError, RuntimeError, ValueError):
            return None
        with SeededDropout([seed], 0, min(2, draws)):
            whole = WholePasses(model).tail((x, present), min(2, draws))
    return shared if same(whole.reshape(answers.shape), answers) else None
