"""How well a lesion detector finds what masks mark, per kind, with intervals over patients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float

from workbench.metrics import localisation
from workbench.models.lesion_net import Detector, find_lesions
from workbench.schema.errors import WorkbenchError
from workbench.schema.lesions import LABELS, SOUGHT
from workbench.schema.manifest import read_manifest
from workbench.schema.progress import track
from workbench.training.lesions import Marked, marked_photographs

FIGURES: Final = {
    "auprc": "AUPRC of pixels",
    "marked": "share of pixels marked",
    "sensitivity_1": "lesions found at 1 FP/image",
    "sensitivity_8": "lesions found at 8 FP/image",
}
"""Name of a figure → its title; `marked` is what AUPRC would be by chance."""

BINS: Final = 1024
RESAMPLES: Final = 1000


@dataclass(frozen=True)
class Tested:
    """What a test said: values and intervals by 'kind name', 'kind name low' and 'kind name high'."""

    on: str
    photographs: int
    values: dict[str, float | None]
    left_out: tuple[str, ...]

    def words(self, kind: str, name: str) -> str:
        """Return a figure with its interval."""
        value, low, high = (self.values.get(f"{kind} {name}{end}") for end in ("", " low", " high"))
        if value is None:
            return "none marked"
        return f"{value:.3f}" + ("" if low is None or high is None else f" ({low:.3f} to {high:.3f})")


@dataclass(frozen=True)
class _Photograph:
    patient: str
    hits: Float[np.ndarray, " bin"]
    every: Float[np.ndarray, " bin"]
    response: localisation.FreeResponse


def measure_detector(detector: Detector, manifest: Path, split: str) -> Tested:
    """Measure per kind the AUPRC of all pixels and the lesions found at 1 and 8 false positives per photograph.

    Intervals resample patients. A photograph that cannot be used is left out, with its reason.

    Raises:
        WorkbenchError: no photograph with a mask in the split.
    """
    table = read_manifest(manifest)
    rows = table[(table["split"] == split) & table["mask_path"].notna()]
    found: dict[str, list[_Photograph]] = {kind: [] for kind in SOUGHT}
    left_out = []
    for patient, one in track(marked_photographs(rows, detector.card.size), "testing", total=len(rows)):
        if isinstance(one, Marked):
            p = find_lesions(detector.model, one.pixels)
            for place, kind in enumerate(SOUGHT):
                found[kind].append(_measured(patient, p[place], one.labels == LABELS.index(kind)))
        else:
            left_out.append(f"{patient}: {one}")
    count = len(found[SOUGHT[0]])
    if not count:
        raise WorkbenchError(f"no photograph with a usable mask in the split {split!r} of {manifest}", "give another")
    values: dict[str, float | None] = {}
    for kind, photographs in found.items():
        for name, of in _STATISTICS.items():
            values |= {f"{kind} {name}{end}": value for end, value in _interval(photographs, of).items()}
    on = ", ".join(sorted(rows["dataset"].dropna().unique())) or "not stated"
    return Tested(f"{on} ({split})", count, values, tuple(left_out))


def _measured(patient: str, p: Float[np.ndarray, "size size"], marked: np.ndarray) -> _Photograph:
    level = np.minimum((p * BINS).astype(int), BINS - 1)
    hits = np.bincount(level[marked], minlength=BINS)[::-1].astype(float)
    every = np.bincount(level.ravel(), minlength=BINS)[::-1].astype(float)
    return _Photograph(patient, hits, every, localisation.free_response(p, marked, floor=0.1))


def _auprc(photographs: list[_Photograph]) -> float:
    hits = np.sum([one.hits for one in photographs], axis=0).cumsum()
    every = np.sum([one.every for one in photographs], axis=0).cumsum()
    if not hits[-1]:
        return float("nan")
    return float((np.diff(hits, prepend=0.0) * hits / np.maximum(every, 1)).sum() / hits[-1])


def _marked(photographs: list[_Photograph]) -> float:
    marked = float(np.sum([one.hits.sum() for one in photographs]))
    return marked / float(np.sum([one.every.sum() for one in photographs])) if marked else float("nan")


def _sensitivity(photographs: list[_Photograph], false_positives: float) -> float:
    return localisation.sensitivity_at([one.response for one in photographs], false_positives)


_STATISTICS: Final[dict[str, Callable[[list[_Photograph]], float]]] = {
    "auprc": _auprc,
    "marked": _marked,
    "sensitivity_1": partial(_sensitivity, false_positives=1.0),
    "sensitivity_8": partial(_sensitivity, false_positives=8.0),
}


def _interval(photographs: list[_Photograph], of: Callable[[list[_Photograph]], float]) -> dict[str, float | None]:
    """Return the value and its 95 % percentile interval over patients; None where nothing is marked."""
    value = of(photographs)
    if np.isnan(value):
        return {"": None}
    generator = np.random.default_rng(0)
    groups: dict[str, list[_Photograph]] = {}
    for one in photographs:
        groups.setdefault(one.patient, []).append(one)
    patients = list(groups)
    drawn = [
        of([one for at in generator.integers(0, len(patients), len(patients)) for one in groups[patients[at]]])
        for _ in range(RESAMPLES)
    ]
    known = [one for one in drawn if not np.isnan(one)]
    if len(patients) < 2 or len(known) < RESAMPLES / 2:
        return {"": value, " low": None, " high": None}
    low, high = np.quantile(known, [0.025, 0.975])
    return {"": value, " low": float(low), " high": float(high)}
