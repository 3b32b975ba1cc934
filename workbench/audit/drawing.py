"""From an audit's configuration to who makes its draws, and the models that take part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from workbench.audit.config import AuditConfig
from workbench.audit.run_manifest import Member
from workbench.models.checkpoint import checkpoint_folders, load_model, model_hash
from workbench.schema.errors import WorkbenchError
from workbench.schema.model_card import ModelCard
from workbench.uncertainty.makers import Deterministic, DrawMaker, Ensemble, MixtureNet
from workbench.uncertainty.mc_dropout import StochasticPredictor
from workbench.uncertainty.views import Views


@dataclass(frozen=True)
class Drawing:
    """Who makes the draws of a run.

    Attributes:
        maker: of the draws.
        attacked: what a stress is aimed at: the model, or all members' mean where they answer together.
        draws: how many draws there are.
        members: the further models, as the run records them.
    """

    maker: DrawMaker
    attacked: nn.Module
    draws: int
    members: tuple[Member, ...] = ()


def settled_drawing(
    config: AuditConfig, model: nn.Module, card: ModelCard
) -> tuple[Drawing, Literal["eager", "openvino"]]:
    """Return who makes the draws, having made one of nothing, which settles how; and the engine that it uses.

    An engine that was left to time is settled for all members alike, so that every worker uses the same.

    Raises:
        WorkbenchError: see `drawing_of`.
    """
    drawing = _tried(drawing_of(config, model, card), card)
    engine = _engine_of(drawing.maker)
    if config.engine == "auto" and isinstance(drawing.maker, Ensemble):
        drawing = _tried(drawing_of(config.model_copy(update={"engine": engine}), model, card), card)
    return drawing, engine


def _tried(drawing: Drawing, card: ModelCard) -> Drawing:
    size = card.preprocess.size
    nothing, both = torch.zeros(1, 6, size, size), torch.ones(1, 2, dtype=torch.bool)
    every = len(drawing.maker.members) if isinstance(drawing.maker, Ensemble) else 1
    drawing.maker.draws(nothing, both, draws=every, seeds=[0])
    return drawing


def _engine_of(maker: DrawMaker) -> Literal["eager", "openvino"]:
    makers = maker.members if isinstance(maker, Ensemble) else (maker,)
    uses = [isinstance(one, StochasticPredictor) and one.engine == "openvino" for one in makers]
    return "openvino" if all(uses) else "eager"


def drawing_of(config: AuditConfig, model: nn.Module, card: ModelCard) -> Drawing:
    """Return who makes the draws that ``config`` asks for.

    Raises:
        WorkbenchError: no such member, one that is fed otherwise than the model, or a model without dropout where
            dropout is asked for.
    """
    if config.draws_from == "views":
        return Drawing(Views(model, config.views, precision=config.precision), model, config.draws)
    if config.draws_from == "mc_dropout":
        return Drawing(_predictor(config, model), model, config.draws)
    folders, nets = _members(config, card)
    recorded = tuple(Member(name=folder.resolve().name, model_hash=model_hash(folder)) for folder in folders)
    every = nets if config.draws_from == "checkpoints" else [model, *nets]
    if config.draws_from == "ensemble_mc_dropout":
        maker, draws = Ensemble([_predictor(config, net) for net in every]), config.draws
        if draws < len(every):
            raise WorkbenchError(f"{draws} draws of {len(every)} members", f"ask for draws={len(every)} at least")
    else:
        maker, draws = Ensemble([Deterministic(net, precision=config.precision) for net in every]), len(every)
    return Drawing(maker, MixtureNet(every).eval(), draws, recorded)


def _predictor(config: AuditConfig, model: nn.Module) -> StochasticPredictor:
    return StochasticPredictor(
        model,
        precision=config.precision,
        memory_mib=config.memory_mib,
        stochastic_depth=config.stochastic_depth,
        engine=config.engine,
    )


def _members(config: AuditConfig, card: ModelCard) -> tuple[Sequence[Path], list[nn.Module]]:
    folders: Sequence[Path] = config.members
    if config.draws_from == "checkpoints" and not folders:
        folders = checkpoint_folders(config.model)
    nets: list[nn.Module] = []
    for folder in folders:
        net, other = load_model(folder)
        for name, own, theirs in (
            ("preprocessing", card.preprocess, other.preprocess),
            ("classes", card.classes, other.classes),
        ):
            if own != theirs:
                raise WorkbenchError(f"the member {folder} has another {name} than the model", "leave it out")
        nets.append(net)
    return folders, nets
