"""Start from the weights of another model, where they fit."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.models.checkpoint import load_model
from workbench.models.paired import PairedEyeNet
from workbench.schema.errors import WorkbenchError
from workbench.schema.progress import console


def start_from(model: PairedEyeNet, folder: Path) -> list[str]:
    """Copy into ``model`` what fits of the model in ``folder``; return the names that were copied.

    A stem for one eye becomes one for two and the other way round (see `fit_stem`).

    Raises:
        WorkbenchError: no readable model there, or its trunk is another one.
    """
    source, card = load_model(folder)
    given, own = source.state_dict(), model.state_dict()
    stem = f"trunk.{model.trunk.stem}.weight"
    if stem in given:
        given[stem] = fit_stem(given[stem], own[stem].shape[1])
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    trunk = [name for name in own if name.startswith("trunk.")]
    missing = [name for name in trunk if name not in fitting]
    if missing:
        raise WorkbenchError(
            f"{folder} holds a {card.architecture.trunk} of width {card.architecture.width}; {missing[0]} does not fit",
            "give model.trunk and model.width those values, or drop train.init_from",
        )
    model.load_state_dict(own | fitting)
    console.print(f"starts from {folder}: {len(fitting)} of {len(own)} tensors fit", highlight=False)
    return sorted(fitting)


def fit_stem(
    weight: Float[Tensor, "out channels rows columns"], channels: int
) -> Float[Tensor, "out fitted rows columns"]:
    """Return a stem for 3 or 6 channels that answers alike where both eyes look alike.

    Three to six: each eye gets half of the weight. Six to three: the two halves are added.
    """
    if weight.shape[1] == channels:
        return weight
    if weight.shape[1] == 3:
        return torch.cat([weight, weight], dim=1) / 2
    return weight[:, :3] + weight[:, 3:]
