"""The run folder: what lies where, and the exact columns of every table in it. No torch here."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, UInt8
from PIL import Image
from pydantic import BaseModel, Field, ValidationError

from workbench.schema.config import Config
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import atomic_path, write_text
from workbench.schema.maps import MapSpec
from workbench.schema.model_card import ModelCard, PredictionsCard
from workbench.schema.specs import UNLIKE_SCORES, PolicySpec, SmoothingSpec, StressSpec

FORMAT_VERSION: Final = 1
CLEAN: Final = "clean"
"""The measurement without a stress; the cut-off is fixed on it."""
PHOTOGRAPHS: Final = "photographs"
INTAKE: Final = "intake"
INFLUENCE: Final = "influence"
CREDIBILITY: Final = "credibility"
HEAD_MARGIN: Final = "head_margin"
MASKS: Final = "masks"
LESIONS: Final = "lesions"

Status = Literal["done", "failed", "skipped"]

EXAMS_SCHEMA: Final = pa.schema(
    [
        ("exam_id", pa.string()),
        ("patient_id", pa.string()),
        ("eye", pa.string()),
        ("status", pa.string()),  # ok | missing | ungradable
        ("reason", pa.string()),
        ("sha256", pa.string()),
        ("pixels_sha256", pa.string()),  # what the model was given: a changed photograph shows here
        ("icdr_grade", pa.int64()),
        ("dme", pa.int64()),
        ("gradable", pa.bool_()),
        ("quality", pa.string()),
        ("camera", pa.string()),
        ("site", pa.string()),
        ("age", pa.float64()),
        ("sex", pa.string()),
        ("split", pa.string()),
        ("dataset", pa.string()),
        ("dataset_version", pa.string()),
        ("label_source", pa.string()),
        ("label_level", pa.string()),
        ("crop_x", pa.float64()),
        ("crop_y", pa.float64()),
        ("crop_side", pa.float64()),
        ("photo_width", pa.int64()),
        ("photo_height", pa.int64()),
    ]
)
"""`exams.parquet`: two rows per exam, OD then OS. No path and no name of a file: a run may be passed on."""

_ROW_OF_A_PART: Final = [
    ("exam_id", pa.string()),
    ("eye", pa.string()),
    ("status", pa.string()),  # done | failed | skipped
    ("reason", pa.string()),
]
_UNLIKENESS: Final = [(name, pa.float64()) for name in UNLIKE_SCORES]
DRAWS_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("seed", pa.int64()),
        ("probabilities", pa.list_(pa.float32())),  # draw-major: draws × grades
        ("linf", pa.float64()),  # the largest change of a pixel of this eye, in the pixel range [0, 1]
        ("within_budget", pa.bool_()),
        ("in_box", pa.bool_()),
        ("flipped", pa.bool_()),
        ("survives_8bit", pa.bool_()),
        ("notes", pa.string()),
        (
            "distance",
            pa.float64(),
        ),  # the change of this eye in the threat's norm and units, or null in an older run
        ("success", pa.bool_()),  # the threat's goal is reached; null where it does not apply
        ("already", pa.bool_()),  # it was reached by the exam as it is
        *_UNLIKENESS,
        ("pattern_sha256", pa.string()),  # of the pattern that was added; null under any other stress
    ]
)
PATTERN_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,  # exam_id is null: a pattern is of no exam
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("values", pa.binary()),  # 3 × height × width little-endian float32, of the pixel range [0, 1]
        ("sha256", pa.string()),  # of both eyes' values, OD first
        ("fitted_on", pa.int64()),  # exams; 0: signs by lot
        ("fitted_success", pa.float64()),  # share of them on which the goal is reached; null where not known
        ("fitted_already", pa.float64()),  # the same without the pattern
    ]
)
"""One perturbation for all exams, an eye a row."""
INTAKE_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("filed_rightly_log_odds", pa.float64()),  # evidence that the photograph is of the eye it is filed under
        ("flag", pa.string()),  # why it is flagged, or null
    ]
)
HELD_OUT_SCHEMA: Final = pa.schema(_UNLIKENESS)
"""`reference.parquet`: the scores of training eyes that percentiles are taken from; there if the model has them."""
MAPS_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("scale", pa.float64()),  # the map is values × scale: float16 alone would lose small attributions
        ("values", pa.binary()),  # little-endian float16, row-major
        ("withheld", pa.string()),
        ("completeness_gap", pa.float64()),
        ("fellow_share", pa.float64()),
        ("outside_share", pa.float64()),  # of the map's strength, outside the disc
        ("outside_change", pa.float64()),  # of P(referable), when what is outside the discs is made one colour
        ("draws", pa.int64()),  # of which the map is the mean; null: of the model without draws
        ("agreeing", pa.binary()),  # bytes, row-major: in how many of the draws a pixel is in the map's strongest tenth
        (
            "steadiness",
            pa.float64(),
        ),  # of the pixels that matter in a fifth of the draws, the share that does in nine tenths
    ]
)
INFLUENCES: Final = ("blank", "healthy", "mean", "exchanged", "outside")
"""What is done to an exam to see what else an eye's answer was read from; see `audit.influence`."""
INFLUENCE_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("p", pa.float64()),  # P(referable) of the eye, mean over draws
        *[(f"p_{name}", pa.float64()) for name in INFLUENCES],
        ("rise_low", pa.float64()),  # of p - p_healthy, over healthy fellows and draws
        ("rise_high", pa.float64()),
        ("donors", pa.int64()),
    ]
)
"""A null `p_…` could not be had (no fellow eye, no healthy eye of another patient)."""
TRUST_CHECKS: Final = (
    "randomised_likeness",
    "randomised_structure",
    "independent_likeness",
    "deletion_gain",
    "insertion_gain",
    "road_gain",
    "infidelity",
    "max_sensitivity",
    "repeatability",
    "rephotograph_likeness",
    "corruption_likeness",
    "attack_likeness",
    "attack_moved",
    "unlearned_likeness",
    "border_share",
)
MAP_TRUST_SCHEMA: Final = pa.schema([*_ROW_OF_A_PART, *[(name, pa.float64()) for name in TRUST_CHECKS]])
"""What a method's map of one eye shows under each check; null where it says nothing there."""
PHOTOGRAPHS_SCHEMA: Final = pa.schema([*_ROW_OF_A_PART, ("jpeg", pa.binary())])
STRESSED_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("png", pa.binary()),  # what the model was given, in 8 bits; lossless, since an attack lives in the last ones
        ("clean_png", pa.binary()),
    ]
)
MARKS_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("labels", pa.binary()),  # PNG of one grey level per kind (`schema.lesions.LABELS`); null: no mask
        ("over", pa.string()),  # photograph: its own pixels; square: what the model saw, at any resolution
    ]
)
"""Where lesions lie: by the data set's masks, or as an experimental detector found them."""
MILDEST_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("severity", pa.float64()),  # of the exam: the mildest that flips its call; null where none up to 5 does
        ("steady", pa.bool_()),  # every level above flips it too
        ("clean_rejection_score", pa.float64()),  # of this eye: log-odds that graders reject the photograph
        ("rejection_score", pa.float64()),  # the same at that severity
        ("accepted", pa.bool_()),  # of the exam: graders would accept each photograph, before and after
    ]
)
CERTIFIED_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("called_referable", pa.bool_()),  # the smoothed call of the exam; null: it abstains
        ("abstained", pa.bool_()),
        ("radius", pa.float64()),  # L2 over both eyes together, of the pixel range [0, 1]; 0 where it abstains
        ("p_lower", pa.float64()),  # lower bound of the share of noisy pictures that are called so
        ("counts", pa.int64()),  # of the samples, how many agree with the call that the first ones chose
        ("samples", pa.int64()),
        ("seed", pa.int64()),
    ]
)
HEAD_MARGIN_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("margin", pa.float64()),  # L2 distance of the eye's features to the nearest change of its grade
        ("margin_share", pa.float64()),  # the same over the length of the features
    ]
)
CREDIBILITY_SCHEMA: Final = pa.schema(
    [
        *_ROW_OF_A_PART,
        ("norms_training", pa.int64()),  # batch norms that were in training mode while the model was measured
        ("buffers_changed", pa.bool_()),
        ("probabilities", pa.bool_()),  # the attacked model answers probabilities, not logits
        ("passes_differ", pa.bool_()),  # five passes of the exam are not the same
        ("averages", pa.bool_()),  # an attack on such a model averages over its draws
        ("classes", pa.int64()),
        ("gradient_fault", pa.bool_()),  # zero everywhere, or not finite
        ("gradient_cut", pa.bool_()),  # zero or missing although the answer changes with the pixels
        ("difference_cosine", pa.float64()),  # between the gradient and finite differences, along patches
        ("difference_sign", pa.bool_()),
        ("already", pa.bool_()),  # the goal was reached by the exam as it is
        ("fgsm", pa.bool_()),
        ("pgd", pa.bool_()),  # the attack under examination
        ("pgd_more", pa.bool_()),  # with twice the steps and a second start
        ("pgd_rises", pa.float64()),  # share of its steps in which the margin rose
        ("best_kept", pa.bool_()),  # what it returned is the best that it saw
        ("within_budget", pa.bool_()),
        ("survives_8bit", pa.bool_()),
        ("untargeted", pa.bool_()),
        ("targeted", pa.bool_()),
        ("ladder_epsilon", pa.list_(pa.float64())),
        ("ladder", pa.list_(pa.bool_())),  # broken at each of these ε, the whole pixel range last
        ("unbounded", pa.bool_()),
        ("held_epsilon", pa.float64()),  # the largest ε of the ladder at which the exam was not broken
        ("holds", pa.bool_()),  # there, against twice the effort too; and there as well:
        ("square", pa.bool_()),
        ("label_only", pa.bool_()),
        ("noise", pa.bool_()),
        ("transfer", pa.bool_()),
        ("no_draws", pa.string()),  # why nothing was attacked over draws; null: it was
        ("draws_spread", pa.float64()),  # standard deviation of P(referable) over draws
        ("clean_flip_share", pa.float64()),  # of single draws whose call is not that of most
        ("fixed_mask", pa.bool_()),
        ("averaged", pa.list_(pa.bool_())),  # broken with 1, 5, 20, 50 draws behind each gradient
        ("selected", pa.bool_()),  # by the draws that the attack saw
        ("fresh_wrong", pa.int64()),
        ("fresh_draws", pa.int64()),
        ("silent_by_crossing", pa.bool_()),
        ("silent", pa.bool_()),  # by an attack that minds the referral rule
        ("self_test", pa.string()),  # what the bench did wrong on models of which the answer is known; empty: nothing
    ]
)
"""What an attack shows under examination, two equal rows per exam; see `stress.credibility`."""
PART_SCHEMAS: Final = {
    "masks": MARKS_SCHEMA,
    "lesions": MARKS_SCHEMA,
    "draws": DRAWS_SCHEMA,
    "pattern": PATTERN_SCHEMA,
    "maps": MAPS_SCHEMA,
    "photographs": PHOTOGRAPHS_SCHEMA,
    "stressed": STRESSED_SCHEMA,
    "intake": INTAKE_SCHEMA,
    "influence": INFLUENCE_SCHEMA,
    "mildest": MILDEST_SCHEMA,
    "credibility": CREDIBILITY_SCHEMA,
    "certified": CERTIFIED_SCHEMA,
    "head_margin": HEAD_MARGIN_SCHEMA,
    "map_trust": MAP_TRUST_SCHEMA,
}

