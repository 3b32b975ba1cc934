"""A small U-Net that finds lesions and the optic disc; it lies on disk as a folder that can run no code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, UInt8
from monai.networks.nets.basic_unet import BasicUNet
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor, nn

from workbench.models.checkpoint import WEIGHTS, refuse_pickle
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import atomic_path, sha256_file, write_json
from workbench.schema.lesions import LABELS, OPTIC_DISC, SOUGHT, LesionCard

CARD: Final = "lesions.json"
FINE, WIDE = 1 / 96, 1 / 24
"""Widths of the two local averages, shares of the side: about a small haemorrhage, and about the optic disc's half."""
INPUTS: Final = 9
"""Channels: the photograph over its own mean, and minus its local average at two scales, over the local contrast."""
DARK: Final = 0.04
SMALLEST: Final = 3
"""Pixels; a smaller group of pixels is no finding."""


class LesionNet(nn.Module):
    """``x -> logits`` of every kind in `SOUGHT`, per pixel; an eye is looked at by itself.

    Cameras differ in colour and light more than lesions do. So what the U-Net sees is relative (cf. Graham 2015): each
    colour over its mean, and its difference from the local average in units of how much that difference varies.
    """

    def __init__(self, card: LesionCard) -> None:
        super().__init__()
        self.size = card.size
        self.unet = BasicUNet(
            spatial_dims=2,
            in_channels=INPUTS,
            out_channels=len(SOUGHT),
            features=list(card.channels),
            norm="batch",
            act=("relu", {"inplace": False}),
        )

    def forward(self, x: Float[Tensor, "eye 3 height width"]) -> Float[Tensor, "eye kind height width"]:
        """Return logits; ``x`` in [0, 1], its field ``size`` pixels wide; sides are multiples of 16."""
        logits: Tensor = self.unet(relative(x, self.size, light_of(x, self.size)))
        return logits


@dataclass(frozen=True)
class Light:
    """A photograph's own light: mean of each colour, and how much it varies about its two local averages."""

    mean: Float[Tensor, "eye 3 1 1"]
    fine: Float[Tensor, "eye 3 1 1"]
    wide: Float[Tensor, "eye 3 1 1"]


def light_of(x: Float[Tensor, "eye 3 height width"], size: int) -> Light:
    """Measure whole photographs, over their lit pixels; a crop of one is judged by the light of the whole."""
    lit = (x.amax(dim=1, keepdim=True) > DARK).to(x.dtype)
    share = lit.mean(dim=(2, 3), keepdim=True).clamp(min=1e-3)
    mean = ((x * lit).mean(dim=(2, 3), keepdim=True) / share).clamp(min=0.02)
    fine, wide = (
        ((difference.square().mean(dim=(2, 3), keepdim=True) / share).sqrt().clamp(min=0.004))
        for difference in _differences(x, lit, size)
    )
    return Light(mean, fine, wide)


def relative(x: Float[Tensor, "eye 3 height width"], size: int, light: Light) -> Float[Tensor, "eye 9 height width"]:
    """Return what the U-Net sees; zero where there is no light."""
    lit = (x.amax(dim=1, keepdim=True) > DARK).to(x.dtype)
    fine, wide = _differences(x, lit, size)
    seen = [(x / light.mean - 1) * lit, (fine / light.fine).clamp(-6, 6) / 2, (wide / light.wide).clamp(-6, 6) / 2]
    return torch.cat(seen, dim=1)


def _differences(x: Tensor, lit: Tensor, size: int) -> tuple[Tensor, Tensor]:
    fine, wide = ((x - _local_average(x, lit, width * size)) * lit for width in (FINE, WIDE))
    return fine, wide


