"""The 30 items that a trust report states: each reported, not assessed (why) or not applicable (why), never silent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from workbench.audit.results import Run
from workbench.report.attack_checks import Credibility
from workbench.report.cohort import Cohort
from workbench.report.compare import Comparison
from workbench.report.explained import MethodSummary
from workbench.report.figures import Figure, Figures
from workbench.report.headline import Headline
from workbench.report.read_from import ReadFrom
from workbench.report.side_by_side import SideBySide
from workbench.report.subgroups import Attribute
from workbench.report.two_eyes import TwoEyes
from workbench.report.uncertainty import Uncertainty
from workbench.report.universal import OneForAll
from workbench.report.weak_eye import OneEye
from workbench.report.words import counted, full_words, listed
from workbench.report.worst_case import WorstCase
from workbench.schema.manifest import BLOCKING
from workbench.schema.words import percent

Status = Literal["reported", "not assessed", "not applicable"]


@dataclass(frozen=True)
class Item:
    """One item: its status, what there is to say, what it lacks, and the section where it stands.

    ``words`` is the finding of a reported item and the reason of any other.
    """

    number: int
    title: str
    source: str
    status: Status
    words: str
    lacking: str = ""
    section: str = ""


@dataclass(frozen=True)
class Evidence:
    """What the items are judged by: nothing but the run, its model card, and the runs given beside it."""

    run: Run
    figures: Figures
    headline: Headline
    cohort: Cohort
    attributes: tuple[Attribute, ...]
    maps: tuple[MethodSummary, ...]
    credibility: Credibility | None
    comparisons: tuple[Comparison, ...]
    side_by_side: SideBySide | None
    two_eyes: TwoEyes
    read_from: ReadFrom
    uncertainty: Uncertainty
    cases: int
    worst_cases: tuple[WorstCase, ...] = ()
    weak_eyes: tuple[OneEye, ...] = ()
    one_for_all: OneForAll | None = None


@dataclass(frozen=True)
class Finding:
    """What a judge says of an item."""

    status: Status
    words: str
    lacking: str = ""
    section: str = ""


def reported(words: str, *, lacking: str = "", section: str = "") -> Finding:
    """Return that an item is in the report."""
    return Finding("reported", words, lacking, section)


def not_assessed(why: str) -> Finding:
    """Return that an item was not assessed."""
    return Finding("not assessed", why)


def items(evidence: Evidence, others: Mapping[int, Finding] | None = None) -> tuple[Item, ...]:
    """Return all 30 items in their order.

    Args:
        evidence: what they are judged by.
        others: by number, the items that are judged otherwise, see `workbench.report.outputs_only`.
    """
    found = []
    for number, (title, source, judge) in enumerate(_ITEMS, start=1):
        other = (others or {}).get(number)
        finding = other or (judge if isinstance(judge, Finding) else judge(evidence))
        found.append(Item(number, title, source, finding.status, finding.words, finding.lacking, finding.section))
    return tuple(found)


def _intended_use(evidence: Evidence) -> Finding:
    use = evidence.run.manifest.model.intended_use.strip()
    if not use:
        return not_assessed("the model card states no intended use")
    lacking = "users and place in the care pathway (the model card has no field for them)"
    return reported(use, lacking=lacking, section="conditions")


def _model(evidence: Evidence) -> Finding:
    card = evidence.run.manifest.model
    words = f"{card.name}, hash {evidence.run.manifest.model_hash[:12]}…, licence {card.licence}"
    lacking = "licence (the card states none)" if card.licence == "not stated" else ""
    return reported(words, lacking=lacking, section="conditions")


def _input(evidence: Evidence) -> Finding:
    manifest = evidence.run.manifest
    size = manifest.card.preprocess.size
    missing = full_words(evidence.figures.get("missing_rate"))
    handed = "is referred to a human" if manifest.policy.refer_incomplete else "is judged by the eye that is there"
    words = f"Two photographs of {size} × {size} pixels, OD and OS. An exam that lacks an eye {handed}; eyes missing: "
    return reported(words + missing, section="conditions")


def _architecture(evidence: Evidence) -> Finding:
    net, config = evidence.run.manifest.card.architecture, evidence.run.manifest.card.provenance.config
    words = f"{net.trunk}, {net.fusion} fusion; the grade is the most probable, referable from P ≥ the threshold"
    lacking = "" if config else "the loss (the model card does not hold the training's configuration)"
    return reported(words, lacking=lacking, section="conditions")


def _sources(evidence: Evidence) -> Finding:
    who = evidence.cohort
    words = (
        f"{listed(list(who.sources))}; {counted(len(who.cameras), 'camera')}, {counted(len(who.sites), 'site')} named"
    )
    return reported(words, lacking="dates, and the data's licence (see the dataset's card)", section="cohort")


def _inclusion(evidence: Evidence) -> Finding:
    words = f"flow diagram from {counted(evidence.run.manifest.exams, 'exam')} to those judged"
    return reported(
        words, lacking="what the import left out before the manifest (its own summary says it)", section="cohort"
    )


def _demographics(evidence: Evidence) -> Finding:
    who = evidence.cohort
    known = [name for name, there in (("age", who.ages), ("sex", who.sexes)) if there]
    absent = [name for name, there in (("age", who.ages), ("sex", who.sexes)) if not there]
    words = f"severity{''.join(f', {name}' for name in known)} of the audited exams"
    lacking = "the other partitions (not in the run)"
    if absent:
        lacking += f"; {listed(absent)} (unknown in the {_labels_in(evidence)})"
    return reported(words, lacking=lacking, section="cohort")


def _partition(evidence: Evidence) -> Finding:
    manifest, duplicates = evidence.run.manifest, evidence.cohort.duplicates
    trained = manifest.card.provenance
    found = f"{duplicates or 0} duplicate photographs among the audited"
    if not trained.manifest_hash:
        return not_assessed(f"the model card does not say what it was trained on ({found})")
    if trained.manifest_hash != manifest.manifest_hash:
        lacking = "whether patients or images are in both manifests"
        return reported(f"trained on another manifest than the audited one; {found}", lacking=lacking)
    if manifest.split in ("train", "all"):
        return reported(f"the audited exams include those trained on (split: {manifest.split}); {found}")
    allowed = [kind for kind in trained.conflicts_allowed if kind in BLOCKING]
    if allowed:
        return reported(f"split by patient, but training allowed these conflicts: {listed(allowed)}; {found}")
    return reported(f"same manifest as in training, no patient in two splits (training refuses one); {found}")


def _preprocessing(evidence: Evidence) -> Finding:
    spec, summary = evidence.run.manifest.card.preprocess, evidence.run.summary
    steps = ["disc found, cropped and scaled"]
    steps += [name for name, used in (("local average subtracted", spec.local_average), ("CLAHE", spec.clahe)) if used]
    ungradable = full_words(evidence.figures.get("ungradable_rate"))
    words = f"{listed(steps)}; {counted(summary.failed, 'failed row')}; photographs without an answer: {ungradable}"
    return reported(words, section="cohort")


_IDENTITY: Final = not_assessed(
    "identifiers are taken from the source as they are; the run keeps no path or file name, and its "
    "pictures carry no metadata, but nobody checked the pixels or the identifiers themselves"
)


def _reference(evidence: Evidence) -> Finding:
    who = evidence.cohort
    if not who.label_sources:
        return not_assessed("the manifest names no source of its labels")
    words = f"labels: {listed(list(who.label_sources))}; level: {listed(list(who.label_levels)) or 'not stated'}"
    return reported(words, lacking="number of graders, adjudication (not in the manifest)", section="cohort")


_GRADERS: Final = not_assessed("one label per eye: the agreement of graders cannot be computed from the run")


def _sample_size(evidence: Evidence) -> Finding:
    error = evidence.headline.conditions[0].error
    return not_assessed(
        f"no rationale is recorded; what {counted(evidence.run.manifest.exams, 'exam')} can show stands in the "
        f"intervals, e.g. error rate {full_words(error)}"
    )


def _of(figures: Figures, *names: str) -> list[Figure]:
    return [figures.get(name) for name in names]


def _discrimination(evidence: Evidence) -> Finding:
    names = ("sensitivity", "specificity", "auc_referable_exam", "auc_referable_eye")
    sensitivity, specificity, exam, eye = _of(evidence.figures, *names)
    if exam.value is None and eye.value is None:
        return not_assessed(exam.reason or "no value")
    words = (
        f"AUC per exam {full_words(exam)}, per eye {full_words(eye)}; sensitivity {full_words(sensitivity)}, "
        f"specificity {full_words(specificity)}"
    )
    return reported(words, lacking="sensitivity and specificity per eye", section="performance")


def _grading(evidence: Evidence) -> Finding:
    kappa = evidence.figures.get("quadratic_weighted_kappa")
    if kappa.value is None:
        return not_assessed(kappa.reason or "no value")
    return reported(f"kappa {full_words(kappa)}; confusion matrix; recall of each grade", section="performance")


def _operating_point(evidence: Evidence) -> Finding:
    if evidence.figures.get("sensitivity").value is None and evidence.figures.get("specificity").value is None:
        return not_assessed("neither sensitivity nor specificity could be measured")
    policy = evidence.run.manifest.policy
    where = "by the policy" if policy.referable_threshold is not None else "on the model's validation split"
    words = f"threshold {percent(evidence.run.manifest.referable_threshold, 1)}, fixed {where} before this audit"
    return reported(f"{words}; set against NHS 85/80 and IDx-DR 85/82.5", section="performance")


def _ungradable(evidence: Evidence) -> Finding:
    rate, policy = evidence.figures.get("ungradable_rate"), evidence.run.manifest.policy
    counted_as = "count as referred" if policy.refer_incomplete else "are judged by the eye that is there"
    return reported(f"{full_words(rate)}; exams with such an eye {counted_as}", section="performance")


def _calibration(evidence: Evidence) -> Finding:
    error, brier = _of(evidence.figures, "expected_calibration_error", "brier")
    if error.value is None:
        return not_assessed(error.reason or "no value")
    words = f"reliability diagram, ECE {full_words(error)}, Brier {full_words(brier)}"
    slope = evidence.figures.get("calibration_slope", of="none")
    if slope.value is None:
        return reported(words, lacking=f"calibration slope ({slope.reason})", section="uncertainty")
    return reported(f"{words}, slope {full_words(slope)}", section="uncertainty")


def _net_benefit(evidence: Evidence) -> Finding:
    gains = evidence.figures.along("net_benefit_gain")
    if not gains:
        return not_assessed(evidence.figures.get("net_benefit_gain").reason or "no value")
    words = f"decision curve at {counted(len(gains), 'threshold')} of P(referable)"
    return reported(words, lacking="cost per case found (no costs are stated)", section="uncertainty")


def _subgroups(evidence: Evidence) -> Finding:
    known = [one.words.lower() for one in evidence.attributes if one.groups]
    unknown = [one.words.lower() for one in evidence.attributes if not one.groups]
    if not known:
        return not_assessed(f"the {_labels_in(evidence)} holds no attribute of any exam")
    lacking = f"{listed(unknown)} (unknown in the {_labels_in(evidence)})" if unknown else ""
    return reported(f"by {listed(known)}", lacking=lacking, section="subgroups")


def _labels_in(evidence: Evidence) -> str:
    return "manifest" if evidence.run.manifest.outputs is None else "file of labels"


def _external(evidence: Evidence) -> Finding:
    external = [one for one in evidence.comparisons if one.relation == "external"]
    if external:
        names = listed([f"{one.name}, {counted(one.exams, 'exam')}" for one in external])
        return reported(f"beside {names}, with differences", section="comparison")
    trained = evidence.run.manifest.card.provenance.manifest_hash
    if trained and trained != evidence.run.manifest.manifest_hash:
        return not_assessed("this set is not the one trained on, but no internal run was given (--compare)")
    return not_assessed("no run on another set was given (--compare OTHER_RUN)")


def _stressed(evidence: Evidence, kind: str) -> list[str]:
    found = [one for one in evidence.headline.conditions if one.kind == kind]
    return list(dict.fromkeys(one.words.partition(", ")[0] for one in found))


def _corruptions(evidence: Evidence) -> Finding:
    names = _stressed(evidence, "corruption")
    if not names:
        return not_assessed("the plan of the run holds no corruption")
    return reported(f"{listed(names)}; supports Art. 15(4)", section="robustness")


def _attacks(evidence: Evidence) -> Finding:
    names = _stressed(evidence, "attack")
    if not names or evidence.credibility is None:
        return not_assessed("the plan of the run holds no attack")
    words = f"{listed(names)}, white box, ε in pixel units; supports Art. 15(5). Credibility: "
    not_run = sum(one.outcome == "not run" for one in evidence.credibility.checks)
    lacking = f"{counted(not_run, 'credibility check')} (each with its reason)" if not_run else ""
    return reported(words + evidence.credibility.words, lacking=lacking, section="robustness")


_POISONING: Final = not_assessed(
    "declared untested: neither poisoning, nor extraction, nor membership inference was tried"
)


def _uncertainty(evidence: Evidence) -> Finding:
    if not evidence.figures.along("error_rate_at_retained"):
        return not_assessed("no exam could be ranked by its uncertainty")
    words = f"coverage and risk by every score; errors referred: {full_words(evidence.headline.errors_referred)}"
    flagged = evidence.figures.get("unlike_training_rate")
    if flagged.value is None:
        lacking = f"detection of out-of-distribution exams ({flagged.reason})"
        return reported(words, lacking=lacking, section="uncertainty")
    return reported(f"{words}; unlike the training photographs: {full_words(flagged)}", section="uncertainty")


def _explanation(evidence: Evidence) -> Finding:
    if not evidence.maps:
        return not_assessed("the plan of the run holds no explanation")
    told = [f"{one.method}: {one.eyes - one.withheld - one.failed} of {one.eyes} shown" for one in evidence.maps]
    checked = any(measurement.kind == "map_trust" for measurement in evidence.run.manifest.measurements)
    lacking = "overlap with lesions" if checked else "weight randomisation, overlap with lesions, stability"
    return reported(f"{'; '.join(told)}", lacking=lacking, section="explanations")


def _failures(evidence: Evidence) -> Finding:
    if not evidence.cases:
        return reported("no exam was wrong, clean or under attack, so there is no case to show", section="cases")
    return reported(f"{counted(evidence.cases, 'case')} with photographs, missed disease first", section="cases")


_HUMAN: Final = not_assessed("no reader study: nobody read these exams with and without the model")


_MONITORING: Final = Finding(
    "not applicable", "this is one audit of one model before use; nothing is in operation to be monitored"
)


def _reproducibility(evidence: Evidence) -> Finding:
    manifest = evidence.run.manifest
    words = f"seed {manifest.seed}, plan {manifest.plan_hash[:12]}…, hashes, versions, environment, commands"
    return reported(words, lacking="sign-off by a person", section="conditions")


_ITEMS: Final[tuple[tuple[str, str, Callable[[Evidence], Finding] | Finding], ...]] = (
    ("Intended use, users, place in the care pathway, out of scope", "DECIDE-AI; Model Card", _intended_use),
    ("Model name, version, weight and config hash, licence", "DECIDE-AI; Model Card", _model),
    ("Input and output; both-eyes requirement; a missing eye", "FDA device description", _input),
    ("Architecture, fusion of the eyes, loss, decode rule", "CLAIM", _architecture),
    ("Data sources, dates, sites, cameras, licence", "CLAIM; Datasheets", _sources),
    ("Inclusion and exclusion, with a flow diagram", "CLAIM; DECIDE-AI", _inclusion),
    ("Demographics and severity per partition", "CLAIM", _demographics),
    ("Partition by patient; leakage and duplicate check", "CLAIM; STARD-AI", _partition),
    ("Preprocessing, with failure count", "CLAIM", _preprocessing),
    ("De-identification method", "CLAIM; PS3.15 Annex E", _IDENTITY),
    ("Reference standard, graders, adjudication", "CLAIM; STARD", _reference),
    ("Inter- and intra-grader agreement", "CLAIM", _GRADERS),
    ("Sample size rationale", "CLAIM", _sample_size),
    ("Sensitivity, specificity, AUC per image and per patient", "STARD", _discrimination),
    ("Quadratic weighted kappa, confusion matrix, recall per grade", "CLAIM", _grading),
    ("Pre-specified operating points against targets", "STARD", _operating_point),
    ("Ungradable rate, by intention to diagnose", "STARD", _ungradable),
    ("Calibration: reliability diagram, ECE, slope, Brier", "TRIPOD+AI", _calibration),
    ("Decision curve, net benefit, cost per case found", "TRIPOD+AI", _net_benefit),
    ("Subgroups with intervals", "FDA; STARD-AI", _subgroups),
    ("External validation and degradation table", "CLAIM", _external),
    ("Corruption robustness", "EU AI Act Art. 15(4)", _corruptions),
    ("Adversarial evaluation: threat model, budgets, credibility grade", "EU AI Act Art. 15(5)", _attacks),
    ("Poisoning and confidentiality threats", "EU AI Act Art. 15(5)", _POISONING),
    ("Uncertainty: coverage–risk, referral curve, out-of-distribution", "FDA; Leibig 2017", _uncertainty),
    ("Explanation: sanity check, lesion overlap, stability; limits", "CLAIM", _explanation),
    ("Failure analysis: worst false negatives, severity of error", "CLAIM; CONSORT-AI", _failures),
    ("Human with AI: unassisted against assisted, reliance", "DECIDE-AI; MRMC", _HUMAN),
    ("Monitoring, drift, change control", "GMLP; Art. 15(4)", _MONITORING),
    ("Reproducibility: seeds, environment, access, limits, sign-off", "CLAIM", _reproducibility),
)
