"""Make quantus_reference.json: what Quantus 0.6.0 answers on the inputs of `inputs`.

Quantus brings opencv-python, which collides with the headless one that the workbench needs, so it has no place in the
test environment. Install it beside it and run this file there:

    pip install --no-deps --target /tmp/quantus quantus==0.6.0
    PYTHONPATH=.:/tmp/quantus python tests/explanation/trust/quantus_reference.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 32
"""A cell is a pixel: the workbench ranks on 32 × 32 cells."""
STEP = 64
"""Pixels that go at once."""


def inputs() -> dict[str, np.ndarray]:
    """Return two photographs, what they become, weights of a linear answer, two maps, moves, and what is taken."""
    generator = np.random.default_rng(2023)
    return {
        "x": generator.random((2, 3, SIDE, SIDE)),
        "empty": generator.random((2, 3, SIDE, SIDE)),
        "weight": generator.normal(size=(3, SIDE, SIDE)) / 20,
        "heat": generator.normal(size=(2, SIDE, SIDE)),
        "other": generator.normal(size=(2, SIDE, SIDE)),
        "taken": generator.random((SIDE, SIDE)) < 0.3,
        "moves": generator.uniform(-0.1, 0.1, size=(5, 2, 3, SIDE, SIDE)),
    }


def answer(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return a number between 0 and 1 per exam."""
    return 1 / (1 + np.exp(-(x * weight).reshape(len(x), -1).sum(axis=1)))


def explained(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the gradient of `answer` times the input."""
    p = answer(x, weight)
    return (p * (1 - p))[:, None, None, None] * weight * x


def share(heat: np.ndarray) -> np.ndarray:
    """Return strengths as a share of each map's largest value; the first cell is empty, so that they span 0 to 1."""
    strength = np.abs(heat) / np.abs(heat).max(axis=(1, 2), keepdims=True)
    strength[:, 0, 0] = 0
    return strength


def _in_turn(moves: np.ndarray) -> Callable[..., np.ndarray]:
    """Return a disturbance in Quantus' form that adds one move after the other."""
    left = iter(moves)

    def moved(arr: np.ndarray, **_: object) -> np.ndarray:
        return arr + next(left).reshape(arr.shape)

    return moved


def main() -> None:
    """Write what Quantus answers."""
    import quantus
    import torch
    from quantus.functions import perturb_func, similarity_func

    given = inputs()
    x, empty, weight = (torch.from_numpy(given[name]) for name in ("x", "empty", "weight"))

    class Kept(torch.nn.Module):
        """Answers a mask of where one photograph is kept; elsewhere the other one is seen."""

        def __init__(self, kept: torch.Tensor, instead: torch.Tensor) -> None:
            super().__init__()
            self.kept, self.instead = kept, instead

        def forward(self, mask: torch.Tensor) -> torch.Tensor:
            p = torch.sigmoid((torch.where(mask > 0.5, self.kept, self.instead) * weight).flatten(1).sum(dim=1))
            return torch.stack([1 - p, p], dim=1)

    def flipped(kept: torch.Tensor, instead: torch.Tensor, heat: np.ndarray) -> list[float]:
        flipping = quantus.PixelFlipping(
            features_in_step=STEP, normalise=False, perturb_baseline=0.0, disable_warnings=True
        )
        curve: Any = flipping(
            model=Kept(kept, instead).double().eval(),
            x_batch=np.ones((1, 1, SIDE, SIDE)),
            y_batch=np.array([1]),
            a_batch=heat[None, None],
            device="cpu",
            softmax=False,
        )
        return [float(value) for value in np.ravel(curve)]

    sensitivity = quantus.MaxSensitivity(
        nr_samples=len(given["moves"]),
        perturb_func=_in_turn(given["moves"]),
        normalise=False,
        abs=False,
        return_nan_when_prediction_changes=False,
        disable_warnings=True,
    )
    sensitive = sensitivity(
        model=torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIDE * SIDE, 2)).double().eval(),
        x_batch=given["x"],
        y_batch=np.array([1, 1]),
        explain_func=lambda inputs, **_: explained(np.asarray(inputs).reshape(given["x"].shape), given["weight"]),
        device="cpu",
    )
    filled = perturb_func.noisy_linear_imputation(given["x"][0], np.flatnonzero(given["taken"]), noise=0.0)
    inside = ((2 * (np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2) / SIDE) ** 2).sum(axis=0) <= 1
    strengths = [np.abs(given[name])[:, inside] for name in ("heat", "other")]
    found = {
        "quantus": quantus.__version__,
        "pixel_flipping": [flipped(x[i], empty[i], given["heat"][i]) for i in range(2)],
        "pixel_flipping_of_what_is_missing": [flipped(empty[i], x[i], given["heat"][i]) for i in range(2)],
        "max_sensitivity": np.ravel(sensitive).tolist(),
        "ssim": similarity_func.ssim(*(share(given[name]) for name in ("heat", "other")), batched=True),
        "noisy_linear_imputation_mean": filled[:, given["taken"]].mean(axis=1).tolist(),
        "noisy_linear_imputation_first": filled[:, given["taken"]][:, :8].tolist(),
        "correlation_spearman": similarity_func.correlation_spearman(*strengths, batched=True).tolist(),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
