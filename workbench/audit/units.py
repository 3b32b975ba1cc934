"""A unit of work: a pure function (model, exams chunk, measurement, seed) → the rows of one Parquet part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np
import pandas as pd
import simplejpeg
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from workbench.audit.bench import Bench
from workbench.audit.certified import certified_row, head_margin_rows
from workbench.audit.credibility import credibility_rows
from workbench.audit.deployed import deployed_system, explained_by
from workbench.audit.influence import influence_rows
from workbench.audit.layout import label_png, part_path, write_table
from workbench.audit.map_maker import MapMaker, number
from workbench.audit.map_trust import MapExaminer
from workbench.audit.patterns import StoredPattern, read_pattern, rows_of_pattern
from workbench.audit.plan import Unit
from workbench.audit.run_manifest import MeasurementSpec
from workbench.audit.schemas import PART_SCHEMAS
from workbench.audit.smallest import smallest_rows
from workbench.data.exams import ExamBatch
from workbench.data.masks import read_labels
from workbench.models.fast import fast_copy, keeps_copies
from workbench.schema.errors import WorkbenchError
from workbench.schema.grades import EYES
from workbench.schema.seeds import seed_for
from workbench.schema.specs import StressSpec
from workbench.schema.threat import FITTED, OF_THE_REFERRAL, UNIVERSAL
from workbench.stress.apply import StressResult, apply_stress
from workbench.stress.apply_exam import apply_exam_stress
from workbench.stress.apply_universal import fit_universal
from workbench.stress.calls import Answer
from workbench.stress.exam import EXAM_STRESSES, Rearranged
from workbench.stress.goals import Deployed
from workbench.stress.severity_search import mildest
from workbench.uncertainty.features import KeptPass
from workbench.uncertainty.laterality_check import pairs_of, verdicts
from workbench.uncertainty.mc_dropout import StochasticPredictor
from workbench.uncertainty.reference import AGAIN

JPEG_QUALITY: Final = 90

Row = dict[str, Any]


def make_part(bench: Bench, unit: Unit, folder: Path) -> None:
    """Measure one unit and write its part, whole or not at all.

    Raises:
        WorkbenchError: the disk refuses.
    """
    bench = replace(bench, patterns=partial(read_pattern, folder))
    path = part_path(folder, unit.measurement.id, unit.chunk)
    write_table(path, measure(bench, unit), PART_SCHEMAS[unit.measurement.kind])


def measure(bench: Bench, unit: Unit) -> list[Row]:
    """Return two rows per exam of the unit, OD then OS: done, skipped (no photograph to measure) or failed.

    Where the measurement raises, each exam is tried by itself, so that one bad exam fails alone. A pattern is of no
    exam: two rows.
    """
    if unit.measurement.kind == "pattern":
        return _pattern(bench, unit)
    index_of = {exam_id: index for index, exam_id in enumerate(bench.exams.exam_ids)}
    indices = [index_of[exam_id] for exam_id in unit.exam_ids]
    shown = [index for index in indices if any(bench.photographed(index))]
    found = _measure_or_fail(bench, unit.measurement, shown) if shown else {}
    return [_row(bench, index, eye, found) for index in indices for eye in range(2)]


def failed_rows(bench: Bench, unit: Unit, reason: str) -> list[Row]:
    """Return the rows of a unit that could not be run at all, e.g. because its worker was killed twice."""
    index_of = {exam_id: index for index, exam_id in enumerate(bench.exams.exam_ids)}
    failed = {"status": "failed", "reason": reason}
    if unit.measurement.kind == "pattern":
        return [{"eye": eye, **failed} for eye in EYES]
    indices = [index_of[exam_id] for exam_id in unit.exam_ids]
    found = {(index, eye): failed for index in indices for eye in range(2)}
    return [_row(bench, index, eye, found) for index in indices for eye in range(2)]


def _row(bench: Bench, index: int, eye: int, found: dict[tuple[int, int], Row]) -> Row:
    named = {"exam_id": bench.exams.exam_ids[index], "eye": EYES[eye]}
    if not bench.photographed(index)[eye]:
        return {**named, "status": "skipped", "reason": bench.exams.eyes["reason"].iloc[2 * index + eye]}
    return {**named, "status": "done", **found[index, eye]}


def _measure_or_fail(bench: Bench, measurement: MeasurementSpec, indices: Sequence[int]) -> dict[tuple[int, int], Row]:
    try:
        return MEASURES[measurement.kind](bench, measurement, indices)
    except Exception as error:  # whatever a model or a library raises on one exam must not end the run
        reason = _reason(error)
    if len(indices) > 1:
        one_by_one = (_measure_or_fail(bench, measurement, [index]) for index in indices)
        return {key: row for part in one_by_one for key, row in part.items()}
    return {(index, eye): {"status": "failed", "reason": reason} for index in indices for eye in range(2)}


def _reason(error: Exception) -> str:
    if isinstance(error, WorkbenchError):
        return str(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _pattern(bench: Bench, unit: Unit) -> list[Row]:
    """Make the perturbation of a stress: fitted on the exams that are kept for that, or signs by lot."""
    stress = unit.measurement.stress
    exams = bench.fitting if stress is not None and stress.name in FITTED else bench.exams
    if stress is None or exams is None:
        return failed_rows(bench, unit, "no stress, or no exams to fit on")

    def load(places: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        batch = exams.batch(places)
        return batch.x, batch.present, batch.grade

    try:
        fit = fit_universal(
            bench.attacked,
            load,
            len(exams),
            stress,
            seed=seed_for(bench.seed, unit.measurement.id),
            threshold=bench.threshold,
            deployed=_deployed(bench, stress),
        )
    except Exception as error:  # as of an exam: what cannot be fitted fails by itself
        return failed_rows(bench, unit, _reason(error))
    stressed = [stress.eyes in ("both", "worst_of_one", eye) for eye in EYES]
    about = {"fitted_on": fit.exams, "fitted_success": fit.success, "fitted_already": fit.already}
    return rows_of_pattern(fit.pattern.cpu().numpy().astype(np.float32), stressed, **about)


def _draws(bench: Bench, measurement: MeasurementSpec, indices: Sequence[int]) -> dict[tuple[int, int], Row]:
    batch = bench.exams.batch(indices)
    seeds = [seed_for(bench.seed, exam_id, measurement.id) for exam_id in batch.exam_ids]
    shown, result = Rearranged(batch.x, batch.present, ("",) * len(indices)), None
    # What judges the stressed exams and what tells them from the training ones is one pass of one model.
    kept = KeptPass(bench.unlike.reader) if bench.unlike is not None and bench.attacked is bench.model else None
    if measurement.stress is not None:
        shown, result = _stressed(bench, measurement.stress, batch, indices, kept)
    pattern = _pattern_of(bench, measurement.stress)
    drawn = bench.predictor.draws(shown.x, shown.present, draws=bench.draws, seeds=seeds).cpu().numpy()
    read = None if kept is None else kept.of(shown.x, shown.present)
    unlike = bench.unlike(shown.x, shown.present, read) if bench.unlike is not None else {}
    rows: dict[tuple[int, int], Row] = {}
    for place, index in enumerate(indices):
        for eye in range(2):
            probabilities = drawn[:, place, eye]
            row: Row = {"seed": seeds[place], "probabilities": probabilities.astype(np.float32).ravel()}
            if not np.isfinite(probabilities).all():
                row = {"status": "failed", "reason": "the model's answer is not finite"}
            row |= {name: number(values[:, eye], place) for name, values in unlike.items()}
            row |= _checks(result, place, eye) if result is not None else {}
            row |= {"pattern_sha256": pattern.sha256} if pattern is not None else {}
            if not shown.present[place, eye] or shown.not_applicable[place]:
                row = {"status": "skipped", "reason": shown.not_applicable[place] or "taken away by the stress"}
            rows[index, eye] = row
    return rows


def _stressed(
    bench: Bench, spec: StressSpec, batch: ExamBatch, indices: Sequence[int], answer: Answer | None = None
) -> tuple[Rearranged, StressResult]:
    """Return the exams under a stress, and what the framework saw of it."""
    own = [seed_for(bench.seed, exam_id, spec.measurement_id, "stress") for exam_id in batch.exam_ids]
    if spec.name in EXAM_STRESSES:
        others = _other_patients(bench, spec, indices) if spec.name == "wrong_eye" else None
        result, mixed = apply_exam_stress(
            bench.attacked,
            batch.x,
            batch.present,
            spec,
            own,
            threshold=bench.threshold,
            others=others,
            clean_logits=bench.clean_logits(indices, batch),
            answer=answer,
            copy=_copy(bench, batch.x),
        )
        return mixed, result
    deployed, pattern = _deployed(bench, spec), _pattern_of(bench, spec)
    result = apply_stress(
        bench.attacked,
        batch.x,
        batch.present,
        batch.grade,
        spec,
        own,
        threshold=bench.threshold,
        deployed=deployed,
        pattern=None if pattern is None else torch.tensor(pattern.values),
        explained=explained_by(bench.attacked) if spec.aim.goal == "explanation" else None,
        clean_logits=bench.clean_logits(indices, batch),
        answer=answer,
        copy=_copy(bench, batch.x),
    )
    return Rearranged(result.x, batch.present, ("",) * len(indices)), result


def _copy(bench: Bench, x: Tensor) -> nn.Module | None:
    """Return the copy that judges corruptions; the one whose trunk the draws come from, if there is one."""
    if bench.precision == "fp32" or not keeps_copies(bench.attacked):
        return None
    if bench.attacked is bench.model and isinstance(bench.predictor, StochasticPredictor):
        folded = bench.predictor.folded(x)
        if folded is not None:
            return folded
    return fast_copy(bench.attacked, x, "bf16", reading=None)


def _deployed(bench: Bench, spec: StressSpec) -> Deployed | None:
    """Return the system with its draws and its referral, where the stress is about them."""
    if spec.aim.goal not in OF_THE_REFERRAL and not spec.options.get("draws"):
        return None
    return _system(bench)


def _system(bench: Bench) -> Deployed:
    return deployed_system(
        bench.predictor, bench.policy, draws=bench.draws, threshold=bench.threshold, cutoff=bench.cutoff
    )


def _pattern_of(bench: Bench, spec: StressSpec | None) -> StoredPattern | None:
    """Return the perturbation for all exams that a stress adds."""
    if spec is None or spec.name not in UNIVERSAL or bench.patterns is None:
        return None
    return bench.patterns(spec.measurement_id)


def _other_patients(bench: Bench, spec: StressSpec, indices: Sequence[int]) -> Tensor:
    """Return for each exam one of another patient with both eyes, drawn by hash; zeros where there is none."""
    patients = bench.exams.eyes["patient_id"].iloc[::2].to_numpy()
    pairs = (bench.exams.eyes["status"] == "ok").to_numpy().reshape(-1, 2).all(axis=1)
    found = torch.zeros(len(indices), *bench.exams.batch(indices[:1]).x.shape[1:])
    for place, index in enumerate(indices):
        candidates = np.flatnonzero(pairs & (patients != patients[index]))
        if len(candidates):
            lot = seed_for(bench.seed, bench.exams.exam_ids[index], spec.measurement_id, "other") % len(candidates)
            found[place] = bench.exams.batch([int(candidates[lot])]).x[0]
    return found


def _checks(result: StressResult, place: int, eye: int) -> Row:
    flipped = bool(result.flipped[place])
    return {
        "linf": float(result.linf[place, eye]),
        "within_budget": bool(result.within_budget[place]),
        "in_box": bool(result.in_box[place]),
        "flipped": flipped,
        "survives_8bit": bool(result.survives_8bit[place]) if flipped else None,
        "notes": result.notes[place] or None,
        "distance": float(result.distance[place, eye]),
        "success": bool(result.success[place]) if result.applicable[place] else None,
        "already": bool(result.already[place]) if result.applicable[place] else None,
    }


def _maps(bench: Bench, measurement: MeasurementSpec, indices: Sequence[int]) -> dict[tuple[int, int], Row]:
    batch = bench.exams.batch(indices)
    maker = MapMaker(bench.model, bench.predictor, bench.maps, bench.seed, measurement.maps, bench.precision)
    rows: dict[tuple[int, int], Row] = {}
    for (place, eye), row in maker.rows(batch.x, batch.present, batch.exam_ids).items():
        rows[indices[place], eye] = row
    return rows


def _chosen(indices: Sequence[int], mask: Bool[Tensor, " exam"]) -> list[int]:
    return [index for index, kept in zip(indices, mask.tolist(), strict=True) if kept]


def _intake(bench: Bench, _: MeasurementSpec, indices: Sequence[int]) -> dict[tuple[int, int], Row]:
    if bench.laterality is None:
        raise WorkbenchError("the plan checks on which side the disc is, but the model cannot tell", AGAIN)
    evidence = bench.laterality.evidence(pairs_of(bench.exams, indices))
    flags = verdicts(evidence, bench.laterality.thresholds)
    return {
        (index, eye): {"filed_rightly_log_odds": number(evidence[:, eye], place), "flag": flags[place][eye]}
        for place, index in enumerate(indices)
        for eye in range(2)
    }


def _photographs(bench: Bench, _: MeasurementSpec, indices: Sequence[int]) -> dict[tuple[int, int], Row]:
    rows: dict[tuple[int, int], Row] = {}
    names: tuple[Literal["OD", "OS"], Literal["OD", "OS"]] = ("OD", "OS")
    for index in indices:
        for eye, name in enumerate(names):
            pixels = bench.exams.pixels(index, name)
            if pixels is not None:
                encoded = simplejpeg.encode_jpeg(
                    np.ascontiguousarray(pixels), quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="444"
                )
                rows[index, eye] = {"jpeg": encoded}
    return rows


def _stressed_photographs(
    bench: Bench, measurement: MeasurementSpec, indices: Sequence[int]
) -> dict[tuple[int, int], Row]:
    """Make each exam under the stress again, from the seeds of its draws, and keep the 8-bit pixels."""
    if measurement.stress is None:
        raise WorkbenchError(f"{measurement.id} names no stress", "audit again into an empty folder")
    batch = bench.exams.batch(indices)
    shown, _ = _stressed(bench, measurement.stress, batch, indices)
    stressed, clean = _eight_bit(shown.x), _eight_bit(batch.x)
    return {
        (index, eye): {"png": _png(stressed[place, eye]), "clean_png": _png(clean[place, eye])}
        for place, index in enumerate(indices)
        for eye in range(2)
    }


def _eight_bit(x: Float[Tensor, "exam 6 height width"]) -> UInt8[np.ndarray, "exam 2 height width 3"]:
    return (x * 255).round().to(torch.uint8).reshape(len(x), 2, 3, *x.shape[2:]).permute(0, 1, 3, 4, 2).cpu().numpy()


def _png(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    return cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))[1].tobytes()


def _influence(bench: Bench, measurement: MeasurementSpec, indices: Sequence[int]) -> dict[tuple[int, int], Row]:
    ids = [bench.exams.exam_ids[index] for index in indices]
    seeds = [seed_for(bench.seed, exam_id, measurement.id) for exam_id in ids]

    def drawn(x: Tensor, present: Tensor) -> Tensor:
        return bench.predictor.draws(x, present, draws=bench.draws, seeds=seeds)

    def once(x: Tensor, present: Tensor) -> Tensor:
        return torch.softmax(bench.predictor.logits(x, present), dim=-1)[None]

    architecture = getattr(bench.model, "architecture", None)
    mirrored = bool(getattr(architecture, "mirror_os", False))
    return influence_rows(drawn, once, bench.exams, indices, seed=bench.seed, mirrored=mirrored)


def _map_trust(bench: Bench, measurement: MeasurementSpec, indices: Sequence[int]) -> dict[tuple[int, int], Row]:
    batch = bench.exams.batch(indices)
    examiner = MapExaminer(bench.model, measurement.maps, bench.threshold, bench.seed, bench.unlearned, bench.precision)
    rows: dict[tuple[int, int], Row] = {}
    eyes: tuple[Literal[0, 1], Literal[0, 1]] = (0, 1)
    for eye in eyes:
        seen = batch.present[:, eye]
        if seen.any():
            chosen = _chosen(indices, seen)
            seeds = [seed_for(bench.seed, bench.exams.exam_ids[index], measurement.id) for index in chosen]
            found = examiner.rows(batch.x[seen], batch.present[seen], eye, seeds)
            rows |= {(index, eye): row for index, row in zip(chosen, found, strict=True)}
    return rows


def _masks(bench: Bench, _: MeasurementSpec, indices: Sequence[int]) -> dict[tuple[int, int], Row]:
    rows: dict[tuple[int, int], Row] = {}
    for index in indices:
        for eye in range(2):
            path = bench.exams.eyes["mask_path"].iloc[2 * index + eye]
            marked = None if pd.isna(path) else read_labels(Path(str(path)))
            rows[index, eye] = {} if marked is None else {"labels": label_png(marked), "over": "photograph"}
    return rows


def _lesions(bench: Bench, _: MeasurementSpec, indices: Sequence[int]) -> dict[tuple[int, int], Row]:
    if bench.detector is None:
        raise WorkbenchError("the plan looks for lesions, but no detector was given", "name it: explanations.lesions")
    rows: dict[tuple[int, int], Row] = {}
    names: tuple[Literal["OD", "OS"], Literal["OD", "OS"]] = ("OD", "OS")
    for index in indices:
        for eye, name in enumerate(names):
            if bench.photographed(index)[eye]:
                pixels = bench.exams.photograph_square(index, name, bench.detector.card.size)
                rows[index, eye] = {"labels": label_png(bench.detector.labels(pixels)), "over": "square"}
    return rows


def _mildest(bench: Bench, measurement: MeasurementSpec, indices: Sequence[int]) -> dict[tuple[int, int], Row]:
    batch = bench.exams.batch(indices)
    seeds = [seed_for(bench.seed, exam_id, measurement.id) for exam_id in batch.exam_ids]
    name = measurement.method or ""
    found = mildest(bench.attacked, batch.x, batch.present, name, seeds, threshold=bench.threshold)
    return {
        (index, eye): {
            "severity": of.severity,
            "steady": of.steady,
            "clean_rejection_score": of.clean_scores[eye],
            "rejection_score": of.scores[eye],
            "accepted": of.accepted,
        }
        for index, of in zip(indices, found, strict=True)
        for eye in range(2)
    }


def _smallest(bench: Bench, measurement: MeasurementSpec, indices: Sequence[int]) -> dict[tuple[int, int], Row]:
    if measurement.search is None:
        raise WorkbenchError(f"{measurement.id} names no search", "audit again into an empty folder")
    batch = bench.exams.batch(indices)
    seeds = [seed_for(bench.seed, exam_id, measurement.id) for exam_id in batch.exam_ids]
    found = smallest_rows(bench.attacked, batch, measurement.search, seeds, threshold=bench.threshold)
    return {(index, eye): found[place][eye] for place, index in enumerate(indices) for eye in range(2)}


def _certified(bench: Bench, measurement: MeasurementSpec, indices: Sequence[int]) -> dict[tuple[int, int], Row]:
    if measurement.smoothing is None:
        raise WorkbenchError(f"{measurement.id} names no noise", "audit again into an empty folder")
    batch = bench.exams.batch(indices)
    rows: dict[tuple[int, int], Row] = {}
    for place, index in enumerate(indices):
        row = certified_row(
            bench.predictor,
            batch.x[place : place + 1],
            batch.present[place : place + 1],
            measurement.smoothing,
            bench.policy,
            draws=measurement.smoothing.draws or bench.draws,
            threshold=bench.threshold,
            seed=seed_for(bench.seed, batch.exam_ids[place], measurement.id),
            memory_mib=bench.memory_mib,
        )
        rows |= {(index, eye): row for eye in range(2)}
    return rows


def _head_margin(bench: Bench, _: MeasurementSpec, indices: Sequence[int]) -> dict[tuple[int, int], Row]:
    batch = bench.exams.batch(indices)
    found = head_margin_rows(bench.model, batch.x, batch.present)
    return {(index, eye): found[place][eye] for place, index in enumerate(indices) for eye in range(2)}


def _credibility(bench: Bench, measurement: MeasurementSpec, indices: Sequence[int]) -> dict[tuple[int, int], Row]:
    if measurement.examined is None:
        raise WorkbenchError(f"{measurement.id} names no attack", "audit again into an empty folder")
    batch = bench.exams.batch(indices)
    deployed, why = None, None
    try:
        deployed = _system(bench)
    except WorkbenchError as error:  # draws without a gradient: what is about them does not apply
        why = error.what
    found = credibility_rows(
        bench.attacked,
        batch,
        measurement.examined,
        [seed_for(bench.seed, exam_id, measurement.id) for exam_id in batch.exam_ids],
        threshold=bench.threshold,
        deployed=deployed,
        no_draws=why,
        surrogate=bench.surrogate,
    )
    return {(index, eye): row for index, row in zip(indices, found, strict=True) for eye in range(2)}


Measure = Callable[[Bench, MeasurementSpec, Sequence[int]], dict[tuple[int, int], Row]]
MEASURES: Final[dict[str, Measure]] = {
    "draws": _draws,
    "maps": _maps,
    "photographs": _photographs,
    "stressed": _stressed_photographs,
    "intake": _intake,
    "influence": _influence,
    "map_trust": _map_trust,
    "masks": _masks,
    "lesions": _lesions,
    "mildest": _mildest,
    "smallest": _smallest,
    "certified": _certified,
    "head_margin": _head_margin,
    "credibility": _credibility,
}
"""What is done for each kind of measurement."""
