"""What must stand before the first unit: model, exams and plan, and that a resumed run is still the same run."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch

import workbench
from workbench.audit import layout, run_manifest, schemas
from workbench.audit.bench import Bench
from workbench.audit.config import AuditConfig
from workbench.audit.drawing import settled_drawing
from workbench.audit.intake import needs_reference
from workbench.audit.patterns import manifest_to_fit_on, pattern_id, places_not_judged
from workbench.audit.results import maps_id, stressed_id, trust_id
from workbench.audit.run_manifest import CredibilitySetting, Environment, FittedOn, MeasurementSpec, RunManifest
from workbench.data.exams import Exams, open_exams
from workbench.explanation.checks import check_map
from workbench.models.checkpoint import load_model, model_hash
from workbench.models.lesion_net import load_detector
from workbench.models.precision import resolve_precision
from workbench.schema.errors import WorkbenchError
from workbench.schema.files import canonical_hash, sha256_file
from workbench.schema.manifest import manifest_hash, read_manifest
from workbench.schema.maps import MUTUAL_INFORMATION, MapSpec
from workbench.schema.model_card import ModelCard
from workbench.schema.threat import FITTED, UNIVERSAL
from workbench.stress.corruptions.catalogue import CORRUPTIONS
from workbench.stress.registry import ATTACKS, check_stress
from workbench.uncertainty.decisions import referable_threshold
from workbench.uncertainty.laterality_check import read_laterality
from workbench.uncertainty.reference import AGAIN, UnlikenessMeter, read_reference

TRUST_CHUNK: Final = 2
"""Exams per unit of a method's checks: some 60 maps an exam, so a whole sample would keep one worker for minutes."""
CREDIBILITY_CHUNK: Final = 2
"""The same for the examination of an attack: hundreds of passes an exam."""
CERTIFIED_CHUNK: Final = 4
"""Exams per unit of a certificate: hundreds of passes an exam."""


def open_bench(config: AuditConfig) -> tuple[Bench, ModelCard, pd.DataFrame]:
    """Return the model and the exams of an audit, the model's card and the manifest.

    Raises:
        WorkbenchError: no such model or manifest, a model without dropout, NaN weights, nothing to audit.
    """
    torch.set_num_threads(config.threads)
    model, card = load_model(config.model)
    manifest = read_manifest(config.data.manifest)
    exams = open_exams(
        manifest, card.preprocess, cache=config.data.cache_folder, split=config.data.split, limit=config.data.limit
    )
    reference = read_reference(config.model)
    lacking = None if reference is not None else needs_reference(config.policy)
    if lacking is not None:
        raise WorkbenchError(f"{lacking}, but {config.model} has no reference.safetensors", AGAIN)
    drawing, engine = settled_drawing(config, model, card)
    fitting, fitting_words = _fitting(config, manifest, exams)
    bench = Bench(
        model,
        drawing.maker,
        exams,
        drawing.draws,
        referable_threshold(config.policy, card.referable_threshold),
        config.seed,
        drawing.attacked,
        drawing.members,
        engine,
        None if reference is None else UnlikenessMeter(model, reference, card.preprocess.size),
        read_laterality(config.model),
        config.policy.maps,
        None if config.explanations.unlearned is None else load_model(config.explanations.unlearned)[0],
        None if config.explanations.lesions is None else load_detector(config.explanations.lesions),
        config.policy,
        fitting=fitting,
        fitting_words=fitting_words,
        memory_mib=config.memory_mib,
        surrogate=None if config.credibility.surrogate is None else load_model(config.credibility.surrogate)[0],
        precision=resolve_precision(config.precision),
    )
    return bench, card, manifest


def _fitting(config: AuditConfig, manifest: pd.DataFrame, exams: Exams) -> tuple[Exams | None, str]:
    """Return the exams that perturbations for all exams are fitted on and which they are; None where none is planned.

    Raises:
        WorkbenchError: there is no exam of a patient who is not judged.
    """
    ladders = [ladder for ladder in config.stresses if ladder.name in FITTED]
    if not ladders:
        return None, ""
    patients, limit = exams.eyes["patient_id"].iloc[::2].tolist(), config.fitting.exams
    others = manifest_to_fit_on(manifest, patients, config.fitting.split)
    if others is not None:
        found = open_exams(others[0], exams.spec, cache=config.data.cache_folder, limit=limit)
        return _photographed(found), others[1]
    sizes = [ladder.exams for ladder in ladders]
    judged = None if None in sizes else max(size for size in sizes if size is not None)
    places = places_not_judged(patients, exams.exam_ids, judged, config.seed)
    return _photographed(exams.subset(places[:limit])), "audited exams that are not judged under it"


