"""A model on disk: a folder with `weights.safetensors` and `model.json`; nothing in it can run code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from workbench.models.paired import PairedEyeNet
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import atomic_path, canonical_hash, sha256_file, write_json
from workbench.schema.model_card import FORMAT_VERSION, ModelCard

WEIGHTS: Final = "weights.safetensors"
CARD: Final = "model.json"
NEXT: Final = "weights.next.safetensors"
"""New weights until the card that names them stands: a kill at any moment leaves the old model or the new one."""

CHECKPOINTS: Final = "checkpoints"
"""Folder of a trained model that holds its last epochs' models, where the training was told to keep them."""

PICKLE_ENDINGS: Final = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin")


def save_model(model: PairedEyeNet, card: ModelCard, folder: Path) -> ModelCard:
    """Write ``model`` to ``folder`` and return the card with the sha256 of its weights.

    Raises:
        WorkbenchError: a weight is NaN or infinite, or the disk refuses.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    _refuse_non_finite(state, str(folder))
    with atomic_path(folder / NEXT) as temporary:
        temporary.write_bytes(tensor_bytes(state))
    complete = card.model_copy(update={"weights_sha256": sha256_file(folder / NEXT)})
    write_json(folder / CARD, complete.model_dump(mode="json"))
    (folder / NEXT).replace(folder / WEIGHTS)
    return complete


def load_model(folder: Path) -> tuple[PairedEyeNet, ModelCard]:
    """Return the model of ``folder``, in evaluation mode, and its card; nothing is ever unpickled.

    Raises:
        WorkbenchError: no model there, a pickle, another format version, bytes that are not those of the card, weights
            of another shape or not finite.
    """
    card = read_card(folder)
    weights = _find_weights(folder, card)
    state = _read_weights(weights)
    model = PairedEyeNet(card.architecture)
    _refuse_misfit(model, state, weights)
    _refuse_non_finite(state, str(weights))
    model.load_state_dict(state)
    return model.to(memory_format=torch.channels_last).eval(), card  # type: ignore[call-overload]


def read_card(folder: Path) -> ModelCard:
    """Return ``model.json`` of ``folder``.

    Raises:
        WorkbenchError: no such file, not a model card, or one of another format version.
    """
    file = folder / CARD
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        refuse_pickle(folder)
        raise WorkbenchError(f"no model at {folder}: {CARD} is missing", "make one with 'workbench train'") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WorkbenchError(
            f"{file} is not readable JSON: {error}", "take the model's folder from its source"
        ) from None
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise WorkbenchError(
            f"{file} has format_version {version!r}; this package reads {FORMAT_VERSION}",
            "update retina-trust-workbench",
        )
    try:
        return ModelCard.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise WorkbenchError(f"{file}: {place}: {first['msg']}", "take the model's folder from its source") from None


def model_hash(folder: Path) -> str:
    """Return the sha256 of all that decides the model's answers: weights, architecture, preprocessing, threshold.

    Raises:
        WorkbenchError: as `read_card`, or the weights are not the card's.
    """
    card = read_card(folder)
    _find_weights(folder, card)
    told: dict[str, Any] = card.model_dump(mode="json", exclude={"name", "intended_use", "licence", "provenance"})
    return canonical_hash(told)


def checkpoint_folders(folder: Path) -> tuple[Path, ...]:
    """Return the models of the last epochs that the training of ``folder`` kept, oldest first.

    Raises:
        WorkbenchError: it kept none.
    """
    found = tuple(sorted(card.parent for card in (folder / CHECKPOINTS).glob(f"*/{CARD}")))
    if not found:
        raise WorkbenchError(
            f"{folder} holds no checkpoints", "train with train.keep_checkpoints=5, or name folders as members"
        )
    return found


def _find_weights(folder: Path, card: ModelCard) -> Path:
    for name in (WEIGHTS, NEXT):
        if (folder / name).is_file() and sha256_file(folder / name) == card.weights_sha256:
            return folder / name
    if not (folder / WEIGHTS).is_file():
        refuse_pickle(folder)
        raise WorkbenchError(f"{folder} has no {WEIGHTS}", "take the model's folder from its source")
    refuse_pickle(folder / WEIGHTS)
    found = sha256_file(folder / WEIGHTS)
    raise WorkbenchError(
        f"{folder / WEIGHTS} has sha256 {found[:12]}…, its card says {card.weights_sha256[:12]}…",
        "the file was changed or cut: take the model's folder from its source",
    )


def refuse_pickle(path: Path) -> None:
    """Refuse what would run code when opened, by its name or its first bytes, without opening it as such."""
    if path.is_dir():
        suspects = [file for file in sorted(path.iterdir()) if file.suffix in PICKLE_ENDINGS]
    else:
        suspects = [path] if path.is_file() and _starts_like_pickle(path) else []
    if suspects:
        raise WorkbenchError(
            f"{suspects[0]} is a pickle, which can run code when it is opened; it was not opened",
            f"convert it to a folder with {CARD} and {WEIGHTS} where it was made",
        )


def _starts_like_pickle(path: Path) -> bool:
    with path.open("rb") as handle:
        start = handle.read(9)
    if start[8:] == b"{":  # the header of safetensors begins after eight bytes of length, whatever these are
        return False
    # torch.save writes a ZIP of pickles; older files and plain pickles begin with the protocol's opcode.
    return start[:2] == b"PK" or start[:1] == b"\x80" or path.suffix in PICKLE_ENDINGS


def _read_weights(file: Path) -> dict[str, Tensor]:
    try:
        return read_tensors(file.read_bytes())
    except (SafetensorError, ValueError) as error:
        refuse_pickle(file)
        raise WorkbenchError(f"{file} is not a safetensors file: {error}", "take it from its source again") from None


def _refuse_misfit(model: PairedEyeNet, state: dict[str, Tensor], file: Path) -> None:
    expected = model.state_dict()
    for name in sorted(expected.keys() ^ state.keys()):
        fault = "lacks" if name in expected else "has the unknown"
        raise WorkbenchError(f"{file} {fault} weight {name!r}", "its model.json belongs to another model")
    for name, value in expected.items():
        if state[name].shape != value.shape or state[name].dtype != value.dtype:
            got = f"{tuple(state[name].shape)} {state[name].dtype}"
            raise WorkbenchError(
                f"{file}: {name!r} is {got}, the architecture needs {tuple(value.shape)} {value.dtype}",
                "its model.json belongs to another model",
            )


def _refuse_non_finite(state: dict[str, Tensor], where: str) -> None:
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise WorkbenchError(f"{where}: the weight {name!r} holds NaN or infinity", "train the model again")