ROWS_SCHEMA: Final = pa.schema(
    [
        ("name", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n", pa.int64()),
        ("clusters", pa.int64()),
        ("measurement", pa.string()),
        ("stress", pa.string()),
        ("strength", pa.float64()),
        ("subgroup", pa.string()),  # all | camera=… | site=… | sex=… | age=… | quality=… | grade=…
        ("at", pa.float64()),  # the point of a curve: retained share, grade, bin; else null
        ("of", pa.string()),  # which one, where there are several: an uncertainty score, a calibration; else null
        ("seed", pa.int64()),
        ("model_hash", pa.string()),
        ("manifest_hash", pa.string()),
        ("workbench_version", pa.string()),
        ("reason", pa.string()),  # why there is no value
    ]
)
DECISIONS_SCHEMA: Final = pa.schema(
    [
        ("measurement", pa.string()),
        ("exam_id", pa.string()),
        ("patient_id", pa.string()),
        ("referable", pa.bool_()),
        ("p_referable", pa.float64()),
        ("called_referable", pa.bool_()),
        ("score", pa.float64()),
        ("referred", pa.bool_()),
        ("referred_why", pa.string()),
        ("wrong", pa.bool_()),
        ("silent_failure", pa.bool_()),
    ]
)
ATTENTION_SCHEMA: Final = pa.schema(
    [
        ("exam_id", pa.string()),
        ("eye", pa.string()),
        ("method", pa.string()),  # an explanation, or a floor: floor.random, floor.edges
        ("source", pa.string()),  # mask | found | field
        ("kind", pa.string()),  # of lesion, any lesion, optic disc, fovea; of the field: rim, outside
        ("area", pa.float64()),  # share of the field: what a map without information would give as energy and precision
        ("energy", pa.float64()),  # share of the positive attribution
        ("average_precision", pa.float64()),
        ("overlap", pa.float64()),  # intersection over union at equal area
        ("pointing", pa.float64()),  # 1: the hottest point lies on it
        ("lesions", pa.int64()),
        ("looked_at", pa.int64()),  # lesions that the hottest twentieth of the field reaches
    ]
)
"""`analysis/attention.parquet`: one row per map that is shown, and kind of mark."""
MEAN_MAPS_SCHEMA: Final = pa.schema(
    [
        ("method", pa.string()),
        ("grade", pa.int64()),  # of the eye; null: all eyes
        ("eyes", pa.int64()),
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("scale", pa.float64()),
        ("values", pa.binary()),
    ]
)
"""`analysis/mean_maps.parquet`: attention over eyes laid on each other's optic disc, left eyes mirrored; 1 is even."""
EYES_SCHEMA: Final = pa.schema(
    [
        ("measurement", pa.string()),
        ("exam_id", pa.string()),
        ("eye", pa.string()),
        ("icdr_grade", pa.int64()),
        ("grade_predicted", pa.int64()),
        ("p_referable", pa.float64()),
        ("p_referable_sd", pa.float64()),
        ("predictive_entropy", pa.float64()),
        ("mutual_information", pa.float64()),
        ("margin", pa.float64()),
        *[(f"p{grade}", pa.float64()) for grade in range(5)],
        ("p_referable_calibrated", pa.float64()),  # by the policy's calibration; null where nothing was fitted
        ("set_low", pa.int64()),  # the conformal set of grades, from the lowest to the highest
        ("set_high", pa.int64()),
        ("expected_entropy", pa.float64()),
        ("eye_disagreement", pa.float64()),
        *_UNLIKENESS,
        ("unlike_training", pa.bool_()),  # by the policy's scores and percentile; null where there is no reference
        ("flag", pa.string()),  # why the photograph is flagged before it is graded, or null
    ]
)


class CredibilitySetting(Config):
    """The attack whose worth is examined, and by how much effort."""

    epsilon: float = Field(gt=0, le=255, description="in 1/255 of the pixel range, both eyes, across the boundary")
    steps: int = Field(10, ge=2, description="of the descent under examination")
    tries: int = Field(200, ge=1, description="squares of the attack by scores")
    queries: int = Field(400, ge=1, description="pictures that the attack by labels may look at")


class MeasurementSpec(Config):
    """One thing that is measured on the exams, or on a stated sample of them."""

    id: str
    kind: Literal[
        "draws",
        "maps",
        "photographs",
        "stressed",
        "intake",
        "influence",
        "map_trust",
        "masks",
        "lesions",
        "mildest",
        "pattern",
        "certified",
        "head_margin",
        "credibility",
    ]
    stress: StressSpec | None = None
    method: str | None = None
    map: MapSpec | None = None
    """What is explained and over how many draws, where ``method``, its key, is not the method's name alone."""
    exams: int | None = None
    """How many exams, drawn by hash (see `plan.sample`); None: all."""
    chunk: int | None = Field(default=None, ge=1)
    """Exams per unit, where a unit of the run's own size would keep one worker for minutes; None: the run's."""
    smoothing: SmoothingSpec | None = None
    """Of a certificate: the noise, and how surely."""
    examined: CredibilitySetting | None = None
    """Of the credibility checks: the attack, and the effort."""

    @property
    def maps(self) -> MapSpec:
        """Which maps are made or checked."""
        return self.map or MapSpec(name=self.method or "")

    def for_the_plan(self) -> dict[str, Any]:
        """Return it as ``run.json`` and the plan's hash have it; what came later is not there where it is None."""
        later = {name for name in ("chunk", "smoothing", "map", "examined") if getattr(self, name) is None}
        return self.model_dump(mode="json", exclude=later)


class Environment(Config):
    """Where and how the numbers were made; a resume on another is refused where it would change them."""

    python: str
    torch: str
    numpy: str
    system: str
    processor: str
    threads: int
    precision: str
    draws_how: str
    engine: Literal["eager", "openvino"] = "eager"
    """Of what runs once per exam; a resumed audit goes on with the same."""


class Member(Config):
    """A further model whose draws are in the run."""

    name: str
    model_hash: str


class FittedOn(Config):
    """The exams on which perturbations for all exams were fitted: of no patient who is judged under them."""

    words: str
    exams: int
    exams_hash: str
    """Of their ids and the very pixels that the model is given."""


class RunManifest(Config):
    """The content of ``run.json``: everything that made the run, and what is planned in it."""

    format_version: int = FORMAT_VERSION
    kind: Literal["model", "predictions"] = "model"
    """predictions: only outputs were there; what needs the model is not assessed."""
    run_id: str
    created: str
    workbench_version: str
    model: ModelCard | PredictionsCard
    model_hash: str
    dataset: str
    split: str
    exams: int
    manifest_hash: str
    exams_hash: str
    config: dict[str, Any]
    policy: PolicySpec
    referable_threshold: float
    seed: int
    draws: int
    chunk: int
    measurements: tuple[MeasurementSpec, ...]
    environment: Environment
    reference_sha256: str | None = None
    """Of the model's reference.safetensors, by which unlikeness was measured; None: not measured."""
    laterality_sha256: str | None = None
    """Of the model's intake.safetensors; None: not checked."""
    unlearned_sha256: str | None = None
    """Of the model trained on permuted labels with whose maps each method's were compared; None: not compared."""
    lesion_detector_sha256: str | None = None
    """Of the weights of the experimental lesion detector; None: lesions were not looked for."""
    fitted_on: FittedOn | None = None
    """None: nothing was fitted."""
    members: tuple[Member, ...] = ()
    """The other models of an ensemble, or the checkpoints, in the order of their draws."""
    plan_hash: str

    @property
    def card(self) -> ModelCard:
        """The card of the model that was run.

        Raises:
            WorkbenchError: the run has only the outputs of a model.
        """
        if isinstance(self.model, PredictionsCard):
            raise WorkbenchError(f"run {self.run_id} needs the model for this", "it was made from outputs alone")
        return self.model

    @property
    def outputs(self) -> PredictionsCard | None:
        """What is known of the outputs that the run was made from; None where the model itself was run."""
        return self.model if isinstance(self.model, PredictionsCard) else None

    def chunk_of(self, measurement: MeasurementSpec) -> int:
        """Return how many exams a unit of the measurement holds."""
        return measurement.chunk or self.chunk

    def measurement(self, measurement_id: str) -> MeasurementSpec:
        """Return the measurement of that name.

        Raises:
            WorkbenchError: the run has none of that name.
        """
        for measurement in self.measurements:
            if measurement.id == measurement_id:
                return measurement
        known = ", ".join(measurement.id for measurement in self.measurements)
        raise WorkbenchError(f"run {self.run_id} has no measurement {measurement_id!r}", f"it has {known}")


class AnalysisSummary(BaseModel):
    """The content of ``analysis/summary.json``: what was fixed on the clean exams, and the count of what ran."""

    score_cutoff: float | None
    score_cutoff_reason: str | None = None
    resamples: int
    done: int
    failed: int
    skipped: int
    maps_withheld: dict[str, str] = {}
    """Methods no map of which may be shown, and why: a check that the policy asks for failed on the run's sample."""


def manifest_path(folder: Path) -> Path:
    """Return where ``run.json`` lies."""
    return folder / "run.json"


def exams_path(folder: Path) -> Path:
    """Return where the table of eyes lies."""
    return folder / "exams.parquet"


def reference_path(folder: Path) -> Path:
    """Return where the scores of the held-out training eyes lie, if the model has a reference."""
    return folder / "reference.parquet"


def part_path(folder: Path, measurement_id: str, chunk: int) -> Path:
    """Return where the part of a measurement's chunk lies."""
    return folder / "parts" / measurement_id / f"{chunk:05d}.parquet"


def analysis_path(folder: Path, table: Literal["rows", "decisions", "eyes", "attention", "mean_maps"]) -> Path:
    """Return where a table of the analysis lies."""
    return folder / "analysis" / f"{table}.parquet"


def summary_path(folder: Path) -> Path:
    """Return where the analysis' summary lies; it is written last, so its presence means a whole analysis."""
    return folder / "analysis" / "summary.json"


def write_manifest(folder: Path, manifest: RunManifest) -> None:
    """Write ``run.json`` atomically."""
    write_text(manifest_path(folder), manifest.model_dump_json(indent=2) + "\n")


def read_manifest(folder: Path) -> RunManifest:
    """Read ``run.json``.

    Raises:
        WorkbenchError: it is missing, is no run's, or was written by a newer version.
    """
    path = manifest_path(folder)
    try:
        return RunManifest.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WorkbenchError(f"no run at {folder} (run.json is missing)", "make one with 'workbench audit'") from None
    except (ValidationError, UnicodeDecodeError) as error:
        line = str(error).splitlines()[0]
        raise WorkbenchError(f"{path} is damaged: {line}", "audit again into an empty folder") from None


def table_of(rows: Sequence[dict[str, Any]] | pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """Return ``rows`` with exactly the columns of ``schema`` and no metadata, so that equal rows are equal bytes."""
    if isinstance(rows, pd.DataFrame):
        table = pa.Table.from_pandas(rows[schema.names], schema=schema, preserve_index=False)
        return table.replace_schema_metadata(None)
    return pa.Table.from_pylist(list(rows), schema=schema)


def write_table(path: Path, rows: Sequence[dict[str, Any]] | pd.DataFrame, schema: pa.Schema) -> None:
    """Write a Parquet file atomically; its bytes depend on the rows alone."""
    table = table_of(rows, schema)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", store_schema=False)


def read_table(path: Path, schema: pa.Schema, *, exam_id: str | None = None) -> pd.DataFrame:
    """Read a table of a run, or the rows of one exam; nullable integers and booleans stay nullable.

    Raises:
        WorkbenchError: the file is missing, cut or damaged.
    """
    filters = [("exam_id", "==", exam_id)] if exam_id is not None else None
    try:
        table = pq.read_table(path, schema=schema, filters=filters, partitioning=None)
    except FileNotFoundError:
        raise WorkbenchError(f"{path} is missing", "run the same audit command again: it makes only that") from None
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        line = " ".join(str(error).split())[:200]
        raise WorkbenchError(f"{path} is damaged: {line}", "delete it and run the same audit command again") from None
    return table.to_pandas(types_mapper=_NULLABLE.get)


def pack_map(values: Float[np.ndarray, "height width"]) -> dict[str, Any]:
    """Return a map as the columns of `MAPS_SCHEMA`: float16 of its share of the largest value, and that value."""
    height, width = values.shape
    scale = float(np.abs(values).max()) or 1.0
    packed = (values / scale).astype("<f2").tobytes()
    return {"height": height, "width": width, "scale": scale, "values": packed}


def unpack_map(row: Mapping[str, Any]) -> Float[np.ndarray, "height width"] | None:
    """Return the map of a row of `MAPS_SCHEMA`, or None where it holds none."""
    if row["values"] is None:
        return None
    flat = np.frombuffer(row["values"], dtype="<f2").astype(np.float32) * np.float32(row["scale"])
    return flat.reshape(int(row["height"]), int(row["width"]))


def pack_agreement(frequency: Float[np.ndarray, "height width"], draws: int) -> dict[str, Any]:
    """Return in which share of ``draws`` (at most 255) each pixel matters, as the columns of `MAPS_SCHEMA`."""
    return {"draws": draws, "agreeing": np.round(frequency * draws).astype(np.uint8).tobytes()}


def unpack_agreement(row: Mapping[str, Any]) -> Float[np.ndarray, "height width"] | None:
    """Return the share of draws in which each pixel matters, or None for a map that is of no draws."""
    if row["agreeing"] is None:
        return None
    counts = np.frombuffer(row["agreeing"], dtype=np.uint8).astype(np.float32)
    return counts.reshape(int(row["height"]), int(row["width"])) / np.float32(row["draws"])


def label_png(labels: UInt8[np.ndarray, "height width"]) -> bytes:
    """Return labels as the PNG that `MARKS_SCHEMA` keeps."""
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()


def read_label_png(png: bytes) -> UInt8[np.ndarray, "height width"]:
    """Return the labels of `label_png`."""
    with Image.open(io.BytesIO(png)) as image:
        return np.array(image, dtype=np.uint8)


_NULLABLE: Final = {
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}
