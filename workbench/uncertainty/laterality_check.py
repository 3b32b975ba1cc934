"""`intake.safetensors` beside a model: which photographs look like the other eye, and when that is believed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors.numpy import save as array_bytes

from workbench.data.exams import Exams
from workbench.models.checkpoint import read_card
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import atomic_path, canonical_hash
from workbench.uncertainty.laterality import DiscSide, Pixels, right_eye_log_odds, train_laterality
from workbench.uncertainty.out_of_distribution import cutoff_of
from workbench.uncertainty.reference import AGAIN, read_arrays, record_in_card, refuse_unrecorded

INTAKE: Final = "intake.safetensors"
FALSE_ALARMS: Final = 0.02
"""Share of validation exams, as they were filed, that each verdict flags at most.

Some of them really are upside down: with one in a hundred these alone would set the threshold for pairs, and a third of
the swapped ones would be missed.
"""

BOTH: Final = "swapped pair, or both upside down"
ONE_OF_TWO: Final = "upside down, or a second photograph of the other eye"
ALONE: Final = "upside down, or a photograph of the other eye"

Evidence = Float[np.ndarray, "exam 2"]
"""Log-odds that each photograph is of the eye that it is filed under; NaN where there is none."""
Pair = tuple[Pixels | None, Pixels | None]
"""The right and the left photograph of an exam; None for a missing one."""
Flags = list[tuple[str | None, str | None]]
"""Per exam the flag of the right and of the left photograph."""


@dataclass(frozen=True)
class Thresholds:
    """How strong the evidence against a filing must be before it is flagged, nats; infinite where nothing is known."""

    both: float
    one_of_two: float
    alone: float


@dataclass(frozen=True)
class Laterality:
    """The network that tells the side of the optic disc, and from where on it is believed.

    ``figures``: how it did on validation exams, as they were filed.
    """

    model: DiscSide
    thresholds: Thresholds
    figures: dict[str, float]

    def evidence(self, pairs: Sequence[Pair]) -> Evidence:
        """Return the evidence for the filing of some exams, as a model of this preprocessing is given them."""
        return _evidence(self.model, pairs)

    def told(self) -> str:
        """Return in a line how far it can be believed, by validation exams as they were filed."""
        found = self.figures
        return (
            f"of {found['pairs']:.0f} validation pairs {found['pairs_flagged']:.1%} are flagged as filed; swapped "
            f"{found['swapped_pairs_flagged']:.0%} would be, with one eye turned {found['one_turned_flagged']:.0%}; "
            f"the side is right in {found['photographs_right']:.1%} of the photographs"
        )


def learn_laterality(train: Exams, validation: Exams, *, seed: int = 0) -> Laterality:
    """Return a network trained on one split, with thresholds from another."""
    model = train_laterality(train, seed=seed)
    evidence = _evidence(model, pairs_of(validation, range(len(validation))))
    thresholds = thresholds_of(evidence)
    return Laterality(model, thresholds, figures_of(evidence, thresholds))


def pairs_of(exams: Exams, indices: Sequence[int]) -> list[Pair]:
    """Return the prepared pixels of some exams."""
    return [(exams.pixels(index, "OD"), exams.pixels(index, "OS")) for index in indices]


def _evidence(model: DiscSide, pairs: Sequence[Pair]) -> Evidence:
    right = right_eye_log_odds(model, [pixels for pair in pairs for pixels in pair])
    return right.reshape(-1, 2) * np.array([1.0, -1.0])


def thresholds_of(evidence: Evidence) -> Thresholds:
    """Return thresholds that at most `FALSE_ALARMS` of exams like these exceed, each; never below zero."""
    against = (_both_wrong(evidence), _one_wrong(evidence), -evidence.ravel())
    return Thresholds(*(max(cutoff_of(values, 100 * (1 - FALSE_ALARMS)), 0.0) for values in against))


def verdicts(evidence: Evidence, thresholds: Thresholds) -> Flags:
    """Return which photographs are flagged, and as what.

    >>> verdicts(np.array([[-3.0, 3.0], [2.0, 3.0]]), Thresholds(4.0, 2.0, 3.0))
    [('upside down, or a second photograph of the other eye', None), (None, None)]
    """
    both, one = _both_wrong(evidence) > thresholds.both, _one_wrong(evidence) > thresholds.one_of_two
    flags: Flags = []
    for exam, eyes in enumerate(evidence):
        if both[exam]:
            flags.append((BOTH, BOTH))
            continue
        said = ONE_OF_TWO if one[exam] else ALONE
        alone = np.isnan(eyes).any() & (-eyes > thresholds.alone)
        wrong = alone | (one[exam] & (eyes < 0))
        flags.append((said if wrong[0] else None, said if wrong[1] else None))
    return flags


def figures_of(evidence: Evidence, thresholds: Thresholds) -> dict[str, float]:
    """Return how often photographs and pairs look like what they are filed under, and what is flagged.

    What swapping or turning a pair would give is exactly minus the evidence, so it needs no further photographs.
    """
    eyes, pairs = evidence[~np.isnan(evidence)], evidence[~np.isnan(evidence).any(axis=1)]
    turned = pairs * np.array([-1.0, 1.0])
    return {
        "photographs": float(len(eyes)),
        "pairs": float(len(pairs)),
        "photographs_right": _share(eyes > 0),
        "pairs_right": _share(pairs.sum(axis=1) > 0),
        "pairs_flagged": _share([any(flags) for flags in verdicts(pairs, thresholds)]),
        "swapped_pairs_flagged": _share(_both_wrong(-pairs) > thresholds.both),
        "one_turned_flagged": _share(_one_wrong(turned) > thresholds.one_of_two),
    }


def _share(values: Sequence[bool] | Bool[np.ndarray, " n"]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _both_wrong(evidence: Evidence) -> Float[np.ndarray, " exam"]:
    """Return the evidence against both filings; NaN for an exam of one photograph."""
    return -evidence.sum(axis=1)


def _one_wrong(evidence: Evidence) -> Float[np.ndarray, " exam"]:
    """Return the weaker of the evidence against one filing and for the other, at its strongest; NaN as above."""
    return np.minimum(-evidence, evidence[:, ::-1]).max(axis=1)


def write_laterality(laterality: Laterality, folder: Path) -> None:
    """Write `intake.safetensors` into the model's folder and its sha256 into the model's card."""
    arrays = {name: value.detach().cpu().numpy() for name, value in laterality.model.state_dict().items()}
    told = {
        # JSON knows no infinity.
        "thresholds": json.dumps({name: str(value) for name, value in asdict(laterality.thresholds).items()}),
        "figures": json.dumps({name: str(value) for name, value in laterality.figures.items()}),
        "preprocess": _preprocess_of(folder),
    }
    with atomic_path(folder / INTAKE) as temporary:
        temporary.write_bytes(array_bytes(arrays, metadata=told))
    record_in_card(folder, "laterality_sha256", folder / INTAKE)


def read_laterality(folder: Path) -> Laterality | None:
    """Return the network of the model in ``folder``, or None where none was made; nothing is ever unpickled.

    Raises:
        WorkbenchError: bytes that are not those of the card, weights of another shape or not finite, another
            preprocessing than the model's.
    """
    file, recorded = folder / INTAKE, read_card(folder).provenance.laterality_sha256
    if not recorded and not file.exists():
        return None
    refuse_unrecorded(file, recorded, AGAIN)
    arrays, told = read_arrays(file)
    model = DiscSide()
    expected = model.state_dict()
    for name in sorted(expected.keys() | arrays.keys()):
        value = arrays.get(name)
        if value is None or name not in expected or value.shape != tuple(expected[name].shape):
            raise WorkbenchError(f"{file}: {name!r} is missing, unknown, or of another shape", AGAIN)
        if not np.isfinite(value).all():
            raise WorkbenchError(f"{file}: {name!r} holds NaN or infinity", AGAIN)
    if told.get("preprocess") != _preprocess_of(folder):
        raise WorkbenchError(f"{file} was made with another preprocessing than the model's", AGAIN)
    model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
    thresholds, figures = (
        {name: float(value) for name, value in json.loads(told[key]).items()} for key in ("thresholds", "figures")
    )
    return Laterality(model.eval(), Thresholds(**thresholds), figures)


def _preprocess_of(folder: Path) -> str:
    return canonical_hash(read_card(folder).preprocess.model_dump(mode="json"))
