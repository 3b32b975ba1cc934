"""Make quantus_reference.json: what Quantus 0.6.0 answers on the inputs of `inputs`.

Quantus brings opencv-python, which collides with the headless one that the workbench needs, so it has no place in the
test environment. Install it beside it and run this file there:

    pip install --no-deps --target /tmp/quantus quantus==0.6.0
    PYTHONPATH=.:/tmp/quantus python tests/explanation/trust/quantus_reference.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 32
"""A cell is a pixel: the workbench ranks on 32 × 32 cells."""
STEP = 64
"""Pixels that go at once."""


def inputs() -> dict[str, np.ndarray]:
    """Return two photographs of one eye, what they become, weights of a linear answer, two maps, and what is taken."""
    generator = np.random.default_rng(2023)
    return {
        "x": generator.random((2, 3, SIDE, SIDE)),
        "empty": generator.random((2, 3, SIDE, SIDE)),
        "weight": generator.normal(size=(3, SIDE, SIDE)) / 20,
        "heat": generator.normal(size=(2, SIDE, SIDE)),
        "other": generator.normal(size=(2, SIDE, SIDE)),
        "taken": generator.random((SIDE, SIDE)) < 0.3,
    }


def answer(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return a number between 0 and 1 per exam."""
    return 1 / (1 + np.exp(-(x * weight).reshape(len(x), -1).sum(axis=1)))


def main() -> None:
    """Write what Quantus answers."""
    import quantus
    import torch
    from quantus.functions import perturb_func, similarity_func

    given = inputs()
    x, empty, weight = (torch.from_numpy(given[name]) for name in ("x", "empty", "weight"))

    class Kept(torch.nn.Module):
        """Answers a mask of what is kept of the first or the second photograph."""

        def __init__(self, place: int) -> None:
            super().__init__()
            self.place = place

        def forward(self, kept: torch.Tensor) -> torch.Tensor:
            shown = torch.where(kept > 0.5, x[self.place], empty[self.place])
            p = torch.sigmoid((shown * weight).flatten(1).sum(dim=1))
            return torch.stack([1 - p, p], dim=1)

    curves: list[Any] = []
    for place in range(2):
        flipping = quantus.PixelFlipping(
            features_in_step=STEP, normalise=False, perturb_baseline=0.0, disable_warnings=True
        )
        mask = np.ones((1, 1, SIDE, SIDE))
        heat = given["heat"][place : place + 1, None]
        curve = flipping(
            model=Kept(place).double().eval(),
            x_batch=mask,
            y_batch=np.array([1]),
            a_batch=heat,
            device="cpu",
            softmax=False,
        )
        curves.append([float(value) for value in np.ravel(curve)])
    filled = perturb_func.noisy_linear_imputation(given["x"][0], np.flatnonzero(given["taken"]), noise=0.0)
    inside = ((2 * (np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2) / SIDE) ** 2).sum(axis=0) <= 1
    strengths = [np.abs(given[name])[:, inside] for name in ("heat", "other")]
    found = {
        "quantus": quantus.__version__,
        "pixel_flipping": curves,
        "noisy_linear_imputation_mean": filled[:, given["taken"]].mean(axis=1).tolist(),
        "noisy_linear_imputation_first": filled[:, given["taken"]][:, :8].tolist(),
        "correlation_spearman": similarity_func.correlation_spearman(*strengths, batched=True).tolist(),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