def _local_average(x: Tensor, lit: Tensor, sigma: float) -> Tensor:
    """Return the average over lit pixels: three box filters, near enough to a Gaussian."""
    side = 2 * max(1, round(sigma)) + 1
    light, weight = x * lit, lit
    for _ in range(3):
        # One direction after the other: the same average for a twentieth of the work.
        light, weight = (
            F.avg_pool2d(F.avg_pool2d(one, (side, 1), stride=1, padding=(side // 2, 0)), (1, side), 1, (0, side // 2))
            for one in (light, weight)
        )
    return light / weight.clamp(min=1e-4)


def find_lesions(
    model: LesionNet, photograph: UInt8[np.ndarray, "height width 3"], inside: np.ndarray | None = None
) -> Float[np.ndarray, "kind size size"]:
    """Return the probability of each kind in `SOUGHT` at the detector's own resolution, zero outside the field.

    Args:
        model: in evaluation mode.
        photograph: the square around the field; scaled to the detector's size where it has another.
        inside: the field at the detector's size; None: where there is light.
    """
    size = model.size
    if photograph.shape[0] != size:
        shrinks = photograph.shape[0] > size
        photograph = cv2.resize(photograph, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    x = torch.from_numpy(photograph.transpose(2, 0, 1).astype(np.float32) / 255)[None]
    with torch.inference_mode():
        p = torch.sigmoid(model(x))[0].numpy()
    lit = photograph.max(axis=2) > 10 if inside is None else inside
    return p * cv2.erode(lit.astype(np.uint8), np.ones((5, 5), np.uint8))


def labels_found(
    p: Float[np.ndarray, "kind size size"], thresholds: tuple[float, ...]
) -> UInt8[np.ndarray, "size size"]:
    """Return the places in `LABELS`: the optic disc as its one largest piece, lesions of `SMALLEST` pixels or more.

    Where two kinds reach their thresholds, the one further above its own counts; nothing else lies on the disc.
    """
    above = p / np.array(thresholds)[:, None, None]
    best = above[:-1].argmax(axis=0)
    labels = np.zeros(best.shape, np.uint8)
    for place, kind in enumerate(SOUGHT[:-1]):
        found = ((best == place) & (above[place] >= 1)).astype(np.uint8)
        count, pieces, stats, _ = cv2.connectedComponentsWithStats(found, connectivity=8)
        large = [piece for piece in range(1, count) if stats[piece, cv2.CC_STAT_AREA] >= SMALLEST]
        labels[np.isin(pieces, large)] = LABELS.index(kind)
    disc = _largest_piece((above[-1] >= 1).astype(np.uint8))
    labels[disc] = LABELS.index(OPTIC_DISC)
    return labels


def _largest_piece(found: UInt8[np.ndarray, "size size"]) -> np.ndarray:
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(found, connectivity=8)
    if count < 2:
        return np.zeros(found.shape, bool)
    return np.asarray(pieces == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))


@dataclass(frozen=True)
class Detector:
    """A loaded detector."""

    model: LesionNet
    card: LesionCard

    def labels(self, photograph: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "size size"]:
        """Return what it finds on the square around a field, at its own resolution."""
        return labels_found(find_lesions(self.model, photograph), self.card.thresholds)


def save_detector(model: LesionNet, card: LesionCard, folder: Path) -> LesionCard:
    """Write a detector and return its card with the sha256 of its weights."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        temporary.write_bytes(tensor_bytes(state))
    complete = card.model_copy(update={"weights_sha256": sha256_file(folder / WEIGHTS)})
    write_json(folder / CARD, complete.model_dump(mode="json"))
    return complete


def load_detector(folder: Path) -> Detector:
    """Return the detector of a folder, in evaluation mode; nothing is ever unpickled.

    Raises:
        WorkbenchError: none there, a pickle, a damaged card, weights that are not the card's.
    """
    card = read_lesion_card(folder)
    weights = folder / WEIGHTS
    refuse_pickle(weights if weights.is_file() else folder)
    if not weights.is_file() or sha256_file(weights) != card.weights_sha256:
        raise WorkbenchError(f"{weights} is not the file of its card", "train it again with 'workbench lesions train'")
    model = LesionNet(card)
    try:
        model.load_state_dict(read_tensors(weights.read_bytes()))
    except (SafetensorError, RuntimeError) as error:
        line = " ".join(str(error).split())[:200]
        raise WorkbenchError(f"{weights} does not fit its card: {line}", "train it again") from None
    return Detector(model.eval(), card)


def read_lesion_card(folder: Path) -> LesionCard:
    """Return a detector's card.

    Raises:
        WorkbenchError: there is none, or it is damaged.
    """
    file = folder / CARD
    try:
        return LesionCard.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        refuse_pickle(folder)
        remedy = "make one with 'workbench lesions train'"
        raise WorkbenchError(f"no lesion detector at {folder}: {CARD} is missing", remedy) from None
    except (ValidationError, ValueError) as error:
        raise WorkbenchError(f"{file} is damaged: {str(error).splitlines()[0]}", "train it again") from None
