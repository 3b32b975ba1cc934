"""`reference.safetensors` beside a model: what is known of some training eyes, so that unlike ones can be told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int64
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as array_bytes
from torch import Tensor, nn

from workbench.data.exams import Exams
from workbench.models.checkpoint import CARD, model_hash, read_card, refuse_pickle
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import atomic_path, sha256_file, write_json
from workbench.schema.progress import track
from workbench.schema.seeds import seed_for
from workbench.uncertainty.appearance import appearance
from workbench.uncertainty.features import EyeFeatures, FeatureReader
from workbench.uncertainty.out_of_distribution import (
    Detector,
    Reference,
    Seen,
    energy_of,
    halve_by_patient,
    held_out_scores,
)

REFERENCE: Final = "reference.safetensors"
REFERENCE_EYES: Final = 1024
"""How many feature vectors a reference holds at most, of eyes or of exams: half to fit on, half for percentiles."""
BATCH: Final = 16

AGAIN: Final = "make it again with 'workbench model reference'"
_KINDS: Final = {
    "features": "float16",
    "energy": "float32",
    "appearance": "float32",
    "grade": "int64",
    "held_out": "bool",
}


class UnlikenessMeter:
    """Measures how unlike the training photographs each eye of some exams is.

    Attributes:
        held_out: the scores of the reference eyes that are kept for percentiles.

    Raises:
        WorkbenchError: the reference is of another layer or length than the model's features.
    """

    def __init__(self, model: nn.Module, reference: Reference, size: int) -> None:
        self.reader = FeatureReader(model, size)
        made = (reference.layer, reference.shared)
        if (self.reader.layer, self.reader.shared) != made:
            raise WorkbenchError(
                f"the reference is of the layer {made[0]!r}, the model's last linear layer is {self.reader.layer!r}",
                AGAIN,
            )
        self.detector = Detector(reference)
        self.held_out = held_out_scores(reference, self.detector)

    def __call__(
        self,
        x: Float[Tensor, "exam 6 height width"],
        present: Bool[Tensor, "exam 2"],
        read: EyeFeatures | None = None,
    ) -> dict[str, Float[np.ndarray, "exam 2"]]:
        """Return each of `UNLIKE_SCORES` per eye; NaN for an absent eye. ``read``: their features, where known."""
        scores = self.detector.scores(seen_of(self.reader, x, present, read))
        return {name: values.reshape(-1, 2) for name, values in scores.items()}


def seen_of(
    reader: FeatureReader,
    x: Float[Tensor, "exam 6 height width"],
    present: Bool[Tensor, "exam 2"],
    read: EyeFeatures | None = None,
) -> Seen:
    """Return what is known of each eye, OD and OS in turn; NaN for an absent one. ``read``: features that are known."""
    read = reader(x, present) if read is None else read
    looks = appearance(x.reshape(-1, 3, *x.shape[2:]).cpu().numpy())
    looks[~present.flatten().cpu().numpy()] = np.nan
    energy = energy_of(read.logits.flatten(0, 1).numpy())
    return Seen(read.features.flatten(0, 1).numpy(), energy, looks)


def collect_reference(
    model: nn.Module, exams: Exams, *, model_hash: str, manifest_hash: str, eyes: int = REFERENCE_EYES
) -> Reference:
    """Return the reference of a model, from at most ``eyes`` eyes, the patients drawn by a hash of their ids.

    Raises:
        WorkbenchError: fewer than two patients with a photograph, features that are not finite.
    """
    reader = FeatureReader(model, exams.spec.size)
    chosen = _chosen(exams, eyes, shared=reader.shared)
    starts = range(0, len(chosen), BATCH)
    parts = [
        _of_batch(reader, exams, chosen[start : start + BATCH])
        for start in track(starts, "reading what the model makes of training eyes", total=len(starts))
    ]
    seen = {
        name: np.concatenate([getattr(part[0], name) for part in parts])
        for name in ("features", "energy", "appearance")
    }
    with np.errstate(over="ignore"):  # what float16 cannot hold is refused below
        packed = {name: values.astype(_KINDS[name]).astype(np.float32) for name, values in seen.items()}
    if not all(np.isfinite(values).all() for values in packed.values()):
        raise WorkbenchError("the model's features of a training eye are not finite in float16", "check its weights")
    return Reference(
        seen=Seen(**packed),
        grade=np.concatenate([part[1] for part in parts]),
        held_out=halve_by_patient([name for part in parts for name in part[2]]),
        layer=reader.layer,
        shared=reader.shared,
        model_hash=model_hash,
        manifest_hash=manifest_hash,
    )


def _chosen(exams: Exams, eyes: int, *, shared: bool) -> list[int]:
    """Return the exams of whole patients, as many as hold at most ``eyes`` vectors (but of two patients at least)."""
    table = exams.eyes.iloc[::2].reset_index(drop=True)
    shown = (exams.eyes["status"] == "ok").to_numpy(dtype=bool).reshape(-1, 2)
    weight = pd.Series(shown.any(axis=1).astype(int) if shared else shown.sum(axis=1))
    vectors = weight[weight > 0].groupby(table["patient_id"]).sum()
    order = sorted(vectors.index, key=lambda patient: seed_for("reference", str(patient)))
    if len(order) < 2:
        raise WorkbenchError(
            f"{len(order)} patient(s) with a photograph", "a reference needs two or more: half are held out"
        )
    fitting = int((vectors[order].cumsum() <= eyes).sum())
    taken = set(order[: max(fitting, 2)])
    return [index for index in range(len(exams)) if weight[index] and table["patient_id"][index] in taken]


def _of_batch(
    reader: FeatureReader, exams: Exams, indices: Sequence[int]
) -> tuple[Seen, Int64[np.ndarray, " row"], list[str]]:
    """Return what is known of a batch, one row per eye that is present, with grades and patients; see `Reference`."""
    batch = exams.batch(indices)
    seen = seen_of(reader, batch.x, batch.present)
    shown, grade = batch.present.numpy(), batch.grade.numpy()
    if reader.shared:
        grade = np.broadcast_to(grade.max(axis=1, keepdims=True), grade.shape)
    patients = [name for name, both in zip(batch.patient_ids, shown, strict=True) for one in both if one]
    return seen.where(shown.ravel()), grade[shown], patients


def write_reference(reference: Reference, folder: Path) -> None:
    """Write `reference.safetensors` into the model's folder and its sha256 into the model's card."""
    known = {**vars(reference.seen), "grade": reference.grade, "held_out": reference.held_out}
    arrays = {name: known[name].astype(kind) for name, kind in _KINDS.items()}
    told = {
        "layer": reference.layer,
        "shared": str(reference.shared),
        "model_hash": reference.model_hash,
        "manifest_hash": reference.manifest_hash,
    }
    with atomic_path(folder / REFERENCE) as temporary:
        temporary.write_bytes(array_bytes(arrays, metadata=told))
    record_in_card(folder, "reference_sha256", folder / REFERENCE)


def record_in_card(folder: Path, field: str, file: Path) -> None:
    """Write the sha256 of a file beside the model into the provenance of its card."""
    card = read_card(folder)
    provenance = card.provenance.model_copy(update={field: sha256_file(file)})
    write_json(folder / CARD, card.model_copy(update={"provenance": provenance}).model_dump(mode="json"))


def refuse_unrecorded(file: Path, recorded: str, remedy: str) -> None:
    """Refuse a file beside a model whose bytes are not those that the card names.

    Raises:
        WorkbenchError: the file is gone, is another one, or is a pickle.
    """
    if not file.is_file():
        raise WorkbenchError(f"{file} is missing, though the model's card names it", remedy)
    refuse_pickle(file)
    found = sha256_file(file)
    if found != recorded:
        said = f"its card says {recorded[:12]}…" if recorded else "the model's card does not name it"
        raise WorkbenchError(f"{file} has sha256 {found[:12]}…, {said}", remedy)


def read_reference(folder: Path) -> Reference | None:
    """Return the reference of the model in ``folder``, or None where none was made; nothing is ever unpickled.

    Raises:
        WorkbenchError: bytes that are not those of the card, another model's reference, arrays of wrong shape
            or kind or not finite.
    """
    file, recorded = folder / REFERENCE, read_card(folder).provenance.reference_sha256
    if not recorded and not file.exists():
        return None
    refuse_unrecorded(file, recorded, AGAIN)
    arrays, told = read_arrays(file)
    for name, kind in _KINDS.items():
        rows = len(arrays.get("features", ()))
        value = arrays.get(name)
        axes = 2 if name in ("features", "appearance") else 1
        if value is None or value.dtype != kind or value.ndim != axes or len(value) != rows:
            raise WorkbenchError(f"{file}: {name!r} is missing, or of another shape or kind", AGAIN)
        if not np.isfinite(value).all():
            raise WorkbenchError(f"{file}: {name!r} holds NaN or infinity", AGAIN)
    if told.get("model_hash") != model_hash(folder):
        raise WorkbenchError(f"{file} was made with another model", AGAIN)
    return Reference(
        seen=Seen(arrays["features"].astype(np.float32), arrays["energy"], arrays["appearance"]),
        grade=arrays["grade"],
        held_out=arrays["held_out"],
        layer=told.get("layer", ""),
        shared=told.get("shared") == "True",
        model_hash=told["model_hash"],
        manifest_hash=told.get("manifest_hash", ""),
    )


def read_arrays(file: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays and the metadata of a safetensors file.

    Raises:
        WorkbenchError: it is not one.
    """
    try:
        with safe_open(file, framework="numpy") as stored:
            return {name: stored.get_tensor(name) for name in stored.keys()}, stored.metadata() or {}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        raise WorkbenchError(f"{file} is not a safetensors file: {error}", AGAIN) from None
