"""On which side the optic disc is: whether a photograph looks like the eye that it is filed under.

In a photograph as a camera shows it, the disc of a right eye stands on the right. A small network learns this from the
sides that the training photographs are filed under, so nobody has to label anything. Mirroring turns its answer round
and turning upside down does not change it, both exactly; so a photograph rotated by 180° answers as the other eye.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from workbench.data.exams import Exams
from workbench.models.modes import evaluation
from workbench.schema.errors import WorkbenchError
from workbench.schema.progress import track
from workbench.schema.seeds import seed_for

SIDE: Final = 64
CHANNELS: Final = 16
EXAMS: Final = 2048
"""How many exams are learned from at most; their planes are held in memory, 100 KiB each."""
EPOCHS: Final = 16
BATCH: Final = 64
"""Eyes."""
LEARNING_RATE: Final = 3e-3
SMOOTHING: Final = 0.05
"""Some photographs are filed as they were taken, through a condensing lens, upside down: no label is quite certain."""

NAMES: Final[tuple[Literal["OD", "OS"], ...]] = ("OD", "OS")

Pixels = UInt8[np.ndarray, "height width 3"]
Planes = Float[Tensor, "eye 6 side side"]


class DiscSide(nn.Module):
    """Answers with the log-odds that a photograph is of a right eye, if it stands upright."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 6
        for channels in (CHANNELS, 2 * CHANNELS, 4 * CHANNELS):
            layers += [nn.Conv2d(before, channels, 3, 2, 1), nn.BatchNorm2d(channels), nn.ReLU()]
            before = channels
        self.body = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(before * (SIDE // 8) ** 2, 1)

    def forward(self, planes: Planes) -> Float[Tensor, " eye"]:
        """Return the log-odds; antisymmetric under mirroring, and in evaluation blind to upside down."""
        answer = self._one_way(planes) - self._one_way(planes.flip(-1))
        if self.training:
            return answer
        turned = planes.flip(-2)
        return (answer + self._one_way(turned) - self._one_way(turned.flip(-1))) / 2

    def _one_way(self, planes: Planes) -> Float[Tensor, " eye"]:
        return self.head(self.dropout(self.body(planes).flatten(1)))[:, 0]


def planes_of(pixels: Pixels) -> Float[np.ndarray, "6 side side"]:
    """Return a photograph's standardised colours and its difference from the local average, at `SIDE` pixels."""
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    average = cv2.GaussianBlur(small, (0, 0), SIDE / 16, borderType=cv2.BORDER_REPLICATE)
    even = (small - small.mean(axis=(0, 1))) / (small.std(axis=(0, 1)) + 0.05)
    return np.concatenate([even, (small - average) / 0.08], axis=-1).transpose(2, 0, 1)


def train_laterality(exams: Exams, *, seed: int = 0, epochs: int = EPOCHS) -> DiscSide:
    """Return a network trained on the sides that these exams are filed under; the same exams give the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(seed, "laterality"))  # for the weights and the dropout
        model = DiscSide().train()
        generator = torch.Generator().manual_seed(seed_for(seed, "laterality", "views"))
        planes, right = _cohort(exams)
        orders = [torch.randperm(len(planes), generator=generator) for _ in range(epochs)]
        batches = [order[start : start + BATCH] for order in orders for start in range(0, len(order), BATCH)]
        optimiser = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=len(batches))
        for chosen in track(batches, "learning on which side the disc is", total=len(batches)):
            target = right[chosen] * (1 - 2 * SMOOTHING) + SMOOTHING
            answer = model(_view(planes[chosen].float(), generator))
            loss = functional.binary_cross_entropy_with_logits(answer, target)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
    return model.eval()


def right_eye_log_odds(model: DiscSide, photographs: Sequence[Pixels | None]) -> Float[np.ndarray, " photograph"]:
    """Return the log-odds that each photograph is of a right eye; NaN where there is none."""
    found = np.full(len(photographs), np.nan)
    with evaluation(model), torch.inference_mode():
        for place, pixels in enumerate(photographs):
            if pixels is not None:
                # One at a time, so that an answer does not depend on the other photographs.
                found[place] = float(model(torch.from_numpy(planes_of(pixels))[None])[0])
    return found


def _cohort(exams: Exams) -> tuple[Planes, Float[Tensor, " eye"]]:
    """Return the planes (float16) of at most `EXAMS` exams, drawn by a hash of their ids, and 1.0 for a right eye."""
    order = sorted(range(len(exams)), key=lambda index: seed_for("laterality", exams.exam_ids[index]))
    planes: list[Float[np.ndarray, "6 side side"]] = []
    right: list[bool] = []
    for index in sorted(order[:EXAMS]):
        for name in NAMES:
            pixels = exams.pixels(index, name)
            if pixels is not None:
                planes.append(planes_of(pixels).astype(np.float16))
                right.append(name == "OD")
    if len(planes) < 2:
        raise WorkbenchError(f"{len(planes)} photograph(s) with a side to learn from", "take a split with more of them")
    return torch.from_numpy(np.stack(planes)), torch.tensor(right).float()


def _view(planes: Planes, generator: torch.Generator) -> Planes:
    """Turn by up to 15°, scale, shift and, by chance, flip upside down: the disc stays on its side."""

    def draw() -> Tensor:
        return torch.rand(len(planes), generator=generator)

    angle, scale = (2 * draw() - 1) * math.radians(15), 1 + (2 * draw() - 1) * 0.1
    right, down = (2 * draw() - 1) * 0.06, (2 * draw() - 1) * 0.06
    flip = torch.where(draw() < 0.5, -1.0, 1.0)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [torch.stack([cosine, -sine * flip, right], dim=1), torch.stack([sine, cosine * flip, down], dim=1)]
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(planes.shape), align_corners=False)
    return functional.grid_sample(planes, grid, align_corners=False)
