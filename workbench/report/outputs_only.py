"""What a report says where only a model's outputs were audited: its facts, and the items that need the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from workbench.audit.predictions_lacks import NEEDS_MODEL, why_no_score
from workbench.audit.predictions_words import answer_name, threshold_words
from workbench.audit.run_manifest import RunManifest
from workbench.report.items import Evidence, Finding, not_assessed, reported
from workbench.report.performance import Measured
from workbench.report.words import counted, full_words, listed
from workbench.schema.model_card import PredictionsCard
from workbench.schema.words import SCORE_NAMES

OUTPUTS: Final = {
    "grades": "five probabilities, one per ICDR grade",
    "binary": "P(referable) alone",
    "expected_grade": "an expected grade from 0 to 4",
}


def findings(evidence: Evidence) -> Mapping[int, Finding]:
    """Return the items, by number, that are judged otherwise where only outputs were there; none for other runs."""
    card = evidence.run.manifest.outputs
    if card is None:
        return {}
    needs_model = not_assessed(NEEDS_MODEL)
    return {
        1: _intended_use(card),
        2: _model(card),
        3: _input(evidence, card),
        4: needs_model,
        8: not_assessed(f"what the model was trained on is not known ({NEEDS_MODEL})"),
        9: needs_model,
        10: not_assessed("patients and exams are named as in the files, and nobody checked those names"),
        11: _reference(evidence),
        16: _operating_point(evidence),
        17: _no_answer(evidence),
        21: _external(evidence),
        22: needs_model,
        23: needs_model,
        25: _uncertainty(evidence),
        26: needs_model,
        27: _failures(evidence),
    }


def _intended_use(card: PredictionsCard) -> Finding:
    if not card.intended_use:
        return not_assessed("no intended use was stated with the outputs")
    return reported(card.intended_use, lacking="users and place in the care pathway")


def _model(card: PredictionsCard) -> Finding:
    words = f"{card.name}; its outputs have the sha256 {card.predictions_sha256[:12]}…, licence {card.licence}"
    return reported(words, lacking=f"version and weights ({NEEDS_MODEL})", section="conditions")


def _input(evidence: Evidence, card: PredictionsCard) -> Finding:
    handed = "is referred to a human" if evidence.run.manifest.policy.refer_incomplete else "is judged by its one eye"
    words = (
        f"Output per {card.per}: {OUTPUTS[card.outputs]}; {counted(card.read, 'row')} read. An exam that lacks an eye "
        f"{handed}; eyes missing: {full_words(evidence.figures.get('missing_rate'))}"
    )
    return reported(words, lacking=f"what the model is given ({NEEDS_MODEL})", section="conditions")


def _reference(evidence: Evidence) -> Finding:
    who = evidence.cohort
    if not who.label_sources:
        return not_assessed("no source of the labels was stated with them")
    lacking = "number of graders, adjudication (not in the labels)"
    return reported(f"labels: {listed(list(who.label_sources))}", lacking=lacking, section="cohort")


def _operating_point(evidence: Evidence) -> Finding:
    if evidence.figures.get("sensitivity").value is None and evidence.figures.get("specificity").value is None:
        return not_assessed("neither sensitivity nor specificity could be measured")
    manifest = evidence.run.manifest
    stated = manifest.policy.referable_threshold is not None
    where = "stated with this audit" if stated else "the default of an audit of outputs"
    lacking = "whether the threshold was fixed before these labels were seen" if stated else "the model's own threshold"
    words = f"called from {threshold_words(manifest)}, {where}; set against NHS 85/80 and IDx-DR 85/82.5"
    return reported(words, lacking=lacking, section="performance")


def _no_answer(evidence: Evidence) -> Finding:
    rate = full_words(evidence.figures.get("ungradable_rate"))
    counted_as = "count as referred" if evidence.run.manifest.policy.refer_incomplete else "are judged by the other eye"
    words = f"labelled eyes without a prediction: {rate}; exams with such an eye {counted_as}"
    return reported(
        words, lacking=f"which photographs the model calls ungradable ({NEEDS_MODEL})", section="performance"
    )


def _external(evidence: Evidence) -> Finding:
    external = [one for one in evidence.comparisons if one.relation == "external"]
    if not external:
        return not_assessed("no outputs of this model on another set were given (--compare OTHER_RUN)")
    names = listed([f"{one.name}, {counted(one.exams, 'exam')}" for one in external])
    return reported(f"beside {names}, with differences", section="comparison")


def _uncertainty(evidence: Evidence) -> Finding:
    if not evidence.figures.along("error_rate_at_retained"):
        return not_assessed("no exam could be ranked by its uncertainty")
    words = f"referral curve; errors referred: {full_words(evidence.headline.errors_referred)}"
    lacking = [f"detection of out-of-distribution exams ({NEEDS_MODEL})", *lacking_scores(evidence.run.manifest)]
    return reported(words, lacking="; ".join(lacking), section="uncertainty")


def _failures(evidence: Evidence) -> Finding:
    if not evidence.cases:
        return not_assessed("no case is shown in this copy, or none was wrong")
    words = f"{counted(evidence.cases, 'case')} without photographs, missed disease first"
    return reported(words, lacking=f"photographs, maps, what stress does to a case ({NEEDS_MODEL})", section="cases")


def lacking_scores(run: RunManifest) -> list[str]:
    """Return the uncertainty scores that the outputs do not allow, by reason, e.g. ``a, b (needs several draws)``."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in why_no_score(run).items():
        by_reason.setdefault(reason, []).append(SCORE_NAMES.get(name, name.replace("_", " ")))
    return [f"{', '.join(names)} ({reason})" for reason, names in by_reason.items()]


def reworded(measured: list[Measured], run: RunManifest) -> list[Measured]:
    """Return the metrics with what they mean where only outputs were there."""
    if run.outputs is None:
        return measured
    meanings = {"ungradable_rate": "labelled eyes without a prediction", "missing_rate": "eyes in neither file"}
    names = {"ungradable_rate": "Eyes without an answer"}
    return [
        replace(
            one,
            words=names.get(one.figure.name, one.words),
            meaning=meanings.get(one.figure.name, one.meaning).replace(
                "P(referable)", "P(referable)" if one.figure.value is None else answer_name(run)
            ),
        )
        for one in measured
    ]


def model_facts(card: PredictionsCard) -> list[tuple[str, str]]:
    """Return what is known of the outputs, name and value."""
    rows = f"{card.read:,}; {card.normalised:,} normalised (sum off by more than {card.tolerance:g})"
    return [
        ("Name", card.name),
        ("Outputs", f"{OUTPUTS[card.outputs]}, per {card.per}"),
        ("Outputs, sha256 of the file", card.predictions_sha256),
        ("Labels, sha256 of the file", card.labels_sha256),
        ("Rows", f"{rows}; largest deviation of a sum from 1: {card.largest_deviation:.3g}"),
        ("Expected grades outside 0 to 4, moved to its end", f"{card.clipped:,}"),
        ("Labelled eyes without a prediction", f"{card.without_prediction:,}"),
        ("Predicted eyes without a label", f"{card.without_label:,}"),
        ("Architecture, weights, input, training", f"not assessed ({NEEDS_MODEL})"),
        ("Licence", card.licence),
    ]
