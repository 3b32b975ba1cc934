"""Train a lesion detector on masks: random crops of both eyes, thresholds from the validation split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, UInt8
from pydantic import Field
from torch import Tensor

from workbench.data.decode import UnreadablePhotograph
from workbench.data.masks import crop_labels, read_labels
from workbench.data.preprocess import preprocess_photograph
from workbench.metrics.localisation import best_threshold
from workbench.models.lesion_net import INPUTS, LesionNet, Light, find_lesions, light_of, relative, save_detector
from workbench.schema.config import Config
from workbench.schema.errors import WorkbenchError
from workbench.schema.lesions import LABELS, SOUGHT, LesionCard
from workbench.schema.manifest import read_manifest
from workbench.schema.progress import track
from workbench.schema.specs import PreprocessSpec


class LesionTrainConfig(Config):
    """The content of ``configs/lesions/*.yaml``."""

    name: str = Field("lesions", description="stands in lesions.json")
    out: Path = Field(Path("runs/lesions"), description="folder of the detector")
    manifest: Path = Field(description="manifest.csv with mask_path, or the folder that holds it")
    size: int = Field(256, ge=64, le=2048, description="side of the detector's input, pixels")
    channels: tuple[int, ...] = Field((8, 8, 16, 16, 24, 8), min_length=6, max_length=6)
    photographs: int = Field(400, ge=2, description="at most this many of the training split are kept in memory")
    crop: int = Field(64, ge=32, multiple_of=16, description="side of a training crop, pixels")
    batch_size: int = Field(8, ge=1, description="crops")
    steps: int = Field(300, ge=1)
    learning_rate: float = Field(4e-3, gt=0)
    seed: int = 0
    threads: int | None = Field(None, ge=1, description="null: one per core")


@dataclass(frozen=True)
class Marked:
    """A photograph and its labels over the same square."""

    pixels: UInt8[np.ndarray, "size size 3"]
    labels: UInt8[np.ndarray, "size size"]

    @property
    def x(self) -> Float[Tensor, "1 3 size size"]:
        """The photograph as the detector takes it."""
        return torch.from_numpy(self.pixels.transpose(2, 0, 1).astype(np.float32) / 255)[None]


def train_detector(config: LesionTrainConfig, folder: Path) -> LesionCard:
    """Train, choose each kind's threshold on the validation split, write the detector, and return its card.

    Raises:
        WorkbenchError: no photograph with a mask in the training or validation split.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    manifest = read_manifest(config.manifest)
    kept = _marked(manifest, "train", config.size, config.photographs)
    held_out = _marked(manifest, "validation", config.size, max(2, config.photographs // 8))
    dataset = ", ".join(sorted(manifest["dataset"].dropna().unique())) or "not stated"
    card = LesionCard(name=config.name, size=config.size, channels=config.channels, trained_on=dataset)
    model = LesionNet(card)
    optimiser = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=config.steps)
    generator = np.random.default_rng(config.seed)
    model.train()
    for x, y in track(_batches(kept, config, generator), "lesion detector", total=config.steps):
        optimiser.zero_grad(set_to_none=True)
        loss(model.unet(x), y).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    model.eval()
    return save_detector(model, card.model_copy(update={"thresholds": _thresholds(model, held_out)}), folder)


def loss(logits: Float[Tensor, "crop kind side side"], y: Float[Tensor, "crop kind side side"]) -> Tensor:
    """Return cross-entropy plus soft Dice per kind over the whole batch: lesions are a thousandth of the pixels."""
    p = torch.sigmoid(logits)
    overlap = (p * y).sum(dim=(0, 2, 3))
    dice = (2 * overlap + 1) / (p.sum(dim=(0, 2, 3)) + y.sum(dim=(0, 2, 3)) + 1)
    return F.binary_cross_entropy_with_logits(logits, y, pos_weight=PULL.to(logits)) + (1 - dice).mean()


PULL: Final = torch.tensor([4.0, 4.0, 4.0, 4.0, 1.0])[:, None, None]
"""How much more a marked pixel counts; the optic disc is large enough."""


def marked_photographs(rows: pd.DataFrame, size: int) -> Iterator[tuple[str, Marked | str]]:
    """Yield each photograph's patient and its pixels and labels over its square, or why it cannot be used."""
    for row in rows.itertuples():
        try:
            prepared = preprocess_photograph(Path(str(row.image_path)), PreprocessSpec(size=size))
            labels = crop_labels(read_labels(Path(str(row.mask_path))), prepared.geometry, size)
        except (UnreadablePhotograph, WorkbenchError, OSError) as error:
            yield str(row.patient_id), str(error)
            continue
        yield str(row.patient_id), Marked(prepared.pixels, labels)


def _marked(manifest: pd.DataFrame, split: str, size: int, limit: int) -> list[Marked]:
    rows = manifest[(manifest["split"] == split) & manifest["mask_path"].notna()]
    rows = rows[rows["quality"].fillna("good") != "reject"].head(limit)
    found = [one for _, one in track(marked_photographs(rows, size), f"{split} masks", total=len(rows))]
    usable = [one for one in found if isinstance(one, Marked)]
    if not usable:
        raise WorkbenchError(
            f"no photograph with a lesion mask in the split {split!r}", "give a manifest with mask_path, e.g. a cohort"
        )
    return usable


def _batches(
    kept: list[Marked], config: LesionTrainConfig, generator: np.random.Generator
) -> Iterator[tuple[Float[Tensor, "crop 9 side side"], Float[Tensor, "crop kind side side"]]]:
    """Yield random crops as the U-Net sees them; two of three lie near a marked pixel of a kind drawn evenly."""
    places = {kind: [np.argwhere(one.labels == LABELS.index(kind)) for one in kept] for kind in SOUGHT}
    holders = {kind: [at for at, found in enumerate(of_kind) if len(found)] for kind, of_kind in places.items()}
    lights = [light_of(one.x, config.size) for one in kept]
    for _ in range(config.steps):
        chosen, crops = [], []
        for _ in range(config.batch_size):
            kind = SOUGHT[int(generator.integers(len(SOUGHT)))]
            at, middle = int(generator.integers(len(kept))), generator.integers(0, config.size, 2)
            if generator.random() < 2 / 3 and holders[kind]:
                at = int(generator.choice(holders[kind]))
                marked = places[kind][at][int(generator.integers(len(places[kind][at])))]
                middle = marked + generator.integers(-config.crop // 3, config.crop // 3 + 1, 2)
            chosen.append(at)
            crops.append(_crop(kept[at], middle, config.crop, generator))
        x = torch.from_numpy(np.stack([pixels for pixels, _ in crops]).transpose(0, 3, 1, 2).copy())
        light = Light(*(torch.cat([getattr(lights[at], name) for at in chosen]) for name in ("mean", "fine", "wide")))
        seen = relative(x, config.size, light)
        # Cameras and media differ more than the drawn ones: contrast of each colour and scale, and noise.
        strength = torch.from_numpy(generator.uniform(0.6, 1.5, (len(crops), INPUTS, 1, 1)).astype(np.float32))
        noise = torch.from_numpy(generator.normal(0, 0.08, tuple(seen.shape)).astype(np.float32))
        labels = np.stack([labels for _, labels in crops])
        y = np.stack([labels == LABELS.index(kind) for kind in SOUGHT], axis=1)
        yield seen * strength + noise, torch.from_numpy(y.astype(np.float32))


def _crop(
    one: Marked, middle: np.ndarray, side: int, generator: np.random.Generator
) -> tuple[Float[np.ndarray, "side side 3"], UInt8[np.ndarray, "side side"]]:
    """Return a turned, perhaps mirrored, perhaps blurred crop."""
    turn = cv2.getRotationMatrix2D((0.0, 0.0), generator.uniform(0, 360), 1.0)
    turn[:, 0] *= 1 if generator.random() < 0.5 else -1
    turn[:, 2] = side / 2 - turn[:, :2] @ middle[::-1]
    pixels = cv2.warpAffine(one.pixels, turn, (side, side), flags=cv2.INTER_LINEAR).astype(np.float32) / 255
    labels = cv2.warpAffine(one.labels, turn, (side, side), flags=cv2.INTER_NEAREST)
    if generator.random() < 0.5:
        pixels = cv2.GaussianBlur(pixels, (0, 0), generator.uniform(0.3, 1.2))
    return pixels, labels


def _thresholds(model: LesionNet, held_out: list[Marked]) -> tuple[float, ...]:
    """Return per kind the probability whose pixels overlap best (F1) with the held-out masks; 0.5 where none has it."""
    found = [(find_lesions(model, one.pixels), one.labels) for one in held_out]
    chosen = []
    for place, kind in enumerate(SOUGHT):
        p = np.concatenate([probabilities[place].ravel() for probabilities, _ in found])
        marked = np.concatenate([(labels == LABELS.index(kind)).ravel() for _, labels in found])
        chosen.append(best_threshold(p, marked))
    return tuple(chosen)