def _photographed(exams: Exams) -> Exams:
    there = (exams.eyes["status"] == "ok").to_numpy().reshape(-1, 2).any(axis=1)
    return exams.subset(np.flatnonzero(there).tolist())


def _fitted_on(bench: Bench) -> dict[str, Any] | None:
    """Return what the run says of the exams to fit on; None where there are none."""
    exams = bench.fitting
    if exams is None:
        return None
    hashes = [str(digest) for digest in _pixel_hashes(exams)]
    told = FittedOn(words=bench.fitting_words, exams=len(exams), exams_hash=canonical_hash([exams.exam_ids, hashes]))
    return told.model_dump(mode="json")


def measurements_of(config: AuditConfig, *, intake: bool = False) -> tuple[MeasurementSpec, ...]:
    """Return every measurement of an audit: clean first, then each stress, the maps, the photographs, the intake.

    Raises:
        WorkbenchError: an unknown stress or explanation, an unknown option, a strength out of range.
    """
    planned = [MeasurementSpec(id=layout.CLEAN, kind="draws")]
    for ladder in config.stresses:
        for spec in ladder.specs():
            check_stress(spec)
            if spec.name in UNIVERSAL:
                planned.append(MeasurementSpec(id=pattern_id(spec.measurement_id), kind="pattern", stress=spec))
            planned.append(MeasurementSpec(id=spec.measurement_id, kind="draws", stress=spec, exams=ladder.exams))
    for name in config.severity_search.corruptions:
        if name not in CORRUPTIONS:
            raise WorkbenchError(f"severity_search: unknown corruption {name!r}", f"known are {', '.join(CORRUPTIONS)}")
        exams = config.severity_search.exams
        planned.append(MeasurementSpec(id=f"mildest.{name}", kind="mildest", method=name, exams=exams))
    planned += [*_smallest(config), *_certificates(config), *_examination(config)]
    for one in config.explanations.methods:
        check_map(one)
        planned.append(MeasurementSpec(id=maps_id(one.key), kind="maps", **_of(one), exams=config.explanations.exams))
    planned += _trust_measurements(config)
    planned.append(MeasurementSpec(id=layout.PHOTOGRAPHS, kind="photographs"))
    planned += _stressed_photographs(config)
    return (*planned, *([MeasurementSpec(id=layout.INTAKE, kind="intake")] if intake else []))


def _smaller(config: AuditConfig, chunk: int) -> int | None:
    """Return the exams per unit of a slow measurement; None where the run's own units are no larger."""
    return chunk if config.batch_size > chunk else None


def _examination(config: AuditConfig) -> list[MeasurementSpec]:
    """Return the checks of what attacks are worth, where there is an attack and an exam to spend on them."""
    plan = config.credibility
    specs = [spec for ladder in config.stresses for spec in ladder.specs()]
    strengths = [spec.strength for spec in specs if spec.name in ATTACKS and spec.aim.norm == "linf"]
    epsilon = plan.epsilon if plan.epsilon is not None else max(strengths, default=0.0)
    if not (plan.exams and strengths and epsilon):
        return []
    effort = plan.model_dump(include={"steps", "tries", "queries"})
    examined = CredibilitySetting(epsilon=epsilon, **effort)
    chunk = _smaller(config, CREDIBILITY_CHUNK)
    return [
        MeasurementSpec(id=layout.CREDIBILITY, kind="credibility", exams=plan.exams, chunk=chunk, examined=examined)
    ]


def _smallest(config: AuditConfig) -> list[MeasurementSpec]:
    """Return the searches for the smallest ε, one per norm."""
    plan = config.smallest_epsilon
    return [
        MeasurementSpec(id=spec.measurement_id, kind="smallest", search=spec, exams=plan.exams) for spec in plan.specs()
    ]


def _certificates(config: AuditConfig) -> list[MeasurementSpec]:
    """Return the certificates: one per noise, and the margin of the head."""
    plan = config.certified
    chunk = _smaller(config, CERTIFIED_CHUNK)
    smoothed = [
        MeasurementSpec(id=f"certified.{spec.sigma:g}", kind="certified", smoothing=spec, exams=plan.exams, chunk=chunk)
        for spec in plan.specs()
    ]
    head = MeasurementSpec(id=layout.HEAD_MARGIN, kind="head_margin", exams=plan.exams)
    return [*smoothed, head] if smoothed else []


def _stressed_photographs(config: AuditConfig) -> list[MeasurementSpec]:
    """Return what keeps photographs under attack: of each attack its strongest budget."""
    strongest = [max(ladder.specs(), key=lambda spec: spec.strength) for ladder in config.stresses]
    exams = config.stressed_photographs
    return [
        MeasurementSpec(id=stressed_id(spec.measurement_id), kind="stressed", stress=spec, exams=exams)
        for spec in strongest
        if spec.name in ATTACKS and exams
    ]


