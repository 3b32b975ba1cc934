"""An audit of a model of which only outputs exist: two files become a run like any other. No torch here."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int64
from pydantic import Field, model_validator

import workbench
from workbench.audit import layout, run_manifest, schemas
from workbench.audit.analysis import analyse
from workbench.audit.config import policy_of_a_file
from workbench.audit.lock import run_lock
from workbench.audit.plan import all_units
from workbench.audit.predictions_lacks import TOP_GRADE, why_no_score
from workbench.audit.predictions_table import (
    Sheet,
    identify,
    is_per_exam,
    numbers,
    read_sheet,
    refuse_duplicates,
    spread,
)
from workbench.audit.predictions_values import Values, read_labels, read_values
from workbench.audit.results import Run
from workbench.audit.run_manifest import Environment, MeasurementSpec, RunManifest
from workbench.schema.config import Config
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import canonical_hash, sha256_file
from workbench.schema.grades import EYES
from workbench.schema.model_card import Outputs, PredictionsCard
from workbench.schema.specs import PolicySpec
from workbench.uncertainty.decisions import referable_threshold

CHUNK: Final = 2048
"""Exams per part: there is nothing to compute, so parts are large."""
NO_PREDICTION: Final = "no prediction"
KEYS: Final = ["exam_id", "eye"]
OF_THE_EXAM: Final = ["patient_id", "camera", "site", "age", "sex", "split", "dataset", "dataset_version"]
"""What is known of one eye's exam holds for its fellow that has no row."""


class PredictionsConfig(Config):
    """What an audit of outputs does."""

    predictions: Path = Field(description="CSV, TSV or Parquet: image, p0 to p4; or p0 and p1, p, expected_grade; draw")
    labels: Path = Field(description="CSV, TSV or Parquet: image, level; quality, camera, site, age, sex where known")
    columns: dict[str, str] = Field(default_factory=dict, description="our name of a column: the file's own")
    outputs: Outputs | None = Field(None, description="null: told by the columns")
    tolerance: float = Field(0.001, ge=0, lt=1, description="a sum that differs from 1 by more is normalised, counted")
    missing: Literal["refuse", "count"] = Field(
        "refuse", description="count: an eye without a prediction has no answer, one without a label no grade"
    )
    threshold: float | None = Field(None, gt=0, lt=TOP_GRADE, description="of P(referable), or of the expected grade")
    policy: PolicySpec = Field(default_factory=lambda: PolicySpec.model_validate({}))
    name: str = Field("", description="what the report calls the model; empty: by the hash of its outputs")
    dataset: str = ""
    label_source: str = ""
    licence: str = "not stated"
    intended_use: str = ""
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _read_policy(cls, values: Any) -> Any:
        return policy_of_a_file(values)


@dataclass(frozen=True)
class Answers:
    """Outputs and labels put together: the run's table of eyes, and the draws of those that have an answer.

    ``row`` is the place of an eye's draws, -1 for none; it stands beside ``eyes``.
    """

    eyes: pd.DataFrame
    row: Int64[np.ndarray, " eye"]
    draws: Float32[np.ndarray, "row draw 5"]
    card: PredictionsCard


def audit_predictions(config: PredictionsConfig, out: Path | None = None, *, resamples: int | None = None) -> Run:
    """Audit a model by its outputs alone and return the finished run; nothing is written where a file is refused.

    Args:
        config: the whole job.
        out: the run's folder; by default one named after the model below ``runs``.
        resamples: of the intervals; None: as in any audit.

    Raises:
        WorkbenchError: a file that is no table of outputs or labels, rows that are refused (with their lines), a
            score that these outputs do not allow, another audit in ``out``.
    """
    answers = read_answers(config)
    run = describe(config, answers)
    folder = out or Path("runs") / f"predictions-{run.model_hash[:8]}"
    with run_lock(folder):
        _adopt(folder, run)
        layout.write_table(layout.exams_path(folder), answers.eyes, schemas.EXAMS_SCHEMA)
        run_manifest.write_manifest(folder, run)
        _write_parts(folder, run, answers)
        return analyse(folder) if resamples is None else analyse(folder, resamples=resamples)


