"""Under which conditions the numbers were made, and how to make them again."""

from __future__ import annotations

import altair
import pandas as pd

import workbench
from workbench.audit.predictions_words import threshold_words
from workbench.audit.results import Run
from workbench.report import outputs_only
from workbench.schema.words import SCORE_NAMES, percent


def facts(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the conditions in groups of name and value."""
    manifest, environment, summary = run.manifest, run.manifest.environment, run.summary
    cutoff = summary.score_cutoff_reason if summary.score_cutoff is None else f"{summary.score_cutoff:.6g}"
    policy = manifest.policy
    incomplete = "referred" if policy.refer_incomplete else "not referred for that alone"
    return [
        ("Model", _model(run) if manifest.outputs is None else outputs_only.model_facts(manifest.outputs)),
        (
            "Data",
            [
                ("Dataset, split", f"{manifest.dataset}, {manifest.split}"),
                ("Manifest hash", manifest.manifest_hash),
                ("Hash of the exams as given to the model", manifest.exams_hash),
            ],
        ),
        (
            "Decision",
            [
                ("Called referable from", threshold_words(manifest, 2)),
                ("Threshold from", _threshold_from(run)),
                ("Referral budget", percent(policy.referral_budget)),
                ("Referral score", SCORE_NAMES.get(policy.referral_score, policy.referral_score)),
                ("Cut-off, fixed on the clean exams without their labels", str(cutoff)),
                ("Pooling of draws", policy.pooling.replace("_", " ")),
                ("An exam that lacks an eye is", incomplete),
            ],
        ),
        (
            "Measurement",
            [
                ("Draws per exam", f"{manifest.draws}, {environment.draws_how}"),
                *[("Scores not assessed", line) for line in outputs_only.lacking_scores(manifest)],
                ("Precision", environment.precision),
                ("Seed of the run", f"{manifest.seed}; every exam and measurement has its own, derived from it"),
                ("Bootstrap", f"{summary.resamples} resamples of patients"),
                ("Rows done, failed, skipped", f"{summary.done}, {summary.failed}, {summary.skipped}"),
                ("Run, plan", f"{manifest.run_id}, {manifest.plan_hash}"),
                ("Measured", manifest.created),
            ],
        ),
        (
            "Environment",
            [
                ("Workbench (audit)", manifest.workbench_version),
                ("Workbench (report)", workbench.__version__),
                ("Python, torch, numpy", f"{environment.python}, {environment.torch}, {environment.numpy}"),
                ("pandas, altair (report)", f"{pd.__version__}, {altair.__version__}"),
                ("System", environment.system),
                ("Processor, threads", f"{environment.processor}, {environment.threads} per worker"),
            ],
        ),
    ]


def _model(run: Run) -> list[tuple[str, str]]:
    card, provenance = run.manifest.card, run.manifest.card.provenance
    return [
        ("Name", card.name),
        ("Hash of weights and card", run.manifest.model_hash),
        ("Weights, sha256", card.weights_sha256 or "not stated"),
        ("Architecture", _architecture(run)),
        ("Input", f"{card.preprocess.size} × {card.preprocess.size} pixels per eye"),
        ("Trained on", provenance.dataset or "not stated"),
        ("Training manifest", provenance.manifest_hash or "not stated"),
        ("Training", f"{provenance.epochs} epochs, {provenance.train_patients} patients, seed {provenance.seed}"),
        ("Hardened in training against", provenance.defence or "nothing stated"),
        ("Licence", card.licence),
    ]


def _architecture(run: Run) -> str:
    net = run.manifest.card.architecture
    eyes = {
        "early": "both eyes as one six-channel input",
        "late": "a shared trunk, both eyes' features to each eye's head",
        "single": "each eye by itself",
    }[net.fusion]
    return f"{net.trunk}, width {net.width:g}, {net.fusion} fusion ({eyes}), head dropout {net.head_dropout:g}"


def _threshold_from(run: Run) -> str:
    if run.manifest.policy.referable_threshold is not None:
        return "the policy, stated before the audit" if run.manifest.outputs is None else "stated with this audit"
    if run.manifest.outputs is not None:
        return "the default of an audit of outputs; the model's own is not known"
    return "the model's card, chosen on its validation split"


def failed_work(run: Run) -> list[tuple[str, str, int]]:
    """Return what failed: measurement, reason, how many eyes."""
    if not run.summary.failed:
        return []
    failures = run.failures()
    counts = failures.groupby(["measurement", "reason"], sort=False, dropna=False).size()
    return [(str(measurement), str(reason), int(count)) for (measurement, reason), count in counts.items()]


def commands(run: Run, compared: bool) -> list[str]:
    """Return the commands that make the run and this report again; a run holds no path, so they name none."""
    report = "workbench report RUN" + (" --compare OTHER_RUN" if compared else "")
    if run.manifest.outputs is not None:
        return ["workbench audit CONFIG --predictions FILE --labels FILE --out RUN", report]
    return ["workbench audit CONFIG model=MODEL data.manifest=MANIFEST --out RUN", report]