def _trust_measurements(config: AuditConfig) -> list[MeasurementSpec]:
    """Return what is measured so that a map, and the answer that it explains, may be trusted."""
    plan = config.explanations
    planned = []
    if plan.methods and plan.influence_exams:
        planned.append(MeasurementSpec(id=layout.INFLUENCE, kind="influence", exams=plan.influence_exams))
    if plan.trust_exams:
        exams = plan.trust_exams if plan.exams is None else min(plan.trust_exams, plan.exams)
        chunk = _smaller(config, TRUST_CHUNK)
        judged = {
            spec.key: spec
            for spec in (one.model_copy(update={"draws": 0}) for one in plan.methods)
            if spec.target != MUTUAL_INFORMATION
        }
        planned += [
            MeasurementSpec(id=trust_id(key), kind="map_trust", **_of(spec), exams=exams, chunk=chunk)
            for key, spec in judged.items()
        ]
    return planned


def _of(spec: MapSpec) -> dict[str, Any]:
    """Return a measurement's fields that say which maps: the name alone where nothing else is said."""
    return {"method": spec.key, "map": None if spec.key == spec.name else spec}


def _measurements(config: AuditConfig, bench: Bench) -> tuple[MeasurementSpec, ...]:
    marks = {
        layout.MASKS: bench.exams.eyes["mask_path"].notna().any(),
        layout.LESIONS: bench.detector is not None,
    }
    explained, kinds = config.explanations, {layout.MASKS: "masks", layout.LESIONS: "lesions"}
    planned = [
        MeasurementSpec.model_validate({"id": name, "kind": kinds[name], "exams": explained.exams})
        for name, wanted in marks.items()
        if wanted and explained.methods
    ]
    return (*measurements_of(config, intake=bench.laterality is not None), *planned)


def table_of_eyes(exams: Exams) -> pd.DataFrame:
    """Return the run's table of eyes: what the exams say, and the hash of the very pixels the model is given.

    Raises:
        WorkbenchError: a photograph on disk is no longer the one of the manifest.
    """
    _refuse_changed_photographs(exams.eyes)
    eyes = exams.eyes.drop(columns=["image_path"])
    eyes["pixels_sha256"] = list(_pixel_hashes(exams))
    return eyes.reindex(columns=schemas.EXAMS_SCHEMA.names)


def _pixel_hashes(exams: Exams) -> Iterator[str | None]:
    for index in range(len(exams)):
        for eye in (exams.pixels(index, "OD"), exams.pixels(index, "OS")):
            yield None if eye is None else hashlib.sha256(eye.tobytes()).hexdigest()


def _refuse_changed_photographs(eyes: pd.DataFrame) -> None:
    shown = eyes[(eyes["status"] == "ok") & eyes["image_path"].notna()]
    with ThreadPoolExecutor() as pool:
        for row, digest in zip(shown.itertuples(), pool.map(_digest, shown["image_path"]), strict=True):
            if digest not in (None, row.sha256):
                raise WorkbenchError(
                    f"the photograph {row.eye} of exam {row.exam_id} is not the one of the manifest "
                    f"(sha256 {str(digest)[:12]}…, not {str(row.sha256)[:12]}…)",
                    "restore it, or import the photographs again",
                )


def _digest(path: str) -> str | None:
    try:
        return sha256_file(Path(path))
    except OSError:
        return None  # the prepared pixels are in the cache; they are hashed by themselves


def describe(
    config: AuditConfig, bench: Bench, card: ModelCard, manifest: pd.DataFrame, eyes: pd.DataFrame
) -> RunManifest:
    """Return what ``run.json`` says: everything that makes the run, and its plan."""
    values: dict[str, Any] = {
        "workbench_version": workbench.__version__,
        "model": card.model_dump(mode="json"),
        "model_hash": model_hash(config.model),
        "dataset": ", ".join(sorted(eyes["dataset"].dropna().unique())) or "not stated",
        "split": config.data.split or "all",
        "exams": len(bench.exams),
        "manifest_hash": manifest_hash(manifest),
        "exams_hash": canonical_hash(eyes.to_csv(index=False)),
        "config": config.for_the_record(),
        "policy": config.policy.model_dump(mode="json"),
        "referable_threshold": bench.threshold,
        "seed": config.seed,
        "draws": bench.draws,
        "chunk": config.batch_size,
        "measurements": [measurement.for_the_plan() for measurement in _measurements(config, bench)],
        "environment": _environment(config, bench),
    }
    fitted_on = _fitted_on(bench)
    if fitted_on is not None:
        values["fitted_on"] = fitted_on
    if bench.members:  # came later: a plan without members keeps its hash
        values["members"] = [member.model_dump(mode="json") for member in bench.members]
    if bench.unlike is not None:
        values["reference_sha256"] = card.provenance.reference_sha256
    if bench.laterality is not None:
        values["laterality_sha256"] = card.provenance.laterality_sha256
    if config.explanations.unlearned is not None:
        values["unlearned_sha256"] = model_hash(config.explanations.unlearned)
    if config.credibility.surrogate is not None:
        values["surrogate_sha256"] = model_hash(config.credibility.surrogate)
    if bench.detector is not None:
        values["lesion_detector_sha256"] = bench.detector.card.weights_sha256
    plan_hash = canonical_hash(values)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return RunManifest.model_validate({**values, "run_id": plan_hash[:12], "created": created, "plan_hash": plan_hash})