def read_answers(config: PredictionsConfig) -> Answers:
    """Return outputs and labels, read, checked and put together.

    Raises:
        WorkbenchError: see `audit_predictions`.
    """
    sheets = [read_sheet(path, config.columns) for path in (config.labels, config.predictions)]
    _refuse_unknown_columns(config, *sheets)
    labels = identify(sheets[0])
    refuse_duplicates(labels, *KEYS)
    truth = read_labels(spread(labels)).assign(label_level="patient" if is_per_exam(labels) else "eye")
    outputs = identify(sheets[1], _by_image(labels))
    per_exam = is_per_exam(outputs)
    values = read_values(outputs, config.outputs, config.tolerance)
    answered, draws = _draws(outputs, values)
    # One answer or one label for a whole exam is of the eyes that the other file knows, not of both come what may.
    if per_exam and not is_per_exam(labels):
        answered = _of_known_eyes(answered, truth)
    elif is_per_exam(labels) and not per_exam:
        truth = _of_known_eyes(truth, answered)
    without = _missing(config, labels, outputs, truth, answered)
    card = _card(config, values, "exam" if per_exam else "eye", len(outputs.table)).model_copy(update=without)
    eyes, row = _eyes(config, truth, answered)
    return Answers(eyes, row, draws, card)


def _of_known_eyes(table: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose eye the other table has too, or whose exam it lacks altogether."""
    eyes, known = (pd.MultiIndex.from_frame(one[KEYS]) for one in (table, other))
    return table[eyes.isin(known) | ~table["exam_id"].isin(other["exam_id"]).to_numpy()]


def _by_image(labels: Sheet) -> pd.DataFrame | None:
    if not labels.has("image"):
        return None
    named = labels.table.dropna(subset=["image"]).drop_duplicates("image").set_index("image")
    return named[["patient_id", "exam_id", "eye"]]


def _refuse_unknown_columns(config: PredictionsConfig, *sheets: Sheet) -> None:
    for ours, theirs in config.columns.items():
        if not any(sheet.has(ours) for sheet in sheets):
            files = " nor ".join(sheet.file for sheet in sheets)
            raise WorkbenchError(f"neither {files} has a column {theirs!r}, named for {ours}", "check --column")


def _draws(outputs: Sheet, values: Values) -> tuple[pd.DataFrame, Float32[np.ndarray, "row draw 5"]]:
    """Return the identity of each answered eye, and its draws in the order of their names."""
    table = outputs.table[["patient_id", *KEYS]].assign(place=np.arange(len(outputs.table)), draw=0)
    if outputs.has("draw"):
        table["draw"] = _draw_order(outputs)
    refuse_duplicates(spread(outputs.keep(table)), *KEYS[:1], *(["draw"] if outputs.has("draw") else []), "eye")
    count = table.groupby(KEYS, dropna=False)["draw"].transform("size")
    fewer = count < count.max()
    outputs.refuse(fewer, f"an eye with fewer than {count.max()} draws", "give every eye the same number of draws")
    table = table.sort_values([*KEYS, "draw"], kind="stable", na_position="first")
    draws = values.p[table["place"].to_numpy()].astype(np.float32).reshape(-1, int(count.max()), values.p.shape[1])
    first = outputs.keep(table.iloc[:: int(count.max())].assign(place=np.arange(len(draws))))
    return spread(first).table, draws


def _draw_order(outputs: Sheet) -> pd.Series:
    """Return the rank of each draw's name: by number where all are numbers."""
    outputs.refuse(outputs.table["draw"].isna(), "no draw is named", "number the draws of each eye")
    found = numbers(outputs, "draw")
    names = outputs.table["draw"].astype(str) if found.isna().any() else found
    return names.rank(method="dense").astype(int)


def _missing(
    config: PredictionsConfig, labels: Sheet, outputs: Sheet, truth: pd.DataFrame, answered: pd.DataFrame
) -> dict[str, int]:
    """Return how many eyes lack a prediction and how many a label.

    Raises:
        WorkbenchError: there are some, and they are not to be counted.
    """
    asked, told = (pd.MultiIndex.from_frame(table[KEYS]) for table in (truth, answered))
    graded = pd.MultiIndex.from_frame(truth.loc[truth["icdr_grade"].notna(), KEYS])
    no_prediction = pd.Series(~asked.isin(told), index=truth.index)
    no_label = pd.Series(~told.isin(graded), index=answered.index)
    if config.missing == "refuse":
        remedy = "add them, or go on with --missing count: they stay in the run as eyes without an answer or a grade"
        labels.refuse(no_prediction, "a label without a prediction", remedy)
        labels.refuse(truth["icdr_grade"].isna(), "no level", remedy)
        outputs.refuse(no_label, "a prediction without a label", remedy)
    return {"without_prediction": int(no_prediction.sum()), "without_label": int(no_label.sum())}


def _card(config: PredictionsConfig, values: Values, per: Literal["eye", "exam"], read: int) -> PredictionsCard:
    digest = sha256_file(config.predictions)
    return PredictionsCard(
        name=config.name or f"outputs {digest[:8]}",
        outputs=values.outputs,
        per=per,
        predictions_sha256=digest,
        labels_sha256=sha256_file(config.labels),
        read=read,
        tolerance=config.tolerance,
        normalised=values.normalised,
        largest_deviation=values.largest_deviation,
        clipped=values.clipped,
        referable_threshold=1.5 / TOP_GRADE if values.outputs == "expected_grade" else 0.5,
        licence=config.licence,
        intended_use=config.intended_use,
    )


def _eyes(
    config: PredictionsConfig, truth: pd.DataFrame, answered: pd.DataFrame
) -> tuple[pd.DataFrame, Int64[np.ndarray, " eye"]]:
    """Return two rows per exam, OD then OS, and the place of each eye's draws."""
    known = answered[["patient_id", *KEYS, "place"]].set_index(KEYS)
    named = truth.set_index(KEYS)
    exams = sorted({*named.index.get_level_values(0), *known.index.get_level_values(0)})
    eyes = pd.MultiIndex.from_product([exams, EYES], names=KEYS)
    table = named.reindex(eyes)
    place = known["place"].reindex(eyes)
    table["patient_id"] = table["patient_id"].fillna(known["patient_id"].reindex(eyes))
    labelled = eyes.isin(named.index)
    table["status"] = np.where(place.notna(), "ok", np.where(labelled, "ungradable", "missing"))
    reasons = np.where(labelled, NO_PREDICTION, "neither prediction nor label")
    table["reason"] = pd.Series(reasons, index=eyes, dtype="string").mask(place.notna())
    for name, stated in (("dataset", config.dataset), ("label_source", config.label_source)):
        if stated:
            table[name] = table[name].fillna(stated)
    per_exam = table.groupby(level=0)[OF_THE_EXAM]
    table[OF_THE_EXAM] = table[OF_THE_EXAM].fillna(per_exam.transform("first"))
    table = table.reset_index().reindex(columns=schemas.EXAMS_SCHEMA.names)
    return table, place.fillna(-1).to_numpy(dtype=np.int64)


def describe(config: PredictionsConfig, answers: Answers) -> RunManifest:
    """Return what ``run.json`` says of an audit of outputs.

    Raises:
        WorkbenchError: the policy asks for what these outputs do not allow.
    """
    card, eyes = answers.card, answers.eyes
    policy = _policy(config, card)
    truth = ["patient_id", *KEYS, "icdr_grade", "quality", "camera", "site", "age", "sex", "label_level"]
    splits = eyes["split"].dropna().unique()
    values: dict[str, Any] = {
        "kind": "predictions",
        "workbench_version": workbench.__version__,
        "model": card.model_dump(mode="json"),
        "model_hash": canonical_hash([card.predictions_sha256, card.outputs, config.columns, config.tolerance]),
        "dataset": ", ".join(sorted(eyes["dataset"].dropna().unique())) or "a set that is not named",
        "split": str(splits[0]) if len(splits) == 1 else "all",
        "exams": len(eyes) // 2,
        "manifest_hash": canonical_hash(eyes.loc[eyes["icdr_grade"].notna(), truth].to_csv(index=False)),
        "exams_hash": canonical_hash(eyes.to_csv(index=False)),
        "config": config.model_dump(mode="json", exclude={"predictions", "labels"}) | {"policy": policy.model_dump()},
        "policy": policy.model_dump(mode="json"),
        "referable_threshold": referable_threshold(policy, card.referable_threshold),
        "seed": config.seed,
        "draws": answers.draws.shape[1],
        "chunk": CHUNK,
        "measurements": [MeasurementSpec(id=layout.CLEAN, kind="draws").for_the_plan()],
        "environment": _environment().model_dump(mode="json"),
    }
    plan_hash = canonical_hash(values)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    run = RunManifest.model_validate({**values, "run_id": plan_hash[:12], "created": created, "plan_hash": plan_hash})
    lacking = why_no_score(run).get(policy.referral_score)
    if lacking is not None:
        allowed = "policy.referral_score=margin" + (
            "" if card.outputs == "expected_grade" else " or predictive_entropy"
        )
        raise WorkbenchError(f"the referral score {policy.referral_score} {_sentence(lacking)}", f"choose {allowed}")
    return run


def _sentence(lacking: str) -> str:
    return lacking if lacking.startswith("needs") else f"is not to be had ({lacking})"


def _policy(config: PredictionsConfig, card: PredictionsCard) -> PolicySpec:
    """Return the policy with the threshold that was asked for; an expected grade is ranked by its margin unless said.

    Raises:
        WorkbenchError: a threshold outside the outputs' range, or stated twice; pooling of what is no probability.
    """
    policy, threshold = config.policy, config.threshold
    if card.outputs == "expected_grade":
        if policy.referable_threshold is not None:
            remedy = "give it in grades, e.g. --threshold 1.5"
            raise WorkbenchError(f"policy.referable_threshold={policy.referable_threshold} is no grade", remedy)
        if policy.pooling != "mean":
            raise WorkbenchError(f"policy.pooling={policy.pooling} pools probabilities", "expected grades have a mean")
        if "referral_score" not in policy.model_fields_set:
            policy = policy.model_copy(update={"referral_score": "margin"})
        return policy if threshold is None else policy.model_copy(update={"referable_threshold": threshold / TOP_GRADE})
    if threshold is None:
        return policy
    if policy.referable_threshold not in (None, threshold):
        both = f"--threshold {threshold:g} and policy.referable_threshold={policy.referable_threshold:g}"
        raise WorkbenchError(f"{both} differ", "give one of them")
    if threshold >= 1:
        raise WorkbenchError(f"--threshold {threshold:g} is no probability", "give it between 0 and 1")
    return policy.model_copy(update={"referable_threshold": threshold})


def _environment() -> Environment:
    return Environment(
        python=platform.python_version(),
        torch="not used",
        numpy=np.__version__,
        system=f"{platform.system()} {platform.machine()}",
        processor=platform.processor() or platform.machine(),
        threads=1,
        precision="as in the file, kept in fp32",
        draws_how="as in the file",
    )


def _adopt(folder: Path, run: RunManifest) -> None:
    """Refuse a folder that holds another audit."""
    if not layout.manifest_path(folder).exists():
        if (folder / "parts").exists():
            raise WorkbenchError(f"{folder} holds parts but no run.json", "choose another --out")
        return
    found = run_manifest.read_manifest(folder)
    if found.plan_hash == run.plan_hash:
        return
    changed = [name for name, one, other in _fields(found, run) if one != other]
    raise WorkbenchError(f"{folder} holds another audit: {', '.join(changed)} differ", "choose another --out")


def _fields(found: RunManifest, run: RunManifest) -> Iterator[tuple[str, Any, Any]]:
    for name in ("kind", "model_hash", "exams_hash", "policy", "draws", "seed", "workbench_version", "model", "config"):
        yield name.replace("_", " "), getattr(found, name), getattr(run, name)


def _write_parts(folder: Path, run: RunManifest, answers: Answers) -> None:
    eyes = answers.eyes
    exam_ids = list(eyes["exam_id"].iloc[::2])
    start = 0
    for unit in all_units(run, exam_ids):
        stop = start + 2 * len(unit.exam_ids)
        path = layout.part_path(folder, layout.CLEAN, unit.chunk)
        layout.write_table(
            path, _part(eyes.iloc[start:stop], answers.row[start:stop], answers.draws), schemas.DRAWS_SCHEMA
        )
        start = stop


def _part(eyes: pd.DataFrame, row: Int64[np.ndarray, " eye"], draws: Float32[np.ndarray, "row draw 5"]) -> pd.DataFrame:
    """Return the rows of one part."""
    done = row >= 0
    part = eyes[KEYS].reindex(columns=schemas.DRAWS_SCHEMA.names)
    part["status"] = np.where(done, "done", "skipped")
    part["reason"] = eyes["reason"].to_numpy()
    flat = draws.reshape(len(draws), -1)
    part["probabilities"] = [flat[place] if there else None for place, there in zip(row, done, strict=True)]
    for name in ("within_budget", "in_box", "flipped", "survives_8bit"):
        part[name] = part[name].astype("boolean")
    return part