def _environment(config: AuditConfig, bench: Bench) -> dict[str, Any]:
    environment = Environment(
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        threads=config.threads,
        precision=resolve_precision(config.precision),
        draws_how=bench.predictor.how,
        engine=bench.engine,
    )
    return environment.model_dump(mode="json", exclude=set() if bench.engine != "eager" else {"engine"})


def _processor() -> str:
    """Return the processor's name and the widest arithmetic that it has."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name} ({torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores)"


def adopt(folder: Path, planned: RunManifest, eyes: pd.DataFrame, bench: Bench | None = None) -> RunManifest:
    """Begin the run in ``folder``, or return the one that is there, if it is the same run.

    Of the bench the run keeps the scores of the reference eyes, so that percentiles need no model.

    Raises:
        WorkbenchError: another run is there; names what differs.
    """
    if not layout.manifest_path(folder).exists():
        if (folder / "parts").exists():
            raise WorkbenchError(f"{folder} holds parts but no run.json", "choose another --out")
        layout.write_table(layout.exams_path(folder), eyes, schemas.EXAMS_SCHEMA)
        if bench is not None and bench.unlike is not None:
            held_out = pd.DataFrame(bench.unlike.held_out)
            layout.write_table(layout.reference_path(folder), held_out, schemas.HELD_OUT_SCHEMA)
        run_manifest.write_manifest(folder, planned)
        return planned
    found = run_manifest.read_manifest(folder)
    if found.plan_hash != planned.plan_hash:
        changed = "; ".join(differences(found, planned, folder, eyes)[:4])
        raise WorkbenchError(f"{folder} holds another audit: {changed}", "choose another --out, or undo the change")
    return found


def differences(found: RunManifest, planned: RunManifest, folder: Path, eyes: pd.DataFrame) -> list[str]:
    """Return what differs between two runs, a line each, what a user would look for first."""
    lines: list[str] = []
    if found.model_hash != planned.model_hash:
        lines.append(f"the model was {found.model_hash[:12]}…, is {planned.model_hash[:12]}…")
    if found.exams_hash != planned.exams_hash:
        before = layout.read_table(layout.exams_path(folder), schemas.EXAMS_SCHEMA)
        lines.append(_changed_exam(before, eyes))
    if found.manifest_hash != planned.manifest_hash:
        lines.append(f"the manifest was {found.manifest_hash[:12]}…, is {planned.manifest_hash[:12]}…")
    told = {"model", "measurements", "policy", "plan_hash", "run_id", "created", "exams", "exams_hash"}
    told |= {"model_hash", "manifest_hash", "seed", "draws", "chunk"}
    before_values, after_values = (run.model_dump(mode="json", exclude=told) for run in (found, planned))
    lines += [f"{key} was {old}, is {new}" for key, old, new in _changed(before_values, after_values)]
    plans = [[measurement.for_the_plan() for measurement in run.measurements] for run in (found, planned)]
    if not lines and plans[0] != plans[1]:
        lines.append("the measurements, or how they are parted into units")
    return lines or ["the model's card"]


def _changed_exam(before: pd.DataFrame, after: pd.DataFrame) -> str:
    names = ["exam_id", "eye", "status", "sha256", "pixels_sha256", "icdr_grade"]
    lists = [
        {(str(row[0]), str(row[1])): [str(v) for v in row[2:]] for row in _plain(table[names])}
        for table in (before, after)
    ]
    for key in sorted(lists[0].keys() | lists[1].keys()):
        if lists[0].get(key) != lists[1].get(key):
            added = "is new" if key not in lists[0] else "is gone" if key not in lists[1] else "has changed"
            return f"exam {key[0]} {key[1]} {added}"
    return "what is known of the exams"


def _plain(table: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    return table.astype(object).where(table.notna(), None).itertuples(index=False, name=None)


def _changed(before: Any, after: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted key, the old and the new value of every leaf that differs."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            yield from _changed(before.get(name), after.get(name), f"{key}.{name}" if key else name)
    elif before != after:
        yield key, before, after
